// @ts-check
/** A text of the answer, revealed as it comes. */

import { h } from '../dom.js'
import { MarkdownView } from '../markdown.js'
import { POLL_MS } from '../store.js'
import { texts } from '../texts.js'

/** Text is shown up to here: a page of many megabytes hardly scrolls. */
const LONGEST_TEXT = 500_000
/** New text is revealed until the next poll, so that it flows. */
const REVEAL_MS = POLL_MS
/** More new text than this is a catch-up, and is shown without delay. */
const REVEAL_AT_MOST = 4000

const stillness = window.matchMedia('(prefers-reduced-motion: reduce)')

export class TextView {
  kind = /** @type {const} */ ('text')

  constructor() {
    this.element = h('div', { class: 'text' })
    this.markdown = new MarkdownView(this.element)
    /** How many characters may be shown. */
    this.shown = 0
    this.shownAt = 0
    this.notBefore = 0
  }

  remove() {
    this.element.remove()
    this.cut?.remove()
  }

  /**
   * @param {string} text
   * @param {boolean} growing
   * @param {boolean} witnessed reveal new text smoothly
   * @param {number} deadline
   * @returns {boolean}
   */
  show(text, growing, witnessed, deadline) {
    if (text.length > LONGEST_TEXT) {
      text = text.slice(0, LONGEST_TEXT)
      if (!this.cut) this.element.after((this.cut = h('p', { class: 'note' }, texts.cutResult)))
    }
    const now = performance.now()
    if (now < this.notBefore) return true
    if (text === this.markdown.source && this.markdown.complete === !growing && !this.markdown.pending) return false
    const missing = text.length - this.shown
    const smooth = witnessed && missing > 0 && missing < REVEAL_AT_MOST && !stillness.matches
    if (!smooth) this.shown = text.length
    else {
      const pace = Math.min(now - this.shownAt, 100) / (growing ? REVEAL_MS : REVEAL_MS / 4)
      this.shown += Math.max(3, Math.ceil(Math.max(missing, 40) * pace))
      this.shown = Math.min(this.shown, text.length)
      // Never between the halves of a surrogate pair.
      if (/[\ud800-\udbff]/.test(text[this.shown - 1] ?? '')) this.shown++
    }
    this.shownAt = now
    const caughtUp = this.shown >= text.length
    this.markdown.set(caughtUp ? text : text.slice(0, this.shown), caughtUp && !growing)
    this.markdown.work(deadline)
    const cost = performance.now() - now
    // Text that takes long to draw is drawn less often: typing and scrolling come first.
    this.notBefore = cost > 6 ? now + cost * 4 : 0
    return !caughtUp || this.markdown.pending
  }
}
