// @ts-check
/** Messages on their way to the server: each is sent until it has an answer, with one idempotency key. */

import { isTransient, retryPauseMs, uuid } from './http.js'
import { JsonStorage } from './storage.js'

/** @typedef {import('./types.js').Started} Started */

/**
 * @typedef {object} StartOptions
 * @property {string} [conversationId] any UUID; an unknown one begins a conversation
 * @property {number} [agentId]
 * @property {string} [model]
 * @property {'enqueue' | 'reject' | 'interrupt'} [onBusy] what if the conversation has a running session
 * @property {string} [idempotencyKey] default: a new one; kept over all retries
 * @property {number} [retryForMs] how long to try while the server can't be reached (default two minutes)
 * @property {(trouble: Error) => void} [onConnectionChange] before each retry
 * @property {AbortSignal} [signal] stop trying
 */

/** @typedef {{ message: string, options: StartOptions & { idempotencyKey: string }, at: number }} Outgoing */

/** A message whose POST had no answer when the page went away is sent again, with its key, for this long. */
const KEPT_MS = 10 * 60_000
const RETRY_MS = 120_000
const TIMEOUT_MS = 20_000

export class Outbox {
  #api
  #clock
  #environment
  #stored
  /** @type {Map<string, Promise<Started>>} The newest message on its way, by conversation. */
  #newest = new Map()

  /**
   * @param {import('./api.js').Api} api
   * @param {import('./environment.js').Clock} clock
   * @param {import('./environment.js').Environment} environment
   * @param {ConstructorParameters<typeof JsonStorage>[0]} storage
   * @param {string} prefix
   */
  constructor(api, clock, environment, storage, prefix) {
    this.#api = api
    this.#clock = clock
    this.#environment = environment
    this.#stored = new JsonStorage(storage, prefix)
  }

  /** How many conversations have a message on its way. */
  get size() {
    return this.#newest.size
  }

  /** @param {string} message @param {StartOptions} options @returns {Promise<Started>} @throws {import('./http.js').ApiError} */
  async send(message, options) {
    const key = options.idempotencyKey ?? uuid()
    const { conversationId, agentId, model, onBusy } = options
    const body = { message, conversationId, agentId, model, onBusy }
    this.#stored.put(key, { body, at: this.#clock.now() })
    try {
      return await this.#inOrder(conversationId, () => this.#post(key, body, options))
    } finally {
      this.#stored.remove(key)
    }
  }

  /** What has no answer yet, oldest first. @returns {Outgoing[]} */
  list() {
    /** @type {Outgoing[]} */
    const outgoing = []
    for (const [key, { body, at }] of this.#stored.entries()) {
      if (!body?.message || !(this.#clock.now() - at < KEPT_MS)) {
        this.#stored.remove(key)
        continue
      }
      const { message, ...options } = body
      outgoing.push({ message, options: { ...options, idempotencyKey: key }, at })
    }
    return outgoing.sort((a, b) => a.at - b.at)
  }

  /**
   * Messages of one conversation leave one after another: two that wait for the network keep their order.
   * @param {string | undefined} conversationId
   * @param {() => Promise<Started>} send
   * @returns {Promise<Started>}
   */
  async #inOrder(conversationId, send) {
    if (!conversationId) return send()
    const before = this.#newest.get(conversationId)
    const sent = before ? before.then(send, send) : send()
    this.#newest.set(conversationId, sent)
    try {
      return await sent
    } finally {
      if (this.#newest.get(conversationId) === sent) this.#newest.delete(conversationId)
    }
  }

  /** @param {string} key @param {object} body @param {StartOptions} options @returns {Promise<Started>} */
  async #post(key, body, { signal, onConnectionChange, retryForMs = RETRY_MS }) {
    const deadline = this.#clock.now() + retryForMs
    for (let failures = 0; ; failures++) {
      try {
        return await this.#api.request('POST', '/api/chat/session', {
          body, headers: { 'Idempotency-Key': key }, signal, timeoutMs: TIMEOUT_MS })
      } catch (error) {
        signal?.throwIfAborted()
        const pause = retryPauseMs(failures, error, this.#clock.random())
        if (!isTransient(error) || this.#clock.now() + pause > deadline) throw error
        onConnectionChange?.(/** @type {Error} */ (error))
        await this.#pause(pause, signal)
      }
    }
  }

  /** Wait, or until the network is back. @param {number} ms @param {AbortSignal} [signal] @returns {Promise<void>} */
  #pause(ms, signal) {
    return new Promise((resolve, reject) => {
      const end = () => {
        this.#clock.clearTimeout(timer)
        unlisten()
        signal?.removeEventListener('abort', end)
        if (signal?.aborted) reject(signal.reason)
        else resolve()
      }
      const timer = this.#clock.setTimeout(end, ms)
      const unlisten = this.#environment.listen((what) => what === 'online' && end())
      signal?.addEventListener('abort', end)
    })
  }
}
