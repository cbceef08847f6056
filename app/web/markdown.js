// @ts-check
/**
 * Markdown that grows. A finished block is rendered once and not touched again. Only the last two blocks are parsed again,
 * since an incomplete line may join the block before it. So a frame costs only what changed.
 *
 * The text comes from a model and is not trusted: HTML in it is shown as text, and what the renderer makes passes a
 * sanitiser.
 */

import DOMPurify from './vendor/dompurify.js'
import MarkdownIt from './vendor/markdown-it.js'
import { announce, copyText, directionOf, h, icon } from './dom.js'
import { texts } from './texts.js'

/** @typedef {import('./vendor/markdown-it.js').Token} Token */

/** Text parsed at once: more would hold up a frame. */
const SLICE = 16_384
/** Unsettled text that is longer than this is settled as it stands, except code. */
const LONGEST_TAIL = 49_152
/** A longer paragraph is shown without emphasis and links: looking for them in `[[[[…` would take minutes. */
const LONGEST_INLINE = 10_000

const markdown = new MarkdownIt({ html: false, linkify: true, breaks: false })

// Loading an image would tell its server who reads this and when: show a link.
markdown.renderer.rules.image = (tokens, index) => {
  const { escapeHtml } = markdown.utils
  const source = tokens[index].attrGet('src') ?? ''
  return `<a href="${escapeHtml(source)}">${escapeHtml(tokens[index].content || source)}</a>`
}
markdown.core.ruler.at('inline', ({ tokens, md, env }) => {
  for (const token of tokens) {
    if (token.type !== 'inline') continue
    if (token.content.length > LONGEST_INLINE) token.type = 'plain'
    else md.inline.parse(token.content, md, env, (token.children = []))
  }
})
markdown.renderer.rules.plain = (tokens, index) => markdown.utils.escapeHtml(tokens[index].content)
for (const cell of ['th_open', 'td_open']) {
  // Style attributes are forbidden by the page's policy.
  markdown.renderer.rules[cell] = (tokens, index, options, _env, self) => {
    const align = /text-align:(\w+)/.exec(tokens[index].attrGet('style') ?? '')?.[1]
    tokens[index].attrs = align ? [['class', `align-${align}`]] : null
    return self.renderToken(tokens, index, options)
  }
}

const RULES = /** @type {const} */ ({
  RETURN_DOM_FRAGMENT: true,
  ALLOWED_TAGS: ['p', 'br', 'hr', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'ul', 'ol', 'li', 'blockquote', 'pre', 'code', 'em', 'strong',
    's', 'a', 'table', 'thead', 'tbody', 'tr', 'th', 'td'],
  ALLOWED_ATTR: ['href', 'title', 'class', 'start'],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
})

/** `[name]: address` on a line of its own. */
const DEFINITION = /^ {0,3}\[[^\]]+\]:/m

/** @typedef {{ start: number, end: number, html: string, isCode: boolean, nodes: Node[] }} Block */

