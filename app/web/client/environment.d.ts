// Generated from the JavaScript beside it by `npm run declarations` in tests/web. Do not edit.

/** What the client needs of the browser; tests bring their own. */
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
export type Environment = {
    /**
     * the tab is not visible
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
/**
 * @typedef {object} Clock
 * @property {() => number} now milliseconds
 * @property {(run: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} random 0 to 1
 */
/**
 * @typedef {object} Environment
 * @property {() => boolean} hidden the tab is not visible
 * @property {(listener: (what: 'visible' | 'hidden' | 'online' | 'leave') => void) => () => void} listen returns how to stop
 */
/**
 * @typedef {object} Channel what a BroadcastChannel does
 * @property {(message: any) => void} postMessage
 * @property {((event: { data: any }) => void) | null} onmessage
 * @property {() => void} close
 */
/** @type {Clock} */
export declare const systemClock: Clock;
/** @type {Environment} */
export declare const browserEnvironment: Environment;
/** @returns {Storage | null} */
export declare function browserStorage(): Storage | null;
/** @param {string} name @returns {Channel | null} */
export declare function browserChannel(name: string): Channel | null;
