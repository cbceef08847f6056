// Generated from the JavaScript beside it by `npm run declarations` in tests/web. Do not edit.

/** Requests to one server. */
export type Abortable = import('./types.js').Abortable;
export type Token = string | (() => string | null | Promise<string | null>);
export type RequestOptions = {
    body?: object;
    headers?: Record<string, string>;
    signal?: AbortSignal;
    timeoutMs?: number;
};
export declare class Api {
    #private;
    /** @param {string} baseUrl @param {typeof globalThis.fetch} fetch @param {Token | null} token @param {import('./environment.js').Clock} clock */
    constructor(baseUrl: string, fetch: typeof globalThis.fetch, token: Token | null, clock: import('./environment.js').Clock);
    /** The session row. @param {string} sessionId @param {Abortable} [options] @returns {Promise<import('./types.js').SessionRow>} */
    session(sessionId: string, options?: Abortable): Promise<import('./types.js').SessionRow>;
    /** @param {string} sessionId @returns {Promise<import('./types.js').SessionRow>} */
    cancel(sessionId: string): Promise<import('./types.js').SessionRow>;
    /** @param {string} sessionId @returns {Promise<void>} */
    remove(sessionId: string): Promise<void>;
    /** One page of events. @param {string} sessionId @param {{ after: number, wait?: number | null } & Abortable} options @returns {Promise<import('./types.js').EventPage>} */
    events(sessionId: string, { after, wait, signal }: {
        after: number;
        wait?: number | null;
    } & Abortable): Promise<import('./types.js').EventPage>;
    /** The events above *after* as server-sent events. @param {string} sessionId @param {number} after @param {AbortSignal} signal @returns {Promise<ReadableStream<Uint8Array<ArrayBuffer>>>} */
    stream(sessionId: string, after: number, signal: AbortSignal): Promise<ReadableStream<Uint8Array<ArrayBuffer>>>;
    /**
     * @param {string} method
     * @param {string} path
     * @param {RequestOptions} [options]
     * @returns {Promise<any>} the JSON of the answer
     * @throws {ApiError} the server refuses
     */
    request(method: string, path: string, options?: RequestOptions): Promise<any>;
}
