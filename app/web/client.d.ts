/**
 * Backchat in the browser: start a run, follow it, survive reloads. No dependencies, no build step.
 *
 *     import { createClient } from './client.js'
 *     const client = createClient({ baseUrl: 'https://chat.example.org' })
 *     const { sessionId } = await client.start('Hello')
 *     const state = await client.follow(sessionId, { onState: (s) => (out.textContent = s.text) })
 *
 * The run lives on the server. This module only reads its events, in order and each once, and folds them
 * with `reduce` into what is shown. From top to bottom: types, reducer, HTTP, storage, follower, client.
 */
export type Status = 'running' | 'done' | 'error';
export type Transport = 'poll' | 'wait' | 'sse';
export type SessionEvent = {
    /**
     * 1, 2, …, n within the session
     */
    seq: number;
    eventType: 'thinking' | 'delta' | 'tool_call' | 'done' | 'error';
    sessionId?: string;
    attempt?: number;
    /**
     * ISO 8601
     */
    createdAt?: string;
    content?: string | null;
    /**
     * earlier events with this seq or above no longer count
     */
    supersedesFrom?: number | null;
    toolCallId?: string | null;
    toolName?: string | null;
    toolArgs?: unknown;
    toolResult?: string | null;
    /**
     * null: about to run
     */
    toolSuccess?: boolean | null;
    durationMs?: number | null;
    model?: string | null;
    usageJson?: Usage | null;
    errorMsg?: string | null;
    errorCode?: string | null;
    finishReason?: string | null;
};
export type Usage = {
    inputTokens: number;
    outputTokens: number;
    cacheReadTokens: number;
    cacheWriteTokens: number;
    totalTokens: number;
};
export type TextPart = {
    kind: 'thinking' | 'text';
    /**
     * which of the session's parts it is, from 0; a number is never used again
     */
    n: number;
    /**
     * of its first event
     */
    seq: number;
    text: string;
    startedAt: string;
    endedAt: string;
};
export type ToolPart = {
    kind: 'tool';
    /**
     * which of the session's parts it is, from 0; a number is never used again
     */
    n: number;
    /**
     * of its first event
     */
    seq: number;
    /**
     * `call_<seq>` where the server has none
     */
    toolCallId: string;
    name: string;
    args: unknown;
    result: string | null;
    /**
     * null: no result yet
     */
    success: boolean | null;
    durationMs: number | null;
    startedAt: string;
};
export type Part = TextPart | ToolPart;
export type SessionState = {
    sessionId: string;
    status: Status;
    /**
     * all events up to this seq are counted in
     */
    after: number;
    attempt: number;
    /**
     * the answer so far; the whole answer once done, the partial one on error
     */
    text: string;
    thinking: string;
    /**
     * thinking, text and tool calls in the order they came; an unchanged part stays the same object
     */
    parts: readonly Part[];
    error: {
        code: string;
        message: string;
    } | null;
    usage: Usage | null;
    model: string | null;
    durationMs: number | null;
    /**
     * why the model stopped: `stop`, or `length` at the limit of its output
     */
    finishReason: string | null;
    /**
     * tool calls without a result
     */
    openCalls: number;
    /**
     * how many parts have begun, those that no longer count included
     */
    begun: number;
    /**
     * events up to this seq were never seen: the state was begun after them
     */
    from: number;
    /**
     * all counted-in events, in blocks; see `eventsOf`
     */
    log: readonly (readonly SessionEvent[])[];
    /**
     * events that wait for one before them
     */
    ahead: Readonly<Record<number, SessionEvent>>;
};
export type Draft = {
    -readonly [K in keyof SessionState]: SessionState[K];
} & {
    parts: Part[];
    log: SessionEvent[][];
    ahead: Record<number, SessionEvent>;
};
/**
 * The state before the first event, or before the first event above *after*.
 * @param {string} [sessionId]
 * @param {number} [after]
 * @returns {SessionState}
 */
export declare function initialState(sessionId?: string, after?: number): SessionState;
/**
 * Count one event in. Pure. The law: the result depends only on the set of events given so far. Repeats are
 * ignored, and an event counts as soon as all before it are there.
 * @param {SessionState} state
 * @param {SessionEvent} event
 * @returns {SessionState} the same object when nothing changed
 */
