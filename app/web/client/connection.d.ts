// Generated from the JavaScript beside it by `npm run declarations` in tests/web. Do not edit.

/** The state of following a session, its messages and effects, and the moves that several messages share. Pure. */
export type SessionEvent = import('./types.js').SessionEvent;
export type SessionState = import('./parts.js').SessionState;
export type Leadership = import('./tabs.js').Leadership;
export type Connection = Resting | Asking | Over;
export type Resting = {
    is: 'resting';
    until: number;
    askedAt: number;
};
export type Over = {
    is: 'over';
};
export type Asking = {
    is: 'polling' | 'settling' | 'streaming';
    /**
     * its number
     */
    request: number;
    since: number;
    /**
     * the newest seq when it began
     */
    after: number;
    /**
     * the server may hold it until there is news
     */
    held: boolean;
    /**
     * when it began, or last brought something
     */
    askedAt: number;
    /**
     * how long it may be silent
     */
    timeoutMs: number;
    /**
     * when it is given up
     */
    deadline: number;
    /**
     * when to tell the other tabs that this one still leads
     */
    beatAt: number;
};
export type Following = {
    settings: {
        tab: string;
        transport: 'poll' | 'wait' | 'sse';
        minPollMs: number;
    };
    session: SessionState;
    leadership: Leadership;
    connection: Connection;
    /**
     * why the server can't be reached; null: it can
     */
    trouble: Error | null;
    /**
     * the pause between polls that the server advises
     */
    adviceMs: number;
    /**
     * requests that failed in a row
     */
    failures: number;
    /**
     * the server refuses requests before this time
     */
    notBefore: number;
    /**
     * streams in a row that brought nothing; after two it polls until `againAt`
     */
    stream: {
        failures: number;
        againAt: number;
    };
    /**
     * when the place was last stored
     */
    storedAt: number;
    /**
     * how many have been made
     */
    requests: number;
};
export type Moment = {
    now: number;
    /**
     * the tab can't be seen
     */
    hidden: boolean;
    /**
     * 0 to 1
     */
    random: number;
    /**
     * there is a connection left for a request that the server holds
     */
    mayHold: boolean;
};
export type Happening = {
    kind: 'time';
} | {
    kind: 'page';
    request: number;
    page: import('./types.js').EventPage;
} | {
    kind: 'row';
    request: number;
    row: import('./types.js').SessionRow;
} | {
    kind: 'chunk';
    request: number;
    events: SessionEvent[];
} | {
    kind: 'closed';
    request: number;
} | {
    kind: 'failed';
    request: number;
    error: any;
} | {
    kind: 'tab';
    message: any;
} | {
    kind: 'visible' | 'hidden' | 'online' | 'leave';
} | {
    kind: 'stop';
};
export type Message = Happening & Moment;
export type Request = {
    kind: Asking['is'];
    request: number;
    after: number;
    wait: number | null;
};
export type Effect = Request | {
    kind: 'abort';
} | {
    kind: 'post';
    message: any;
} | {
    kind: 'remember';
    after: number;
} | {
    kind: 'forget';
} | {
    kind: 'state';
} | {
    kind: 'connection';
} | {
    kind: 'resolve';
} | {
    kind: 'reject';
    error: any;
};
export type Step = [Following, Effect[]];
export type Move = (state: Following) => Step;
/** One move after the other. @param {Following} state @param {...Move} moves @returns {Step} */
export declare function chain(state: Following, ...moves: Move[]): Step;
/** Tell the other tabs. @param {import('./tabs.js').Word | 'gone'} kind @param {Moment} moment @param {object} [more] @returns {Move} */
export declare const say: (kind: import('./tabs.js').Word | 'gone', { now, hidden }: Moment, more?: object) => Move;
/** The same if this tab leads. @param {'lead' | 'events' | 'bye'} kind @param {Moment} moment @param {object} [more] @returns {Move} */
export declare const sayIfLeading: (kind: 'lead' | 'events' | 'bye', moment: Moment, more?: object) => Move;
/** Whether the server can be reached. @param {Error | null} trouble @returns {Move} */
export declare const setTrouble: (trouble: Error | null) => Move;
/** @type {Move} */
export declare const recover: Move;
/** Count events in. @param {readonly SessionEvent[]} events @returns {Move} */
export declare const take: (events: readonly SessionEvent[]) => Move;
/**
 * Make a request.
 * @param {Asking['is']} is
 * @param {number} timeoutMs
 * @param {Moment} moment
 * @param {number | null} [wait] how many seconds the server may hold it
 * @returns {Move}
 */
export declare const ask: (is: Asking['is'], timeoutMs: number, { now }: Moment, wait?: number | null) => Move;
/** Make no request before *until*; one that is on its way is over. @param {number} until @returns {Move} */
export declare const rest: (until: number) => Move;
/** Give up the request that is on its way, if there is one. @type {Move} */
export declare const abort: Move;
/** Keep the place for the next page load. @param {Moment} moment @returns {Move} */
export declare const remember: ({ now }: Moment) => Move;
/** Following is over. @param {Effect[]} effects the last ones @returns {Move} */
export declare const end: (...effects: Effect[]) => Move;
/** If the session has ended, following it is over. @type {Move} */
export declare const finish: Move;
