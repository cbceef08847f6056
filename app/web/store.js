// @ts-check
/**
 * What the page knows, and what its user does: conversations, the turns of the open one, what is sent and what runs.
 * Draws nothing; it emits what changed. Its parts are in `store/`.
 */

import { createClient } from './client.js'
import { uuid } from './client/http.js'
import { ConversationList } from './store/conversation_list.js'
import { Deletions } from './store/deletions.js'
import { OpenConversation } from './store/open_conversation.js'
import { PLACE } from './store/place.js'
import { keyOfSession, sessionIn, statusOf } from './store/rows.js'
import { Running } from './store/running.js'
import { Sending } from './store/sending.js'
import { ServerClock } from './store/server_clock.js'
import { readToken } from './store/token.js'
import { Troubles } from './store/troubles.js'

/** @typedef {import('./store/rows.js').Entry} Entry */
/** @typedef {import('./store/rows.js').Turn} Turn */
/** @typedef {import('./client.js').SessionRow} SessionRow */

/** The pause between two polls of a running session, over which the page reveals new text, in ms. */
export const POLL_MS = 1500
const REFRESH_MS = 10_000
/** How many of the sessions that were running before a reload are followed. */
const RESUMED = 40

export class Store extends EventTarget {
  #clock = new ServerClock()
  client = createClient({ baseUrl: PLACE, token: readToken, minPollMs: POLL_MS, fetch: this.#clock.fetch })
  troubles = new Troubles((newest) => this.emit('trouble', newest), () => void this.refresh())
  sending = new Sending(this)
  running = new Running(this)
  list = new ConversationList(this.client, (key) => key === this.openKey || this.sending.outgoing.of(key).length > 0)
  deletions = new Deletions(this.client)
  conversation = new OpenConversation(this.client, this.running.states, '', [])
  /** @type {any[]} */
  agents = []
  #refreshTimer = 0
  /** Tells other tabs to read again after a change here. @type {BroadcastChannel | null} */
  #others = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel(`backchat:page${PLACE}`)
  /** Settles when the list has been read for the first time. @type {Promise<void>} */
  #listing = Promise.resolve()

  constructor() {
    super()
    const lookAgain = () => {
      if (document.visibilityState === 'visible' && (this.list.listed || this.troubles.failures)) void this.refresh()
    }
    document.addEventListener('visibilitychange', lookAgain)
    if (this.#others) this.#others.onmessage = lookAgain
  }

  get entries() {
    return this.list.entries
  }

  /** The open conversation; '' is a new one. */
  get openKey() {
    return this.conversation.key
  }

  /** Of the open conversation, oldest first. */
  get turns() {
    return this.conversation.turns
  }

  /** Now, by the server's clock: its times are shown beside ours. */
  now() {
    return this.#clock.now()
  }

  /** @param {'list' | 'thread' | 'turn' | 'trouble' | 'unauthorized' | 'agents' | 'ended' | 'gone' | 'refused'} type @param {any} [detail] */
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }))
  }

  /** @param {string} change */
  tellOthers(change) {
    this.#others?.postMessage(change)
  }

  /** Begin: what was being sent, what was running, the list, the agents. */
  async begin() {
    for (const { sessionId, conversationId } of this.client.pending().slice(0, RESUMED)) {
      this.running.follow(sessionId, conversationId ?? keyOfSession(sessionId))
    }
    this.sending.resume()
    this.#listing = this.loadList()
    await Promise.allSettled([this.#listing, this.#loadAgents()])
  }

  async #loadAgents() {
    try {
      const answer = await this.client.agents()
      this.agents = Array.isArray(answer) ? answer : answer.agents ?? []
      this.emit('agents')
    } catch { /* a server without this route has its one agent */ }
  }

  // the list

  /** @param {boolean} [more] the next page instead of the first */
  async loadList(more = false) {
    try {
      await this.list.load(more)
    } catch (error) {
      return this.note(error, true)
    }
    this.emit('list')
    this.scheduleRefresh()
  }

  /** @param {string} key @param {Partial<Entry>} change @param {{ userMessage?: string, createdAt?: string }} [row] */
  touch(key, change, row = {}) {
    if (this.list.touch(key, change, row)) this.emit('list')
  }

  /** Read the list again later, if it holds a running session that this page does not follow. */
  scheduleRefresh() {
    clearTimeout(this.#refreshTimer)
    const elsewhere = [...this.entries.values()].filter((entry) => entry.status === 'running').length > this.running.states.size
    if (elsewhere) this.#refreshTimer = window.setTimeout(() => document.visibilityState === 'visible' && this.refresh(), REFRESH_MS)
  }

  async refresh() {
    const { failures } = this.troubles
    this.troubles.reading()
    await this.loadList()
    if (this.deletions.has(this.openKey)) return
    // Another device may have gone on with the open conversation, or deleted it.
    if (this.openKey) await this.#loadThread().catch((error) => this.note(error, true))
    if (this.troubles.failures === failures) this.troubles.over()
  }

  /**
   * Conversations that match. The server searches all messages; without it only the titles here are searched.
   * @param {string} q
   * @param {AbortSignal} signal
   * @returns {Promise<(Entry & { snippet?: string })[]>}
   */
  async search(q, signal) {
    try {
      if (this.list.hasConversations) return await this.list.search(q, signal)
    } catch (error) {
      if (signal.aborted) throw error
      this.note(error)
    }
    return this.list.searchTitles(q)
  }

  // the open conversation

  /** @param {string} key '' is a new one */
  async open(key) {
    if (key !== this.openKey) {
      this.#show(key, key ? [...this.sending.outgoing.of(key)] : [])
      this.emit('thread')
    }
    if (this.entries.get(key)?.unread) this.touch(key, { unread: false })
    if (key) await this.#loadThread()
  }

  /** @param {string} key @param {Turn[]} turns */
  #show(key, turns) {
    this.conversation = new OpenConversation(this.client, this.running.states, key, turns)
  }

  async #loadThread() {
    const { conversation } = this
    try {
      const [newest] = await conversation.load()
      if (conversation !== this.conversation) return
      this.#threadChanged()
      if (newest) void this.#learnTitle(conversation.key, newest)
    } catch (error) {
      // The user has opened another conversation meanwhile.
      if (conversation === this.conversation) throw error
    }
  }

  async loadEarlier() {
    const { conversation } = this
    await conversation.loadEarlier()
    if (conversation === this.conversation) this.#threadChanged()
  }

  #threadChanged() {
    for (const turn of this.turns) if (turn.phase === 'running') this.running.follow(turn.id, this.openKey)
    this.emit('thread')
  }

  /** The list may not reach back to a conversation that was opened by its address. @param {string} key @param {SessionRow} newest */
  async #learnTitle(key, newest) {
    if (!this.entries.has(key)) await this.#listing
    if (this.entries.has(key)) return
    const conversation = this.list.hasConversations && !sessionIn(key) ? await this.client.conversations.get(key).catch(() => null) : null
    if (!conversation) return this.touch(key, { status: statusOf(newest) }, newest)
    this.list.enter(conversation)
    this.emit('list')
  }

  /** Read the events of an ended turn: its thoughts and tool calls. @param {Turn} turn */
  async readSteps(turn) {
    if (await this.conversation.readSteps(turn)) this.emit('turn', turn)
  }

  // what the user does

  /** @param {string} message @param {{ agentId?: number }} options @returns {Promise<void>} */
  async send(message, { agentId } = {}) {
    if (!this.openKey) this.#show(uuid(), [])
    const key = this.openKey
    // The newest message comes last, whatever the clocks say.
    const at = Math.max(this.now(), (this.turns[this.turns.length - 1]?.at ?? 0) + 1)
    const turn = this.sending.add(key, message, at, agentId)
    this.turns.push(turn)
    this.touch(key, { status: 'running', at }, { userMessage: message })
    this.emit('thread')
    await this.sending.transmit(turn, key)
  }

  /** The server has the message of this turn. @param {Turn} turn @param {string} key */
  sent(turn, key) {
    // A refresh may have added the session before the answer to its POST arrived.
    this.conversation.turns = this.turns.filter((other) => other === turn || other.id !== turn.id)
    if (key === this.openKey) this.conversation.exists = true
    this.emit('thread')
  }

  /** @param {Turn} turn */
  sendAgain(turn) {
    return this.sending.transmit(turn, this.openKey)
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
    if (known) await this.deletions.session(turn.id)
    this.tellOthers('removed')
    this.sending.outgoing.remove(this.openKey, turn)
    this.conversation.remove(turn)
    this.emit('thread')
  }

  /** @param {string} key */
  async removeConversation(key) {
    await this.deletions.conversation(key, this.list.hasConversations)
    this.tellOthers('removed')
    this.sending.outgoing.removeAll(key)
    this.entries.delete(key)
    this.emit('list')
  }

  /** @param {string} key @param {string} title */
  async rename(key, title) {
    await this.client.conversations.rename(key, title)
    this.tellOthers('renamed')
    this.touch(key, { title })
    this.emit('thread')
  }

  /**
   * React to an error that concerns the whole page.
   * @param {any} error
   * @param {boolean} [reading] the list or the open conversation could not be read
   */
  note(error, reading = false) {
    if (error?.name === 'AbortError') return
    if (error?.status === 401) this.emit('unauthorized')
    else if (reading && (error?.status === 404 || error?.status === 410)) this.emit('gone')
    else if (reading && (!error?.status || error.transient)) this.troubles.readAgainSoon(error)
    else if (reading) this.emit('refused', error)
  }
}
