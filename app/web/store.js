// @ts-check
/** What the page knows: conversations, the turns of the open one, and what is running. Draws nothing. */

import { createClient } from './client.js'
import { texts } from './texts.js'

/** @typedef {import('./client.js').SessionState} SessionState */
/** @typedef {import('./client.js').SessionRow} SessionRow */

/**
 * A line of the list.
 * @typedef {object} Entry
 * @property {string} key the conversation's id; `session:…` for a session of no conversation
 * @property {string} title
 * @property {number} at when it last moved, in ms
 * @property {'' | 'running' | 'stopped' | 'failed'} status
 * @property {boolean} unread it was answered while another one was open
 */

/**
 * A message and its answer.
 * @typedef {object} Turn
 * @property {string} id the session's id, or a name of its own until there is one
 * @property {string} message
 * @property {SessionRow | null} row null: not known to the server yet
 * @property {SessionState | null} state null: its events have not been read
 * @property {'sending' | 'unsent' | 'running' | 'ended'} phase
 * @property {any} problem why it could not be sent
 * @property {number} at
 */

const LIST_PAGE = 40
const THREAD_PAGE = 20
/** Between two looks at a running session; the page reveals new text over that time. */
export const POLL_MS = 1500
const REFRESH_MS = 10_000
const TOKEN_KEY = 'backchat:token'

/** @param {string | null | undefined} time */
const ms = (time) => (time ? Date.parse(time) : Date.now())

/** @param {SessionRow} row */
export const keyOf = (row) => row.conversationId ?? `session:${row.sessionId}`

/** @param {string} text */
const titleOf = (text) => {
  const line = text.trim().split('\n', 1)[0]
  return line.length > 80 ? `${line.slice(0, 79)}…` : line
}

/** @param {{ status: string, errorCode?: string | null }} row @returns {Entry['status']} */
const statusOf = (row) => row.status === 'running' ? 'running' : row.status === 'done' ? '' : row.errorCode === 'cancelled' ? 'stopped' : 'failed'

