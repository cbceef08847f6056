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
 * @property {number} at by the server's clock
 * @property {boolean} [stopping] the user has stopped it, and its end has not been read yet
 * @property {number} [agentId] whom it was sent to
 */

const LIST_PAGE = 40
const THREAD_PAGE = 20
/** Between two looks at a running session; the page reveals new text over that time. */
export const POLL_MS = 1500
const REFRESH_MS = 10_000
/** After a read that failed, the first pause and the longest. */
const RECOVERY_MS = 2000
const LONGEST_RECOVERY_MS = 30_000
/** Clocks that differ by less than this agree: the server tells whole seconds. */
const SKEW_MS = 3000
const TOKEN_KEY = 'backchat:token'
const UNSENT_KEY = 'backchat:unsent'

/** @param {string | null | undefined} time */
const ms = (time) => (time ? Date.parse(time) : 0)

/** @param {SessionRow} row */
export const keyOf = (row) => row.conversationId ?? `session:${row.sessionId}`

/** @param {string} text */
const titleOf = (text) => {
  const letters = [...text.trim().split('\n', 1)[0].slice(0, 200)]
  return letters.length > 80 ? `${letters.slice(0, 79).join('').trimEnd()}…` : letters.join('')
}

/** @param {{ status: string, errorCode?: string | null }} row @returns {Entry['status']} */
const statusOf = (row) => row.status === 'running' ? 'running' : row.status === 'done' ? '' : row.errorCode === 'cancelled' ? 'stopped' : 'failed'

export class Store extends EventTarget {
  constructor() {
    super()
    this.client = createClient({ token: () => this.token, minPollMs: POLL_MS, fetch: (input, init) => this.fetch(input, init) })
    /** How far the server's clock is ahead of this one. */
    this.skew = 0
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
    /** What is followed, with what it has shown so far. @type {Map<string, SessionState | null>} */
    this.following = new Map()
    /** @type {Set<string>} Conversations whose newest session has said how they stand. */
    this.judged = new Set()
    /** @type {Set<string>} Sessions and conversations that were deleted here. */
    this.deleting = new Set()
    /** @type {Set<Turn>} Turns whose events are on their way. */
    this.reading = new Set()
    /** @type {Map<string, Turn[]>} Turns that the server doesn't know yet, by conversation. */
    this.outgoing = new Map()
    /** @type {Map<string, Error>} What is in the way at the moment, by session, message, or '' for what is read here. */
    this.troubles = new Map()
    this.failures = 0
    this.recovery = 0
    this.refreshTimer = 0
    const lookAgain = () => {
      if (document.visibilityState === 'visible' && (this.listed || this.failures)) void this.refresh()
    }
    document.addEventListener('visibilitychange', lookAgain)
    /** Other tabs, which look again when something was changed here. @type {BroadcastChannel | null} */
    this.others = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel('backchat:page')
    if (this.others) this.others.onmessage = lookAgain
    /** The first look at the list is over. @type {Promise<void>} */
    this.listing = Promise.resolve()
  }

  /** @param {RequestInfo | URL} input @param {RequestInit} [init] */
  async fetch(input, init) {
    const response = await fetch(input, init)
    const skew = Date.parse(response.headers.get('Date') ?? '') - Date.now()
    if (!Number.isNaN(skew)) this.skew = Math.abs(skew) > SKEW_MS ? skew : 0
    return response
  }

  /** Now, by the server's clock: its times are shown beside ours. */
  now() {
    return Date.now() + this.skew
  }

  get token() {
    try {
      return this.heldToken ?? localStorage.getItem(TOKEN_KEY)
    } catch {
      return null
    }
  }

  /** @param {string} token */
  useToken(token) {
    /** @type {string | null} A token that could not be stored lasts as long as the page. */
    this.heldToken = null
    try {
      localStorage.setItem(TOKEN_KEY, token)
    } catch {
      this.heldToken = token
    }
  }

