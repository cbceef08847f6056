// @ts-check
/** What the server's answers change in following a session, and what failed requests change. Pure. */

import { ask, chain, end, finish, recover, remember, rest, say, sayIfLeading, setTrouble, take } from './connection.js'
import { isTransient, retryPauseMs } from './http.js'
import { settledState } from './reducer.js'

/** @typedef {import('./connection.js').Following} Following */
/** @typedef {import('./connection.js').Asking} Asking */
/** @typedef {import('./connection.js').Moment} Moment */
/** @typedef {import('./connection.js').Step} Step */

/** Nobody polls faster than this, in ms. */
export const MIN_POLL_MS = 200
export const POLL_MS = 1500
const MAX_POLL_MS = 60_000
/** A hidden tab polls this many times slower. */
const HIDDEN_FACTOR = 4
export const REQUEST_TIMEOUT_MS = 20_000
/** A stream that lasted longer than this worked, even if no event came. */
const FRUITFUL_STREAM_MS = 5000
/** After two streams that did not work, poll for this long. */
const STREAM_AGAIN_MS = 60_000

/** @param {Following} state @param {Moment} moment */
const slowly = (state, { hidden }) => state.adviceMs * (hidden ? HIDDEN_FACTOR : 1)

/**
 * A page of events came.
 * @param {Following} state
 * @param {Asking} asked
 * @param {import('./types.js').EventPage} page
 * @param {Moment} moment
 * @returns {Step}
 */
export function onPage(state, asked, page, moment) {
  const { now } = moment
  return chain(state, recover, take(page.events), (read) => {
    const moved = read.session.after > asked.after
    const more = Boolean(page.hasMore) && moved
    const { leadership } = read
    const adviceMs = Math.min(Math.max(Number(page.pollAfterMs) || POLL_MS, read.settings.minPollMs), MAX_POLL_MS)
    const next = {
      ...read, adviceMs, leadership: leadership.role === 'leader' ? leadership : { ...leadership, gapAt: more ? now : Infinity } }
    const share = sayIfLeading('events', moment, { events: page.events })
    // It ended without a terminal event (rows from before this server): the session row says how.
    if (page.status !== 'running' && !page.hasMore && next.session.status === 'running') {
      return chain(next, share, ask('settling', REQUEST_TIMEOUT_MS, moment))
    }
    // A server that answers at once although it may hold the request must not be asked in a circle.
    const held = asked.held && (moved || now - asked.since >= MIN_POLL_MS)
    return chain(next, rest(more || held ? now : now + slowly(next, moment)), remember(moment), share, finish)
  })
}

/**
 * The row of a session came that ended without a terminal event.
 * @param {Following} state
 * @param {import('./types.js').SessionRow} row
 * @param {Moment} moment
 * @returns {Step}
 */
export function onRow(state, row, moment) {
  if (row.status === 'running' || state.session.status !== 'running') return chain(state, rest(moment.now + slowly(state, moment)), finish)
  return chain(state, (next) => [{ ...next, session: settledState(next.session, row) }, [{ kind: 'state' }]], finish)
}

/**
 * Something came on the stream, perhaps no event.
 * @param {Following} state
 * @param {Asking} asked
 * @param {import('./types.js').SessionEvent[]} events
 * @param {Moment} moment
 * @returns {Step}
 */
export function onChunk(state, asked, events, moment) {
  const connection = { ...asked, askedAt: moment.now, deadline: moment.now + asked.timeoutMs }
  const alive = { ...state, connection }
  if (!events.length) return recover(alive)
  return chain(alive, recover, take(events), remember(moment), sayIfLeading('events', moment, { events }), finish)
}

/**
 * The stream is over. Whatever is wrong with it (a proxy may spoil it), polling tells whether it is the session.
 * @param {Following} state
 * @param {Asking} asked
 * @param {any} error null: it ended by itself
 * @param {Moment} moment
 * @returns {Step}
 */
export function onStreamEnd(state, asked, error, { now }) {
  const fruitful = state.session.after > asked.after || now - asked.since > FRUITFUL_STREAM_MS
  // 204: the session has ended, there is nothing to stream.
  const failures = fruitful ? 0 : error?.status === 204 ? 2 : state.stream.failures + 1
  const stream = { failures, againAt: failures >= 2 ? now + STREAM_AGAIN_MS : state.stream.againAt }
  return chain({ ...state, stream }, rest(now + MIN_POLL_MS), finish)
}

/**
 * A request failed.
 * @param {Following} state
 * @param {any} error
 * @param {Moment} moment
 * @returns {Step}
 */
export function onFailure(state, error, moment) {
  if (!isTransient(error)) return fail(state, error, moment)
  const until = moment.now + retryPauseMs(state.failures, error, moment.random)
  const { leadership } = state
  const next = {
    ...state,
    failures: state.failures + 1,
    // Not before the server allows it, even if the tab becomes visible meanwhile.
    notBefore: error?.retryAfterMs ? moment.now + error.retryAfterMs : state.notBefore,
    leadership: leadership.role === 'listener' && leadership.gapAt < Infinity ? { ...leadership, gapAt: until } : leadership,
  }
  return chain(next, rest(until), setTrouble(error), sayIfLeading('lead', moment))
}

/**
 * The session can't be followed: it is gone, or not for us.
 * @param {Following} state
 * @param {any} error
 * @param {Moment} moment
 * @param {boolean} [heard] another tab said so
 * @returns {Step}
 */
export function fail(state, error, moment, heard = false) {
  const { status, code, detail, problem } = error
  const gone = status === 404 || status === 410
  if (!gone) return chain(state, sayIfLeading('bye', moment), end({ kind: 'reject', error }))
  return chain(state, say(heard ? null : 'gone', moment, { status, code, detail, problem }), end({ kind: 'forget' }, { kind: 'reject', error }))
}
