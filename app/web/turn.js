// @ts-check
/** One message and its answer: thoughts, tool calls and text, as they come. */

import { h, icon, iconButton, setText } from './dom.js'
import { copyButton, MarkdownView } from './markdown.js'
import { POLL_MS } from './store.js'
import { duration, fullTime, runError, requestError, texts, ticking } from './texts.js'

/** @typedef {import('./store.js').Turn} Turn */
/** @typedef {import('./client.js').Part} Part */
/** @typedef {import('./client.js').ToolPart} ToolPart */
/** @typedef {import('./client.js').TextPart} TextPart */

/** An answer of more segments than this (text, steps, text, …) begins with a button for those before the newest ones. */
const SEGMENTS_AT_MOST = 90
const SEGMENTS_SHOWN = 40
/** So many of the steps in a row are shown; the others wait behind a button. */
const STEPS_SHOWN = 6
/** Longer results are cut in the view: a megabyte in one element makes the browser stutter. */
const LONGEST_SHOWN = 20_000
/** A text is shown up to here, which is more than anybody reads; a page of many megabytes would hardly scroll. */
const LONGEST_TEXT = 500_000
/** New text appears over the time to the next poll, so that none shows as a jump. */
const REVEAL_MS = POLL_MS
/** More text than this at once is no stream but a catch-up. */
const REVEAL_AT_MOST = 4000

/** A wait that is longer than this is explained. */
const LONG_WAIT_MS = 4000

const stillness = window.matchMedia('(prefers-reduced-motion: reduce)')

/**
 * What a turn view asks of its surroundings.
 * @typedef {object} Deeds
 * @property {(turn: Turn) => void} stop
 * @property {(turn: Turn) => void} retry
 * @property {(turn: Turn) => void} remove
 * @property {(turn: Turn) => void} sendAgain
 * @property {() => number} now by the server's clock
 * @property {() => boolean} atEnd the reader is at the end of the conversation
 * @property {(turn: Turn) => boolean} isNext no other turn of the conversation runs before it
 * @property {(view: TurnView) => void} changed draw this view in the next frame
 */

export class TurnView {
  /** @param {Turn} turn @param {Deeds} deeds */
  constructor(turn, deeds) {
    this.turn = turn
    this.deeds = deeds
    /** @type {(StepsView | TextView)[]} */
    this.segments = []
    /** Segments before this one wait behind the button. */
    this.first = 0
    this.all = false
    this.earlier = h('button', { type: 'button', class: 'reveal', onclick: () => {
      this.all = true
      this.drop(0)
      this.content.focus()
      deeds.changed(this)
    } })
    this.earlier.hidden = true
    this.content = h('div', { class: 'content', tabindex: '-1' })
    this.foot = h('div', { class: 'foot' })
    this.footKind = ''
    this.question = h('div', { class: 'bubble', dir: 'auto' }, turn.message)
    this.element = h('article', { class: 'turn' },
      h('div', { class: 'question' }, h('h2', { class: 'visually-hidden' }, texts.you), this.question),
      h('div', { class: 'answer' }, h('h2', { class: 'visually-hidden' }, texts.answer), this.earlier, this.content, this.foot))
    this.element.dataset.id = turn.id
    /** It waited for another one, or for a worker, and when that was over. */
    this.waited = false
    /** @type {number | undefined} */
    this.begunAt = undefined
    /** It was on the page while its answer grew. */
    this.witnessed = turn.phase !== 'ended'
  }

  get running() {
    return this.turn.phase === 'running' || this.turn.phase === 'sending'
  }

  /** @returns {readonly Part[]} */
  parts() {
    const { state, row } = this.turn
    if (state) return state.parts
    const text = row?.finalResponse
    return text ? [{ kind: 'text', n: 0, seq: 0, text, startedAt: '', endedAt: '' }] : []
  }

