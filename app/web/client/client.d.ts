// Generated from the JavaScript beside it by `npm run declarations` in tests/web. Do not edit.

/** The client: what a page calls. */
export type Abortable = import('./types.js').Abortable;
export type Conversation = import('./types.js').Conversation;
export type SessionRow = import('./types.js').SessionRow;
export type Started = import('./types.js').Started;
export type FollowOptions = import('./follower.js').FollowOptions;
export type Outgoing = import('./outbox.js').Outgoing;
export type StartOptions = import('./outbox.js').StartOptions;
export type SessionState = import('./parts.js').SessionState;
export type Pending = import('./pending.js').Pending;
export type Transport = 'poll' | 'wait' | 'sse';
export type ClientOptions = {
    /**
     * where the API is; default: this page's origin
     */
    baseUrl?: string;
    fetch?: typeof globalThis.fetch;
    /**
     * default: localStorage; null: nothing outlives the page
     */
    storage?: Storage | null;
    /**
     * sent as a bearer token
     */
    token?: string | (() => string | null | Promise<string | null>);
    /**
     * `poll` (default); `wait` and `sse` fall back to it by themselves
     */
    transport?: Transport;
    /**
     * never poll a session more often than this, whatever the server advises (default 200)
     */
    minPollMs?: number;
    /**
     * default: a BroadcastChannel; null: tabs don't share
     */
    channel?: import('./environment.js').Channel | null;
    clock?: import('./environment.js').Clock;
    environment?: import('./environment.js').Environment;
};
/** @typedef {import('./types.js').Abortable} Abortable */
/** @typedef {import('./types.js').Conversation} Conversation */
/** @typedef {import('./types.js').SessionRow} SessionRow */
/** @typedef {import('./types.js').Started} Started */
/** @typedef {import('./follower.js').FollowOptions} FollowOptions */
/** @typedef {import('./outbox.js').Outgoing} Outgoing */
/** @typedef {import('./outbox.js').StartOptions} StartOptions */
/** @typedef {import('./parts.js').SessionState} SessionState */
/** @typedef {import('./pending.js').Pending} Pending */
/** @typedef {'poll' | 'wait' | 'sse'} Transport */
/**
 * @typedef {object} ClientOptions
 * @property {string} [baseUrl] where the API is; default: this page's origin
 * @property {typeof globalThis.fetch} [fetch]
 * @property {Storage | null} [storage] default: localStorage; null: nothing outlives the page
 * @property {string | (() => string | null | Promise<string | null>)} [token] sent as a bearer token
 * @property {Transport} [transport] `poll` (default); `wait` and `sse` fall back to it by themselves
 * @property {number} [minPollMs] never poll a session more often than this, whatever the server advises (default 200)
 * @property {import('./environment.js').Channel | null} [channel] default: a BroadcastChannel; null: tabs don't share
 * @property {import('./environment.js').Clock} [clock]
 * @property {import('./environment.js').Environment} [environment]
 */
