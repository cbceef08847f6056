// Generated from the JavaScript beside it by `npm run declarations` in tests/web. Do not edit.

/**
 * Which of the tabs that follow one session asks the server: a pure function of state and message.
 *
 * One tab leads: it asks the server and tells the others what came. The others listen. A visible tab takes the lead from
 * a hidden one, whose timers the browser slows down. Any tab takes it from one that says goodbye or falls silent. Two
 * leaders at once cost a request; they agree as soon as one hears the other.
 *
 * | said | by | answer |
 * | --- | --- | --- |
 * | `who` | a tab that begins, or is seen again | a leader says `events` with what the other lacks |
 * | `lead`, `events` | a leader, at least once in `within` ms | a better leader says `lead`; all others listen |
 * | `bye` | a leader that leaves | one of the others leads, at once |
 * | `gone` | a leader whose session is gone | all others stop (see `following.js`) |
 */
/** How long a tab listens for a leader before it leads, in ms. */
export declare const ASK_MS = 120;
/** A leader that has nothing to tell says so this often, in ms. */
export declare const BEAT_MS = 4000;
/** How late a leader's next word may be before another tab takes over, in ms. */
export declare const GRACE_MS = 3000;
/** A hidden tab waits this much longer, so that a visible one takes over, in ms. */
export declare const HIDDEN_PATIENCE_MS = 30000;
/** After a goodbye the others wait a random time up to this, so that one takes over before the others, in ms. */
export declare const GOODBYE_SPREAD_MS = 200;
export type Leader = {
    role: 'leader';
};
export type Listener = {
    role: 'listener';
    /**
     * when to believe that nobody leads
     */
    silentAt: number;
    /**
     * the newest seq that a leader spoke of
     */
    leaderAfter: number;
    /**
     * when to read by itself what is missing below that seq; Infinity: nothing is
     */
    gapAt: number;
};
export type Leadership = Leader | Listener;
export type Self = {
    /**
     * its id
     */
    tab: string;
    hidden: boolean;
    now: number;
    /**
     * 0 to 1
     */
    random: number;
    /**
     * the newest seq that it has
     */
    after: number;
};
export type TabMessage = {
    kind: 'who' | 'lead' | 'events' | 'bye' | 'gone';
    sessionId: string;
    /**
     * whose message it is
     */
    tab: string;
    /**
     * it was hidden then
     */
    hidden: boolean;
    /**
     * the newest seq that it had
     */
    after: number;
    /**
     * ms until its next word, at most
     */
    within: number;
};
export type Word = 'who' | 'lead' | 'events' | 'bye' | null;
/**
 * @param {boolean} alone no other tab can know the session
 * @param {number} now
 * @returns {[Leadership, Word]}
 */
export declare function join(alone: boolean, now: number): [Leadership, Word];
/** When `onTime` has something to do. @param {Listener} listener @param {boolean} hidden */
export declare function patienceEnds({ silentAt, leaderAfter }: Listener, hidden: boolean): number;
/** Time has passed. @param {Leadership} state @param {Self} self @returns {[Leadership, Word]} */
export declare function onTime(state: Leadership, self: Self): [Leadership, Word];
/** The tab is seen again, or hidden, or its page goes away. @param {Leadership} state @param {'visible' | 'hidden' | 'online' | 'leave'} what @returns {Word} */
export declare function onEnvironment(state: Leadership, what: 'visible' | 'hidden' | 'online' | 'leave'): Word;
/** Another tab said something. @param {Leadership} state @param {TabMessage} message @param {Self} self @returns {[Leadership, Word]} */
export declare function onMessage(state: Leadership, message: TabMessage, self: Self): [Leadership, Word];
