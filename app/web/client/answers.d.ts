// Generated from the JavaScript beside it by `npm run declarations` in tests/web. Do not edit.

/** What the server's answers change in following a session, and what failed requests change. Pure. */
export type Following = import('./connection.js').Following;
export type Asking = import('./connection.js').Asking;
export type Moment = import('./connection.js').Moment;
export type Step = import('./connection.js').Step;
/** @typedef {import('./connection.js').Following} Following */
/** @typedef {import('./connection.js').Asking} Asking */
/** @typedef {import('./connection.js').Moment} Moment */
/** @typedef {import('./connection.js').Step} Step */
/** Nobody polls faster than this, in ms. */
export declare const MIN_POLL_MS = 200;
export declare const POLL_MS = 1500;
export declare const REQUEST_TIMEOUT_MS = 20000;
/**
 * A page of events came.
 * @param {Following} state
 * @param {Asking} asked
 * @param {import('./types.js').EventPage} page
 * @param {Moment} moment
 * @returns {Step}
 */
export declare function onPage(state: Following, asked: Asking, page: import('./types.js').EventPage, moment: Moment): Step;
/**
 * The row of a session came that ended without a terminal event.
 * @param {Following} state
 * @param {import('./types.js').SessionRow} row
 * @param {Moment} moment
 * @returns {Step}
 */
export declare function onRow(state: Following, row: import('./types.js').SessionRow, moment: Moment): Step;
/**
 * Something came on the stream, perhaps no event.
 * @param {Following} state
 * @param {Asking} asked
 * @param {import('./types.js').SessionEvent[]} events
 * @param {Moment} moment
 * @returns {Step}
 */
export declare function onChunk(state: Following, asked: Asking, events: import('./types.js').SessionEvent[], moment: Moment): Step;
/**
 * The stream is over. Whatever is wrong with it (a proxy may spoil it), polling tells whether it is the session.
 * @param {Following} state
 * @param {Asking} asked
 * @param {any} error null: it ended by itself
 * @param {Moment} moment
 * @returns {Step}
 */
export declare function onStreamEnd(state: Following, asked: Asking, error: any, { now }: Moment): Step;
/**
 * A request failed.
 * @param {Following} state
 * @param {any} error
 * @param {Moment} moment
 * @returns {Step}
 */
export declare function onFailure(state: Following, error: any, moment: Moment): Step;
/**
 * The session can't be followed: it is gone, or not for us.
 * @param {Following} state
 * @param {any} error
 * @param {Moment} moment
 * @param {boolean} [heard] another tab said so
 * @returns {Step}
 */
export declare function fail(state: Following, error: any, moment: Moment, heard?: boolean): Step;
