// Generated from the JavaScript beside it by `npm run declarations` in tests/web. Do not edit.

/** One event folded into what is shown: text, thinking and tool calls. `reducer.js` decides which events count. */
export type SessionEvent = import('./types.js').SessionEvent;
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
    status: import('./types.js').Status;
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
    usage: import('./types.js').Usage | null;
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
/** @typedef {import('./types.js').SessionEvent} SessionEvent */
/**
 * @typedef {object} TextPart
 * @property {'thinking' | 'text'} kind
 * @property {number} n which of the session's parts it is, from 0; a number is never used again
 * @property {number} seq of its first event
 * @property {string} text
 * @property {string} startedAt
 * @property {string} endedAt
 */
/**
 * @typedef {object} ToolPart
 * @property {'tool'} kind
 * @property {number} n which of the session's parts it is, from 0; a number is never used again
 * @property {number} seq of its first event
 * @property {string} toolCallId `call_<seq>` where the server has none
 * @property {string} name
 * @property {unknown} args
 * @property {string | null} result
 * @property {boolean | null} success null: no result yet
 * @property {number | null} durationMs
 * @property {string} startedAt
 */
/** @typedef {TextPart | ToolPart} Part */
/**
 * What is shown of a session. Plain data; never mutated.
 * @typedef {object} SessionState
 * @property {string} sessionId
 * @property {import('./types.js').Status} status
 * @property {number} after all events up to this seq are counted in
 * @property {number} attempt
 * @property {string} text the answer so far; the whole answer once done, the partial one on error
 * @property {string} thinking
 * @property {readonly Part[]} parts thinking, text and tool calls in the order they came; an unchanged part stays the same object
 * @property {{ code: string, message: string } | null} error
 * @property {import('./types.js').Usage | null} usage
 * @property {string | null} model
 * @property {number | null} durationMs
 * @property {string | null} finishReason why the model stopped: `stop`, or `length` at the limit of its output
 * @property {number} openCalls tool calls without a result
 * @property {number} begun how many parts have begun, those that no longer count included
 * @property {number} from events up to this seq were never seen: the state was begun after them
 * @property {readonly (readonly SessionEvent[])[]} log all counted-in events, in blocks; see `eventsOf`
 * @property {Readonly<Record<number, SessionEvent>>} ahead events that wait for one before them
 */
/**
 * A state that is being made: a copy of which nobody else knows.
 * @typedef {{ -readonly [K in keyof SessionState]: SessionState[K] } & { parts: Part[], log: SessionEvent[][], ahead: Record<number, SessionEvent> }} Draft
 */
/**
 * Change *draft* as *event* says.
 * @param {Draft} draft of a running session
 * @param {SessionEvent} event
 * @param {ReadonlyMap<number, number>} [numbers] of parts that have begun before, by seq
 */
export declare function fold(draft: Draft, event: SessionEvent, numbers?: ReadonlyMap<number, number>): void;
/**
 * The server stores the text of the terminal event: where it differs from what was streamed, it wins.
 * @param {Draft} draft
 * @param {string} text
 * @param {SessionEvent} event
 */
export declare function settleText(draft: Draft, text: string, event: SessionEvent): void;