  /**
   * Show the turn as it is now, until the time is up.
   * @param {number} deadline
   * @returns {boolean} there is more to show
   */
  draw(deadline) {
    const { turn } = this
    this.element.dataset.id = turn.id
    this.element.dataset.phase = turn.phase
    /** @type {{ kind: 'steps' | 'text', parts: Part[] }[]} */
    const wanted = []
    for (const part of this.parts()) {
      const kind = part.kind === 'text' ? 'text' : 'steps'
      const last = wanted[wanted.length - 1]
      if (last?.kind === kind) last.parts.push(part)
      else wanted.push({ kind, parts: [part] })
    }
    this.choose(wanted.length)
    const visible = wanted.slice(this.first)
    let more = false
    for (const [index, { kind, parts }] of visible.entries()) {
      if (performance.now() >= deadline && index >= this.segments.length) {
        more = true
        break
      }
      if (this.segments[index]?.kind !== kind) {
        this.drop(index)
        const segment = kind === 'text' ? new TextView() : new StepsView(this.deeds, this)
        this.segments.push(segment)
        this.content.append(segment.element)
      }
      const last = index === visible.length - 1
      const segment = this.segments[index]
      if (segment instanceof StepsView) segment.show(parts, this.running, last)
      else more = segment.show(/** @type {TextPart} */ (parts[0]).text, this.running && last, this.witnessed, deadline) || more
    }
    this.drop(visible.length)
    this.drawFoot(wanted.length > 0)
    if (more) this.element.setAttribute('aria-busy', 'true')
    else this.element.removeAttribute('aria-busy')
    return more
  }

  /** Which segments to show. Earlier ones go only while the reader is at the end. @param {number} count */
  choose(count) {
    const first = this.all ? 0 : Math.min(this.first, count)
    const far = count - first > SEGMENTS_AT_MOST && !this.all && (!this.segments.length || this.deeds.atEnd())
    const next = far ? count - SEGMENTS_SHOWN : first
    for (const segment of this.segments.splice(0, Math.max(next - this.first, 0))) segment.remove()
    this.first = next
    this.earlier.hidden = next === 0
    if (next) setText(this.earlier, texts.earlierSteps(next))
  }

  /** @param {number} from */
  drop(from) {
    for (const segment of this.segments.splice(from)) segment.remove()
  }

  // the line below the answer

  /** @param {boolean} hasParts */
  drawFoot(hasParts) {
    const { turn } = this
    const { state, row } = turn
    const resumed = (state?.attempt ?? 1) > 1
    const begun = Boolean(state?.after || row?.startedAt)
    const kind = `${turn.phase} ${turn.stopping} ${this.deeds.isNext(turn)} ${begun} ${resumed} ${hasParts} ${turn.problem?.code} ${state?.status} ${row?.status}`
    if (kind !== this.footKind) {
      this.footKind = kind
      const parts = turn.phase === 'ended' ? this.endFoot() : turn.phase === 'unsent' ? this.unsentFoot() : this.runningFoot(begun, resumed)
      // Whoever stands on Stop by keyboard must not fall to the top of the page, nor ask again with the next key.
      const held = this.foot.contains(document.activeElement)
      this.foot.replaceChildren(...parts)
      if (held) (turn.phase === 'ended' ? this.content : this.foot.querySelector('button'))?.focus({ preventScroll: true })
    }
    this.tick()
  }

  /** @param {boolean} begun @param {boolean} resumed */
  runningFoot(begun, resumed) {
    const { turn } = this
    this.elapsed = h('span', { class: 'elapsed' })
    this.label = h('span', { class: 'working-label' })
    this.waits = turn.phase === 'running' && !begun && !turn.stopping
    setText(this.label, turn.phase === 'sending' ? texts.sending : turn.stopping ? texts.stopping : begun ? texts.working : texts.starting)
    return [
      h('div', { class: 'working' },
        h('span', { class: 'spinner', 'aria-hidden': 'true' }),
        this.label, this.elapsed,
        turn.phase === 'running' && h('button', { type: 'button', class: 'button small stop', onclick: () => this.deeds.stop(turn) },
          icon('stop'), texts.stop)),
      turn.phase === 'running' && this.deeds.isNext(turn) && h('p', { class: 'note' }, texts.background),
      resumed && h('p', { class: 'note' }, `${texts.resumed}.`),
    ].filter((node) => node instanceof Node)
  }

  unsentFoot() {
    const { turn } = this
    return [
      h('p', { class: 'problem', role: 'alert' }, icon('warning'), `${texts.unsent} ${requestError(turn.problem)}`),
      h('div', { class: 'tools' },
        h('button', { type: 'button', class: 'button small', onclick: () => this.deeds.sendAgain(turn) }, texts.sendAgain),
        iconButton('trash', texts.remove, () => this.deeds.remove(turn))),
    ]
  }

