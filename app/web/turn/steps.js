// @ts-check
/** Thoughts and tool calls in a row. */

import { h, icon, setText } from '../dom.js'
import { texts } from '../texts.js'
import { StepView } from './step.js'

/** @typedef {import('../client.js').Part} Part */

/** The newest steps in a row that are shown; the others are behind a button. */
const STEPS_SHOWN = 6

export class StepsView {
  kind = /** @type {const} */ ('steps')

  /** @param {() => void} changed it must be drawn again */
  constructor(changed) {
    /** @type {Map<number, StepView>} */
    this.steps = new Map()
    this.all = false
    /** @type {Part | undefined} What was shown last time. */
    this.newest = undefined
    this.length = 0
    this.running = false
    this.last = false
    this.open = false
    this.count = h('span', {})
    this.reveal = h('button', { type: 'button', class: 'reveal', onclick: () => {
      this.all = true
      this.newest = undefined
      this.reveal.hidden = true
      this.element.focus()
      changed()
    } }, icon('dash'), this.count)
    this.reveal.hidden = true
    this.list = h('div', { class: 'steps-list' })
    this.element = h('div', { class: 'steps', tabindex: '-1' }, this.reveal, this.list)
  }

  remove() {
    this.element.remove()
  }

  /** @param {Part[]} parts @param {boolean} running @param {boolean} last nothing comes after it yet */
  show(parts, running, last) {
    const newest = parts[parts.length - 1]
    if (newest === this.newest && parts.length === this.length && running === this.running && last === this.last && !this.open) return
    Object.assign(this, { newest, length: parts.length, running, last, open: parts.some((part) => part.kind === 'tool' && part.success === null) })
    // The button takes as much room as one step.
    const hidden = this.all || parts.length <= STEPS_SHOWN + 1 ? 0 : parts.length - STEPS_SHOWN
    this.reveal.hidden = hidden === 0
    if (hidden) setText(this.count, texts.earlierSteps(hidden))
    const visible = hidden ? parts.slice(hidden) : parts
    const kinds = new Map(visible.map((part) => [part.seq, part.kind]))
    for (const [seq, step] of this.steps) {
      // A step that the reader has open stays until it is closed.
      if (kinds.get(seq) === step.part.kind || (!kinds.has(seq) && (step.element.open || step.element.contains(document.activeElement)))) continue
      step.element.remove()
      this.steps.delete(seq)
    }
    /** @type {Element | null} */
    let next = this.list.firstElementChild
    for (const [index, part] of visible.entries()) {
      while (next && !kinds.has(Number(/** @type {HTMLElement} */ (next).dataset.seq))) next = next.nextElementSibling
      const step = this.steps.get(part.seq) ?? new StepView(part)
      this.steps.set(part.seq, step)
      if (step.element === next) next = next.nextElementSibling
      else this.list.insertBefore(step.element, next)
      step.show(part, running, running && last && index === visible.length - 1)
    }
  }
}
