// @ts-check
/** Sessions that were running when this browser last saw them. */

import { JsonStorage } from './storage.js'

/** @typedef {{ sessionId: string, conversationId: string | null, after: number, startedAt: number }} Pending */

export class PendingSessions {
  #stored
  #now

  /** @param {ConstructorParameters<typeof JsonStorage>[0]} storage @param {string} prefix @param {() => number} now */
  constructor(storage, prefix, now) {
    this.#stored = new JsonStorage(storage, prefix)
    this.#now = now
  }

  /** Newest first. @returns {Pending[]} */
  list() {
    return this.#stored.entries()
      .map(([sessionId, entry]) => ({
        sessionId, conversationId: entry.conversationId ?? null, after: Number(entry.after) || 0, startedAt: Number(entry.startedAt) || 0 }))
      .sort((a, b) => b.startedAt - a.startedAt)
  }

  /** @param {string} sessionId @param {number} after the last seq that was seen @param {string | null} [conversationId] */
  remember(sessionId, after, conversationId) {
    const known = this.#stored.entries().find(([id]) => id === sessionId)?.[1]
    this.#stored.put(sessionId, {
      conversationId: conversationId ?? known?.conversationId ?? null,
      after: Math.max(after, Number(known?.after) || 0),
      startedAt: known?.startedAt ?? this.#now(),
    })
  }

  /** @param {string} sessionId */
  forget(sessionId) {
    this.#stored.remove(sessionId)
  }
}
