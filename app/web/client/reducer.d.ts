// Generated from the JavaScript beside it by `npm run declarations` in tests/web. Do not edit.

/**
 * The reducer: events in, what is shown out. Pure.
 *
 * The law: the result depends only on the set of events given so far. Repeats are ignored, and an event counts as soon
 * as all before it are there. An event with `supersedesFrom: k` takes away the events before it from seq k on.
 */
export type SessionEvent = import('./types.js').SessionEvent;
export type SessionState = import('./parts.js').SessionState;
export type Draft = import('./parts.js').Draft;
/**
 * The state before the first event, or before the first event above *after*.
 * @param {string} [sessionId]
 * @param {number} [after]
 * @returns {SessionState}
 */
export declare function initialState(sessionId?: string, after?: number): SessionState;
/**
 * Count one event in.
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
 * The state of an ended session whose events don't say how it ended: its row does.
 * @param {SessionState} state
 * @param {Pick<import('./types.js').SessionRow, 'status' | 'finalResponse' | 'model' | 'errorCode' | 'errorMessage' | 'finishReason'>} row
 * @returns {SessionState}
 */
export declare function settledState(state: SessionState, row: Pick<import('./types.js').SessionRow, 'status' | 'finalResponse' | 'model' | 'errorCode' | 'errorMessage' | 'finishReason'>): SessionState;
/**
 * All events that are counted in, superseded ones included, oldest first.
 * @param {SessionState} state
 * @param {number} [after] only those above this seq
 * @returns {SessionEvent[]}
 */
export declare function eventsOf(state: SessionState, after?: number): SessionEvent[];
/**
 * The tool calls of a session, in the order they began.
 * @param {SessionState} state
 * @returns {import('./parts.js').ToolPart[]}
 */
export declare function toolCallsOf(state: SessionState): import('./parts.js').ToolPart[];
