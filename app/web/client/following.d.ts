// Generated from the JavaScript beside it by `npm run declarations` in tests/web. Do not edit.

/**
 * Following one session, as a machine of immutable values: `step(state, message) → [state, effects]`. Pure.
 *
 * `follower.js` runs the effects, tells the machine what became of them, and when the time that `wakeAt` names has
 * come. `connection.js` says what the state is made of, `answers.js` what the server's answers change, `tabs.js` which
 * tab asks the server.
 */
export type Following = import('./connection.js').Following;
export type Asking = import('./connection.js').Asking;
export type Moment = import('./connection.js').Moment;
export type Message = import('./connection.js').Message;
export type Step = import('./connection.js').Step;
/**
 * The machine before anything has happened. It makes its first request when it is told the time.
 * @param {Following['settings']} settings
 * @param {string} sessionId
 * @param {number} after events up to this seq are not read
 * @param {boolean} alone no other tab can know the session
 * @param {Moment} moment
 * @returns {Step}
 */
export declare function begin(settings: Following['settings'], sessionId: string, after: number, alone: boolean, moment: Moment): Step;
/**
 * What the machine becomes when something happens, and what is to be done.
 * @param {Following} state
 * @param {Message} message
 * @returns {Step}
 */
export declare function step(state: Following, message: Message): Step;
/** When to tell the machine the time. @param {Following} state @param {boolean} hidden @returns {number} Infinity: never */
export declare function wakeAt({ connection, leadership }: Following, hidden: boolean): number;
