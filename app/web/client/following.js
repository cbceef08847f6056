// @ts-check
/**
 * Following one session, as a machine of immutable values: `step(state, message) → [state, effects]`. Pure.
 *
 * `follower.js` runs the effects, tells the machine what became of them, and when the time that `wakeAt` names has
 * come. `connection.js` says what the state is made of, `answers.js` what the server's answers change, `tabs.js` which
 * tab asks the server.
 */

import { fail, MIN_POLL_MS, onChunk, onFailure, onPage, onRow, onStreamEnd, POLL_MS, REQUEST_TIMEOUT_MS } from './answers.js'
import { abort, ask, chain, end, finish, rest, say, sayIfLeading, setTrouble, take } from './connection.js'
import { ApiError } from './http.js'
import { eventsOf, initialState } from './reducer.js'
import { BEAT_MS, join, onEnvironment, onMessage, onTime, patienceEnds } from './tabs.js'

/** @typedef {import('./connection.js').Following} Following */
/** @typedef {import('./connection.js').Asking} Asking */
/** @typedef {import('./connection.js').Moment} Moment */
/** @typedef {import('./connection.js').Message} Message */
/** @typedef {import('./connection.js').Step} Step */

/** How long the server may hold a request, in seconds. */
const WAIT_S = 25
/** How much later than that its answer may come, in ms. */
const HELD_GRACE_MS = 10_000
const SILENT_STREAM_MS = 45_000
/** When the tab is seen again, an older request may be from before the laptop slept. */
const STALE_REQUEST_MS = 5000

/**
 * The machine before anything has happened. It makes its first request when it is told the time.
 * @param {Following['settings']} settings
 * @param {string} sessionId
 * @param {number} after events up to this seq are not read
 * @param {boolean} alone no other tab can know the session
 * @param {Moment} moment
 * @returns {Step}
 */
export function begin(settings, sessionId, after, alone, moment) {
  const [leadership, word] = join(alone, moment.now)
  /** @type {Following} */
  const state = {
    settings, leadership, session: initialState(sessionId, after), connection: { is: 'resting', until: moment.now, askedAt: 0 },
    trouble: null, adviceMs: POLL_MS, failures: 0, notBefore: 0, stream: { failures: 0, againAt: 0 }, storedAt: -Infinity, requests: 0,
  }
  return say(word, moment)(state)
}

/**
 * What the machine becomes when something happens, and what is to be done.
 * @param {Following} state
 * @param {Message} message
 * @returns {Step}
 */
export function step(state, message) {
  return chain(state, (next) => react(next, message), (next) => proceed(next, message))
}

/** When to tell the machine the time. @param {Following} state @param {boolean} hidden @returns {number} Infinity: never */
export function wakeAt({ connection, leadership }, hidden) {
  if (connection.is === 'over') return Infinity
  if (connection.is !== 'resting') return Math.min(connection.deadline, connection.beatAt)
  return leadership.role === 'leader' ? connection.until : Math.min(leadership.gapAt, patienceEnds(leadership, hidden))
}

/** @param {Following} state @param {Message} message @returns {Step} */
function react(state, message) {
  const { connection } = state
  if (connection.is === 'over') return [state, []]
  switch (message.kind) {
    case 'time':
      return connection.is === 'resting' ? [state, []] : onRequestTime(state, connection, message)
    case 'tab':
      return onTab(state, message.message, message)
    case 'visible':
    case 'online':
    case 'hidden':
    case 'leave':
      return chain(state, say(onEnvironment(state.leadership, message.kind), message), (next) => onSeen(next, message))
    case 'stop':
      return chain(state, sayIfLeading('bye', message), end())
  }
  // The answer to a request that was given up.
  if (connection.is === 'resting' || connection.request !== message.request) return [state, []]
  switch (message.kind) {
    case 'page':
      return onPage(state, connection, message.page, message)
    case 'row':
      return onRow(state, message.row, message)
    case 'chunk':
      return onChunk(state, connection, message.events, message)
    case 'closed':
      return onStreamEnd(state, connection, null, message)
    case 'failed':
      return onLost(state, connection, message.error, message)
  }
}