export declare class Client {
    #private;
    /** @param {ClientOptions} [options] */
    constructor(options?: ClientOptions);
    /**
     * Send a message. Tries again by itself with one idempotency key, so the message runs once at most. Messages of one
     * conversation are sent in the order of the calls.
     * @param {string} message
     * @param {StartOptions} [options]
     * @returns {Promise<Started>}
     * @throws {import('./http.js').ApiError} the server refuses, or can't be reached for `retryForMs`
     */
    start(message: string, options?: StartOptions): Promise<Started>;
    /**
     * Follow a session until it ends.
     * @param {string} sessionId
     * @param {FollowOptions} [options]
     * @returns {Promise<SessionState>} the state at the end, done or error
     * @throws {import('./http.js').ApiError} 404 or 410: it is gone; 401, 403: not for us
     */
    follow(sessionId: string, options?: FollowOptions): Promise<SessionState>;
    /**
     * Go on with all sessions that were pending when the page went away.
     * @param {FollowOptions & { from?: 'start' | 'last' }} [options] `last`: only events that were not seen before the reload
     * @returns {(Pending & { ended: Promise<SessionState> })[]} see `resend` for messages that were being sent
     */
    resumeAll(options?: FollowOptions & {
        from?: 'start' | 'last';
    }): (Pending & {
        ended: Promise<SessionState>;
    })[];
    /**
     * What is being sent, also what was when the page went away, oldest first. `start(message, options)` sends it again
     * with its key.
     * @returns {Outgoing[]}
     */
    outgoing(): Outgoing[];
    /**
     * Send again what was being sent when the page went away, with the same keys.
     * @returns {Promise<Started[]>}
     */
    resend(): Promise<Started[]>;
    /** Sessions that were running when this browser last saw them, newest first. @returns {Pending[]} */
    pending(): Pending[];
    /** No longer resume this session. @param {string} sessionId */
    forget(sessionId: string): void;
    /** The session row. @param {string} sessionId @param {Abortable} [options] @returns {Promise<SessionRow>} */
    session(sessionId: string, options?: Abortable): Promise<SessionRow>;
    /**
     * Read what there is of a session, once, without following it.
     * @param {string} sessionId
     * @param {Abortable} [options]
     * @returns {Promise<SessionState>}
     */
    read(sessionId: string, { signal }?: Abortable): Promise<SessionState>;
    /** End a run; it keeps the answer so far. Calling it again is fine. @param {string} sessionId @returns {Promise<SessionRow>} */
    cancel(sessionId: string): Promise<SessionRow>;
    /** Delete a session. @param {string} sessionId @returns {Promise<void>} */
    remove(sessionId: string): Promise<void>;
    /**
     * Recent sessions, newest first.
     * @param {{ limit?: number, cursor?: string | null, status?: import('./types.js').Status, agentId?: number, conversationId?: string } & Abortable} [options]
     * @returns {Promise<{ sessions: SessionRow[], nextCursor: string | null }>}
     */
    list({ signal, ...filters }?: {
        limit?: number;
        cursor?: string | null;
        status?: import('./types.js').Status;
        agentId?: number;
        conversationId?: string;
    } & Abortable): Promise<{
        sessions: SessionRow[];
        nextCursor: string | null;
    }>;
    /** @returns {Promise<{ agents: any[] }>} */
    agents(): Promise<{
        agents: any[];
    }>;
    conversations: {
        /** @param {{ limit?: number, cursor?: string | null } & Abortable} [options] @returns {Promise<{ conversations: Conversation[], nextCursor: string | null }>} */
        list: ({ signal, ...page }?: {
            limit?: number;
            cursor?: string | null;
        } & Abortable) => Promise<{
            conversations: Conversation[];
            nextCursor: string | null;
        }>;
        /** @param {string} q @param {{ limit?: number, cursor?: string | null } & Abortable} [options] @returns {Promise<{ results: import('./types.js').Match[], nextCursor: string | null }>} */
        search: (q: string, { signal, ...page }?: {
            limit?: number;
            cursor?: string | null;
        } & Abortable) => Promise<{
            results: import('./types.js').Match[];
            nextCursor: string | null;
        }>;
        /** @param {string} id @returns {Promise<Conversation>} */
        get: (id: string) => Promise<Conversation>;
        /** @param {string} id @param {string} title @returns {Promise<Conversation>} */
        rename: (id: string, title: string) => Promise<Conversation>;
        /** @param {string} id @returns {Promise<void>} */
        remove: (id: string) => Promise<void>;
        /** The model no longer sees what was said. @param {string} id @returns {Promise<void>} */
        clear: (id: string) => Promise<void>;
        /**
         * @param {string} id
         * @param {{ limit?: number, cursor?: string | null, offset?: number, order?: 'asc' | 'desc' } & Abortable} [options]
         * @returns {Promise<{ conversationId: string, messages: import('./types.js').Message[], nextCursor: string | null, hasMore: boolean, total: number }>}
         */
        messages: (id: string, { signal, ...page }?: {
            limit?: number;
            cursor?: string | null;
            offset?: number;
            order?: 'asc' | 'desc';
        } & Abortable) => Promise<{
            conversationId: string;
            messages: import('./types.js').Message[];
            nextCursor: string | null;
            hasMore: boolean;
            total: number;
        }>;
    };
    /** Stop all following and leave the other tabs to it. */
    close(): void;
}
/**
 * A client of the API at `baseUrl`. One per page is enough.
 * @param {ClientOptions} [options]
 * @returns {Client}
 */
export declare function createClient(options?: ClientOptions): Client;
