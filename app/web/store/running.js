// @ts-check
/** Sessions that this page follows until they end. */

import { statusOf } from './rows.js'

/** @typedef {import('./rows.js').SessionState} SessionState */

export class Running {
  /** What each has shown so far. @type {Map<string, SessionState | null>} */
  states = new Map()
  #store

  /** @param {import('../store.js').Store} store */
  constructor(store) {
    this.#store = store
  }

  /** @param {string} sessionId @param {string} key the line of the list that it belongs to */
  follow(sessionId, key) {
    if (this.states.has(sessionId)) return
    this.states.set(sessionId, null)
    const store = this.#store
    store.touch(key, { status: 'running' })
    void store.client
      .follow(sessionId, {
        onState: (state) => this.#show(sessionId, state),
        onConnectionChange: (error) => store.troubles.set(sessionId, error) })
      .then((state) => {
        this.#show(sessionId, state)
        this.#ended(key, { status: state.status, errorCode: state.error?.code })
      }, (error) => this.#lost(sessionId, key, error))
      .finally(() => {
        this.states.delete(sessionId)
        store.troubles.set(sessionId, null)
        store.scheduleRefresh()
      })
  }

  /** @param {string} sessionId @param {SessionState} state */
  #show(sessionId, state) {
    this.states.set(sessionId, state)
    const turn = this.#store.turns.find((one) => one.id === sessionId)
    if (!turn) return
    turn.state = state
    if (state.status !== 'running') turn.phase = 'ended'
    this.#store.emit('turn', turn)
  }

  /** @param {string} key @param {{ status: string, errorCode?: string }} how */
  #ended(key, how) {
    const store = this.#store
    const isOpen = key === store.openKey
    const isRead = isOpen && document.visibilityState === 'visible'
    store.touch(key, { status: statusOf(how), unread: !isRead && how.status === 'done', at: store.now() })
    if (isOpen) store.emit('ended', how)
  }

  /** It can't be followed any more. @param {string} sessionId @param {string} key @param {any} error */
  #lost(sessionId, key, error) {
    const store = this.#store
    if (error.status !== 404 && error.status !== 410) return store.note(error)
    // It was deleted, perhaps with its conversation, perhaps by this page.
    if (store.deletions.has(sessionId) || store.deletions.has(key)) return
    store.conversation.turns = store.turns.filter((turn) => turn.id !== sessionId || turn.row?.status === 'done')
    store.emit('thread')
    store.touch(key, { status: '' })
    this.states.delete(sessionId)
    void store.refresh()
  }
}