export class MarkdownView {
  source = ''
  complete = false
  /** How much of the source has been parsed. */
  parsed = 0
  /** @type {Block[]} All blocks in order. */
  blocks = []
  /** How many of the blocks are final. */
  settled = 0
  /** @type {{ references?: object }} Links that the settled text defines. */
  env = {}

  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element
  }

  /**
   * Set the text; `work` draws it.
   * @param {string} text
   * @param {boolean} complete nothing will be added
   */
  set(text, complete) {
    const source = text.includes('\r') || text.includes('\0') ? text.replace(/\r\n?/g, '\n').replace(/\0/g, '\ufffd') : text
    if (source === this.source && complete === this.complete) return
    if (!source.startsWith(this.source)) this.retract(source)
    if (complete && !this.complete && DEFINITION.test(source)) {
      // A link may be used before the line that defines it.
      this.env = {}
      markdown.block.parse(source, markdown, this.env, [])
      this.settled = this.parsed = 0
    }
    this.source = source
    this.complete = complete
  }

  /** Keep the blocks that the new text shares. @param {string} source */
  retract(source) {
    let common = 0
    while (common < source.length && source[common] === this.source[common]) common++
    let keep = this.settled
    while (keep > 0 && this.blocks[keep - 1].end > common) keep--
    this.cut(Math.max(keep - 1, 0))
  }

  /** @param {number} from */
  cut(from) {
    this.settled = Math.min(this.settled, from)
    for (const block of this.blocks.splice(from)) for (const node of block.nodes) node.parentNode?.removeChild(node)
    this.parsed = Math.min(this.parsed, this.offset())
  }

  /** Where the unsettled text begins. */
  offset() {
    return this.settled ? this.blocks[this.settled - 1].end : 0
  }

  get pending() {
    return this.parsed < this.source.length
  }

  /**
   * Draw what is missing, until the time is up.
   * @param {number} deadline as of `performance.now`
   * @returns {boolean} something changed
   */
  work(deadline) {
    let changed = false
    while (this.pending) {
      changed = true
      const end = Math.max(this.parsed, this.offset()) + SLICE
      // Cut at the end of a line, never inside one.
      this.parsed = end >= this.source.length ? this.source.length : Math.max(this.source.lastIndexOf('\n', end) + 1, end - SLICE / 2)
      this.show(this.source.slice(this.offset(), this.parsed))
      if (performance.now() >= deadline) break
    }
    return changed
  }

  /** @param {string} tail the unsettled text */
  show(tail) {
    const base = this.offset()
    const found = this.split(tail, base)
    for (const [index, block] of found.entries()) this.place(this.settled + index, block)
    for (const block of this.blocks.splice(this.settled + found.length)) {
      for (const node of block.nodes) node.parentNode?.removeChild(node)
    }
    const { settled } = this
    const last = this.blocks[this.blocks.length - 1]
    if (tail.length > LONGEST_TAIL && last && !last.isCode && this.parsed < this.source.length) {
      // One huge block would be parsed again with every piece: what follows starts another block.
      last.end = this.parsed
      this.settled = this.blocks.length
    } else this.settled = Math.max(this.blocks.length - 2, this.settled)
    const final = this.settled > settled ? tail.slice(0, this.offset() - base) : ''
    if (DEFINITION.test(final)) markdown.block.parse(final, markdown, this.env, [])
  }

  /** The top-level blocks of a text. @param {string} tail @param {number} base @returns {Block[]} */
  split(tail, base) {
    // An incomplete definition must not be remembered.
    const env = { references: { ...this.env.references } }
    const tokens = markdown.parse(tail, env)
    /** @type {Block[]} */
    const blocks = []
    /** @type {number[]} */
    const lines = [0]
    for (let at = tail.indexOf('\n'); at >= 0; at = tail.indexOf('\n', at + 1)) lines.push(at + 1)
    for (let from = 0; from < tokens.length;) {
      let to = from
      for (let depth = 0; to < tokens.length; ) {
        depth += tokens[to++].nesting
        if (depth === 0) break
      }
      const first = tokens[from]
      const [startLine, endLine] = first.map ?? [0, 0]
      const start = base + (lines[startLine] ?? tail.length)
      const end = base + (lines[endLine] ?? tail.length)
      const html = markdown.renderer.render(tokens.slice(from, to), markdown.options, env)
      blocks.push({ start, end, html, isCode: first.type === 'fence' || first.type === 'code_block', nodes: [] })
      from = to
    }
    return blocks
  }

  /** Put a block in its place and change only what differs. @param {number} index @param {Block} block */
  place(index, block) {
    const old = this.blocks[index]
    if (old?.html === block.html) {
      this.blocks[index] = { ...block, nodes: old.nodes }
      return
    }
    const fragment = finish(DOMPurify.sanitize(block.html, RULES))
    const grown = [...fragment.childNodes]
    const before = old?.nodes ?? []
    const after = before.length ? before[before.length - 1].nextSibling : null
    block.nodes = grown.map((node, at) => before[at] ? become(before[at], node) : node)
    for (const node of before.slice(grown.length)) node.parentNode?.removeChild(node)
    for (const node of block.nodes.slice(before.length)) this.element.insertBefore(node, after)
    this.blocks[index] = block
  }
}

