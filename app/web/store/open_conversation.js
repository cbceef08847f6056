// @ts-check
/** The conversation that is open: its turns, as far back as they have been read. */

import { ms, sessionIn, turnOf } from './rows.js'

/** @typedef {import('../client.js').Client} Client */
/** @typedef {import('../client.js').SessionRow} SessionRow */
/** @typedef {import('./rows.js').Turn} Turn */

const PAGE = 20

export class OpenConversation {
  /** @type {Turn[]} Oldest first. */
  turns
  /** Where earlier turns begin; null: there are none. @type {string | null} */
  earlierCursor = null
  /** It exists on the server. */
  exists = false
  /** @type {Set<Turn>} Turns whose events are on their way. */
  #reading = new Set()
  #client
  #following

  /**
   * @param {Client} client
   * @param {ReadonlyMap<string, import('./rows.js').SessionState | null>} following what is followed, with what it has shown so far
   * @param {string} key '' is a new one
   * @param {Turn[]} turns those that the server does not know yet
   */
  constructor(client, following, key, turns) {
    this.#client = client
    this.#following = following
    this.key = key
    this.turns = turns
  }

  /** Read the newest turns; those that are there already stay. @returns {Promise<SessionRow[]>} newest first */
  async load() {
    const ended = this.turns.filter((turn) => turn.phase === 'ended')
    const alone = sessionIn(this.key)
    const page = alone
      ? { sessions: [await this.#client.session(alone)], nextCursor: null }
      : await this.#client.list({ conversationId: this.key, limit: PAGE })
    if (!alone) this.#dropMissing(ended, page)
    if (!page.sessions.length && !this.turns.length) throw Object.assign(new Error('gone'), { status: 404, code: 'not_found' })
    this.exists ||= page.sessions.length > 0
    if (!this.turns.some((turn) => turn.row)) this.earlierCursor = page.nextCursor
    this.#merge(page.sessions)
    return page.sessions
  }

  async loadEarlier() {
    const page = await this.#client.list({ conversationId: this.key, limit: PAGE, cursor: this.earlierCursor })
    this.earlierCursor = page.nextCursor
    this.#merge(page.sessions)
  }

  /** Read the events of an ended turn: its thoughts and tool calls. @param {Turn} turn @returns {Promise<boolean>} they are there now */
  async readSteps(turn) {
    if (turn.state || turn.phase !== 'ended' || !turn.row || this.#reading.has(turn)) return false
    this.#reading.add(turn)
    try {
      turn.state = await this.#client.read(turn.id)
      return true
    } catch {
      return false // retention took the events; the row has the answer
    } finally {
      this.#reading.delete(turn)
    }
  }

  /** @param {Turn} turn */
  remove(turn) {
    this.turns = this.turns.filter((other) => other !== turn)
  }

  /** Turns that were deleted elsewhere. @param {Turn[]} ended before the page was asked for @param {{ sessions: SessionRow[], nextCursor: string | null }} page the newest ones */
  #dropMissing(ended, { sessions, nextCursor }) {
    const there = new Set(sessions.map((row) => row.sessionId))
    const oldest = nextCursor ? ms(sessions[sessions.length - 1]?.createdAt) : 0
    const missing = new Set(ended.filter((turn) => turn.at > oldest && !there.has(turn.id)))
    this.turns = this.turns.filter((turn) => !missing.has(turn))
  }

  /** @param {SessionRow[]} rows newest first */
  #merge(rows) {
    const known = new Map(this.turns.map((turn) => [turn.id, turn]))
    for (const row of rows) {
      const turn = known.get(row.sessionId)
      if (turn) {
        turn.row = row
        turn.at = ms(row.createdAt)
        // A followed session is newer than a row that was read a moment ago.
        if (!this.#following.has(turn.id)) turn.phase = row.status === 'running' ? 'running' : 'ended'
      } else known.set(row.sessionId, turnOf(row, this.#following.get(row.sessionId) ?? null))
    }
    // Ids are ordered by time too, and more finely.
    this.turns = [...known.values()].sort((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1))
  }
}
