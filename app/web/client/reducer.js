// @ts-check
/**
 * The reducer: events in, what is shown out. Pure.
 *
 * The law: the result depends only on the set of events given so far. Repeats are ignored, and an event counts as soon
 * as all before it are there. An event with `supersedesFrom: k` takes away the events before it from seq k on.
 */

import { fold, settleText } from './parts.js'

/** @typedef {import('./types.js').SessionEvent} SessionEvent */
/** @typedef {import('./parts.js').SessionState} SessionState */
/** @typedef {import('./parts.js').Draft} Draft */

const LOG_BLOCK = 128

/**
 * The state before the first event, or before the first event above *after*.
 * @param {string} [sessionId]
 * @param {number} [after]
 * @returns {SessionState}
 */
export function initialState(sessionId = '', after = 0) {
  return {
    sessionId, status: 'running', after, attempt: 0, text: '', thinking: '', parts: [], error: null, usage: null, model: null,
    durationMs: null, finishReason: null, openCalls: 0, begun: 0, from: after, log: [], ahead: {},
  }
}

/**
 * Count one event in.
 * @param {SessionState} state
 * @param {SessionEvent} event
 * @returns {SessionState} the same object when nothing changed
 */
export function reduce(state, event) {
  return reduceAll(state, [event])
}

/**
 * `reduce` over many events, copying the state only once.
 * @param {SessionState} state
 * @param {Iterable<SessionEvent>} events
 * @returns {SessionState}
 */
export function reduceAll(state, events) {
  /** @type {Draft | null} */
  let draft = null
  for (const event of events) {
    const after = (draft ?? state).after
    if (!(event.seq > after) || !Number.isInteger(event.seq)) continue
    if (state.sessionId && event.sessionId && event.sessionId !== state.sessionId) continue
    draft ??= draftOf(state)
    draft.ahead[event.seq] ??= event
    for (let next; (next = draft.ahead[draft.after + 1]); ) {
      delete draft.ahead[next.seq]
      countIn(draft, next)
    }
  }
  return draft ?? state
}

/**
 * The state of an ended session whose events don't say how it ended: its row does.
 * @param {SessionState} state
 * @param {Pick<import('./types.js').SessionRow, 'status' | 'finalResponse' | 'model' | 'errorCode' | 'errorMessage' | 'finishReason'>} row
 * @returns {SessionState}
 */
export function settledState(state, row) {
  const draft = draftOf(state)
  draft.status = row.status
  draft.model = row.model ?? null
  draft.finishReason = row.finishReason ?? null
  if (row.finalResponse) settleText(draft, row.finalResponse, { seq: state.after, eventType: 'done' })
  if (row.status === 'error') draft.error = { code: row.errorCode ?? 'error', message: row.errorMessage ?? '' }
  return draft
}

/**
 * All events that are counted in, superseded ones included, oldest first.
 * @param {SessionState} state
 * @param {number} [after] only those above this seq
 * @returns {SessionEvent[]}
 */
export function eventsOf(state, after = 0) {
  // The log has no gap, so the place of a seq is known.
  const at = Math.max(after - state.from, 0)
  return state.log.slice(Math.floor(at / LOG_BLOCK)).flat().slice(at % LOG_BLOCK)
}

/**
 * The tool calls of a session, in the order they began.
 * @param {SessionState} state
 * @returns {import('./parts.js').ToolPart[]}
 */
export function toolCallsOf(state) {
  return state.parts.filter((part) => part.kind === 'tool')
}

/** @param {SessionState} state @returns {Draft} */
function draftOf(state) {
  const log = /** @type {SessionEvent[][]} */ (state.log.slice())
  // The last block grows; all before it are full and shared between states.
  if (log.length) log[log.length - 1] = log[log.length - 1].slice()
  return { ...state, parts: state.parts.slice(), log, ahead: { ...state.ahead } }
}

/** @param {Draft} draft @param {SessionEvent} event */
function countIn(draft, event) {
  draft.after = event.seq
  const last = draft.log[draft.log.length - 1]
  if (last && last.length < LOG_BLOCK) last.push(event)
  else draft.log.push([event])
  if (draft.status !== 'running') return
  if (event.supersedesFrom != null && event.supersedesFrom < event.seq) foldAgain(draft)
  else fold(draft, event)
}

/** Fold the whole log again without what was superseded. Happens once per attempt. @param {Draft} draft */
function foldAgain(draft) {
  /** @type {SessionEvent[]} */
  const counting = []
  for (const event of draft.log.flat()) {
    const from = event.supersedesFrom
    if (from != null) while (counting.length && counting[counting.length - 1].seq >= from) counting.pop()
    counting.push(event)
  }
  const { sessionId, from, after, log, ahead, begun } = draft
  // A part that remains keeps its number.
  const numbers = new Map(draft.parts.map((part) => [part.seq, part.n]))
  Object.assign(draft, initialState(sessionId), { parts: [], from, after, log, ahead, begun })
  for (const event of counting) fold(draft, event, numbers)
}
