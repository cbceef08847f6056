// Generated from the JavaScript beside it by `npm run declarations` in tests/web. Do not edit.

/** Runs the machine of `following.js` for one session: makes its requests, keeps its timer, tells its subscribers. */
export type SessionEvent = import('./types.js').SessionEvent;
export type SessionState = import('./parts.js').SessionState;
export type Happening = import('./connection.js').Happening;
export type Effect = import('./connection.js').Effect;
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
    onConnectionChange?: (trouble: Error | null) => void;
    /**
     * stop following; the run itself goes on
     */
    signal?: AbortSignal;
};
export type Shared = {
    settings: import('./connection.js').Following['settings'];
    api: import('./api.js').Api;
    clock: import('./environment.js').Clock;
    environment: import('./environment.js').Environment;
    pending: import('./pending.js').PendingSessions;
    /**
     * to the other tabs
     */
    post: (message: any) => void;
    /**
     * how many requests the server holds
     */
    holding: number;
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
export declare class Follower {
    #private;
    /**
     * @param {Shared} shared
     * @param {string} sessionId
     * @param {number} after
     * @param {boolean} alone no other tab can know the session
     * @param {() => void} onOver
     */
    constructor(shared: Shared, sessionId: string, after: number, alone: boolean, onOver: () => void);
    /** Following has ended. */
    get over(): boolean;
    /** Events up to this seq are not read. */
    get from(): number;
    /** @param {FollowOptions} options @returns {Promise<SessionState>} */
    subscribe(options: FollowOptions): Promise<SessionState>;
    /** Go on for the subscribers of a follower that began later in the session, and stop that one. @param {Follower} other */
    replace(other: Follower): void;
    /** Stop, and reject what the subscribers wait for. @param {Error} reason */
    close(reason: Error): void;
    /** @param {Happening} happening */
    notice(happening: Happening): void;
}
