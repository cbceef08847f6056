// @ts-check
/** Where the message is written. */

import { directionOf, h, icon, setText } from './dom.js'
import { texts } from './texts.js'

/** @typedef {import('./store.js').Store} Store */

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id)

/** Longer text gets one direction: with `auto`, Chromium takes seconds for each key in a megabyte. */
const LONGEST_AUTO = 10_000

const touch = window.matchMedia('(pointer: coarse)')

/** Drafts outlive a reload, but not the tab. */
const drafts = {
  /** @param {string} key */
  get(key) {
    try {
      return sessionStorage.getItem(`backchat:draft:${key}`) ?? ''
    } catch {
      return ''
    }
  },
  /** @param {string} key @param {string} text */
  set(key, text) {
    try {
      if (text) sessionStorage.setItem(`backchat:draft:${key}`, text)
      else sessionStorage.removeItem(`backchat:draft:${key}`)
    } catch { /* it lasts as long as the page */ }
  },
}

export class Composer {
  /** @param {Store} store @param {(message: string, agentId: number | undefined) => void} send @param {() => void} stop */
  constructor(store, send, stop) {
    this.store = store
    this.key = store.openKey
    /** @type {HTMLTextAreaElement} */
    this.field = byId('message')
    /** @type {HTMLButtonElement} */
    this.button = byId('send')
    /** @type {HTMLSelectElement} */
    this.agents = byId('agent')
    this.mode = ''
    /** The user chose the agent for the open conversation. */
    this.chosen = false
    this.field.placeholder = texts.placeholder
    this.fill(drafts.get(this.key))
    byId('composer').addEventListener('submit', (/** @type {Event} */ event) => {
      event.preventDefault()
      const message = this.field.value
      if (!message.trim()) {
        if (this.mode === 'stop') stop()
        return
      }
      this.fill('')
      this.changed()
      send(message, this.agentId)
    })
    // Before the text arrives: a paste would be laid out the slow way first.
    this.field.addEventListener('beforeinput', ({ data }) => this.direct(this.field.value + (data ?? '')))
    this.field.addEventListener('input', () => {
      this.direct(this.field.value)
      this.changed()
    })
    this.field.addEventListener('keydown', (event) => {
      // While an input method composes, Enter accepts its word. Safari reports that only as key code 229.
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return
      // An on-screen keyboard has no Shift + Enter: there only the button sends.
      if (touch.matches && !event.ctrlKey && !event.metaKey) return
      event.preventDefault()
      if (this.field.value.trim()) byId('composer').requestSubmit()
    })
    store.addEventListener('agents', () => this.showAgents())
    for (const type of ['thread', 'turn']) store.addEventListener(type, () => this.update())
    store.addEventListener('thread', () => this.showAgent())
    this.agents.addEventListener('change', () => { this.chosen = true })
    this.changed()
  }

  get agentId() {
    return this.agents.value ? Number(this.agents.value) : undefined
  }

  showAgents() {
    const { agents } = this.store
    byId('agent-choice').hidden = agents.length < 2
    const chosen = this.agents.value
    this.agents.replaceChildren(...agents.map((agent) =>
      h('option', { value: agent.id, title: agent.description }, agent.name ?? String(agent.id))))
    if (chosen) this.agents.value = chosen
    this.showAgent()
  }

  /** A conversation stays with the agent that it began with, unless another is chosen. */
  showAgent() {
    if (this.chosen) return
    const last = [...this.store.turns].reverse().find((turn) => turn.row)
    if (last?.row && this.agents.querySelector(`option[value="${Number(last.row.agentId)}"]`)) this.agents.value = String(last.row.agentId)
  }

  /** @param {string} text */
  fill(text) {
    this.direct(text)
    this.field.value = text
  }

  /** Say in which direction the field shows *text*. @param {string} text */
  direct(text) {
    const direction = text.length > LONGEST_AUTO ? directionOf(text) : 'auto'
    if (this.field.dir !== direction) this.field.dir = direction
  }

  update() {
    if (this.key !== this.store.openKey) {
      // Each conversation has a draft of its own.
      this.key = this.store.openKey
      this.fill(drafts.get(this.key))
      this.chosen = false
      this.changed()
    }
    this.updateButton()
  }

  changed() {
    drafts.set(this.key, this.field.value)
    // Browsers that know `field-sizing` do this themselves.
    if (!CSS.supports('field-sizing', 'content')) {
      this.field.style.height = 'auto'
      this.field.style.height = `${this.field.scrollHeight}px`
    }
    this.updateButton()
  }

  updateButton() {
    const running = this.store.turns.some((turn) => turn.phase === 'running')
    const empty = !this.field.value.trim()
    const mode = running && empty ? 'stop' : 'send'
    this.button.disabled = mode === 'send' && empty
    if (mode === this.mode) return
    this.mode = mode
    this.button.className = `round ${mode}`
    this.button.setAttribute('aria-label', texts[mode])
    this.button.title = texts[mode]
    this.button.replaceChildren(icon(mode))
  }

  /** Focus the field, except where that opens an on-screen keyboard. */
  focusSoftly() {
    if (window.matchMedia('(pointer: fine)').matches) this.field.focus()
  }

  /** @param {string} text */
  write(text) {
    this.fill(text)
    this.changed()
    this.field.focus()
  }

  /** Show a notice above the field; an empty text hides it. @param {string} text @param {string} [action] @param {() => void} [act] */
  static notice(text, action, act) {
    const banner = byId('banner')
    if (!text) {
      banner.hidden = true
      return
    }
    setText(byId('banner-text'), text)
    byId('banner-action').replaceChildren(...(action && act
      ? [h('button', { type: 'button', class: 'button small', onclick: act }, action)] : []))
    banner.hidden = false
  }
}
