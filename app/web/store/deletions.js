// @ts-check
/** What the user deletes. */

import { sessionIn } from './rows.js'

/** How many sessions are listed at a time while they are deleted one by one. */
const PAGE = 100

export class Deletions {
  /** @type {Set<string>} Sessions and conversations. */
  #names = new Set()
  #client

  /** @param {import('../client.js').Client} client */
  constructor(client) {
    this.#client = client
  }

  /** This page deleted it, or is about to. @param {string} name of a session or a conversation */
  has(name) {
    return this.#names.has(name)
  }

  /** @param {string} sessionId */
  session(sessionId) {
    return this.#run(sessionId, () => this.#client.remove(sessionId))
  }

  /** @param {string} key @param {boolean} known the server knows conversations */
  conversation(key, known) {
    const alone = sessionIn(key)
    return this.#run(key, () => (alone ? this.#client.remove(alone) : known ? this.#client.conversations.remove(key) : this.#sessionsOf(key)))
  }

  /** @param {string} key */
  async #sessionsOf(key) {
    for (;;) {
      const { sessions } = await this.#client.list({ conversationId: key, limit: PAGE })
      if (!sessions.length) return
      for (const row of sessions) await this.session(row.sessionId)
    }
  }

  /** @param {string} name @param {() => Promise<void>} run */
  async #run(name, run) {
    this.#names.add(name)
    try {
      await run()
    } catch (error) {
      // It was gone already.
      if ([404, 410].includes(/** @type {any} */ (error).status)) return
      this.#names.delete(name)
      throw error
    }
  }
}
