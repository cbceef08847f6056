// Generated from the JavaScript beside it by `npm run declarations` in tests/web. Do not edit.

/** Messages on their way to the server: each is sent until it has an answer, with one idempotency key. */
import { JsonStorage } from './storage.js';
export type Started = import('./types.js').Started;
export type StartOptions = {
    /**
     * any UUID; an unknown one begins a conversation
     */
    conversationId?: string;
    agentId?: number;
    model?: string;
    /**
     * what if the conversation has a running session
     */
    onBusy?: 'enqueue' | 'reject' | 'interrupt';
    /**
     * default: a new one; kept over all retries
     */
    idempotencyKey?: string;
    /**
     * how long to try while the server can't be reached (default two minutes)
     */
    retryForMs?: number;
    /**
     * before each retry
     */
    onConnectionChange?: (trouble: Error) => void;
    /**
     * stop trying
     */
    signal?: AbortSignal;
};
export type Outgoing = {
    message: string;
    options: StartOptions & {
        idempotencyKey: string;
    };
    at: number;
};
export declare class Outbox {
    #private;
    /**
     * @param {import('./api.js').Api} api
     * @param {import('./environment.js').Clock} clock
     * @param {import('./environment.js').Environment} environment
     * @param {ConstructorParameters<typeof JsonStorage>[0]} storage
     * @param {string} prefix
     */
    constructor(api: import('./api.js').Api, clock: import('./environment.js').Clock, environment: import('./environment.js').Environment, storage: ConstructorParameters<typeof JsonStorage>[0], prefix: string);
    /** How many conversations have a message on its way. */
    get size(): number;
    /** @param {string} message @param {StartOptions} options @returns {Promise<Started>} @throws {import('./http.js').ApiError} */
    send(message: string, options: StartOptions): Promise<Started>;
    /** What has no answer yet, oldest first. @returns {Outgoing[]} */
    list(): Outgoing[];
}
