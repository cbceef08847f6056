// @ts-check
/** The state of following a session, its messages and effects, and the moves that several messages share. Pure. */

import { reduceAll } from './reducer.js'
import { BEAT_MS } from './tabs.js'

/** @typedef {import('./types.js').SessionEvent} SessionEvent */
/** @typedef {import('./parts.js').SessionState} SessionState */
/** @typedef {import('./tabs.js').Leadership} Leadership */

/**
 * What the connection to the server is: one of these at a time.
 * @typedef {Resting | Asking | Over} Connection
 */
/** @typedef {{ is: 'resting', until: number, askedAt: number }} Resting no request; a leader asks again at `until` */
/** @typedef {{ is: 'over' }} Over the session has ended or is gone, or nobody follows it any more */

/**
 * A request is on its way: for a page, for the row of a session that ended without a terminal event, or a stream.
 * @typedef {object} Asking
 * @property {'polling' | 'settling' | 'streaming'} is
 * @property {number} request its number
 * @property {number} since
 * @property {number} after the newest seq when it began
 * @property {boolean} held the server may hold it until there is news
 * @property {number} askedAt when it began, or last brought something
 * @property {number} timeoutMs how long it may be silent
 * @property {number} deadline when it is given up
 * @property {number} beatAt when to tell the other tabs that this one still leads
 */

/**
 * @typedef {object} Following
 * @property {{ tab: string, transport: 'poll' | 'wait' | 'sse', minPollMs: number }} settings
 * @property {SessionState} session
 * @property {Leadership} leadership
 * @property {Connection} connection
 * @property {Error | null} trouble why the server can't be reached; null: it can
 * @property {number} adviceMs the pause between polls that the server advises
 * @property {number} failures requests that failed in a row
 * @property {number} notBefore the server refuses requests before this time
 * @property {{ failures: number, againAt: number }} stream streams in a row that brought nothing; after two it polls until `againAt`
 * @property {number} storedAt when the place was last stored
 * @property {number} requests how many have been made
 */

/**
 * What is so when a message comes.
 * @typedef {object} Moment
 * @property {number} now
 * @property {boolean} hidden the tab can't be seen
 * @property {number} random 0 to 1
 * @property {boolean} mayHold there is a connection left for a request that the server holds
 */

/**
 * What happened.
 * @typedef {{ kind: 'time' }
 *   | { kind: 'page', request: number, page: import('./types.js').EventPage }
 *   | { kind: 'row', request: number, row: import('./types.js').SessionRow }
 *   | { kind: 'chunk', request: number, events: SessionEvent[] }
 *   | { kind: 'closed', request: number }
 *   | { kind: 'failed', request: number, error: any }
 *   | { kind: 'tab', message: any }
 *   | { kind: 'visible' | 'hidden' | 'online' | 'leave' }
 *   | { kind: 'stop' }} Happening
 */
/** @typedef {Happening & Moment} Message */

/** Make a request; it may be held for `wait` seconds. @typedef {{ kind: Asking['is'], request: number, after: number, wait: number | null }} Request */
/**
 * What to do.
 * @typedef {Request
 *   | { kind: 'abort' }
 *   | { kind: 'post', message: any }
 *   | { kind: 'remember', after: number }
 *   | { kind: 'forget' }
 *   | { kind: 'state' }
 *   | { kind: 'connection' }
 *   | { kind: 'resolve' }
 *   | { kind: 'reject', error: any }} Effect
 */

/** @typedef {[Following, Effect[]]} Step what the machine is next, and what to do */
/** @typedef {(state: Following) => Step} Move */

/** The place in a session is stored this often at most. */
const STORE_MS = 1000

/** One move after the other. @param {Following} state @param {...Move} moves @returns {Step} */
export function chain(state, ...moves) {
  /** @type {Effect[]} */
  const effects = []
  for (const move of moves) {
    const [next, more] = move(state)
    state = next
    effects.push(...more)
  }
  return [state, effects]
}

/** Tell the other tabs. @param {import('./tabs.js').Word | 'gone'} kind @param {Moment} moment @param {object} [more] @returns {Move} */
export const say = (kind, { now, hidden }, more) => (state) => {
  if (!kind) return [state, []]
  const { connection, session: { sessionId, after }, settings: { tab } } = state
  const within = BEAT_MS + (connection.is === 'resting' ? Math.max(connection.until - now, 0) : 0)
  return [state, [{ kind: 'post', message: { kind, ...more, sessionId, tab, after, within, hidden } }]]
}

/** The same if this tab leads. @param {'lead' | 'events' | 'bye'} kind @param {Moment} moment @param {object} [more] @returns {Move} */
export const sayIfLeading = (kind, moment, more) => (state) =>
  state.leadership.role === 'leader' ? say(kind, moment, more)(state) : [state, []]

/** Whether the server can be reached. @param {Error | null} trouble @returns {Move} */
export const setTrouble = (trouble) => (state) =>
  trouble || state.trouble ? [{ ...state, trouble }, [{ kind: 'connection' }]] : [state, []]

/** @type {Move} */
export const recover = (state) => setTrouble(null)({ ...state, failures: 0, notBefore: 0 })

/** Count events in. @param {readonly SessionEvent[]} events @returns {Move} */
export const take = (events) => (state) => {
  const session = reduceAll(state.session, events)
  return [{ ...state, session }, session.after === state.session.after ? [] : [{ kind: 'state' }]]
}

/**
 * Make a request.
 * @param {Asking['is']} is
 * @param {number} timeoutMs
 * @param {Moment} moment
 * @param {number | null} [wait] how many seconds the server may hold it
 * @returns {Move}
 */
export const ask = (is, timeoutMs, { now }, wait = null) => (state) => {
  const request = state.requests + 1
  const { after } = state.session
  /** @type {Asking} */
  const connection = { is, request, since: now, after, held: wait !== null, askedAt: now, timeoutMs, deadline: now + timeoutMs, beatAt: now + BEAT_MS }
  return [{ ...state, connection, requests: request }, [{ kind: is, request, after, wait }]]
}

/** Make no request before *until*; one that is on its way is over. @param {number} until @returns {Move} */
export const rest = (until) => (state) => {
  const askedAt = state.connection.is === 'over' ? 0 : state.connection.askedAt
  return [{ ...state, connection: { is: 'resting', until, askedAt } }, []]
}

/** Give up the request that is on its way, if there is one. @type {Move} */
export const abort = (state) =>
  state.connection.is === 'resting' || state.connection.is === 'over' ? [state, []] : chain(state, rest(0), (next) => [next, [{ kind: 'abort' }]])

/** Keep the place for the next page load. @param {Moment} moment @returns {Move} */
export const remember = ({ now }) => (state) => {
  if (state.session.status !== 'running' || now - state.storedAt < STORE_MS) return [state, []]
  return [{ ...state, storedAt: now }, [{ kind: 'remember', after: state.session.after }]]
}

/** Following is over. @param {Effect[]} effects the last ones @returns {Move} */
export const end = (...effects) => (state) => chain(state, abort, (next) => [{ ...next, connection: { is: 'over' } }, effects])

/** If the session has ended, following it is over. @type {Move} */
export const finish = (state) =>
  state.session.status === 'running' ? [state, []] : chain(state, setTrouble(null), end({ kind: 'forget' }, { kind: 'resolve' }))