/**
 * Make *old* look like *fresh*. What is the same stays: the reader may have selected or focused it.
 * @param {Node} old
 * @param {Node} fresh
 * @returns {Node} what stands in its place now
 */
function become(old, fresh) {
  if (old.nodeName !== fresh.nodeName) {
    old.parentNode?.replaceChild(fresh, old)
    return fresh
  }
  if (old instanceof Text && fresh instanceof Text) {
    if (fresh.data.startsWith(old.data)) old.appendData(fresh.data.slice(old.data.length))
    else old.data = fresh.data
    return old
  }
  if (!(old instanceof Element && fresh instanceof Element) || old instanceof HTMLButtonElement) return old
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name)
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value)
  const children = [...fresh.childNodes]
  for (const surplus of [...old.childNodes].slice(children.length)) old.removeChild(surplus)
  for (const [at, child] of children.entries()) {
    if (old.childNodes[at]) become(old.childNodes[at], child)
    else old.appendChild(child)
  }
  return old
}

/** Links open in a new tab, wide content scrolls, tasks get boxes, and each block gets its direction. @param {DocumentFragment} fragment */
function finish(fragment) {
  for (const link of fragment.querySelectorAll('a')) {
    // A relative address means something to the model only; here it would lead to a page of this server.
    if (!/^[a-z][a-z\d+.-]*:/i.test(link.getAttribute('href') ?? '')) {
      link.replaceWith(...link.childNodes)
      continue
    }
    link.target = '_blank'
    link.rel = 'noopener noreferrer nofollow'
  }
  for (const block of fragment.querySelectorAll('p, h1, h2, h3, h4, h5, h6')) block.setAttribute('dir', 'auto')
  // `auto` ignores children that have a direction of their own, but bullets and columns must follow the words.
  for (const block of fragment.querySelectorAll('ul, ol, li, blockquote, table')) block.setAttribute('dir', directionOf(block.textContent ?? ''))
  for (const item of fragment.querySelectorAll('li')) {
    const begin = (item.querySelector(':scope > p') ?? item).firstChild
    const box = begin instanceof Text && /^\[([ xX])\]\s/.exec(begin.data)
    if (!box) continue
    item.className = 'task'
    begin.data = `${box[1] === ' ' ? '☐' : '☑'} ${begin.data.slice(box[0].length)}`
  }
  for (const table of fragment.querySelectorAll('table')) {
    const frame = h('div', { class: 'table', tabindex: '0', role: 'group', dir: table.dir })
    table.replaceWith(frame)
    frame.append(table)
  }
  for (const pre of fragment.querySelectorAll('pre')) {
    const code = /** @type {HTMLElement} */ (pre.querySelector('code') ?? pre)
    const language = /language-(\S+)/.exec(code.className)?.[1] ?? ''
    code.removeAttribute('class')
    pre.tabIndex = 0
    pre.dir = 'ltr'
    const frame = h('div', { class: 'code' })
    pre.replaceWith(frame)
    frame.append(h('div', { class: 'code-head' }, h('span', {}, language), copyButton(texts.copyCode, () => frame.querySelector('code')?.textContent ?? '')), pre)
  }
  return fragment
}

/** A button that copies, and says whether that worked. @param {string} label @param {() => string} text @param {string} [className] */
export function copyButton(label, text, className = '') {
  const button = h('button', { type: 'button', class: `icon-button ${className}`, 'aria-label': label, title: label }, icon('copy'))
  button.addEventListener('click', async () => {
    const copied = await copyText(text())
    announce(copied ? texts.copied : texts.copyFailed)
    button.replaceChildren(icon(copied ? 'check' : 'cross'))
    setTimeout(() => button.replaceChildren(icon('copy')), 1600)
  })
  return button
}