  endFoot() {
    const { turn } = this
    const { state, row } = turn
    const error = state?.error ?? (row?.status === 'error' ? { code: row.errorCode ?? '', message: row.errorMessage ?? '' } : null)
    const text = state?.text || row?.finalResponse || ''
    const usage = state?.usage
    const tokens = usage?.totalTokens ?? row?.totalTokens ?? 0
    const took = state?.durationMs ?? /** @type {any} */ (row)?.processingTimeMs ?? 0
    // The row names the provider as well, `openai:gpt-5-mini`.
    const model = state?.model ?? row?.model?.replace(/^[\w-]+:/, '')
    const facts = [model, took > 0 && duration(took)].filter(Boolean).map((fact) => h('span', { title: fullTime(turn.at) }, fact))
    if (tokens > 0) facts.push(h('span', { title: usage ? texts.usage(usage) : null }, texts.tokens(tokens)))
    this.elapsed = null
    return [
      error && h('p', { class: error.code === 'cancelled' ? 'problem stopped' : 'problem' },
        icon(error.code === 'cancelled' ? 'stop' : 'warning'), text && error.code !== 'cancelled' ? `${runError(error)} ${texts.partial}` : runError(error)),
      !error && !text && h('p', { class: 'note' }, texts.emptyAnswer),
      (state?.finishReason ?? row?.finishReason) === 'length' && h('p', { class: 'note' }, texts.cutOff),
      h('div', { class: 'tools' },
        text && copyButton(texts.copy, () => turn.state?.text || turn.row?.finalResponse || ''),
        iconButton('retry', texts.retry, () => this.deeds.retry(turn)),
        iconButton('trash', texts.remove, () => this.deeds.remove(turn)),
        facts.length > 0 && h('div', { class: 'facts' }, ...facts)),
    ].filter((node) => node instanceof Node)
  }

  /** The running second; called once a second too. */
  tick() {
    if (!this.elapsed) return
    const now = this.deeds.now()
    // One that had to wait began when that was over, and not when it was sent.
    if (this.waited && !this.waits) this.begunAt ??= now
    const { row, at } = this.turn
    const since = this.begunAt ?? (row?.startedAt ? Date.parse(row.startedAt) : at)
    const took = now - since
    setText(this.elapsed, this.turn.phase === 'running' ? ticking(took) : '')
    if (this.waits && this.label && took > LONG_WAIT_MS) {
      this.waited = true
      setText(this.label, this.deeds.isNext(this.turn) ? texts.queued : texts.waitingTurn)
    }
  }
}

/** Text of the answer. */
class TextView {
  kind = /** @type {const} */ ('text')

  constructor() {
    this.element = h('div', { class: 'text' })
    this.markdown = new MarkdownView(this.element)
    /** So much of the text may be shown. */
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
      // Not between the halves of a character.
      if (/[\ud800-\udbff]/.test(text[this.shown - 1] ?? '')) this.shown++
    }
    this.shownAt = now
    const caughtUp = this.shown >= text.length
    this.markdown.set(caughtUp ? text : text.slice(0, this.shown), caughtUp && !growing)
    this.markdown.work(deadline)
    const cost = performance.now() - now
    // Text that is dear to draw is drawn less often: typing and scrolling come first.
    this.notBefore = cost > 6 ? now + cost * 4 : 0
    return !caughtUp || this.markdown.pending
  }
}

/** Thoughts and tool calls in a row. */
class StepsView {
  kind = /** @type {const} */ ('steps')

  /** @param {Deeds} deeds @param {TurnView} turn */
  constructor(deeds, turn) {
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
      deeds.changed(turn)
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
    // One hidden step would take as much room as its button.
    const hidden = this.all || parts.length <= STEPS_SHOWN + 1 ? 0 : parts.length - STEPS_SHOWN
    this.reveal.hidden = hidden === 0
    if (hidden) setText(this.count, texts.earlierSteps(hidden))
    const visible = hidden ? parts.slice(hidden) : parts
    const kinds = new Map(visible.map((part) => [part.seq, part.kind]))
    for (const [seq, step] of this.steps) {
      // A step that is being read stays until it is closed.
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

/** One thought or tool call; what is inside is made when it is opened. */
class StepView {
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

  /** @param {Part} part @param {boolean} running @param {boolean} live it is the newest thing of a running turn */
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
    // The newest words, cut at the left: that is what grows.
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