export class Store extends EventTarget {
  constructor() {
    super()
    this.client = createClient({ token: () => this.token, minPollMs: POLL_MS })
    /** @type {Map<string, Entry>} */
    this.entries = new Map()
    /** @type {string | null} */
    this.listCursor = null
    /** @type {string | null} */
    this.sessionsCursor = null
    this.listed = false
    /** The server knows conversations; one that does not has only sessions. */
    this.hasConversations = true
    /** @type {string} */
    this.openKey = ''
    /** The conversation exists on the server. */
    this.exists = false
    /** @type {Turn[]} Of the open conversation, oldest first. */
    this.turns = []
    /** @type {string | null} */
    this.earlierCursor = null
    /** @type {any[]} */
    this.agents = []
    /** @type {Set<string>} */
    this.following = new Set()
    /** @type {Set<string>} Sessions whose requests fail at the moment. */
    this.troubled = new Set()
    this.refreshTimer = 0
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible' && this.listed) void this.refresh()
    })
    /** What was being sent when the page went away has been sent. @type {Promise<void>} */
    this.resent = Promise.resolve()
  }

  get token() {
    try {
      return localStorage.getItem(TOKEN_KEY)
    } catch {
      return this.heldToken ?? null
    }
  }

  /** @param {string} token */
  useToken(token) {
    this.heldToken = token
    try {
      localStorage.setItem(TOKEN_KEY, token)
    } catch { /* it lasts as long as the page */ }
  }

  /** @param {'list' | 'thread' | 'turn' | 'trouble' | 'unauthorized' | 'agents' | 'ended'} type @param {any} [detail] */
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }))
  }

  /** Begin: what was being sent, what was running, the list, the agents. */
  async begin() {
    for (const { sessionId, conversationId } of this.client.pending().slice(0, LIST_PAGE)) {
      this.follow(sessionId, conversationId ?? `session:${sessionId}`)
    }
    this.resent = this.client.resend().then((sent) => {
      for (const { sessionId, conversationId } of sent) this.follow(sessionId, conversationId)
      if (sent.length) void this.refresh()
    })
    await Promise.allSettled([this.loadList(), this.loadAgents(), this.resent])
  }

  async loadAgents() {
    try {
      const answer = await this.client.agents()
      this.agents = Array.isArray(answer) ? answer : answer.agents ?? []
      this.emit('agents')
    } catch { /* a server without this route has its one agent */ }
  }

  // the list

  /** @param {boolean} [more] the next page instead of the first */
  async loadList(more = false) {
    const cursor = more ? this.listCursor : null
    try {
      if (this.hasConversations) {
        try {
          await this.loadConversations(cursor)
        } catch (error) {
          if (/** @type {any} */ (error).status !== 404) throw error
          this.hasConversations = false
        }
      }
      if (!this.hasConversations) await this.loadSessions(cursor)
    } catch (error) {
      this.note(error)
      return
    }
    this.listed = true
    this.emit('list')
    this.scheduleRefresh()
  }

  /** @param {string | null} cursor */
  async loadConversations(cursor) {
    const beyond = cursor !== null || !this.listed
    const [page, sessions] = await Promise.all([
      this.client.conversations.list({ limit: LIST_PAGE, cursor }),
      // Sessions of no conversation stand only here; a refresh of what is known already needs them not.
      beyond && (cursor === null || this.sessionsCursor)
        ? this.client.list({ limit: LIST_PAGE, cursor: this.sessionsCursor }) : null,
    ])
    for (const conversation of page.conversations) this.enter(conversation)
    if (sessions) {
      for (const row of [...sessions.sessions].reverse()) {
        const known = this.entries.get(keyOf(row))
        if (known) known.status = known.status || statusOf(row)
        else if (!row.conversationId) this.enterSession(row)
      }
      this.sessionsCursor = sessions.nextCursor
    }
    if (beyond) this.listCursor = page.nextCursor
  }

  /** @param {{ conversationId: string, title: string, updatedAt: string, runningSessionId?: string | null }} conversation */
  enter({ conversationId: key, title, updatedAt, runningSessionId }) {
    const known = this.entries.get(key)
    const status = runningSessionId ? 'running' : known?.status === 'running' ? '' : known?.status ?? ''
    this.entries.set(key, { key, title: title || texts.untitled, at: ms(updatedAt), status, unread: known?.unread ?? false })
  }

  /** @param {SessionRow} row */
  enterSession(row) {
    const known = this.entries.get(keyOf(row))
    this.entries.set(keyOf(row), {
      key: keyOf(row), title: known?.title ?? titleOf(row.userMessage), at: Math.max(known?.at ?? 0, ms(row.createdAt)),
      status: known && known.at > ms(row.createdAt) ? known.status : statusOf(row), unread: known?.unread ?? false })
  }

  /** @param {string | null} cursor */
  async loadSessions(cursor) {
    const page = await this.client.list({ limit: LIST_PAGE, cursor })
    // Newest first: the oldest message names the conversation, the newest session says how it stands.
    for (const row of [...page.sessions].reverse()) this.enterSession(row)
    if (cursor || !this.listed) this.listCursor = page.nextCursor
  }

  /** @param {string} key @param {Partial<Entry>} change @param {{ userMessage?: string, createdAt?: string }} [row] */
  touch(key, change, row = {}) {
    const known = this.entries.get(key)
    if (!known && !row.userMessage) return
    this.entries.set(key, {
      key, title: titleOf(row.userMessage ?? ''), at: ms(row.createdAt), status: '', unread: false, ...known, ...change })
    this.emit('list')
  }

  /** The list again, if something in it runs that this page does not follow itself. */
  scheduleRefresh() {
    clearTimeout(this.refreshTimer)
    const elsewhere = [...this.entries.values()].filter((entry) => entry.status === 'running').length > this.following.size
    if (elsewhere) this.refreshTimer = window.setTimeout(() => document.visibilityState === 'visible' && this.refresh(), REFRESH_MS)
  }

  async refresh() {
    await this.loadList()
    // Another device may have gone on with the open conversation.
    if (this.exists) await this.loadThread().catch((error) => this.note(error))
  }

  /**
   * Conversations that match; the server knows all that was said, this page only titles.
   * @param {string} q
   * @param {AbortSignal} signal
   * @returns {Promise<(Entry & { snippet?: string })[]>}
   */
  async search(q, signal) {
    if (this.hasConversations) {
      try {
        const { results } = await this.client.conversations.search(q.slice(0, 500), { limit: LIST_PAGE, signal })
        return results.map((match) => {
          if (!this.entries.has(match.conversationId)) this.enter(match)
          return { .../** @type {Entry} */ (this.entries.get(match.conversationId)), snippet: match.snippet }
        })
      } catch (error) {
        if (signal.aborted) throw error
        this.note(error)
      }
    }
    const words = q.toLocaleLowerCase().split(/\s+/).filter(Boolean)
    return [...this.entries.values()].filter((entry) => words.every((word) => entry.title.toLocaleLowerCase().includes(word)))
  }

  // the open conversation

  /** @param {string} key '' is a new one */
  async open(key) {
    if (key !== this.openKey) {
      this.openKey = key
      this.turns = []
      this.earlierCursor = null
      this.exists = false
      this.emit('thread')
    }
    const entry = this.entries.get(key)
    if (entry?.unread) this.touch(key, { unread: false })
    if (key) await this.loadThread()
  }

  /** Read the newest turns of the open conversation; those that are there already stay. */
  async loadThread() {
    const key = this.openKey
    const page = key.startsWith('session:')
      ? { sessions: [await this.client.session(key.slice(8))], nextCursor: null }
      : await this.client.list({ conversationId: key, limit: THREAD_PAGE })
    if (key !== this.openKey) return
    if (!page.sessions.length && !this.turns.length) throw Object.assign(new Error('gone'), { status: 404, code: 'not_found' })
    this.exists = true
    if (!this.turns.some((turn) => turn.row)) this.earlierCursor = page.nextCursor
    this.merge(page.sessions)
    const last = page.sessions[0]
    if (last) this.touch(key, {}, last)
  }

  async loadEarlier() {
    const key = this.openKey
    const page = await this.client.list({ conversationId: key, limit: THREAD_PAGE, cursor: this.earlierCursor })
    if (key !== this.openKey) return
    this.earlierCursor = page.nextCursor
    this.merge(page.sessions)
  }

  /** @param {SessionRow[]} rows newest first */
  merge(rows) {
    const known = new Map(this.turns.map((turn) => [turn.id, turn]))
    for (const row of rows) {
      const turn = known.get(row.sessionId)
      if (turn) {
        turn.row = row
        // What is followed knows better than a row that was read a moment ago.
        if (!this.following.has(turn.id)) turn.phase = row.status === 'running' ? 'running' : 'ended'
      } else {
        known.set(row.sessionId, {
          id: row.sessionId, message: row.userMessage, row, state: null, problem: null, at: ms(row.createdAt),
          phase: row.status === 'running' ? 'running' : 'ended' })
      }
    }
    this.turns = [...known.values()].sort((a, b) => a.at - b.at)
    for (const turn of this.turns) if (turn.phase === 'running') this.follow(turn.id, this.openKey)
    this.emit('thread')
  }

  /** Read the events of an ended turn: its thoughts and tool calls. @param {Turn} turn */
  async readSteps(turn) {
    if (turn.state || turn.phase !== 'ended' || !turn.row) return
    try {
      turn.state = await this.client.read(turn.id)
      this.emit('turn', turn)
    } catch { /* retention took the events; the row has the answer */ }
  }

  /** @param {string} sessionId @param {string} key */
  follow(sessionId, key) {
    if (this.following.has(sessionId)) return
    this.following.add(sessionId)
    /** @param {SessionState} state */
    const show = (state) => {
      const turn = this.turns.find((one) => one.id === sessionId)
      if (!turn) return
      turn.state = state
      if (state.status !== 'running') turn.phase = 'ended'
      this.emit('turn', turn)
    }
    /** @param {boolean} troubled */
    const trouble = (troubled) => {
      if (troubled) this.troubled.add(sessionId)
      else this.troubled.delete(sessionId)
      this.emit('trouble', this.troubled.size > 0)
    }
    this.touch(key, { status: 'running' })
    this.client.follow(sessionId, { onState: show, onTrouble: (error) => trouble(error !== null) })
      .then((state) => {
        show(state)
        this.ended(key, { status: state.status, errorCode: state.error?.code })
      }, (error) => {
        if (error.status === 404 || error.status === 410) {
          this.turns = this.turns.filter((turn) => turn.id !== sessionId || turn.row?.status === 'done')
          this.emit('thread')
          this.ended(key, { status: 'done' })
        } else this.note(error)
      })
      .finally(() => {
        this.following.delete(sessionId)
        trouble(false)
        this.scheduleRefresh()
      })
  }

  /** @param {string} key @param {{ status: string, errorCode?: string }} how */
  ended(key, how) {
    const looking = key === this.openKey && document.visibilityState === 'visible'
    this.touch(key, { status: statusOf(how), unread: !looking && how.status === 'done', at: Date.now() })
    if (key === this.openKey) this.emit('ended', how)
  }

  // what the user does

  /** @param {string} message @param {{ agentId?: number }} options @returns {Promise<void>} */
  async send(message, { agentId } = {}) {
    const fresh = !this.openKey
    const key = this.openKey || newId()
    if (fresh) {
      this.openKey = key
      this.turns = []
    }
    /** @type {Turn} */
    const turn = {
      id: `new:${newId()}`, message, row: null, state: null, phase: 'sending', problem: null, at: Date.now() }
    this.turns.push(turn)
    this.touch(key, { status: 'running', at: turn.at }, { userMessage: message })
    this.emit('thread')
    await this.transmit(turn, key, agentId)
  }

  /** @param {Turn} turn @param {string} key @param {number} [agentId] */
  async transmit(turn, key, agentId) {
    const conversationId = key.startsWith('session:') ? undefined : key
    turn.phase = 'sending'
    turn.problem = null
    this.emit('turn', turn)
    try {
      const started = await this.client.start(turn.message, {
        conversationId, agentId, idempotencyKey: turn.id.slice(4),
        onTrouble: () => this.emit('trouble', true) })
      this.emit('trouble', this.troubled.size > 0)
      turn.id = started.sessionId
      turn.phase = 'running'
      // A refresh may have met the session before its answer was here.
      this.turns = this.turns.filter((other) => other === turn || other.id !== turn.id)
      if (key === this.openKey) this.exists = true
      this.emit('thread')
      this.follow(started.sessionId, key)
    } catch (error) {
      turn.phase = 'unsent'
      turn.problem = error
      this.touch(key, { status: '' })
      this.emit('turn', turn)
      this.note(error)
    }
  }

  /** @param {Turn} turn @param {number} [agentId] */
  sendAgain(turn, agentId) {
    return this.transmit(turn, this.openKey, agentId)
  }

  /** @param {Turn} turn */
  async stop(turn) {
    await this.client.cancel(turn.id)
  }

  /** @param {Turn} turn */
  async removeTurn(turn) {
    if (turn.row || turn.phase === 'running' || turn.phase === 'ended') await this.forgiving(this.client.remove(turn.id))
    this.turns = this.turns.filter((other) => other !== turn)
    this.emit('thread')
  }

  /** @param {string} key */
  async removeConversation(key) {
    if (key.startsWith('session:')) await this.forgiving(this.client.remove(key.slice(8)))
    else if (this.hasConversations) await this.forgiving(this.client.conversations.remove(key))
    else {
      for (let page = await this.client.list({ conversationId: key, limit: 100 }); page.sessions.length;
        page = await this.client.list({ conversationId: key, limit: 100 })) {
        for (const row of page.sessions) await this.forgiving(this.client.remove(row.sessionId))
      }
    }
    this.entries.delete(key)
    this.emit('list')
  }

  /** What is gone already needs no deleting. @param {Promise<void>} request */
  async forgiving(request) {
    try {
      await request
    } catch (error) {
      if (/** @type {any} */ (error).status !== 404) throw error
    }
  }

  /** @param {string} key @param {string} title */
  async rename(key, title) {
    await this.client.conversations.rename(key, title)
    this.touch(key, { title })
    this.emit('thread')
  }

  /** @param {any} error */
  note(error) {
    if (error?.status === 401) this.emit('unauthorized')
    else if (!error?.status && error?.name !== 'AbortError') this.emit('trouble', true)
  }
}

/** @returns {string} */
function newId() {
  // randomUUID exists in secure contexts only.
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  bytes[6] = (bytes[6] & 0x0f) | 0x40
  bytes[8] = (bytes[8] & 0x3f) | 0x80
  return [...bytes].map((byte, index) => ([4, 6, 8, 10].includes(index) ? '-' : '') + byte.toString(16).padStart(2, '0')).join('')
}
