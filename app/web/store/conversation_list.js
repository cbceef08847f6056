// @ts-check
/** The list of conversations, as far as it has been read. */

import { texts } from '../texts.js'
import { keyOf, ms, sessionIn, statusOf, titleOf } from './rows.js'

/** @typedef {import('../client.js').Client} Client */
/** @typedef {import('../client.js').SessionRow} SessionRow */
/** @typedef {import('./rows.js').Entry} Entry */

const PAGE = 40
const LONGEST_SEARCH = 500

export class ConversationList {
  /** @type {Map<string, Entry>} */
  entries = new Map()
  /** Where the next page begins; null: there is none. @type {string | null} */
  cursor = null
  /** The first page has been read. */
  listed = false
  /** The server has conversations, and shows them; to a token for one session it doesn't, and an older one has none. */
  hasConversations = true
  /** @type {string | null} */
  #sessionsCursor = null
  /** @type {Set<string>} Conversations whose status came from their newest session. */
  #judged = new Set()
  #client
  #isInUse

  /** @param {Client} client @param {(key: string) => boolean} isInUse the line stays, whatever the server says */
  constructor(client, isInUse) {
    this.#client = client
    this.#isInUse = isInUse
  }

  /** Read the first page again, or the next one. @param {boolean} more */
  async load(more) {
    const cursor = more ? this.cursor : null
    if (this.hasConversations) {
      try {
        await this.#loadConversations(cursor)
      } catch (error) {
        if (![403, 404].includes(/** @type {any} */ (error).status)) throw error
        this.hasConversations = false
      }
    }
    if (!this.hasConversations) await this.#loadSessions(cursor)
    this.listed = true
  }

  /** @param {string | null} cursor */
  async #loadConversations(cursor) {
    const beyond = cursor !== null || !this.listed
    const [page, sessions] = await Promise.all([
      this.#client.conversations.list({ limit: PAGE, cursor }),
      // Sessions without a conversation are only in this list; a refresh does without them.
      beyond && (cursor === null || this.#sessionsCursor) ? this.#client.list({ limit: PAGE, cursor: this.#sessionsCursor }) : null,
    ])
    for (const conversation of page.conversations) this.enter(conversation)
    if (cursor === null && this.listed) this.#forgetMissing(page)
    if (sessions) {
      for (const row of sessions.sessions) this.#judge(row)
      this.#sessionsCursor = sessions.nextCursor
    }
    if (beyond) this.cursor = page.nextCursor
  }

  /** Sessions come newest first: how earlier ones of a conversation ended does not count. @param {SessionRow} row */
  #judge(row) {
    const key = keyOf(row)
    const known = this.entries.get(key)
    if (!known && !row.conversationId) this.#enterSession(row)
    if (!known || this.#judged.has(key)) return
    this.#judged.add(key)
    known.status = known.status || statusOf(row)
  }

  /** @param {string | null} cursor */
  async #loadSessions(cursor) {
    const page = await this.#client.list({ limit: PAGE, cursor })
    // Newest first: the oldest message names the conversation, the newest session says how it stands.
    for (const row of [...page.sessions].reverse()) this.#enterSession(row)
    if (cursor || !this.listed) this.cursor = page.nextCursor
  }

  /** Conversations that were deleted elsewhere. @param {{ conversations: { conversationId: string, updatedAt: string }[], nextCursor: string | null }} page the newest ones */
  #forgetMissing({ conversations, nextCursor }) {
    const there = new Set(conversations.map((conversation) => conversation.conversationId))
    const oldest = nextCursor ? ms(conversations[conversations.length - 1]?.updatedAt) : 0
    for (const { key, at, status } of this.entries.values()) {
      if (there.has(key) || at <= oldest || status === 'running' || sessionIn(key) || this.#isInUse(key)) continue
      this.entries.delete(key)
    }
  }

  /** @param {{ conversationId: string, title: string, updatedAt: string, runningSessionId?: string | null }} conversation */
  enter({ conversationId: key, title, updatedAt, runningSessionId }) {
    const known = this.entries.get(key)
    const status = runningSessionId ? 'running' : known?.status === 'running' ? '' : known?.status ?? ''
    this.entries.set(key, { key, title: title || texts.untitled, at: ms(updatedAt), status, unread: known?.unread ?? false })
  }

  /** @param {SessionRow} row */
  #enterSession(row) {
    const key = keyOf(row)
    const known = this.entries.get(key)
    const at = ms(row.createdAt)
    this.entries.set(key, {
      key, title: known?.title ?? titleOf(row.userMessage), at: Math.max(known?.at ?? 0, at),
      status: known && known.at > at ? known.status : statusOf(row), unread: known?.unread ?? false })
  }

  /**
   * Change a line, or make one of a row.
   * @param {string} key
   * @param {Partial<Entry>} change
   * @param {{ userMessage?: string, createdAt?: string }} row
   * @returns {boolean} there is such a line
   */
  touch(key, change, row) {
    const known = this.entries.get(key)
    if (!known && !row.userMessage) return false
    this.entries.set(key, {
      key, title: titleOf(row.userMessage ?? ''), at: ms(row.createdAt), status: '', unread: false, ...known, ...change })
    return true
  }

  /** What the server finds in all that was said. @param {string} q @param {AbortSignal} signal @returns {Promise<(Entry & { snippet?: string })[]>} */
  async search(q, signal) {
    const { results } = await this.#client.conversations.search(q.slice(0, LONGEST_SEARCH), { limit: PAGE, signal })
    return results.map((match) => {
      if (!this.entries.has(match.conversationId)) this.enter(match)
      return { .../** @type {Entry} */ (this.entries.get(match.conversationId)), snippet: match.snippet }
    })
  }

  /** What is found in the titles that were read. @param {string} q @returns {Entry[]} */
  searchTitles(q) {
    const words = q.toLocaleLowerCase().split(/\s+/).filter(Boolean)
    return [...this.entries.values()].filter((entry) => words.every((word) => entry.title.toLocaleLowerCase().includes(word)))
  }
}
