// @ts-check
/** The client: what a page calls. */

import { MIN_POLL_MS } from './answers.js'
import { Api } from './api.js'
import { browserChannel, browserEnvironment, browserStorage, systemClock } from './environment.js'
import { Follower } from './follower.js'
import { query, uuid } from './http.js'
import { Outbox } from './outbox.js'
import { PendingSessions } from './pending.js'
import { initialState, reduceAll, settledState } from './reducer.js'

/** @typedef {import('./types.js').Abortable} Abortable */
/** @typedef {import('./types.js').Conversation} Conversation */
/** @typedef {import('./types.js').SessionRow} SessionRow */
/** @typedef {import('./types.js').Started} Started */
/** @typedef {import('./follower.js').FollowOptions} FollowOptions */
/** @typedef {import('./outbox.js').Outgoing} Outgoing */
/** @typedef {import('./outbox.js').StartOptions} StartOptions */
/** @typedef {import('./parts.js').SessionState} SessionState */
/** @typedef {import('./pending.js').Pending} Pending */

/** @typedef {'poll' | 'wait' | 'sse'} Transport */

/**
 * @typedef {object} ClientOptions
 * @property {string} [baseUrl] where the API is; default: this page's origin
 * @property {typeof globalThis.fetch} [fetch]
 * @property {Storage | null} [storage] default: localStorage; null: nothing outlives the page
 * @property {string | (() => string | null | Promise<string | null>)} [token] sent as a bearer token
 * @property {Transport} [transport] `poll` (default); `wait` and `sse` fall back to it by themselves
 * @property {number} [minPollMs] never poll a session more often than this, whatever the server advises (default 200)
 * @property {import('./environment.js').Channel | null} [channel] default: a BroadcastChannel; null: tabs don't share
 * @property {import('./environment.js').Clock} [clock]
 * @property {import('./environment.js').Environment} [environment]
 */

export class Client {
  #api
  #outbox
  #pending
  #channel
  #unlisten
  /** @type {Map<string, Follower>} */
  #followers = new Map()
  /** @type {Set<string>} Sessions that this page began and nobody follows yet. */
  #fresh = new Set()
  /** @type {import('./follower.js').Shared} */
  #shared