  /** @param {'list' | 'thread' | 'turn' | 'trouble' | 'unauthorized' | 'agents' | 'ended' | 'gone' | 'refused'} type @param {any} [detail] */
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }))
  }

  /** Begin: what was being sent, what was running, the list, the agents. */
  async begin() {
    for (const { sessionId, conversationId } of this.client.pending().slice(0, LIST_PAGE)) {
      this.follow(sessionId, conversationId ?? `session:${sessionId}`)
    }
    this.findUnsent()
    for (const { message, options, at } of this.client.outgoing()) this.sendOn(message, options, at)
    this.listing = this.loadList()
    await Promise.allSettled([this.listing, this.loadAgents()])
  }

  /**
   * Go on with a message whose POST had no answer when the page went away.
   * @param {string} message
   * @param {import('./client.js').Outgoing['options']} options
   * @param {number} at
   */
  sendOn(message, { conversationId, agentId, idempotencyKey }, at) {
    const key = conversationId ?? ''
    const id = `new:${idempotencyKey}`
    if (this.outgoing.get(key)?.some((turn) => turn.id === id)) return
    /** @type {Turn} */
    const turn = { id, message, row: null, state: null, phase: 'sending', problem: null, at, agentId }
    this.outgoing.set(key, [...(this.outgoing.get(key) ?? []), turn])
    if (key) this.touch(key, { status: 'running', at }, { userMessage: message })
    void this.transmit(turn, key)
  }

  /** What was refused outlives a reload, as drafts do, but not the tab. */
  keepUnsent() {
    const unsent = [...this.outgoing].flatMap(([key, turns]) => turns.filter((turn) => turn.phase === 'unsent')
      .map(({ id, message, at, agentId, problem: { status, code, detail } }) => ({ key, id, message, at, agentId, problem: { status, code, detail } })))
    try {
      if (unsent.length) sessionStorage.setItem(UNSENT_KEY, JSON.stringify(unsent))
      else sessionStorage.removeItem(UNSENT_KEY)
    } catch { /* it lasts as long as the page */ }
  }

  findUnsent() {
    /** @type {(Pick<Turn, 'id' | 'message' | 'at' | 'agentId' | 'problem'> & { key: string })[]} */
    let unsent = []
    try {
      unsent = JSON.parse(sessionStorage.getItem(UNSENT_KEY) ?? '[]')
    } catch { /* there is none */ }
    for (const { key, ...kept } of unsent) {
      const turns = this.outgoing.get(key) ?? []
      if (turns.some((turn) => turn.id === kept.id)) continue
      this.outgoing.set(key, [...turns, { ...kept, row: null, state: null, phase: 'unsent' }])
      this.touch(key, { at: kept.at }, { userMessage: kept.message })
    }
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
      this.note(error, true)
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
    if (cursor === null && this.listed) this.forgetMissing(page)
    if (sessions) {
      for (const row of sessions.sessions) {
        const key = keyOf(row)
        const known = this.entries.get(key)
        if (!known && !row.conversationId) this.enterSession(row)
        // Newest first: how earlier ones ended does not count any more.
        if (!known || this.judged.has(key)) continue
        this.judged.add(key)
        known.status = known.status || statusOf(row)
      }
      this.sessionsCursor = sessions.nextCursor
    }
    if (beyond) this.listCursor = page.nextCursor
  }

  /** Conversations that were deleted elsewhere. @param {{ conversations: { conversationId: string, updatedAt: string }[], nextCursor: string | null }} page the newest ones */
  forgetMissing({ conversations, nextCursor }) {
    const there = new Set(conversations.map((conversation) => conversation.conversationId))
    const oldest = nextCursor ? ms(conversations[conversations.length - 1]?.updatedAt) : 0
    for (const { key, at, status } of this.entries.values()) {
      if (there.has(key) || at <= oldest || status === 'running' || key === this.openKey || key.startsWith('session:')) continue
      if (!this.outgoing.has(key)) this.entries.delete(key)
    }
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
    const { failures } = this
    clearTimeout(this.recovery)
    this.recovery = 0
    await this.loadList()
    if (this.deleting.has(this.openKey)) return
    // Another device may have gone on with the open conversation, or deleted it.
    if (this.openKey) await this.loadThread().catch((error) => this.note(error, true))
    if (this.failures !== failures) return
    this.failures = 0
    this.setTrouble('', null)
  }

  /** Reading failed: it is tried again by itself, ever more rarely. @param {any} error */
  recoverSoon(error) {
    this.setTrouble('', error)
    if (this.recovery) return
    const pause = Math.min(RECOVERY_MS * 2 ** this.failures++, LONGEST_RECOVERY_MS) * (0.75 + Math.random() / 4)
    this.recovery = window.setTimeout(() => {
      this.recovery = 0
      // Coming back to the tab does it too.
      if (document.visibilityState === 'visible') void this.refresh()
    }, Math.max(pause, error.retryAfterMs ?? 0))
  }

  /** @param {string} name @param {Error | null} error */
  setTrouble(name, error) {
    if (error) this.troubles.set(name, error)
    else this.troubles.delete(name)
    this.emit('trouble', [...this.troubles.values()].pop() ?? null)
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
      this.turns = key ? [...(this.outgoing.get(key) ?? [])] : []
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
    const ended = this.turns.filter((turn) => turn.phase === 'ended')
    const page = key.startsWith('session:')
      ? { sessions: [await this.client.session(key.slice(8))], nextCursor: null }
      : await this.client.list({ conversationId: key, limit: THREAD_PAGE })
    if (key !== this.openKey) return
    if (!key.startsWith('session:')) this.dropMissing(ended, page)
    if (!page.sessions.length && !this.turns.length) throw Object.assign(new Error('gone'), { status: 404, code: 'not_found' })
    this.exists ||= page.sessions.length > 0
    if (!this.turns.some((turn) => turn.row)) this.earlierCursor = page.nextCursor
    this.merge(page.sessions)
    const last = page.sessions[0]
    if (last) void this.learnTitle(key, last)
  }

  /**
   * Turns that were deleted elsewhere.
   * @param {Turn[]} ended what had ended before the page was asked for
   * @param {{ sessions: SessionRow[], nextCursor: string | null }} page the newest ones
   */
  dropMissing(ended, { sessions, nextCursor }) {
    const there = new Set(sessions.map((row) => row.sessionId))
    const oldest = nextCursor ? ms(sessions[sessions.length - 1]?.createdAt) : 0
    const missing = new Set(ended.filter((turn) => turn.at > oldest && !there.has(turn.id)))
    this.turns = this.turns.filter((turn) => !missing.has(turn))
  }

  /** The list may not reach back to a conversation that was opened by its address. @param {string} key @param {SessionRow} last */
  async learnTitle(key, last) {
    if (!this.entries.has(key)) await this.listing
    if (this.entries.has(key)) return
    const conversation = this.hasConversations && !key.startsWith('session:')
      ? await this.client.conversations.get(key).catch(() => null) : null
    if (!conversation) return this.touch(key, { status: statusOf(last) }, last)
    this.enter(conversation)
    this.emit('list')
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
        turn.at = ms(row.createdAt)
        // What is followed knows better than a row that was read a moment ago.
        if (!this.following.has(turn.id)) turn.phase = row.status === 'running' ? 'running' : 'ended'
      } else {
        known.set(row.sessionId, {
          id: row.sessionId, message: row.userMessage, row, problem: null, at: ms(row.createdAt),
          // It may have been followed before it was opened, or opened before.
          state: this.following.get(row.sessionId) ?? null,
          phase: row.status === 'running' ? 'running' : 'ended' })
      }
    }
    // Ids are in the order of their times, and finer.
    this.turns = [...known.values()].sort((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1))
    for (const turn of this.turns) if (turn.phase === 'running') this.follow(turn.id, this.openKey)
    this.emit('thread')
  }

  /** Read the events of an ended turn: its thoughts and tool calls. @param {Turn} turn */
  async readSteps(turn) {
    if (turn.state || turn.phase !== 'ended' || !turn.row || this.reading.has(turn)) return
    this.reading.add(turn)
    try {
      turn.state = await this.client.read(turn.id)
      this.emit('turn', turn)
    } catch { /* retention took the events; the row has the answer */ } finally {
      this.reading.delete(turn)
    }
  }

  /** @param {string} sessionId @param {string} key */
  follow(sessionId, key) {
    if (this.following.has(sessionId)) return
    this.following.set(sessionId, null)
    /** @param {SessionState} state */
    const show = (state) => {
      this.following.set(sessionId, state)
      const turn = this.turns.find((one) => one.id === sessionId)
      if (!turn) return
      turn.state = state
      if (state.status !== 'running') turn.phase = 'ended'
      this.emit('turn', turn)
    }
    this.touch(key, { status: 'running' })
    this.client.follow(sessionId, { onState: show, onConnectionChange: (error) => this.setTrouble(sessionId, error) })
      .then((state) => {
        show(state)
        this.ended(key, { status: state.status, errorCode: state.error?.code })
      }, (error) => {
        if (error.status === 404 || error.status === 410) {
          // It was deleted, perhaps with its conversation, perhaps by us.
          if (this.deleting.has(sessionId) || this.deleting.has(key)) return
          this.turns = this.turns.filter((turn) => turn.id !== sessionId || turn.row?.status === 'done')
          this.emit('thread')
          this.touch(key, { status: '' })
          this.following.delete(sessionId)
          void this.refresh()
        } else this.note(error)
      })
      .finally(() => {
        this.following.delete(sessionId)
        this.setTrouble(sessionId, null)
        this.scheduleRefresh()
      })
  }

  /** @param {string} key @param {{ status: string, errorCode?: string }} how */
  ended(key, how) {
    const looking = key === this.openKey && document.visibilityState === 'visible'
    this.touch(key, { status: statusOf(how), unread: !looking && how.status === 'done', at: this.now() })
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
    // What was written last stands last, whatever the clocks say.
    const at = Math.max(this.now(), (this.turns[this.turns.length - 1]?.at ?? 0) + 1)
    /** @type {Turn} */
    const turn = { id: `new:${newId()}`, message, row: null, state: null, phase: 'sending', problem: null, at, agentId }
    this.turns.push(turn)
    this.outgoing.set(key, [...(this.outgoing.get(key) ?? []), turn])
    this.touch(key, { status: 'running', at: turn.at }, { userMessage: message })
    this.emit('thread')
    await this.transmit(turn, key)
  }

  /** @param {Turn} turn @param {string} key */
  async transmit(turn, key) {
    const conversationId = !key || key.startsWith('session:') ? undefined : key
    turn.phase = 'sending'
    turn.problem = null
    this.keepUnsent()
    this.emit('turn', turn)
    const name = turn.id
    try {
      const started = await this.client.start(turn.message, {
        conversationId, agentId: turn.agentId, idempotencyKey: turn.id.slice(4),
        onConnectionChange: (error) => this.setTrouble(name, error) })
      this.sent(turn, key)
      turn.id = started.sessionId
      turn.phase = 'running'
      // A refresh may have met the session before its answer was here.
      this.turns = this.turns.filter((other) => other === turn || other.id !== turn.id)
      if (key === this.openKey) this.exists = true
      this.emit('thread')
      this.follow(started.sessionId, key || started.conversationId)
      this.others?.postMessage('sent')
    } catch (error) {
      turn.phase = 'unsent'
      turn.problem = error
      this.keepUnsent()
      this.touch(key, { status: '' })
      this.emit('turn', turn)
      this.note(error)
    } finally {
      this.setTrouble(name, null)
    }
  }

  /** Nothing of this turn waits to be sent any more. @param {Turn} turn @param {string} key */
  sent(turn, key) {
    const others = (this.outgoing.get(key) ?? []).filter((other) => other !== turn)
    if (others.length) this.outgoing.set(key, others)
    else this.outgoing.delete(key)
    this.keepUnsent()
  }

  /** With its key and to the same agent: it may have arrived. @param {Turn} turn */
  sendAgain(turn) {
    return this.transmit(turn, this.openKey)
  }

  /** @param {Turn} turn */
  async stop(turn) {
    turn.stopping = true
    this.emit('turn', turn)
    try {
      await this.client.cancel(turn.id)
    } catch (error) {
      turn.stopping = false
      this.emit('turn', turn)
      throw error
    }
  }

  /** @param {Turn} turn */
  async removeTurn(turn) {
    const known = turn.row || turn.phase === 'running' || turn.phase === 'ended'
    if (known) await this.deletes(turn.id, () => this.client.remove(turn.id))
    this.others?.postMessage('removed')
    this.sent(turn, this.openKey)
    this.turns = this.turns.filter((other) => other !== turn)
    this.emit('thread')
  }

  /** @param {string} key */
  async removeConversation(key) {
    await this.deletes(key, async () => {
      if (key.startsWith('session:')) return this.client.remove(key.slice(8))
      if (this.hasConversations) return this.client.conversations.remove(key)
      for (let page = await this.client.list({ conversationId: key, limit: 100 }); page.sessions.length;
        page = await this.client.list({ conversationId: key, limit: 100 })) {
        for (const row of page.sessions) await this.deletes(row.sessionId, () => this.client.remove(row.sessionId))
      }
    })
    this.others?.postMessage('removed')
    this.outgoing.delete(key)
    this.keepUnsent()
    this.entries.delete(key)
    this.emit('list')
  }

  /** What is gone already needs no deleting. @param {string} name @param {() => Promise<void>} run */
  async deletes(name, run) {
    this.deleting.add(name)
    try {
      await run()
    } catch (error) {
      if ([404, 410].includes(/** @type {any} */ (error).status)) return
      this.deleting.delete(name)
      throw error
    }
  }

  /** @param {string} key @param {string} title */
  async rename(key, title) {
    await this.client.conversations.rename(key, title)
    this.others?.postMessage('renamed')
    this.touch(key, { title })
    this.emit('thread')
  }

  /**
   * What concerns the whole page and not only what was asked for.
   * @param {any} error
   * @param {boolean} [reading] it was to show the list or the open conversation
   */
  note(error, reading = false) {
    if (error?.name === 'AbortError') return
    if (error?.status === 401) this.emit('unauthorized')
    else if (reading && (error?.status === 404 || error?.status === 410)) this.emit('gone')
    else if (reading && (!error?.status || error.transient)) this.recoverSoon(error)
    else if (reading) this.emit('refused', error)
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
