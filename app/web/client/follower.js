// @ts-check
/** Runs the machine of `following.js` for one session: makes its requests, keeps its timer, tells its subscribers. */

import { begin, step, wakeAt } from './following.js'
import { parseStream } from './http.js'
import { eventsOf } from './reducer.js'

/** @typedef {import('./types.js').SessionEvent} SessionEvent */
/** @typedef {import('./parts.js').SessionState} SessionState */
/** @typedef {import('./connection.js').Happening} Happening */
/** @typedef {import('./connection.js').Effect} Effect */

/** Browsers open six connections to a host: held requests must leave some. */
const MAX_HELD = 3

/**
 * @typedef {object} FollowOptions
 * @property {number} [after] read only what is above this seq; the state then begins there
 * @property {(event: SessionEvent) => void} [onEvent] each event once, in order
 * @property {(state: SessionState) => void} [onState] after each batch of events
 * @property {(trouble: Error | null) => void} [onConnectionChange] the server can't be reached (it is tried again); null: it can
 * @property {AbortSignal} [signal] stop following; the run itself goes on
 */

/**
 * What all followers of a client share.
 * @typedef {object} Shared
 * @property {import('./connection.js').Following['settings']} settings
 * @property {import('./api.js').Api} api
 * @property {import('./environment.js').Clock} clock
 * @property {import('./environment.js').Environment} environment
 * @property {import('./pending.js').PendingSessions} pending
 * @property {(message: any) => void} post to the other tabs
 * @property {number} holding how many requests the server holds
 */

/**
 * @typedef {object} Subscriber
 * @property {FollowOptions} options
 * @property {number} told the last seq that it was told
 * @property {Follower} follower
 * @property {(state: SessionState) => void} resolve
 * @property {(reason: any) => void} reject
 */

/** A listener that throws must not look like a broken network. @template T @param {((value: T) => void) | undefined} listener @param {T} value */
function call(listener, value) {
  try {
    listener?.(value)
  } catch (error) {
    queueMicrotask(() => { throw error })
  }
}

export class Follower {
  #shared
  #onOver
  #state
  /** @type {Effect[]} */
  #effects
  #running = false
  /** @type {Set<Subscriber>} */
  #subscribers = new Set()
  /** @type {any} */
  #timer = null
  /** @type {AbortController | null} */
  #request = null

