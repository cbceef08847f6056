// @ts-check
/** One thought or tool call; what is inside is made when it is opened. */

import { h, icon, setText } from '../dom.js'
import { copyButton } from '../markdown.js'
import { duration, texts } from '../texts.js'

/** @typedef {import('../client.js').Part} Part */
/** @typedef {import('../client.js').ToolPart} ToolPart */
/** @typedef {import('../client.js').TextPart} TextPart */

/** Longer results are cut in the view: the browser stutters with a megabyte in one element. */
const LONGEST_SHOWN = 20_000

export class StepView {
  /** @param {Part} part */
  constructor(part) {
    this.part = part
    this.state = ''
    this.mark = h('span', { class: 'mark' })
    this.title = h('span', { class: 'step-title' })
    this.gist = h('span', { class: 'gist' })
    this.time = h('span', { class: 'step-time' })
    this.body = h('div', { class: 'step-body' })
    const chevron = icon('chevron')
    this.element = h('details', { class: `step ${part.kind}` },
      h('summary', {}, this.mark, this.title, this.gist, this.time, chevron), this.body)
    this.element.dataset.seq = String(part.seq)
    this.element.addEventListener('toggle', () => this.fill())
  }

  /** @param {Part} part @param {boolean} running @param {boolean} live it is the newest part of a running turn */
  show(part, running, live) {
    const state = part.kind === 'tool'
      ? part.success === null ? (running ? 'running' : 'unknown') : part.success ? 'ok' : 'failed'
      : live ? 'running' : 'thought'
    if (part === this.part && state === this.state) return
    const restated = state !== this.state
    this.part = part
    this.state = state
    if (restated) this.mark.replaceChildren(this.markOf(state))
    if (part.kind === 'tool') this.showTool(part, state)
    else this.showThought(/** @type {TextPart} */ (part), live)
    this.fill()
  }

  /** @param {string} state */
  markOf(state) {
    if (state === 'running') return h('span', { class: 'spinner', 'aria-hidden': 'true' })
    return icon({ ok: 'check', failed: 'cross', unknown: 'dash' }[state] ?? 'thought')
  }

  /** @param {ToolPart} part @param {string} state */
  showTool(part, state) {
    this.element.dataset.state = state
    const word = { running: texts.toolRunning, ok: texts.toolOk, failed: texts.toolFailed, unknown: texts.toolUnknown }[state] ?? ''
    this.title.replaceChildren(h('code', {}, part.name), h('span', { class: 'visually-hidden' }, ` ${word}`))
    setText(this.gist, gistOf(part.args))
    setText(this.time, part.durationMs == null ? '' : duration(part.durationMs))
  }

  /** @param {TextPart} part @param {boolean} live */
  showThought(part, live) {
    const took = Date.parse(part.endedAt) - Date.parse(part.startedAt)
    setText(this.title, live ? texts.thinking : took >= 1000 ? texts.thoughtFor(duration(took)) : texts.thought)
    // The newest words, cut at the left: the text grows at its end.
    setText(this.gist, live ? part.text.slice(-160).replace(/\s+/g, ' ').trim() : '')
    this.gist.classList.toggle('tail', live)
  }

  fill() {
    if (!this.element.open) return
    const { part } = this
    if (part.kind === 'tool') {
      this.body.replaceChildren(
        section(texts.toolArguments, pretty(part.args)),
        ...(part.success === null ? [] : [section(texts.toolResult, part.result ?? '')]))
      return
    }
    const { text } = /** @type {TextPart} */ (part)
    const shown = this.body.firstChild?.firstChild
    if (shown instanceof Text && text.startsWith(shown.data)) shown.appendData(text.slice(shown.data.length))
    else this.body.replaceChildren(h('div', { class: 'thoughts', dir: 'auto' }, text))
  }
}

/** @param {string} title @param {string} text */
function section(title, text) {
  const cut = text.length > LONGEST_SHOWN
  return h('section', {},
    h('div', { class: 'section-head' }, h('h3', {}, title), copyButton(`${texts.copyThis}: ${title}`, () => text)),
    text ? h('pre', { tabindex: '0', dir: 'auto' }, cut ? `${text.slice(0, LONGEST_SHOWN)}…` : text) : h('p', { class: 'note' }, texts.noResult),
    cut && h('p', { class: 'note' }, texts.cutResult))
}

/** @param {unknown} value */
function pretty(value) {
  return typeof value === 'string' ? value : JSON.stringify(value, null, 2) ?? ''
}

/** Arguments in one short line. @param {unknown} args */
function gistOf(args) {
  if (args == null) return ''
  if (typeof args !== 'object') return String(args).slice(0, 120)
  return Object.values(args).map((value) => (typeof value === 'string' ? value : JSON.stringify(value))).join(', ').slice(0, 120)
}
