// Generated from the JavaScript beside it by `npm run declarations` in tests/web. Do not edit.

/** Errors, pauses between tries, queries, server-sent events, ids. */
/** The server refused, or what answered was not this server (`code: 'bad_response'`, `status` as received). */
export declare class ApiError extends Error {
    status: number;
    code: string;
    detail: string;
    problem: Record<string, any>;
    retryAfterMs: number | null;
    /**
     * @param {number} status
     * @param {string} code stable, for programs
     * @param {string} detail one sentence, for a person
     * @param {Record<string, any>} [problem] the whole problem+json
     * @param {number | null} [retryAfterMs]
     */
    constructor(status: number, code: string, detail: string, problem?: Record<string, any>, retryAfterMs?: number | null);
    /** Trying the same request again may help. */
    get transient(): boolean;
}
/** Trying again may help. @param {unknown} error */
export declare const isTransient: (error: unknown) => boolean;
/**
 * How long to wait before the next try.
 * @param {number} failures in a row, before this one
 * @param {unknown} error
 * @param {number} random 0 to 1
 */
export declare function retryPauseMs(failures: number, error: unknown, random: number): number;
/** @param {string | null} header @param {number} now @returns {number | null} */
export declare function parseRetryAfter(header: string | null, now: number): number | null;
/** @returns {string} */
export declare function uuid(): string;
/** @param {Record<string, string | number | null | undefined>} values */
export declare function query(values: Record<string, string | number | null | undefined>): string;
/**
 * The data of the complete server-sent events in *buffer*, and what is left of it.
 * @param {string} buffer
 * @returns {{ data: string[], rest: string }}
 */
export declare function parseStream(buffer: string): {
    data: string[];
    rest: string;
};
