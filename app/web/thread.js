// @ts-check
/** The open conversation: its turns, drawn a frame at a time, and where the reader is in it. */

import { announce, h, icon } from './dom.js'
import { texts } from './texts.js'
import { TurnView } from './turn.js'

/** @typedef {import('./store.js').Store} Store */
/** @typedef {import('./store.js').Turn} Turn */

/** Drawing may take this much of a frame. */
const FRAME_MS = 8
/** A reader within this many pixels of the end is at the end. */
const NEAR_END = 80

export class Thread {
  /** @param {Store} store @param {Omit<import('./turn.js').Actions, 'changed' | 'atEnd'>} actions @param {(example: string) => void} suggest */
  constructor(store, actions, suggest) {
    this.store = store
    this.actions = { ...actions, atEnd: () => this.following, changed: (/** @type {TurnView} */ view) => this.schedule(view) }
    /** @type {Map<Turn, TurnView>} */
    this.views = new Map()
    /** @type {Set<TurnView>} */
    this.dirty = new Set()
    this.frame = 0
    this.key = ''
    this.following = false
    this.scroller = /** @type {HTMLElement} */ (document.getElementById('scroller'))
    this.list = /** @type {HTMLElement} */ (document.getElementById('thread'))
    this.toEnd = /** @type {HTMLElement} */ (document.getElementById('to-end'))
    this.toEnd.append(icon('down'))
    this.toEnd.setAttribute('aria-label', texts.toBottom)
    this.toEnd.title = texts.toBottom
    this.toEnd.addEventListener('click', () => this.goToEnd(true))
    this.earlier = h('button', { type: 'button', class: 'button quiet earlier', onclick: () => this.showEarlier() }, texts.loadEarlier)
    this.empty = h('section', { class: 'empty' },
      h('h2', {}, texts.emptyTitle), h('p', {}, texts.emptyText),
      h('ul', { class: 'examples' }, ...texts.examples.map((example) =>
        h('li', {}, h('button', { type: 'button', class: 'example', onclick: () => suggest(example) }, example)))))
    this.scroller.addEventListener('scroll', () => this.scrolled(), { passive: true })
    // Content drawn between two scroll events must not look as if the reader had left the end.
    new ResizeObserver(() => this.keepPlace()).observe(this.list)
    new ResizeObserver(() => this.keepPlace()).observe(this.scroller)
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue
        const view = [...this.views.values()].find((one) => one.element === entry.target)
        if (view) void store.readSteps(view.turn)
      }
    }, { root: this.scroller, rootMargin: '600px' })
    setInterval(() => {
      for (const view of this.views.values()) view.tick()
    }, 1000)
    store.addEventListener('thread', () => this.show())
    store.addEventListener('turn', (event) => {
      const view = this.views.get(/** @type {CustomEvent} */ (event).detail)
      if (view) this.schedule(view)
    })
    store.addEventListener('ended', (event) => {
      const how = /** @type {CustomEvent} */ (event).detail
      // The turn that waited for this one is next now.
      this.show()
      announce(how.status === 'done' ? texts.said.done : how.errorCode === 'cancelled' ? texts.said.stopped : texts.said.failed)
    })
    this.show()
  }

  /** Bring the turns on the page in line with the store. */
  show() {
    const { turns, openKey, conversation: { earlierCursor } } = this.store
    const changed = openKey !== this.key
    this.key = openKey
    if (changed) {
      // A new conversation begins at its top, on a small screen too.
      this.following = openKey !== ''
      if (!openKey) this.scroller.scrollTop = 0
    }
    const wanted = new Set(turns)
    for (const [turn, view] of this.views) {
      if (wanted.has(turn)) continue
      this.seen.unobserve(view.element)
      view.element.remove()
      this.views.delete(turn)
      this.dirty.delete(view)
    }
    this.empty.remove()
    this.earlier.remove()
    if (!openKey) this.list.append(this.empty)
    if (earlierCursor) this.list.prepend(this.earlier)
    /** @type {Element | null} */
    let next = this.list.querySelector('.turn')
    for (const turn of turns) {
      let view = this.views.get(turn)
      if (!view) {
        view = new TurnView(turn, this.actions)
        this.views.set(turn, view)
        this.seen.observe(view.element)
        if (turn.phase === 'sending') this.following = true
      }
      if (view.element === next) next = next.nextElementSibling
      else this.list.insertBefore(view.element, next)
      this.schedule(view)
    }
  }

  async showEarlier() {
    const before = this.scroller.scrollHeight - this.scroller.scrollTop
    this.following = false
    await this.store.loadEarlier().catch((error) => this.store.note(error))
    requestAnimationFrame(() => { this.scroller.scrollTop = this.scroller.scrollHeight - before })
  }

  /** @param {TurnView} view */
  schedule(view) {
    this.dirty.add(view)
    this.frame ||= requestAnimationFrame(() => this.draw())
  }

  /** Draw one frame, the newest turns first: the reader looks at those. */
  draw() {
    this.frame = 0
    const deadline = performance.now() + FRAME_MS
    for (const turn of [...this.store.turns].reverse()) {
      const view = this.views.get(turn)
      if (!view || !this.dirty.delete(view)) continue
      if (view.draw(deadline)) this.dirty.add(view)
      if (performance.now() >= deadline) break
    }
    this.keepPlace()
    if (this.dirty.size) this.frame = requestAnimationFrame(() => this.draw())
  }

  keepPlace() {
    if (this.following) this.scroller.scrollTop = this.scroller.scrollHeight
    this.toEnd.hidden = this.following || !this.key || this.distance() < NEAR_END
  }

  distance() {
    return this.scroller.scrollHeight - this.scroller.clientHeight - this.scroller.scrollTop
  }

  scrolled() {
    const top = this.scroller.scrollTop
    // Growing content never scrolls up: this was the reader.
    if (top < (this.lastTop ?? 0) - 2 && this.distance() > 4) this.following = false
    else if (this.distance() < NEAR_END) this.following = this.key !== ''
    this.lastTop = top
    this.toEnd.hidden = this.following || !this.key
  }

  /** @param {boolean} [smoothly] */
  goToEnd(smoothly = false) {
    this.following = true
    this.scroller.scrollTo({ top: this.scroller.scrollHeight, behavior: smoothly ? 'smooth' : 'instant' })
    this.toEnd.hidden = true
  }
}