export declare function reduce(state: SessionState, event: SessionEvent): SessionState;
/**
 * `reduce` over many events, copying the state only once.
 * @param {SessionState} state
 * @param {Iterable<SessionEvent>} events
 * @returns {SessionState}
 */
export declare function reduceAll(state: SessionState, events: Iterable<SessionEvent>): SessionState;
/**
 * All events that are counted in, superseded ones included, oldest first.
 * @param {SessionState} state
 * @returns {SessionEvent[]}
 */
export declare function eventsOf(state: SessionState): SessionEvent[];
/**
 * The tool calls of a session, in the order they began.
 * @param {SessionState} state
 * @returns {ToolPart[]}
 */
export declare function toolCallsOf(state: SessionState): ToolPart[];
/**
 * The state of an ended session whose events don't say how it ended: its row does.
 * @param {SessionState} state
 * @param {Pick<SessionRow, 'status' | 'finalResponse' | 'model' | 'errorCode' | 'errorMessage' | 'finishReason'>} row
 * @returns {SessionState}
 */
export declare function settledState(state: SessionState, row: Pick<SessionRow, 'status' | 'finalResponse' | 'model' | 'errorCode' | 'errorMessage' | 'finishReason'>): SessionState;
/** The server said no, or what came back was no answer of it (`code: 'bad_response'`, `status` as received). */
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
/**
 * The data of the complete server-sent events in *buffer*, and what is left of it.
 * @param {string} buffer
 * @returns {{ data: string[], rest: string }}
 */
export declare function parseStream(buffer: string): {
    data: string[];
    rest: string;
};
export type Clock = {
    /**
     * milliseconds
     */
    now: () => number;
    setTimeout: (run: () => void, ms: number) => any;
    clearTimeout: (timer: any) => void;
    /**
     * 0 to 1
     */
    random: () => number;
};
export type Surroundings = {
    /**
     * the tab can't be seen
     */
    hidden: () => boolean;
    /**
     * returns how to stop
     */
    listen: (listener: (what: 'visible' | 'hidden' | 'online' | 'leave') => void) => () => void;
};
export type Channel = {
    postMessage: (message: any) => void;
    onmessage: ((event: {
        data: any;
    }) => void) | null;
    close: () => void;
};
/** One JSON value per key, so that two tabs never overwrite each other's entries. Never throws. */
declare class Shelf {
    prefix: string;
    storage: Pick<Storage, "getItem" | "key" | "length" | "removeItem" | "setItem"> | null;
    /** @type {Map<string, any>} What could not be stored lives as long as the page. */
    memory: Map<string, any>;
    /** @param {Pick<Storage, 'getItem' | 'setItem' | 'removeItem' | 'key' | 'length'> | null} storage @param {string} prefix */
    constructor(storage: Pick<Storage, 'getItem' | 'setItem' | 'removeItem' | 'key' | 'length'> | null, prefix: string);
    /** @param {string} name @param {object} value */
    put(name: string, value: object): void;
    /** @param {string} name */
    remove(name: string): void;
    /** @returns {[string, any][]} */
    entries(): [string, any][];
}
export type FollowOptions = {
    /**
     * read only what is above this seq; the state then begins there
     */
    after?: number;
    /**
     * each event once, in order
     */
    onEvent?: (event: SessionEvent) => void;
    /**
     * after each batch of events
     */
    onState?: (state: SessionState) => void;
    /**
     * the server can't be reached (it is tried again); null: it can
     */
    onTrouble?: (trouble: Error | null) => void;
    /**
     * stop following; the run itself goes on
     */
    signal?: AbortSignal;
};
export type Subscriber = {
    options: FollowOptions;
    /**
     * the last seq that it was told
     */
    told: number;
    follower: Follower;
    resolve: (state: SessionState) => void;
    reject: (reason: any) => void;
};
/**
 * Follows one session for all its subscribers in this tab, and shares what it reads with other tabs.
 *
 * Among the tabs that follow a session one leads: it asks the server and broadcasts what came. The others listen.
 * A visible tab takes the lead from a hidden one (whose timers the browser slows down), any tab takes it from
 * one that says goodbye or falls silent. Two leaders at once are harmless and agree within one message.
 */
