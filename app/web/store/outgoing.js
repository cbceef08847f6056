// @ts-check
/** Turns that the server does not know yet, by conversation. What it refused outlives a reload, as drafts do, but not the tab. */

import { PLACE } from './place.js'

/** @typedef {import('./rows.js').Turn} Turn */

const UNSENT_KEY = `backchat:unsent${PLACE}`

export class Outgoing {
  /** @type {Map<string, Turn[]>} */
  #turns = new Map()

  /** @param {string} key @returns {readonly Turn[]} oldest first */
  of(key) {
    return this.#turns.get(key) ?? []
  }

  /** @param {string} key @param {Turn} turn */
  add(key, turn) {
    this.#turns.set(key, [...this.of(key), turn])
  }

  /** @param {string} key @param {Turn} turn */
  remove(key, turn) {
    const others = this.of(key).filter((other) => other !== turn)
    if (others.length) this.#turns.set(key, others)
    else this.#turns.delete(key)
    this.keep()
  }

  /** @param {string} key */
  removeAll(key) {
    this.#turns.delete(key)
    this.keep()
  }

  /** Store what was refused. */
  keep() {
    const unsent = [...this.#turns].flatMap(([key, turns]) => turns.filter((turn) => turn.phase === 'unsent')
      .map(({ id, message, at, agentId, problem: { status, code, detail } }) => ({ key, id, message, at, agentId, problem: { status, code, detail } })))
    try {
      if (unsent.length) sessionStorage.setItem(UNSENT_KEY, JSON.stringify(unsent))
      else sessionStorage.removeItem(UNSENT_KEY)
    } catch { /* it lasts as long as the page */ }
  }

  /** Take up what was refused before the reload. @returns {{ key: string, turn: Turn }[]} what is new here */
  restore() {
    /** @type {(Pick<Turn, 'id' | 'message' | 'at' | 'agentId' | 'problem'> & { key: string })[]} */
    let unsent = []
    try {
      unsent = JSON.parse(sessionStorage.getItem(UNSENT_KEY) ?? '[]')
    } catch { /* there is none */ }
    const restored = []
    for (const { key, ...kept } of unsent) {
      if (this.of(key).some((turn) => turn.id === kept.id)) continue
      /** @type {Turn} */
      const turn = { ...kept, row: null, state: null, phase: 'unsent' }
      this.add(key, turn)
      restored.push({ key, turn })
    }
    return restored
  }
}
