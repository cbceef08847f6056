// @ts-check
/** One message and its answer: thoughts, tool calls and text, as they come. */

import { h, icon, iconButton, setText } from './dom.js'
import { copyButton } from './markdown.js'
import { duration, fullTime, runError, requestError, texts, ticking } from './texts.js'
import { StepsView } from './turn/steps.js'
import { TextView } from './turn/text.js'

/** @typedef {import('./store.js').Turn} Turn */
/** @typedef {import('./client.js').Part} Part */
/** @typedef {import('./client.js').TextPart} TextPart */

/** In an answer of more segments (text, steps, text, …) the earlier ones are behind a button. */
const SEGMENTS_AT_MOST = 90
const SEGMENTS_SHOWN = 40

/** A longer wait is explained. */
const LONG_WAIT_MS = 4000

/**
 * What the page does for a turn view.
 * @typedef {object} Actions
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
  /** @param {Turn} turn @param {Actions} actions */
  constructor(turn, actions) {
    this.turn = turn
    this.actions = actions
    /** @type {(StepsView | TextView)[]} */
    this.segments = []
    /** Segments before this one are behind the button. */
    this.first = 0
    this.all = false
    this.earlier = h('button', { type: 'button', class: 'reveal', onclick: () => {
      this.all = true
      this.drop(0)
      this.content.focus()
      actions.changed(this)
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
    /** It waited for another turn or for a worker; `begunAt` is when that ended. */
    this.waited = false
    /** @type {number | undefined} */
    this.begunAt = undefined
    /** The answer grew before the reader's eyes. */
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
   * Draw the turn as it is now, until the time is up.
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
        const segment = kind === 'text' ? new TextView() : new StepsView(() => this.actions.changed(this))
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

  /** Choose the segments to show. Earlier ones disappear only while the reader is at the end. @param {number} count */
  choose(count) {
    const first = this.all ? 0 : Math.min(this.first, count)
    const far = count - first > SEGMENTS_AT_MOST && !this.all && (!this.segments.length || this.actions.atEnd())
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
    const kind = `${turn.phase} ${turn.stopping} ${this.actions.isNext(turn)} ${begun} ${resumed} ${hasParts} ${turn.problem?.code} ${state?.status} ${row?.status}`
    if (kind !== this.footKind) {
      this.footKind = kind
      const parts = turn.phase === 'ended' ? this.endFoot() : turn.phase === 'unsent' ? this.unsentFoot() : this.runningFoot(begun, resumed)
      // Keyboard focus on Stop must not jump to the top of the page, nor to Ask again.
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
        turn.phase === 'running' && h('button', { type: 'button', class: 'button small stop', onclick: () => this.actions.stop(turn) },
          icon('stop'), texts.stop)),
      turn.phase === 'running' && this.actions.isNext(turn) && h('p', { class: 'note' }, texts.background),
      resumed && h('p', { class: 'note' }, `${texts.resumed}.`),
    ].filter((node) => node instanceof Node)
  }

  unsentFoot() {
    const { turn } = this
    return [
      h('p', { class: 'problem', role: 'alert' }, icon('warning'), `${texts.unsent} ${requestError(turn.problem)}`),
      h('div', { class: 'tools' },
        h('button', { type: 'button', class: 'button small', onclick: () => this.actions.sendAgain(turn) }, texts.sendAgain),
        iconButton('trash', texts.remove, () => this.actions.remove(turn))),
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
    // The row's model has its provider in front: `openai:gpt-5-mini`.
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
        iconButton('retry', texts.retry, () => this.actions.retry(turn)),
        iconButton('trash', texts.remove, () => this.actions.remove(turn)),
        facts.length > 0 && h('div', { class: 'facts' }, ...facts)),
    ].filter((node) => node instanceof Node)
  }

  /** Update the elapsed time; also called once a second. */
  tick() {
    if (!this.elapsed) return
    const now = this.actions.now()
    // A turn that waited began when its wait ended, not when it was sent.
    if (this.waited && !this.waits) this.begunAt ??= now
    const { row, at } = this.turn
    const since = this.begunAt ?? (row?.startedAt ? Date.parse(row.startedAt) : at)
    const took = now - since
    setText(this.elapsed, this.turn.phase === 'running' ? ticking(took) : '')
    if (this.waits && this.label && took > LONG_WAIT_MS) {
      this.waited = true
      setText(this.label, this.actions.isNext(this.turn) ? texts.queued : texts.waitingTurn)
    }
  }
}
