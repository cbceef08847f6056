// @ts-check
/** Requests to one server. */

import { ApiError, parseRetryAfter, query } from './http.js'

/** @typedef {import('./types.js').Abortable} Abortable */
/** @typedef {string | (() => string | null | Promise<string | null>)} Token a bearer token, or what gives one */
/** @typedef {{ body?: object, headers?: Record<string, string>, signal?: AbortSignal, timeoutMs?: number }} RequestOptions */

const TIMEOUT_MS = 60_000
const PAGE_LIMIT = 500

/** @param {string} sessionId */
const pathOf = (sessionId) => `/api/chat/session/${encodeURIComponent(sessionId)}`

export class Api {
  #baseUrl
  #fetch
  #token
  #clock

  /** @param {string} baseUrl @param {typeof globalThis.fetch} fetch @param {Token | null} token @param {import('./environment.js').Clock} clock */
  constructor(baseUrl, fetch, token, clock) {
    this.#baseUrl = baseUrl
    this.#fetch = fetch
    this.#token = token
    this.#clock = clock
  }

  /** The session row. @param {string} sessionId @param {Abortable} [options] @returns {Promise<import('./types.js').SessionRow>} */
  session(sessionId, options = {}) {
    return this.request('GET', pathOf(sessionId), options)
  }

  /** @param {string} sessionId @returns {Promise<import('./types.js').SessionRow>} */
  cancel(sessionId) {
    return this.request('POST', `${pathOf(sessionId)}/cancel`)
  }

  /** @param {string} sessionId @returns {Promise<void>} */
  remove(sessionId) {
    return this.request('DELETE', pathOf(sessionId))
  }

  /** One page of events. @param {string} sessionId @param {{ after: number, wait?: number | null } & Abortable} options @returns {Promise<import('./types.js').EventPage>} */
  async events(sessionId, { after, wait, signal }) {
    const answer = await this.request('GET', `${pathOf(sessionId)}/events${query({ after, limit: PAGE_LIMIT, wait })}`, { signal })
    if (!Array.isArray(answer?.events)) throw new ApiError(200, 'bad_response', 'The answer holds no events.')
    return answer
  }

  /** The events above *after* as server-sent events. @param {string} sessionId @param {number} after @param {AbortSignal} signal @returns {Promise<ReadableStream<Uint8Array<ArrayBuffer>>>} */
  async stream(sessionId, after, signal) {
    const response = await this.#send('GET', `${pathOf(sessionId)}/stream`, {
      signal, headers: { Accept: 'text/event-stream', ...(after ? { 'Last-Event-ID': String(after) } : {}) } })
    const isStream = response.headers.get('Content-Type')?.startsWith('text/event-stream')
    if (!response.body || !isStream) throw new ApiError(response.status, 'bad_response', 'That is no event stream.')
    return response.body
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {RequestOptions} [options]
   * @returns {Promise<any>} the JSON of the answer
   * @throws {ApiError} the server refuses
   */
  async request(method, path, options = {}) {
    const timeout = new AbortController()
    const timer = this.#clock.setTimeout(
      () => timeout.abort(new DOMException('no answer in time', 'TimeoutError')), options.timeoutMs ?? TIMEOUT_MS)
    const follow = () => timeout.abort(options.signal?.reason)
    options.signal?.addEventListener('abort', follow)
    if (options.signal?.aborted) follow()
    try {
      const response = await this.#send(method, path, { ...options, signal: timeout.signal })
      if (response.status === 204) return undefined
      const text = await response.text()
      try {
        return JSON.parse(text)
      } catch {
        // A captive portal answers everything with a page of its own.
        throw new ApiError(response.status, 'bad_response', 'The answer is no JSON.')
      }
    } finally {
      this.#clock.clearTimeout(timer)
      options.signal?.removeEventListener('abort', follow)
    }
  }

  /** @param {string} method @param {string} path @param {RequestOptions} options @returns {Promise<Response>} with a status below 300 */
  async #send(method, path, { body, headers = {}, signal }) {
    const token = typeof this.#token === 'function' ? await this.#token() : this.#token
    const response = await this.#fetch.call(globalThis, this.#baseUrl + path, {
      method,
      signal,
      headers: {
        Accept: 'application/json',
        ...(body ? { 'Content-Type': 'application/json' } : {}),
        ...(token ? { Authorization: `Bearer ${token}` } : {}),
        ...headers,
      },
      body: body ? JSON.stringify(body) : undefined,
    })
    if (response.ok) return response
    /** @type {Record<string, any>} */
    let problem = {}
    try {
      problem = (await response.json()) ?? {}
    } catch { /* a proxy answered */ }
    throw new ApiError(response.status, problem.code ?? `http_${response.status}`, problem.detail ?? problem.title ?? '',
      problem, parseRetryAfter(response.headers.get('Retry-After'), this.#clock.now()))
  }
}