declare class Follower {
    client: Client;
    clock: Clock;
    sessionId: string;
    state: SessionState;
    /** @type {Set<Subscriber>} */
    subscribers: Set<Subscriber>;
    /** @type {Error | null} */
    trouble: Error | null;
    over: boolean;
    leading: boolean;
    /** When to believe that nobody leads. */
    silentAt: number;
    /** The newest seq that a leader spoke of, and when to fetch what is missing below it ourselves. */
    leaderAfter: number;
    gapAt: number;
    nextAt: number;
    notBefore: number;
    advice: number;
    failures: number;
    streamFailures: number;
    streamAgainAt: number;
    held: boolean;
    storedAt: number;
    /** @type {AbortController | null} */
    request: AbortController | null;
    requestedAt: number;
    /** @type {(() => void) | null} */
    wake: (() => void) | null;
    /** @param {Client} client @param {string} sessionId @param {number} after @param {boolean} fresh nobody else can know the session yet */
    constructor(client: Client, sessionId: string, after: number, fresh: boolean);
    /** @param {FollowOptions} options @returns {Promise<SessionState>} */
    subscribe(options: FollowOptions): Promise<SessionState>;
    /** @param {Subscriber} subscriber */
    drop(subscriber: Subscriber): void;
    /** Go on for the subscribers of a follower that began later in the session. @param {Follower} other */
    adopt(other: Follower): void;
    /** One loop decides what to do next; everything that happens only wakes it. */
    run(): Promise<void>;
    /** A hidden tab is in no hurry to replace a leader. */
    patienceEnds(): number;
    lead(): void;
    /** @param {number} ms @returns {Promise<void>} */
    sleep(ms: number): Promise<void>;
    /** Ask for one page. Sets `nextAt`; throws nothing. */
    poll(): Promise<void>;
    /** Read the session as server-sent events until they end. Sets `nextAt`; throws nothing. */
    stream(): Promise<void>;
    /**
     * Run a request that ends with *timeoutMs* of silence, and tell the other tabs meanwhile that we still lead.
     * @template T
     * @param {number} timeoutMs
     * @param {(signal: AbortSignal, alive: () => void) => Promise<T>} ask
     * @returns {Promise<T>}
     */
    exchange<T>(timeoutMs: number, ask: (signal: AbortSignal, alive: () => void) => Promise<T>): Promise<T>;
    /** Ended without a terminal event (rows from before this server): the session row says how. */
    settle(): Promise<void>;
    recovered(): void;
    /** @param {any} error */
    stumble(error: any): void;
    /** @param {ApiError | null} error */
    backoff(error: ApiError | null): number;
    /** @param {Error | null} trouble */
    setTrouble(trouble: Error | null): void;
    /** @param {readonly SessionEvent[]} events */
    take(events: readonly SessionEvent[]): void;
    /** @param {Subscriber} subscriber */
    tell(subscriber: Subscriber): void;
    /** Keep the place for the next page load, at most once a second. */
    remember(): void;
    /** Resolve all subscribers if the session has ended. */
    finish(): void;
    /** @param {any} error @param {boolean} [heard] another tab said so */
    fail(error: any, heard?: boolean): void;
    /** Nobody in this tab wants it any more. */
    stop(): void;
    /** @param {Record<string, any>} message */
    post(message: Record<string, any>): void;
    /** @param {any} message */
    hear(message: any): void;
    /** Somebody else says that it leads. @param {any} message @param {number} now */
    heed(message: any, now: number): void;
    leadNow(): void;
    /** @param {'visible' | 'hidden' | 'online' | 'leave'} what */
    notice(what: 'visible' | 'hidden' | 'online' | 'leave'): void | false;
}
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
    channel?: Channel | null;
    clock?: Clock;
    surroundings?: Surroundings;
};
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
    onTrouble?: (trouble: Error) => void;
    /**
     * stop trying
     */
    signal?: AbortSignal;
};
export type Started = {
    sessionId: string;
    conversationId: string;
    status: Status;
};
export type Outgoing = {
    message: string;
    options: StartOptions & {
        idempotencyKey: string;
    };
    at: number;
};
export type SessionRow = {
    sessionId: string;
    conversationId: string;
    status: Status;
    agentId: number;
    userMessage: string;
    finalResponse: string | null;
    model: string | null;
    totalTokens: number;
    errorCode?: string | null;
    errorMessage?: string | null;
    finishReason?: string | null;
    createdAt: string;
    /**
     * null while queued
     */
    startedAt?: string | null;
};
export type EventPage = {
    sessionId: string;
    status: Status;
    events: SessionEvent[];
    nextAfter: number;
    hasMore: boolean;
    pollAfterMs: number;
};
export type Pending = {
    sessionId: string;
    conversationId: string | null;
    after: number;
    startedAt: number;
};
export type Conversation = {
    conversationId: string;
    title: string;
    agentId: number;
    messageCount: number;
    runningSessionId: string | null;
    createdAt: string;
    updatedAt: string;
};
export type Match = {
    conversationId: string;
    title: string;
    snippet: string;
    updatedAt: string;
    [more: string]: any;
};
export type Message = {
    id: string | number;
    role: 'user' | 'assistant';
    content: string;
    sessionId: string;
    metadata: any;
    createdAt: string;
};
export type Abortable = {
    signal?: AbortSignal;
};
export type RequestOptions = {
    body?: object;
    headers?: Record<string, string>;
    signal?: AbortSignal;
    timeoutMs?: number;
};
export declare class Client {
    baseUrl: string;
    fetch: typeof fetch;
    token: string | (() => string | null | Promise<string | null>) | null;
    transport: Transport;
    minPollMs: number;
    clock: Clock;
    surroundings: Surroundings;
    /** Sessions that were running when last seen. */
    pendingShelf: Shelf;
    /** Messages whose POST has no answer yet. */
    outbox: Shelf;
    tab: string;
    /** Held requests of this tab. */
    holding: number;
    /** @type {Map<string, Follower>} */
    followers: Map<string, Follower>;
    /** @type {Channel | null} */
    channel: Channel | null;
    unlisten: () => void;
    /** @param {ClientOptions} [options] */
    constructor(options?: ClientOptions);
    /**
     * Send a message. Tries again by itself with one idempotency key, so the message runs once at most. Messages of one
     * conversation are sent in the order of the calls.
     * @param {string} message
     * @param {StartOptions} [options]
     * @returns {Promise<Started>}
     * @throws {ApiError} the server refuses, or can't be reached for `retryForMs`
     */
    start(message: string, options?: StartOptions): Promise<Started>;
    /**
     * Follow a session until it ends.
     * @param {string} sessionId
     * @param {FollowOptions} [options]
     * @returns {Promise<SessionState>} the state at the end, done or error
     * @throws {ApiError} 404 or 410: it is gone; 401, 403: not for us
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
    /** End a run; it keeps what it has. Again is fine. @param {string} sessionId @returns {Promise<SessionRow>} */
    cancel(sessionId: string): Promise<SessionRow>;
    /** Delete a session. @param {string} sessionId @returns {Promise<void>} */
    remove(sessionId: string): Promise<void>;
    /**
     * Recent sessions, newest first.
     * @param {{ limit?: number, cursor?: string | null, status?: Status, agentId?: number, conversationId?: string } & Abortable} [options]
     * @returns {Promise<{ sessions: SessionRow[], nextCursor: string | null }>}
     */
    list({ signal, ...filters }?: {
        limit?: number;
        cursor?: string | null;
        status?: Status;
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
        /** @param {string} q @param {{ limit?: number, cursor?: string | null } & Abortable} [options] @returns {Promise<{ results: Match[], nextCursor: string | null }>} */
        search: (q: string, { signal, ...page }?: {
            limit?: number;
            cursor?: string | null;
        } & Abortable) => Promise<{
            results: Match[];
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
         * @returns {Promise<{ conversationId: string, messages: Message[], nextCursor: string | null, hasMore: boolean, total: number }>}
         */
        messages: (id: string, { signal, ...page }?: {
            limit?: number;
            cursor?: string | null;
            offset?: number;
            order?: 'asc' | 'desc';
        } & Abortable) => Promise<{
            conversationId: string;
            messages: Message[];
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
export {};
