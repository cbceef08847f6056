// @ts-check
/** The list of conversations: live status and search. On a phone it is a drawer. */

import { announce, arrange, h, icon, setText } from './dom.js'
import { dayOf, shortTime, texts } from './texts.js'

/** @typedef {import('./store.js').Store} Store */
/** @typedef {import('./store.js').Entry} Entry */

const SEARCH_PAUSE_MS = 250
const narrow = window.matchMedia('(max-width: 800px)')

/** @param {string} id @returns {HTMLElement} */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id))

export class Sidebar {
  /** @param {Store} store */
  constructor(store) {
    this.store = store
    this.element = byId('sidebar')
    this.main = byId('main')
    this.list = byId('conversations')
    this.field = /** @type {HTMLInputElement} */ (byId('search'))
    this.opener = byId('open-menu')
    this.shade = byId('shade')
    /** @type {Map<string, { item: HTMLElement, link: HTMLAnchorElement, title: HTMLElement, snippet: HTMLElement, meta: HTMLElement, shown: string }>} */
    this.items = new Map()
    /** @type {Map<string, { element: HTMLElement, items: HTMLElement }>} */
    this.sections = new Map()
    this.nothing = h('p', { class: 'nothing' })
    /** @type {(Entry & { snippet?: string })[] | null} What the search found; null: no search. */
    this.found = null
    this.more = h('button', { type: 'button', class: 'button quiet more', onclick: () => store.loadList(true) }, texts.loadMore)
    this.list.after(this.more)
    this.opener.addEventListener('click', () => this.open(true))
    this.shade.addEventListener('click', () => this.open(false))
    byId('close-menu').addEventListener('click', () => this.open(false))
    byId('brand').addEventListener('click', () => this.open(false, false))
    this.element.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && narrow.matches) this.open(false)
    })
    narrow.addEventListener('change', () => this.open(false, false))
    this.field.addEventListener('input', () => this.searchSoon())
    this.list.addEventListener('click', (event) => {
      if (/** @type {Element} */ (event.target).closest('a') && narrow.matches) this.open(false, false)
    })
    store.addEventListener('list', () => this.schedule())
    store.addEventListener('thread', () => this.schedule())
    setInterval(() => this.schedule(), 60_000)
    this.open(false, false)
    this.schedule()
  }

  /** Open or close the drawer. While it is open, nothing behind it can be reached. @param {boolean} open @param {boolean} [moveFocus] */
  open(open, moveFocus = true) {
    const drawer = narrow.matches
    const shown = drawer && open
    document.body.classList.toggle('menu-open', shown)
    this.element.inert = drawer && !open
    this.main.inert = shown
    this.shade.hidden = !shown
    this.opener.setAttribute('aria-expanded', String(shown))
    if (!drawer || !moveFocus) return
    if (open) this.field.focus()
    else this.opener.focus()
  }

  searchSoon() {
    clearTimeout(this.timer)
    this.search?.abort()
    const q = this.field.value.trim()
    if (!q) {
      this.found = null
      return this.schedule()
    }
    this.timer = setTimeout(async () => {
      this.search = new AbortController()
      try {
        this.found = await this.store.search(q, this.search.signal)
        this.schedule()
        announce(this.found.length ? texts.found(this.found.length) : texts.searchNothing)
      } catch { /* a newer search replaced this one */ }
    }, SEARCH_PAUSE_MS)
  }

  schedule() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0
      this.draw()
    })
  }

  draw() {
    const { store } = this
    const now = store.now()
    const snippets = new Map(this.found?.map((entry) => [entry.key, entry.snippet ?? '']))
    const entries = [...store.entries.values()].filter((entry) => !this.found || snippets.has(entry.key))
      .sort((a, b) => Number(b.status === 'running') - Number(a.status === 'running') || b.at - a.at)
    /** @type {Map<string, Entry[]>} */
    const groups = new Map()
    for (const entry of entries) {
      const day = entry.status === 'running' ? 'today' : dayOf(entry.at, now)
      groups.set(day, [...(groups.get(day) ?? []), entry])
    }
    const focused = this.list.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement) : null
    const children = [...groups].map(([day, members]) => {
      const section = this.section(day)
      arrange(section.items, members.map((entry) => this.item(entry, now, snippets.get(entry.key) ?? '')))
      return section.element
    })
    if (!entries.length && (store.list.listed || this.found)) {
      setText(this.nothing, this.found ? texts.searchNothing : texts.noConversations)
      children.push(this.nothing)
    }
    arrange(this.list, children)
    for (const key of this.items.keys()) if (!store.entries.has(key)) this.items.delete(key)
    focused?.focus({ preventScroll: true })
    this.more.hidden = Boolean(this.found) || !store.list.cursor
  }

  /** @param {string} day */
  section(day) {
    let known = this.sections.get(day)
    if (!known) {
      const name = texts[/** @type {'today' | 'yesterday' | 'earlier'} */ (day)]
      const items = h('ul')
      known = { items, element: h('section', { 'aria-label': name }, h('h3', { 'aria-hidden': 'true' }, name), items) }
      this.sections.set(day, known)
    }
    return known
  }

  /** @param {Entry} entry @param {number} now @param {string} snippet what the search found in it */
  item(entry, now, snippet) {
    let known = this.items.get(entry.key)
    if (!known) {
      const title = h('span', { class: 'title', dir: 'auto' })
      const meta = h('span', { class: 'meta' })
      const snippet = h('span', { class: 'snippet', dir: 'auto' })
      const link = h('a', { href: `#${encodeURIComponent(entry.key)}` }, title, snippet, meta)
      known = { item: h('li', {}, link), link, title, snippet, meta, shown: '' }
      this.items.set(entry.key, known)
    }
    const open = entry.key === this.store.openKey
    if (open) known.link.setAttribute('aria-current', 'page')
    else known.link.removeAttribute('aria-current')
    setText(known.title, entry.title || texts.untitled)
    setText(known.snippet, snippet === entry.title ? '' : snippet)
    const status = entry.status === 'running' ? 'running' : entry.unread ? 'unread' : entry.status
    const time = shortTime(entry.at, now)
    const shown = `${status} ${time}`
    if (shown !== known.shown) {
      known.shown = shown
      known.item.className = status
      known.meta.replaceChildren(...this.metaOf(status, time))
    }
    return known.item
  }

  /** @param {string} status @param {string} time */
  metaOf(status, time) {
    switch (status) {
      case 'running': return [h('span', { class: 'spinner', 'aria-hidden': 'true' }), texts.statusWorking]
      case 'unread': return [h('span', { class: 'dot', 'aria-hidden': 'true' }), texts.statusUnread]
      case 'stopped': return [icon('stop'), `${texts.statusStopped} · ${time}`]
      case 'failed': return [icon('warning'), `${texts.statusFailed} · ${time}`]
      default: return [time]
    }
  }
}