/** Make the next request if it is time. @param {Following} state @param {Moment} moment @returns {Step} */
function proceed(state, moment) {
  const { connection, leadership, settings: { transport }, stream } = state
  const { now } = moment
  if (connection.is !== 'resting') return [state, []]
  if (leadership.role === 'listener') {
    // What other tabs have not told is read from the server.
    if (now >= leadership.gapAt) return ask('polling', REQUEST_TIMEOUT_MS, moment)(state)
    const [next, word] = onTime(leadership, selfOf(state, moment))
    return next === leadership ? [state, []] : chain(state, become(next), say(word, moment), (led) => proceed(led, moment))
  }
  if (now < connection.until) return [state, []]
  if (transport === 'sse' && (stream.failures < 2 || now >= stream.againAt)) return ask('streaming', SILENT_STREAM_MS, moment)(state)
  const held = transport === 'wait' && moment.mayHold && !moment.hidden
  if (held) return ask('polling', WAIT_S * 1000 + HELD_GRACE_MS, moment, WAIT_S)(state)
  return ask('polling', REQUEST_TIMEOUT_MS, moment)(state)
}

/** @param {Following} state @param {Moment} moment @returns {import('./tabs.js').Self} */
function selfOf({ settings, session }, { now, hidden, random }) {
  return { tab: settings.tab, after: session.after, now, hidden, random }
}

/** Lead from now on, or listen. @param {import('./tabs.js').Leadership} leadership @returns {import('./connection.js').Move} */
const become = (leadership) => (state) => {
  const next = { ...state, leadership }
  if (leadership.role === state.leadership.role) return [next, []]
  if (leadership.role === 'listener') return abort(next)
  return state.connection.is === 'resting' ? rest(state.notBefore)(next) : [next, []]
}

/** Time has passed while a request is on its way. @param {Following} state @param {Asking} asked @param {Moment} moment @returns {Step} */
function onRequestTime(state, asked, moment) {
  if (moment.now >= asked.deadline) {
    const error = new DOMException('no answer in time', 'TimeoutError')
    return chain(state, abort, (next) => onLost(next, asked, error, moment))
  }
  if (moment.now < asked.beatAt) return [state, []]
  return sayIfLeading('lead', moment)({ ...state, connection: { ...asked, beatAt: moment.now + BEAT_MS } })
}

/** @param {Following} state @param {Asking} asked @param {any} error @param {Moment} moment @returns {Step} */
function onLost(state, asked, error, moment) {
  return asked.is === 'streaming' ? onStreamEnd(state, asked, error, moment) : onFailure(state, error, moment)
}

/** The tab is seen again, or the network is back: a leader asks at once. @param {Following} state @param {Message} message @returns {Step} */
function onSeen(state, { kind, now }) {
  const { connection, leadership, notBefore } = state
  if ((kind !== 'visible' && kind !== 'online') || leadership.role === 'listener' || connection.is === 'over') return [state, []]
  const soon = rest(Math.max(notBefore, connection.askedAt + MIN_POLL_MS))
  if (connection.is === 'resting') return soon(state)
  // A connection from before the laptop slept hangs until it times out.
  return now - connection.askedAt > STALE_REQUEST_MS ? chain(state, abort, soon) : [state, []]
}

/** Another tab said something. @param {Following} state @param {any} message @param {Moment} moment @returns {Step} */
function onTab(state, message, moment) {
  const { kind, events, status, code, detail, problem } = message
  if (kind === 'gone') return fail(state, new ApiError(status, code, detail, problem), moment, true)
  return chain(state, take(Array.isArray(events) ? events : []), (read) => {
    const [leadership, word] = onMessage(read.leadership, message, selfOf(read, moment))
    // A tab that had trouble and stopped asking learns from the leader that the server answers.
    const reached = kind === 'events' && leadership.role === 'listener'
    return chain(read, become(leadership), answer(word, message, moment), (next) => (reached ? setTrouble(null)(next) : [next, []]), finish)
  })
}

/** @param {import('./tabs.js').Word} word @param {any} message @param {Moment} moment @returns {import('./connection.js').Move} */
const answer = (word, message, moment) => (state) => {
  if (word !== 'events') return say(word, moment)(state)
  // The other tab may ask for events from before this one began.
  if (message.after < state.session.from) return say('lead', moment)(state)
  return say('events', moment, { events: eventsOf(state.session, message.after) })(state)
}