  /** @param {ClientOptions} [options] */
  constructor(options = {}) {
    const { clock = systemClock, environment = browserEnvironment, transport = 'poll', minPollMs = MIN_POLL_MS } = options
    const baseUrl = (options.baseUrl ?? '').replace(/\/+$/, '')
    const name = `backchat:${baseUrl}`
    const storage = options.storage === undefined ? browserStorage() : options.storage
    const tab = uuid()
    this.#api = new Api(baseUrl, options.fetch ?? ((input, init) => globalThis.fetch(input, init)), options.token ?? null, clock)
    this.#outbox = new Outbox(this.#api, clock, environment, storage, `${name}:outbox:`)
    this.#pending = new PendingSessions(storage, `${name}:session:`, () => clock.now())
    this.#channel = options.channel === undefined ? browserChannel(name) : options.channel
    this.#shared = {
      settings: { tab, transport, minPollMs: Math.max(minPollMs, MIN_POLL_MS) },
      api: this.#api, clock, environment, pending: this.#pending, holding: 0,
      post: (message) => this.#channel?.postMessage(message),
    }
    if (this.#channel) {
      this.#channel.onmessage = ({ data }) => {
        if (data?.tab !== tab) this.#followers.get(data?.sessionId)?.notice({ kind: 'tab', message: data })
      }
    }
    this.#unlisten = environment.listen((kind) => {
      for (const follower of [...this.#followers.values()]) follower.notice({ kind })
    })
  }

  /**
   * Send a message. Tries again by itself with one idempotency key, so the message runs once at most. Messages of one
   * conversation are sent in the order of the calls.
   * @param {string} message
   * @param {StartOptions} [options]
   * @returns {Promise<Started>}
   * @throws {import('./http.js').ApiError} the server refuses, or can't be reached for `retryForMs`
   */
  async start(message, options = {}) {
    const started = await this.#outbox.send(message, options)
    this.#pending.remember(started.sessionId, 0, started.conversationId)
    this.#fresh.add(started.sessionId)
    return started
  }

  /**
   * Follow a session until it ends.
   * @param {string} sessionId
   * @param {FollowOptions} [options]
   * @returns {Promise<SessionState>} the state at the end, done or error
   * @throws {import('./http.js').ApiError} 404 or 410: it is gone; 401, 403: not for us
   */
  follow(sessionId, options = {}) {
    const after = options.after ?? 0
    const known = this.#followers.get(sessionId)
    if (known && !known.over && known.from <= after) return known.subscribe(options)
    // No other tab knows a session that this one has just started: this one leads from the first moment.
    const alone = this.#fresh.delete(sessionId) || !this.#channel
    const follower = new Follower(this.#shared, sessionId, after, alone, () => {
      if (this.#followers.get(sessionId) === follower) this.#followers.delete(sessionId)
    })
    this.#followers.set(sessionId, follower)
    if (known) follower.replace(known)
    return follower.subscribe(options)
  }

  /**
   * Go on with all sessions that were pending when the page went away.
   * @param {FollowOptions & { from?: 'start' | 'last' }} [options] `last`: only events that were not seen before the reload
   * @returns {(Pending & { ended: Promise<SessionState> })[]} see `resend` for messages that were being sent
   */
  resumeAll(options = {}) {
    const { from = 'start', ...follow } = options
    return this.pending().map((entry) => {
      const ended = this.follow(entry.sessionId, { ...follow, after: from === 'last' ? entry.after : 0 })
      ended.catch(() => {}) // a caller that ignores `ended` must not see an unhandled rejection
      return { ...entry, ended }
    })
  }

  /**
   * What is being sent, also what was when the page went away, oldest first. `start(message, options)` sends it again
   * with its key.
   * @returns {Outgoing[]}
   */
  outgoing() {
    return this.#outbox.list()
  }

  /**
   * Send again what was being sent when the page went away, with the same keys.
   * @returns {Promise<Started[]>}
   */
  async resend() {
    /** @type {Started[]} */
    const sent = []
    for (const { message, options } of this.outgoing()) {
      try {
        sent.push(await this.start(message, options))
      } catch { /* the server refused it, or is away; the list shows what became of it */ }
    }
    return sent
  }

  /** Sessions that were running when this browser last saw them, newest first. @returns {Pending[]} */
  pending() {
    return this.#pending.list()
  }

  /** No longer resume this session. @param {string} sessionId */
  forget(sessionId) {
    this.#pending.forget(sessionId)
  }

  /** The session row. @param {string} sessionId @param {Abortable} [options] @returns {Promise<SessionRow>} */
  session(sessionId, options = {}) {
    return this.#api.session(sessionId, options)
  }

  /**
   * Read what there is of a session, once, without following it.
   * @param {string} sessionId
   * @param {Abortable} [options]
   * @returns {Promise<SessionState>}
   */
  async read(sessionId, { signal } = {}) {
    let state = initialState(sessionId)
    for (;;) {
      const page = await this.#api.events(sessionId, { after: state.after, signal })
      const next = reduceAll(state, page.events)
      const moved = next !== state
      state = next
      if (page.hasMore && moved) continue
      return page.status === state.status ? state : settledState(state, await this.session(sessionId, { signal }))
    }
  }

  /** End a run; it keeps the answer so far. Calling it again is fine. @param {string} sessionId @returns {Promise<SessionRow>} */
  cancel(sessionId) {
    return this.#api.cancel(sessionId)
  }

  /** Delete a session. @param {string} sessionId @returns {Promise<void>} */
  async remove(sessionId) {
    await this.#api.remove(sessionId)
    this.forget(sessionId)
  }

  /**
   * Recent sessions, newest first.
   * @param {{ limit?: number, cursor?: string | null, status?: import('./types.js').Status, agentId?: number, conversationId?: string } & Abortable} [options]
   * @returns {Promise<{ sessions: SessionRow[], nextCursor: string | null }>}
   */
  list({ signal, ...filters } = {}) {
    return this.#api.request('GET', `/api/chat/sessions${query(filters)}`, { signal })
  }

  /** @returns {Promise<{ agents: any[] }>} */
  agents() {
    return this.#api.request('GET', '/api/agents')
  }

  conversations = {
    /** @param {{ limit?: number, cursor?: string | null } & Abortable} [options] @returns {Promise<{ conversations: Conversation[], nextCursor: string | null }>} */
    list: ({ signal, ...page } = {}) => this.#api.request('GET', `/api/conversations${query(page)}`, { signal }),
    /** @param {string} q @param {{ limit?: number, cursor?: string | null } & Abortable} [options] @returns {Promise<{ results: import('./types.js').Match[], nextCursor: string | null }>} */
    search: (q, { signal, ...page } = {}) => this.#api.request('GET', `/api/conversations/search${query({ q, ...page })}`, { signal }),
    /** @param {string} id @returns {Promise<Conversation>} */
    get: (id) => this.#api.request('GET', conversationPath(id)),
    /** @param {string} id @param {string} title @returns {Promise<Conversation>} */
    rename: (id, title) => this.#api.request('PATCH', conversationPath(id), { body: { title } }),
    /** @param {string} id @returns {Promise<void>} */
    remove: (id) => this.#api.request('DELETE', conversationPath(id)),
    /** The model no longer sees what was said. @param {string} id @returns {Promise<void>} */
    clear: (id) => this.#api.request('DELETE', `${conversationPath(id)}/messages`),
    /**
     * @param {string} id
     * @param {{ limit?: number, cursor?: string | null, offset?: number, order?: 'asc' | 'desc' } & Abortable} [options]
     * @returns {Promise<{ conversationId: string, messages: import('./types.js').Message[], nextCursor: string | null, hasMore: boolean, total: number }>}
     */
    messages: (id, { signal, ...page } = {}) => this.#api.request('GET', `${conversationPath(id)}/messages${query(page)}`, { signal }),
  }

  /** Stop all following and leave the other tabs to it. */
  close() {
    for (const follower of [...this.#followers.values()]) follower.close(new DOMException('the client was closed', 'AbortError'))
    this.#unlisten()
    this.#channel?.close()
    // Posting to a closed channel throws; following again works without other tabs.
    this.#channel = null
  }
}

/** @param {string} id */
const conversationPath = (id) => `/api/conversations/${encodeURIComponent(id)}`

/**
 * A client of the API at `baseUrl`. One per page is enough.
 * @param {ClientOptions} [options]
 * @returns {Client}
 */
export function createClient(options = {}) {
  return new Client(options)
}
