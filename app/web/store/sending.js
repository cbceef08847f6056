// @ts-check
/** Messages of this page on their way to the server. */

import { uuid } from '../client/http.js'
import { Outgoing } from './outgoing.js'
import { newTurn, sessionIn } from './rows.js'

/** @typedef {import('./rows.js').Turn} Turn */

/** @param {string} idempotencyKey */
const idOf = (idempotencyKey) => `new:${idempotencyKey}`
/** @param {Turn} turn */
const idempotencyKeyOf = (turn) => turn.id.slice('new:'.length)

export class Sending {
  outgoing = new Outgoing()
  #store

  /** @param {import('../store.js').Store} store */
  constructor(store) {
    this.#store = store
  }

  /** Go on with what was being sent, or was refused, before the page was loaded. */
  resume() {
    for (const { key, turn } of this.outgoing.restore()) this.#store.touch(key, { at: turn.at }, { userMessage: turn.message })
    for (const { message, options, at } of this.#store.client.outgoing()) {
      const { conversationId: key = '', agentId, idempotencyKey } = options
      const id = idOf(idempotencyKey)
      if (this.outgoing.of(key).some((turn) => turn.id === id)) continue
      const turn = newTurn({ id, message, at, agentId })
      this.outgoing.add(key, turn)
      if (key) this.#store.touch(key, { status: 'running', at }, { userMessage: message })
      void this.transmit(turn, key)
    }
  }

  /** @param {string} key @param {string} message @param {number} at @param {number} [agentId] @returns {Turn} */
  add(key, message, at, agentId) {
    const turn = newTurn({ id: idOf(uuid()), message, at, agentId })
    this.outgoing.add(key, turn)
    return turn
  }

  /** Send it, again with the same key and to the same agent: it may have arrived. @param {Turn} turn @param {string} key */
  async transmit(turn, key) {
    const store = this.#store
    const name = turn.id
    turn.phase = 'sending'
    turn.problem = null
    this.outgoing.keep()
    store.emit('turn', turn)
    try {
      const started = await store.client.start(turn.message, {
        conversationId: !key || sessionIn(key) ? undefined : key, agentId: turn.agentId, idempotencyKey: idempotencyKeyOf(turn),
        onConnectionChange: (error) => store.troubles.set(name, error) })
      this.outgoing.remove(key, turn)
      turn.id = started.sessionId
      turn.phase = 'running'
      store.sent(turn, key)
      store.running.follow(started.sessionId, key || started.conversationId)
      store.tellOthers('sent')
    } catch (error) {
      turn.phase = 'unsent'
      turn.problem = error
      this.outgoing.keep()
      store.touch(key, { status: '' })
      store.emit('turn', turn)
      store.note(error)
    } finally {
      store.troubles.set(name, null)
    }
  }
}