  /**
   * @param {Shared} shared
   * @param {string} sessionId
   * @param {number} after
   * @param {boolean} alone no other tab can know the session
   * @param {() => void} onOver
   */
  constructor(shared, sessionId, after, alone, onOver) {
    this.#shared = shared
    this.#onOver = onOver
    ;[this.#state, this.#effects] = begin(shared.settings, sessionId, after, alone, this.#moment())
    // The first subscriber is added after the constructor, and must miss nothing.
    queueMicrotask(() => this.notice({ kind: 'time' }))
  }

  /** Following has ended. */
  get over() {
    return this.#state.connection.is === 'over'
  }

  /** Events up to this seq are not read. */
  get from() {
    return this.#state.session.from
  }

  /** @param {FollowOptions} options @returns {Promise<SessionState>} */
  subscribe(options) {
    return new Promise((resolve, reject) => {
      const { signal } = options
      const leave = () => {
        subscriber.reject(signal?.reason)
        subscriber.follower.#drop(subscriber)
      }
      // One signal may outlive many sessions.
      const settle = (/** @type {() => void} */ run) => {
        signal?.removeEventListener('abort', leave)
        run()
      }
      /** @type {Subscriber} */
      const subscriber = {
        options, told: options.after ?? 0, follower: this,
        resolve: (state) => settle(() => resolve(state)),
        reject: (reason) => settle(() => reject(reason)),
      }
      this.#subscribers.add(subscriber)
      if (signal?.aborted) return leave()
      signal?.addEventListener('abort', leave, { once: true })
      const { session, trouble } = this.#state
      if (session.after > session.from) this.#tell(subscriber)
      if (trouble) call(options.onConnectionChange, trouble)
    })
  }

  /** Go on for the subscribers of a follower that began later in the session, and stop that one. @param {Follower} other */
  replace(other) {
    for (const subscriber of other.#subscribers) {
      subscriber.follower = this
      this.#subscribers.add(subscriber)
    }
    other.#subscribers.clear()
    other.#stop()
  }

  /** Stop, and reject what the subscribers wait for. @param {Error} reason */
  close(reason) {
    for (const { reject } of this.#subscribers) reject(reason)
    this.#subscribers.clear()
    this.#stop()
  }

  /** @param {Happening} happening */
  notice(happening) {
    const [state, effects] = step(this.#state, { ...happening, ...this.#moment() })
    this.#state = state
    this.#effects.push(...effects)
    this.#run()
  }

  /** @param {Subscriber} subscriber */
  #drop(subscriber) {
    if (this.#subscribers.delete(subscriber) && !this.#subscribers.size) this.#stop()
  }

  #stop() {
    this.notice({ kind: 'stop' })
  }

  /** @returns {import('./connection.js').Moment} */
  #moment() {
    const { clock, environment, holding } = this.#shared
    return { now: clock.now(), hidden: environment.hidden(), random: clock.random(), mayHold: holding < MAX_HELD }
  }

  /** Run the effects in order. A subscriber that is told something may cause more of them meanwhile. */
  #run() {
    if (this.#running) return
    this.#running = true
    for (let effect; (effect = this.#effects.shift()); ) this.#do(effect)
    this.#running = false
    const { clock, environment } = this.#shared
    clock.clearTimeout(this.#timer)
    const at = wakeAt(this.#state, environment.hidden())
    if (at < Infinity) this.#timer = clock.setTimeout(() => this.notice({ kind: 'time' }), at - clock.now())
    if (this.over) this.#onOver()
  }

  /** @param {Effect} effect */
  #do(effect) {
    const { pending, post } = this.#shared
    const { session, trouble } = this.#state
    switch (effect.kind) {
      case 'polling':
      case 'settling':
      case 'streaming':
        return void this.#ask(effect)
      case 'abort':
        return this.#request?.abort()
      case 'post':
        return post(effect.message)
      case 'remember':
        return pending.remember(session.sessionId, effect.after)
      case 'forget':
        return pending.forget(session.sessionId)
      case 'state':
        for (const subscriber of this.#subscribers) this.#tell(subscriber)
        return
      case 'connection':
        for (const { options } of this.#subscribers) call(options.onConnectionChange, trouble)
        return
      case 'resolve':
        for (const { resolve } of this.#subscribers) resolve(session)
        return this.#subscribers.clear()
      case 'reject':
        for (const { reject } of this.#subscribers) reject(effect.error)
        return this.#subscribers.clear()
    }
  }

  /** @param {Subscriber} subscriber */
  #tell(subscriber) {
    const { session } = this.#state
    const { onEvent, onState } = subscriber.options
    if (onEvent) for (const event of eventsOf(session, subscriber.told)) call(onEvent, event)
    subscriber.told = Math.max(subscriber.told, session.after)
    call(onState, session)
  }

  /** Make a request and tell the machine what came of it. @param {import('./connection.js').Request} effect */
  async #ask(effect) {
    const { request, wait } = effect
    const controller = (this.#request = new AbortController())
    if (wait !== null) this.#shared.holding++
    /** @type {Happening} */
    let happening
    try {
      happening = await this.#answer(effect, controller.signal)
    } catch (error) {
      happening = { kind: 'failed', request, error }
    }
    if (wait !== null) this.#shared.holding--
    controller.abort() // closes a stream that was left in the middle
    this.notice(happening)
  }

  /** @param {import('./connection.js').Request} effect @param {AbortSignal} signal @returns {Promise<Happening>} */
  async #answer({ kind, request, after, wait }, signal) {
    const { api } = this.#shared
    const { sessionId } = this.#state.session
    if (kind === 'polling') return { kind: 'page', request, page: await api.events(sessionId, { after, wait, signal }) }
    if (kind === 'settling') return { kind: 'row', request, row: await api.session(sessionId, { signal }) }
    const body = await api.stream(sessionId, after, signal)
    const reader = body.pipeThrough(new TextDecoderStream()).getReader()
    for (let buffer = ''; ; ) {
      const { done, value } = await reader.read()
      if (done) return { kind: 'closed', request }
      const { data, rest } = parseStream(buffer + value)
      buffer = rest
      this.notice({ kind: 'chunk', request, events: data.map((item) => JSON.parse(item)) })
    }
  }
}
