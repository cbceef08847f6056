// @ts-check
/**
 * Backchat in the browser: start a run, follow it, survive reloads. No dependencies, no build step.
 *
 *     import { createClient } from './client.js'
 *     const client = createClient({ baseUrl: 'https://chat.example.org' })
 *     const { sessionId } = await client.start('Hello')
 *     const state = await client.follow(sessionId, { onState: (s) => (out.textContent = s.text) })
 *
 * The run lives on the server. This module only reads its events, in order and each once, and folds them
 * with `reduce` into what is shown. From top to bottom: types, reducer, HTTP, storage, follower, client.
 */

/** @typedef {'running' | 'done' | 'error'} Status */
/** @typedef {'poll' | 'wait' | 'sse'} Transport */

/**
 * One step of a session, as the server sends it. Unknown fields may appear.
 * @typedef {object} SessionEvent
 * @property {number} seq 1, 2, …, n within the session
 * @property {'thinking' | 'delta' | 'tool_call' | 'done' | 'error'} eventType
 * @property {string} [sessionId]
 * @property {number} [attempt]
 * @property {string} [createdAt] ISO 8601
 * @property {string | null} [content]
 * @property {number | null} [supersedesFrom] earlier events with this seq or above no longer count
 * @property {string | null} [toolCallId]
 * @property {string | null} [toolName]
 * @property {unknown} [toolArgs]
 * @property {string | null} [toolResult]
 * @property {boolean | null} [toolSuccess] null: about to run
 * @property {number | null} [durationMs]
 * @property {string | null} [model]
 * @property {Usage | null} [usageJson]
 * @property {string | null} [errorMsg]
 * @property {string | null} [errorCode]
 * @property {string | null} [finishReason]
 */

/**
 * @typedef {object} Usage
 * @property {number} inputTokens
 * @property {number} outputTokens
 * @property {number} cacheReadTokens
 * @property {number} cacheWriteTokens
 * @property {number} totalTokens
 */

/**
 * @typedef {object} TextPart
 * @property {'thinking' | 'text'} kind
 * @property {number} n which of the session's parts it is, from 0; a number is never used again
 * @property {number} seq of its first event
 * @property {string} text
 * @property {string} startedAt
 * @property {string} endedAt
 */

/**
 * @typedef {object} ToolPart
 * @property {'tool'} kind
 * @property {number} n which of the session's parts it is, from 0; a number is never used again
 * @property {number} seq of its first event
 * @property {string} toolCallId `call_<seq>` where the server has none
 * @property {string} name
 * @property {unknown} args
 * @property {string | null} result
 * @property {boolean | null} success null: no result yet
 * @property {number | null} durationMs
 * @property {string} startedAt
 */

/** @typedef {TextPart | ToolPart} Part */

/**
 * What is shown of a session. Plain data; never mutated.
 * @typedef {object} SessionState
 * @property {string} sessionId
 * @property {Status} status
 * @property {number} after all events up to this seq are counted in
 * @property {number} attempt
 * @property {string} text the answer so far; the whole answer once done, the partial one on error
 * @property {string} thinking
 * @property {readonly Part[]} parts thinking, text and tool calls in the order they came; an unchanged part stays the same object
 * @property {{ code: string, message: string } | null} error
 * @property {Usage | null} usage
 * @property {string | null} model
 * @property {number | null} durationMs
 * @property {string | null} finishReason why the model stopped: `stop`, or `length` at the limit of its output
 * @property {number} openCalls tool calls without a result
 * @property {number} begun how many parts have begun, those that no longer count included
 * @property {number} from events up to this seq were never seen: the state was begun after them
 * @property {readonly (readonly SessionEvent[])[]} log all counted-in events, in blocks; see `eventsOf`
 * @property {Readonly<Record<number, SessionEvent>>} ahead events that wait for one before them
 */

/** @typedef {{ -readonly [K in keyof SessionState]: SessionState[K] } & { parts: Part[], log: SessionEvent[][], ahead: Record<number, SessionEvent> }} Draft */

// ── reducer ────────────────────────────────────────────────────────────────────────────────────────────

const LOG_BLOCK = 128

/**
 * The state before the first event, or before the first event above *after*.
 * @param {string} [sessionId]
 * @param {number} [after]
 * @returns {SessionState}
 */
export function initialState(sessionId = '', after = 0) {
  return {
    sessionId, status: 'running', after, attempt: 0, text: '', thinking: '', parts: [], error: null,
    usage: null, model: null, durationMs: null, finishReason: null, openCalls: 0, begun: 0, from: after, log: [], ahead: {},
  }
}

/**
 * Count one event in. Pure. The law: the result depends only on the set of events given so far. Repeats are
 * ignored, and an event counts as soon as all before it are there.
 * @param {SessionState} state
 * @param {SessionEvent} event
 * @returns {SessionState} the same object when nothing changed
 */
export function reduce(state, event) {
  return reduceAll(state, [event])
}

/**
 * `reduce` over many events, copying the state only once.
 * @param {SessionState} state
 * @param {Iterable<SessionEvent>} events
 * @returns {SessionState}
 */
export function reduceAll(state, events) {
  /** @type {Draft | null} */
  let draft = null
  for (const event of events) {
    const after = (draft ?? state).after
    if (!(event.seq > after) || !Number.isInteger(event.seq)) continue
    if (state.sessionId && event.sessionId && event.sessionId !== state.sessionId) continue
    draft ??= draftOf(state)
    draft.ahead[event.seq] ??= event
    for (let next; (next = draft.ahead[draft.after + 1]); ) {
      delete draft.ahead[next.seq]
      countIn(draft, next)
    }
  }
  return draft ?? state
}

/**
 * All events that are counted in, superseded ones included, oldest first.
 * @param {SessionState} state
 * @returns {SessionEvent[]}
 */
export function eventsOf(state) {
  return state.log.flat()
}

/**
 * The tool calls of a session, in the order they began.
 * @param {SessionState} state
 * @returns {ToolPart[]}
 */
export function toolCallsOf(state) {
  return state.parts.filter((part) => part.kind === 'tool')
}

/** @param {SessionState} state @returns {Draft} */
function draftOf(state) {
  const log = /** @type {SessionEvent[][]} */ (state.log.slice())
  // The last block grows; all before it are full and shared between states.
  if (log.length) log[log.length - 1] = log[log.length - 1].slice()
  return { ...state, parts: state.parts.slice(), log, ahead: { ...state.ahead } }
}

/** @param {Draft} draft @param {SessionEvent} event */
function countIn(draft, event) {
  draft.after = event.seq
  const last = draft.log[draft.log.length - 1]
  if (last && last.length < LOG_BLOCK) last.push(event)
  else draft.log.push([event])
  if (draft.status !== 'running') return
  if (event.supersedesFrom != null && event.supersedesFrom < event.seq) refold(draft)
  else fold(draft, event)
}

/** Fold the whole log again without what was superseded. At most once per attempt. @param {Draft} draft */
function refold(draft) {
  /** @type {SessionEvent[]} */
  const counting = []
  for (const block of draft.log) {
    for (const event of block) {
      const from = event.supersedesFrom
      if (from != null) while (counting.length && counting[counting.length - 1].seq >= from) counting.pop()
      counting.push(event)
    }
  }
  const { sessionId, from, after, log, ahead, begun } = draft
  const numbers = new Map(draft.parts.map((part) => [part.seq, part.n]))
  Object.assign(draft, initialState(sessionId), { parts: [], from, after, log, ahead, begun })
  for (const event of counting) fold(draft, event, numbers)
}

/** @param {Draft} draft @param {SessionEvent} event @param {Map<number, number>} [numbers] of the parts that began before, by seq */
function fold(draft, event, numbers) {
  draft.attempt = Math.max(draft.attempt, event.attempt ?? 1)
  const content = event.content ?? ''
  switch (event.eventType) {
    case 'thinking':
      draft.thinking += content
      grow(draft, 'thinking', content, event, numbers)
      break
    case 'delta':
      draft.text += content
      grow(draft, 'text', content, event, numbers)
      break
    case 'tool_call':
      foldToolCall(draft, event, numbers)
      break
    case 'done':
      draft.status = 'done'
      if (event.content != null) settleText(draft, content, event)
      break
    case 'error':
      draft.status = 'error'
      draft.error = { code: event.errorCode ?? 'error', message: event.errorMsg ?? '' }
      if (content) settleText(draft, content, event)
      break
  }
  if (draft.status === 'running') return
  draft.usage = event.usageJson ?? draft.usage
  draft.model = event.model ?? draft.model
  draft.durationMs = event.durationMs ?? draft.durationMs
  draft.finishReason = event.finishReason ?? null
}

/** @param {Draft} draft @param {SessionEvent} event @param {Map<number, number>} [numbers] */
function numberOf(draft, event, numbers) {
  return numbers?.get(event.seq) ?? draft.begun++
}

/** @param {Draft} draft @param {'thinking' | 'text'} kind @param {string} text @param {SessionEvent} event @param {Map<number, number>} [numbers] */
function grow(draft, kind, text, event, numbers) {
  if (!text) return
  const at = event.createdAt ?? ''
  const last = draft.parts[draft.parts.length - 1]
  if (last?.kind === kind) draft.parts[draft.parts.length - 1] = { ...last, text: last.text + text, endedAt: at }
  else draft.parts.push({ kind, n: numberOf(draft, event, numbers), seq: event.seq, text, startedAt: at, endedAt: at })
}

/** The terminal event holds the text as it is stored: it wins. @param {Draft} draft @param {string} text @param {SessionEvent} event */
function settleText(draft, text, event) {
  if (draft.text === text) return
  draft.text = text
  draft.parts = draft.parts.filter((part) => part.kind !== 'text')
  grow(draft, 'text', text, event)
}

/**
 * The state of an ended session whose events don't say how it ended: its row does.
 * @param {SessionState} state
 * @param {Pick<SessionRow, 'status' | 'finalResponse' | 'model' | 'errorCode' | 'errorMessage' | 'finishReason'>} row
 * @returns {SessionState}
 */
export function settledState(state, row) {
  const draft = draftOf(state)
  draft.status = row.status
  draft.model = row.model ?? null
  draft.finishReason = row.finishReason ?? null
  if (row.finalResponse) settleText(draft, row.finalResponse, { seq: state.after, eventType: 'done' })
  if (row.status === 'error') draft.error = { code: row.errorCode ?? 'error', message: row.errorMessage ?? '' }
  return draft
}

/** @param {Draft} draft @param {SessionEvent} event @param {Map<number, number>} [numbers] */
function foldToolCall(draft, event, numbers) {
  const success = event.toolSuccess == null ? null : Boolean(event.toolSuccess)
  const index = openCallOf(draft, event, success === null)
  const known = /** @type {ToolPart | undefined} */ (draft.parts[index])
  draft.openCalls += (success === null ? 1 : 0) - (known ? 1 : 0)
  /** @type {ToolPart} */
  const part = {
    kind: 'tool',
    n: known?.n ?? numberOf(draft, event, numbers),
    seq: known?.seq ?? event.seq,
    toolCallId: known?.toolCallId ?? event.toolCallId ?? `call_${event.seq}`,
    name: known?.name || (event.toolName ?? ''),
    args: known?.args ?? event.toolArgs ?? null,
    result: event.toolResult ?? null,
    success,
    durationMs: event.durationMs ?? null,
    startedAt: known?.startedAt ?? event.createdAt ?? '',
  }
  if (known) draft.parts[index] = part
  else draft.parts.push(part)
}

/**
 * The place of the call without a result that *event* belongs to; -1: there is none, it is another call.
 * @param {Draft} draft
 * @param {SessionEvent} event
 * @param {boolean} begins
 */
function openCallOf(draft, event, begins) {
  let found = -1
  // Rows of the first gateway have no id: what begins is another call, and the oldest one of that name ends.
  if (begins && !event.toolCallId) return found
  for (let open = draft.openCalls, index = draft.parts.length - 1; open > 0 && index >= 0; index--) {
    const part = draft.parts[index]
    if (part.kind !== 'tool' || part.success !== null) continue
    open--
    const same = event.toolCallId
      ? part.toolCallId === event.toolCallId
      : part.toolCallId === `call_${part.seq}` && part.name === (event.toolName ?? '')
    if (same) found = index
  }
  return found
}

// ── HTTP ───────────────────────────────────────────────────────────────────────────────────────────────

/** The server said no, or what came back was no answer of it (`code: 'bad_response'`, `status` as received). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} code stable, for programs
   * @param {string} detail one sentence, for a person
   * @param {Record<string, any>} [problem] the whole problem+json
   * @param {number | null} [retryAfterMs]
   */
  constructor(status, code, detail, problem = {}, retryAfterMs = null) {
    super(detail || code)
    this.name = 'ApiError'
    this.status = status
    this.code = code
    this.detail = detail
    this.problem = problem
    this.retryAfterMs = retryAfterMs
  }

  /** Trying the same request again may help. */
  get transient() {
    return this.code === 'bad_response' || [408, 425, 429].includes(this.status) || this.status >= 500
  }
}

/** @param {unknown} error */
const isTransient = (error) => (error instanceof ApiError ? error.transient : true)

/** @param {string | null} header @param {number} now @returns {number | null} */
function parseRetryAfter(header, now) {
  if (!header) return null
  const seconds = Number(header)
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - now
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), 3_600_000) : null
}

/** @returns {string} */
function uuid() {
  // randomUUID exists in secure contexts only; a chat on http://192.168.… has none.
  const { randomUUID } = /** @type {Partial<Crypto>} */ (crypto)
  if (randomUUID) return randomUUID.call(crypto)
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  bytes[6] = (bytes[6] & 0x0f) | 0x40
  bytes[8] = (bytes[8] & 0x3f) | 0x80
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

/** @param {Record<string, string | number | null | undefined>} values */
function query(values) {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(values)) if (value != null && value !== '') search.set(name, String(value))
  const text = search.toString()
  return text && `?${text}`
}

/**
 * The data of the complete server-sent events in *buffer*, and what is left of it.
 * @param {string} buffer
 * @returns {{ data: string[], rest: string }}
 */
export function parseStream(buffer) {
  const blocks = buffer.split(/\r?\n\r?\n/)
  const rest = blocks.pop() ?? ''
  const data = blocks
    .map((block) => block.split(/\r?\n/).filter((line) => line.startsWith('data:'))
      .map((line) => line.slice(5).replace(/^ /, '')).join('\n'))
    .filter(Boolean)
  return { data, rest }
}

// ── what the client needs of the browser, replaceable in tests ─────────────────────────────────────────

/**
 * @typedef {object} Clock
 * @property {() => number} now milliseconds
 * @property {(run: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} random 0 to 1
 */

/**
 * @typedef {object} Surroundings
 * @property {() => boolean} hidden the tab can't be seen
 * @property {(listener: (what: 'visible' | 'hidden' | 'online' | 'leave') => void) => () => void} listen returns how to stop
 */

/**
 * @typedef {object} Channel what a BroadcastChannel does
 * @property {(message: any) => void} postMessage
 * @property {((event: { data: any }) => void) | null} onmessage
 * @property {() => void} close
 */

/** @type {Clock} */
const systemClock = {
  now: () => Date.now(),
  setTimeout: (run, ms) => setTimeout(run, ms),
  clearTimeout: (timer) => clearTimeout(timer),
  random: () => Math.random(),
}

/** @type {Surroundings} */
const browserSurroundings = {
  hidden: () => globalThis.document?.visibilityState === 'hidden',
  listen(listener) {
    if (typeof document === 'undefined') return () => {}
    const seen = () => listener(document.visibilityState === 'hidden' ? 'hidden' : 'visible')
    const online = () => listener('online')
    const leave = () => listener('leave')
    /** @param {PageTransitionEvent} event */
    const shown = (event) => event.persisted && listener('visible')
    document.addEventListener('visibilitychange', seen)
    window.addEventListener('online', online)
    window.addEventListener('pagehide', leave)
    window.addEventListener('pageshow', shown)
    return () => {
      document.removeEventListener('visibilitychange', seen)
      window.removeEventListener('online', online)
      window.removeEventListener('pagehide', leave)
      window.removeEventListener('pageshow', shown)
    }
  },
}

/** @returns {Storage | null} */
function browserStorage() {
  try {
    return globalThis.localStorage ?? null
  } catch {
    return null // reading the property throws where the user forbids storage
  }
}

/** @param {string} name @returns {Channel | null} */
function browserChannel(name) {
  if (typeof document === 'undefined' || typeof BroadcastChannel === 'undefined') return null
  return /** @type {Channel} */ (new BroadcastChannel(name))
}

/** One JSON value per key, so that two tabs never overwrite each other's entries. Never throws. */
class Shelf {
  /** @param {Pick<Storage, 'getItem' | 'setItem' | 'removeItem' | 'key' | 'length'> | null} storage @param {string} prefix */
  constructor(storage, prefix) {
    this.prefix = prefix
    this.storage = storage
    /** @type {Map<string, any>} What could not be stored lives as long as the page. */
    this.memory = new Map()
  }

  /** @param {string} name @param {object} value */
  put(name, value) {
    try {
      if (!this.storage) throw new Error('no storage')
      this.storage.setItem(this.prefix + name, JSON.stringify(value))
    } catch {
      this.memory.set(name, value)
    }
  }

  /** @param {string} name */
  remove(name) {
    this.memory.delete(name)
    try {
      this.storage?.removeItem(this.prefix + name)
    } catch { /* nothing is stored then */ }
  }

  /** @returns {[string, any][]} */
  entries() {
    const found = new Map(this.memory)
    try {
      for (let index = 0; index < (this.storage?.length ?? 0); index++) {
        const key = this.storage?.key(index) ?? ''
        if (!key.startsWith(this.prefix)) continue
        try {
          const value = JSON.parse(this.storage?.getItem(key) ?? '')
          if (value && typeof value === 'object') found.set(key.slice(this.prefix.length), value)
        } catch { /* somebody else wrote here */ }
      }
    } catch { /* storage was taken away */ }
    return [...found]
  }
}

// ── following one session ──────────────────────────────────────────────────────────────────────────────

const POLL_MS = 1500
const HIDDEN_FACTOR = 4
const MIN_POLL_MS = 200
const MAX_POLL_MS = 60_000
const PAGE_LIMIT = 500
const WAIT_S = 25
/** Browsers open six connections to a host: held requests must leave some. */
const MAX_HELD = 3
const REQUEST_TIMEOUT_MS = 20_000
const SILENT_STREAM_MS = 45_000
const BACKOFF_MS = 500
const MAX_BACKOFF_MS = 30_000
/** How long a tab listens for one that already polls the session. */
const ASK_MS = 120
const BEAT_MS = 4000
/** How late a leader's next word may be before another tab takes over. */
const GRACE_MS = 3000

/**
 * @typedef {object} FollowOptions
 * @property {number} [after] read only what is above this seq; the state then begins there
 * @property {(event: SessionEvent) => void} [onEvent] each event once, in order
 * @property {(state: SessionState) => void} [onState] after each batch of events
 * @property {(trouble: Error | null) => void} [onTrouble] the server can't be reached (it is tried again); null: it can
 * @property {AbortSignal} [signal] stop following; the run itself goes on
 */

/**
 * @typedef {object} Subscriber
 * @property {FollowOptions} options
 * @property {number} told the last seq that it was told
 * @property {Follower} follower
 * @property {(state: SessionState) => void} resolve
 * @property {(reason: any) => void} reject
 */

/** A listener that throws must not look like a broken network. @template T @param {((value: T) => void) | undefined} listener @param {T} value */
function call(listener, value) {
  try {
    listener?.(value)
  } catch (error) {
    queueMicrotask(() => { throw error })
  }
}

/**
 * Follows one session for all its subscribers in this tab, and shares what it reads with other tabs.
 *
 * Among the tabs that follow a session one leads: it asks the server and broadcasts what came. The others listen.
 * A visible tab takes the lead from a hidden one (whose timers the browser slows down), any tab takes it from
 * one that says goodbye or falls silent. Two leaders at once are harmless and agree within one message.
 */
class Follower {
  /** @param {Client} client @param {string} sessionId @param {number} after @param {boolean} fresh nobody else can know the session yet */
  constructor(client, sessionId, after, fresh) {
    this.client = client
    this.clock = client.clock
    this.sessionId = sessionId
    this.state = initialState(sessionId, after)
    /** @type {Set<Subscriber>} */
    this.subscribers = new Set()
    /** @type {Error | null} */
    this.trouble = null
    this.over = false
    this.leading = fresh || !client.channel
    /** When to believe that nobody leads. */
    this.silentAt = this.clock.now() + ASK_MS
    /** The newest seq that a leader spoke of, and when to fetch what is missing below it ourselves. */
    this.leaderAfter = 0
    this.gapAt = Infinity
    this.nextAt = 0
    this.notBefore = 0
    this.advice = POLL_MS
    this.failures = 0
    this.streamFailures = 0
    this.streamAgainAt = 0
    this.held = client.transport === 'wait'
    this.storedAt = -Infinity
    /** @type {AbortController | null} */
    this.request = null
    this.requestedAt = 0
    /** @type {(() => void) | null} */
    this.wake = null
    if (this.leading) this.post({ kind: 'lead' })
    else this.post({ kind: 'who' })
    void this.run()
  }

  /** @param {FollowOptions} options @returns {Promise<SessionState>} */
  subscribe(options) {
    return new Promise((resolve, reject) => {
      /** @type {Subscriber} */
      const subscriber = { options, told: options.after ?? 0, follower: this, resolve, reject }
      const { signal } = options
      this.subscribers.add(subscriber)
      const leave = () => {
        reject(signal?.reason)
        subscriber.follower.drop(subscriber)
      }
      if (signal?.aborted) return leave()
      signal?.addEventListener('abort', leave, { once: true })
      // One signal may outlive many sessions.
      const settle = (/** @type {() => void} */ run) => {
        signal?.removeEventListener('abort', leave)
        run()
      }
      subscriber.resolve = (state) => settle(() => resolve(state))
      subscriber.reject = (reason) => settle(() => reject(reason))
      if (this.state.after > this.state.from) this.tell(subscriber)
      if (this.trouble) call(options.onTrouble, this.trouble)
    })
  }

  /** @param {Subscriber} subscriber */
  drop(subscriber) {
    if (this.subscribers.delete(subscriber) && !this.subscribers.size) this.stop()
  }

  /** Go on for the subscribers of a follower that began later in the session. @param {Follower} other */
  adopt(other) {
    for (const subscriber of other.subscribers) {
      subscriber.follower = this
      this.subscribers.add(subscriber)
    }
  }

  /** One loop decides what to do next; everything that happens only wakes it. */
  async run() {
    await null // the first subscriber is added after the constructor
    while (!this.over) {
      const now = this.clock.now()
      if (!this.leading) {
        if (now >= this.gapAt) await this.poll()
        else if (now < this.patienceEnds()) await this.sleep(Math.min(this.patienceEnds(), this.gapAt) - now)
        else this.lead()
      } else if (now < this.nextAt) await this.sleep(this.nextAt - now)
      else if (this.client.transport === 'sse' && (this.streamFailures < 2 || now >= this.streamAgainAt)) await this.stream()
      else await this.poll()
    }
    if (this.client.followers.get(this.sessionId) === this) this.client.followers.delete(this.sessionId)
  }

  /** A hidden tab is in no hurry to replace a leader. */
  patienceEnds() {
    return this.silentAt + (this.leaderAfter > 0 && this.client.surroundings.hidden() ? 30_000 : 0)
  }

  lead() {
    this.leading = true
    this.gapAt = Infinity
    this.nextAt = this.notBefore
    this.post({ kind: 'lead' })
  }

  /** @param {number} ms @returns {Promise<void>} */
  sleep(ms) {
    return new Promise((resolve) => {
      const timer = this.clock.setTimeout(() => this.wake?.(), ms)
      this.wake = () => {
        this.clock.clearTimeout(timer)
        this.wake = null
        resolve()
      }
    })
  }

  /** Ask for one page. Sets `nextAt`; throws nothing. */
  async poll() {
    const held = this.leading && this.held && this.client.holding < MAX_HELD && !this.client.surroundings.hidden()
    const began = this.clock.now()
    const before = this.state.after
    if (held) this.client.holding++
    try {
      const page = await this.exchange(held ? (WAIT_S + 10) * 1000 : REQUEST_TIMEOUT_MS, (signal) =>
        this.client.events(this.sessionId, { after: before, limit: PAGE_LIMIT, wait: held ? WAIT_S : null, signal }))
      this.recovered()
      this.advice = Math.min(Math.max(Number(page.pollAfterMs) || POLL_MS, this.client.minPollMs), MAX_POLL_MS)
      this.take(page.events)
      const moved = this.state.after > before
      this.gapAt = page.hasMore && moved ? began : Infinity
      if (page.status !== 'running' && !page.hasMore && this.state.status === 'running') await this.settle()
      const slow = this.client.surroundings.hidden() ? HIDDEN_FACTOR : 1
      const now = this.clock.now()
      // A server that does not hold the request must not be asked in a circle.
      const answered = held && (moved || now - began >= MIN_POLL_MS)
      this.nextAt = (page.hasMore && moved) || answered ? now : now + this.advice * slow
      if (this.state.status === 'running') this.remember()
      if (this.leading) this.post({ kind: 'events', events: page.events })
      this.finish()
    } catch (error) {
      this.stumble(error)
    } finally {
      if (held) this.client.holding--
    }
  }

  /** Read the session as server-sent events until they end. Sets `nextAt`; throws nothing. */
  async stream() {
    const began = this.clock.now()
    const before = this.state.after
    try {
      await this.exchange(SILENT_STREAM_MS, async (signal, alive) => {
        const body = await this.client.openStream(this.sessionId, this.state.after, signal)
        const reader = body.pipeThrough(new TextDecoderStream()).getReader()
        let buffer = ''
        for (;;) {
          const { done, value } = await reader.read()
          if (done || !this.leading) break
          alive()
          this.recovered()
          const { data, rest } = parseStream(buffer + value)
          buffer = rest
          /** @type {SessionEvent[]} */
          const events = data.map((item) => JSON.parse(item))
          if (!events.length) continue
          this.take(events)
          this.remember()
          this.post({ kind: 'events', events })
          if (this.state.status !== 'running') break
        }
      })
    } catch (error) {
      if (/** @type {Error} */ (error).name === 'AbortError') return this.stumble(error)
      if (/** @type {ApiError} */ (error).status === 204) this.streamFailures = 1 // it has ended; nothing to stream
    }
    const now = this.clock.now()
    const fruitful = this.state.after > before || now - began > 5000
    this.streamFailures = fruitful ? 0 : this.streamFailures + 1
    // Whatever is wrong with the stream (a proxy may spoil it), polling tells whether it is the session.
    if (this.streamFailures >= 2) this.streamAgainAt = now + MAX_POLL_MS
    this.nextAt = now + MIN_POLL_MS
    this.finish()
  }

  /**
   * Run a request that ends with *timeoutMs* of silence, and tell the other tabs meanwhile that we still lead.
   * @template T
   * @param {number} timeoutMs
   * @param {(signal: AbortSignal, alive: () => void) => Promise<T>} ask
   * @returns {Promise<T>}
   */
  async exchange(timeoutMs, ask) {
    const request = (this.request = new AbortController())
    const { clock } = this
    const timeUp = () => request.abort(new DOMException('no answer in time', 'TimeoutError'))
    let timer = clock.setTimeout(timeUp, timeoutMs)
    const alive = () => {
      clock.clearTimeout(timer)
      timer = clock.setTimeout(timeUp, timeoutMs)
      this.requestedAt = clock.now()
    }
    const beat = () => {
      if (this.leading) this.post({ kind: 'lead' })
      beating = clock.setTimeout(beat, BEAT_MS)
    }
    let beating = clock.setTimeout(beat, BEAT_MS)
    this.requestedAt = clock.now()
    try {
      return await ask(request.signal, alive)
    } finally {
      clock.clearTimeout(timer)
      clock.clearTimeout(beating)
      request.abort() // closes a stream that was left in the middle
      this.request = null
    }
  }

  /** Ended without a terminal event (rows from before this server): the session row says how. */
  async settle() {
    const row = await this.exchange(REQUEST_TIMEOUT_MS, (signal) => this.client.session(this.sessionId, { signal }))
    if (row.status === 'running' || this.state.status !== 'running') return
    this.state = settledState(this.state, row)
    for (const subscriber of this.subscribers) this.tell(subscriber)
  }

  recovered() {
    this.failures = 0
    this.notBefore = 0
    this.setTrouble(null)
  }

  /** @param {any} error */
  stumble(error) {
    if (this.over) return
    if (error?.name === 'AbortError') {
      this.nextAt = this.notBefore // a wake-up, a lost lead or a stop: the loop knows
      return
    }
    if (!isTransient(error)) return this.fail(error)
    this.nextAt = this.clock.now() + this.backoff(error)
    // Not before the server allows it, even if the tab becomes visible meanwhile.
    if (error.retryAfterMs) this.notBefore = this.clock.now() + error.retryAfterMs
    if (this.gapAt < Infinity) this.gapAt = this.nextAt
    this.setTrouble(error)
    if (this.leading) this.post({ kind: 'lead' })
  }

  /** @param {ApiError | null} error */
  backoff(error) {
    const full = Math.min(BACKOFF_MS * 2 ** this.failures++, MAX_BACKOFF_MS)
    return Math.max(full * (0.5 + this.clock.random() / 2), error?.retryAfterMs ?? 0)
  }

  /** @param {Error | null} trouble */
  setTrouble(trouble) {
    if (!trouble && !this.trouble) return
    this.trouble = trouble
    for (const { options } of this.subscribers) call(options.onTrouble, trouble)
  }

  /** @param {readonly SessionEvent[]} events */
  take(events) {
    const before = this.state
    this.state = reduceAll(before, events)
    if (this.state.after !== before.after) for (const subscriber of this.subscribers) this.tell(subscriber)
  }

  /** @param {Subscriber} subscriber */
  tell(subscriber) {
    const { onEvent, onState } = subscriber.options
    if (onEvent) {
      const { log, from } = this.state
      // The log has no gap, so the place of a seq is known.
      for (let at = Math.max(subscriber.told - from, 0); at < this.state.after - from; at++) {
        call(onEvent, log[Math.floor(at / LOG_BLOCK)][at % LOG_BLOCK])
      }
    }
    subscriber.told = Math.max(subscriber.told, this.state.after)
    call(onState, this.state)
  }

  /** Keep the place for the next page load, at most once a second. */
  remember() {
    const now = this.clock.now()
    if (now - this.storedAt < 1000) return
    this.storedAt = now
    this.client.rememberSession(this.sessionId, this.state.after)
  }

  /** Resolve all subscribers if the session has ended. */
  finish() {
    if (this.state.status === 'running') return
    this.over = true
    this.setTrouble(null)
    this.client.forget(this.sessionId)
    for (const { resolve } of this.subscribers) resolve(this.state)
    this.subscribers.clear()
    this.wake?.()
  }

  /** @param {any} error @param {boolean} [heard] another tab said so */
  fail(error, heard = false) {
    this.over = true
    if (error.status === 404 || error.status === 410) {
      this.client.forget(this.sessionId)
      if (!heard) this.post({ kind: 'gone', status: error.status, code: error.code, detail: error.detail, problem: error.problem })
    } else if (this.leading) this.post({ kind: 'bye' })
    for (const { reject } of this.subscribers) reject(error)
    this.subscribers.clear()
    this.wake?.()
  }

  /** Nobody in this tab wants it any more. */
  stop() {
    if (this.over) return
    this.over = true
    // At once, and not when the loop ends: the next `follow` needs a follower that lives.
    this.client.followers.delete(this.sessionId)
    if (this.leading) this.post({ kind: 'bye' })
    this.request?.abort()
    this.wake?.()
  }

  // between tabs

  /** @param {Record<string, any>} message */
  post(message) {
    const { client, clock } = this
    const within = this.request ? BEAT_MS : Math.max(this.nextAt - clock.now(), 0) + BEAT_MS
    client.channel?.postMessage({
      ...message, sessionId: this.sessionId, tab: client.tab, after: this.state.after, within,
      hidden: client.surroundings.hidden(),
    })
  }

  /** @param {any} message */
  hear(message) {
    const now = this.clock.now()
    switch (message.kind) {
      case 'who':
        if (!this.leading) return
        return this.post(message.after >= this.state.from
          ? { kind: 'events', events: eventsOf(this.state).slice(message.after - this.state.from) } : { kind: 'lead' })
      case 'bye':
        // Not all at once.
        this.silentAt = now + this.clock.random() * 200
        return this.wake?.()
      case 'gone':
        if (!this.over) this.fail(new ApiError(message.status, message.code, message.detail, message.problem), true)
        return
      case 'lead':
      case 'events':
        if (message.events) this.take(message.events)
        this.heed(message, now)
        return this.finish()
    }
  }

  /** Somebody else says that it leads. @param {any} message @param {number} now */
  heed(message, now) {
    const hidden = this.client.surroundings.hidden()
    const better = message.hidden === hidden ? null : hidden
    if (this.leading && !(better ?? message.tab < this.client.tab)) return this.post({ kind: 'lead' })
    if (!this.leading && better === false) return this.leadNow()
    const wasLeading = this.leading
    this.leading = false
    this.silentAt = now + message.within + GRACE_MS
    this.leaderAfter = Math.max(this.leaderAfter, message.after)
    if (this.state.after >= this.leaderAfter) this.gapAt = Infinity
    else if (this.gapAt === Infinity) this.gapAt = now + 2 * ASK_MS
    if (wasLeading) this.request?.abort()
    this.wake?.()
  }

  leadNow() {
    this.lead()
    this.wake?.()
  }

  /** @param {'visible' | 'hidden' | 'online' | 'leave'} what */
  notice(what) {
    const now = this.clock.now()
    if (what === 'leave') return this.leading && this.post({ kind: 'bye' })
    if (what === 'hidden') return this.leading && this.post({ kind: 'lead' })
    if (!this.leading) {
      // Whoever leads answers, and if it is hidden we take over.
      this.post({ kind: 'who' })
      return this.wake?.()
    }
    // Connections from before a laptop slept hang until they time out.
    if (now - this.requestedAt > 5000) this.request?.abort()
    this.nextAt = Math.max(this.notBefore, this.requestedAt + MIN_POLL_MS)
    this.wake?.()
  }
}

// ── client ─────────────────────────────────────────────────────────────────────────────────────────────

/**
 * @typedef {object} ClientOptions
 * @property {string} [baseUrl] where the API is; default: this page's origin
 * @property {typeof globalThis.fetch} [fetch]
 * @property {Storage | null} [storage] default: localStorage; null: nothing outlives the page
 * @property {string | (() => string | null | Promise<string | null>)} [token] sent as a bearer token
 * @property {Transport} [transport] `poll` (default); `wait` and `sse` fall back to it by themselves
 * @property {number} [minPollMs] never poll a session more often than this, whatever the server advises (default 200)
 * @property {Channel | null} [channel] default: a BroadcastChannel; null: tabs don't share
 * @property {Clock} [clock]
 * @property {Surroundings} [surroundings]
 */

/**
 * @typedef {object} StartOptions
 * @property {string} [conversationId] any UUID; an unknown one begins a conversation
 * @property {number} [agentId]
 * @property {string} [model]
 * @property {'enqueue' | 'reject' | 'interrupt'} [onBusy] what if the conversation has a running session
 * @property {string} [idempotencyKey] default: a new one; kept over all retries
 * @property {number} [retryForMs] how long to try while the server can't be reached (default two minutes)
 * @property {(trouble: Error) => void} [onTrouble] before each retry
 * @property {AbortSignal} [signal] stop trying
 */

/** @typedef {{ sessionId: string, conversationId: string, status: Status }} Started */
/** @typedef {{ message: string, options: StartOptions & { idempotencyKey: string }, at: number }} Outgoing */

/**
 * @typedef {object} SessionRow
 * @property {string} sessionId
 * @property {string} conversationId
 * @property {Status} status
 * @property {number} agentId
 * @property {string} userMessage
 * @property {string | null} finalResponse
 * @property {string | null} model
 * @property {number} totalTokens
 * @property {string | null} [errorCode]
 * @property {string | null} [errorMessage]
 * @property {string | null} [finishReason]
 * @property {string} createdAt
 * @property {string | null} [startedAt] null while queued
 */

/** @typedef {{ sessionId: string, status: Status, events: SessionEvent[], nextAfter: number, hasMore: boolean, pollAfterMs: number }} EventPage */
/** @typedef {{ sessionId: string, conversationId: string | null, after: number, startedAt: number }} Pending */
/**
 * @typedef {object} Conversation
 * @property {string} conversationId
 * @property {string} title
 * @property {number} agentId
 * @property {number} messageCount
 * @property {string | null} runningSessionId
 * @property {string} createdAt
 * @property {string} updatedAt
 */

/** @typedef {{ conversationId: string, title: string, snippet: string, updatedAt: string, [more: string]: any }} Match */
/** @typedef {{ id: string | number, role: 'user' | 'assistant', content: string, sessionId: string, metadata: any, createdAt: string }} Message */
/** @typedef {{ signal?: AbortSignal }} Abortable */

/** A message whose POST had no answer when the page went away is sent again, with its key, for this long. */
const OUTBOX_MS = 10 * 60_000
const START_RETRY_MS = 120_000

export class Client {
  /** @param {ClientOptions} [options] */
  constructor(options = {}) {
    this.baseUrl = (options.baseUrl ?? '').replace(/\/+$/, '')
    this.fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init))
    this.token = options.token ?? null
    this.transport = options.transport ?? 'poll'
    this.minPollMs = Math.max(options.minPollMs ?? MIN_POLL_MS, MIN_POLL_MS)
    this.clock = options.clock ?? systemClock
    this.surroundings = options.surroundings ?? browserSurroundings
    const name = `backchat:${this.baseUrl}`
    const storage = options.storage === undefined ? browserStorage() : options.storage
    /** Sessions that were running when last seen. */
    this.pendingShelf = new Shelf(storage, `${name}:session:`)
    /** Messages whose POST has no answer yet. */
    this.outbox = new Shelf(storage, `${name}:outbox:`)
    this.tab = uuid()
    /** Held requests of this tab. */
    this.holding = 0
    /** @type {Map<string, Follower>} */
    this.followers = new Map()
    /** @type {Channel | null} */
    this.channel = options.channel === undefined
      ? browserChannel(name) : options.channel
    if (this.channel) {
      this.channel.onmessage = ({ data }) => {
        if (data?.tab !== this.tab) this.followers.get(data?.sessionId)?.hear(data)
      }
    }
    this.unlisten = this.surroundings.listen((what) => {
      for (const follower of [...this.followers.values()]) follower.notice(what)
    })
  }

  /**
   * Send a message. Tries again by itself with one idempotency key, so the message runs once at most. Messages of one
   * conversation are sent in the order of the calls.
   * @param {string} message
   * @param {StartOptions} [options]
   * @returns {Promise<Started>}
   * @throws {ApiError} the server refuses, or can't be reached for `retryForMs`
   */
  async start(message, options = {}) {
    const key = options.idempotencyKey ?? uuid()
    const { conversationId, agentId, model, onBusy } = options
    const body = { message, conversationId, agentId, model, onBusy }
    this.outbox.put(key, { body, at: this.clock.now() })
    try {
      const started = await this.inLine(conversationId, () => this.post(key, body, options))
      this.rememberSession(started.sessionId, 0, started.conversationId)
      // Nobody else knows of it yet: this tab leads from the first moment.
      this.fresh.add(started.sessionId)
      return started
    } finally {
      this.outbox.remove(key)
    }
  }

  /** @internal @type {Set<string>} Sessions that this page began and nobody follows yet. */
  fresh = new Set()

  /** @internal @type {Map<string, Promise<Started>>} The newest message on its way, by conversation. */
  lines = new Map()

  /**
   * @internal Messages of one conversation leave one after another: two that wait for the network keep their order.
   * @param {string | undefined} conversationId
   * @param {() => Promise<Started>} send
   * @returns {Promise<Started>}
   */
  async inLine(conversationId, send) {
    if (!conversationId) return send()
    const before = this.lines.get(conversationId)
    const sent = before ? before.then(send, send) : send()
    this.lines.set(conversationId, sent)
    try {
      return await sent
    } finally {
      if (this.lines.get(conversationId) === sent) this.lines.delete(conversationId)
    }
  }

  /** @internal @param {string} key @param {object} body @param {StartOptions} options @returns {Promise<Started>} */
  async post(key, body, options) {
    const deadline = this.clock.now() + (options.retryForMs ?? START_RETRY_MS)
    for (let failures = 0; ; failures++) {
      try {
        return await this.request('POST', '/api/chat/session', {
          body, headers: { 'Idempotency-Key': key }, signal: options.signal, timeoutMs: REQUEST_TIMEOUT_MS })
      } catch (error) {
        options.signal?.throwIfAborted()
        const pause = Math.max(Math.min(BACKOFF_MS * 2 ** failures, MAX_BACKOFF_MS) * (0.5 + this.clock.random() / 2),
          (error instanceof ApiError && error.retryAfterMs) || 0)
        if (!isTransient(error) || this.clock.now() + pause > deadline) throw error
        options.onTrouble?.(/** @type {Error} */ (error))
        await this.pause(pause, options.signal)
      }
    }
  }

  /** @internal Wait, but not past the return of the network. @param {number} ms @param {AbortSignal} [signal] @returns {Promise<void>} */
  pause(ms, signal) {
    return new Promise((resolve, reject) => {
      const end = () => {
        this.clock.clearTimeout(timer)
        unlisten()
        signal?.removeEventListener('abort', end)
        if (signal?.aborted) reject(signal.reason)
        else resolve()
      }
      const timer = this.clock.setTimeout(end, ms)
      const unlisten = this.surroundings.listen((what) => what === 'online' && end())
      signal?.addEventListener('abort', end)
    })
  }

  /**
   * Follow a session until it ends.
   * @param {string} sessionId
   * @param {FollowOptions} [options]
   * @returns {Promise<SessionState>} the state at the end, done or error
   * @throws {ApiError} 404 or 410: it is gone; 401, 403: not for us
   */
  follow(sessionId, options = {}) {
    const after = options.after ?? 0
    let follower = this.followers.get(sessionId)
    if (!follower || follower.over || follower.state.from > after) {
      const before = follower
      before?.stop()
      follower = new Follower(this, sessionId, after, this.fresh.delete(sessionId))
      this.followers.set(sessionId, follower)
      if (before) follower.adopt(before)
    }
    return follower.subscribe(options)
  }

  /**
   * Go on with all sessions that were pending when the page went away.
   * @param {FollowOptions & { from?: 'start' | 'last' }} [options] `last`: only events that were not seen before the reload
   * @returns {(Pending & { ended: Promise<SessionState> })[]} see `resend` for messages that were being sent
   */
  resumeAll(options = {}) {
    const { from = 'start', ...follow } = options
    return this.pending().map((entry) => {
      const ended = this.follow(entry.sessionId, { ...follow, after: from === 'last' ? entry.after : 0 })
      ended.catch(() => {}) // whoever cares looks at it; nobody must
      return { ...entry, ended }
    })
  }

  /**
   * What is being sent, also what was when the page went away, oldest first. `start(message, options)` sends it again
   * with its key.
   * @returns {Outgoing[]}
   */
  outgoing() {
    /** @type {Outgoing[]} */
    const outgoing = []
    for (const [key, { body, at }] of this.outbox.entries()) {
      if (!body?.message || !(this.clock.now() - at < OUTBOX_MS)) {
        this.outbox.remove(key)
        continue
      }
      const { message, ...options } = body
      outgoing.push({ message, options: { ...options, idempotencyKey: key }, at })
    }
    return outgoing.sort((a, b) => a.at - b.at)
  }

  /**
   * Send again what was being sent when the page went away, with the same keys.
   * @returns {Promise<Started[]>}
   */
  async resend() {
    /** @type {Started[]} */
    const sent = []
    for (const { message, options } of this.outgoing()) {
      try {
        sent.push(await this.start(message, options))
      } catch { /* the server refused it, or is away; the list shows what became of it */ }
    }
    return sent
  }

  /** Sessions that were running when this browser last saw them, newest first. @returns {Pending[]} */
  pending() {
    return this.pendingShelf.entries()
      .map(([sessionId, entry]) => ({
        sessionId, conversationId: entry.conversationId ?? null,
        after: Number(entry.after) || 0, startedAt: Number(entry.startedAt) || 0 }))
      .sort((a, b) => b.startedAt - a.startedAt)
  }

  /** @internal @param {string} sessionId @param {number} after @param {string | null} [conversationId] */
  rememberSession(sessionId, after, conversationId) {
    const known = this.pendingShelf.entries().find(([id]) => id === sessionId)?.[1]
    this.pendingShelf.put(sessionId, {
      conversationId: conversationId ?? known?.conversationId ?? null,
      after: Math.max(after, Number(known?.after) || 0),
      startedAt: known?.startedAt ?? this.clock.now(),
    })
  }

  /** No longer resume this session. @param {string} sessionId */
  forget(sessionId) {
    this.pendingShelf.remove(sessionId)
  }

  /** The session row. @param {string} sessionId @param {Abortable} [options] @returns {Promise<SessionRow>} */
  session(sessionId, options = {}) {
    return this.request('GET', `/api/chat/session/${encodeURIComponent(sessionId)}`, options)
  }

  /**
   * Read what there is of a session, once, without following it.
   * @param {string} sessionId
   * @param {Abortable} [options]
   * @returns {Promise<SessionState>}
   */
  async read(sessionId, { signal } = {}) {
    let state = initialState(sessionId)
    for (;;) {
      const page = await this.events(sessionId, { after: state.after, limit: PAGE_LIMIT, signal })
      const next = reduceAll(state, page.events)
      const moved = next !== state
      state = next
      if (page.hasMore && moved) continue
      return page.status === state.status ? state : settledState(state, await this.session(sessionId, { signal }))
    }
  }

  /** End a run; it keeps what it has. Again is fine. @param {string} sessionId @returns {Promise<SessionRow>} */
  cancel(sessionId) {
    return this.request('POST', `/api/chat/session/${encodeURIComponent(sessionId)}/cancel`)
  }

  /** Delete a session. @param {string} sessionId @returns {Promise<void>} */
  async remove(sessionId) {
    await this.request('DELETE', `/api/chat/session/${encodeURIComponent(sessionId)}`)
    this.forget(sessionId)
  }

  /**
   * Recent sessions, newest first.
   * @param {{ limit?: number, cursor?: string | null, status?: Status, agentId?: number, conversationId?: string } & Abortable} [options]
   * @returns {Promise<{ sessions: SessionRow[], nextCursor: string | null }>}
   */
  list({ signal, ...filters } = {}) {
    return this.request('GET', `/api/chat/sessions${query(filters)}`, { signal })
  }

  /** @returns {Promise<{ agents: any[] }>} */
  agents() {
    return this.request('GET', '/api/agents')
  }

  conversations = {
    /** @param {{ limit?: number, cursor?: string | null } & Abortable} [options] @returns {Promise<{ conversations: Conversation[], nextCursor: string | null }>} */
    list: ({ signal, ...page } = {}) => this.request('GET', `/api/conversations${query(page)}`, { signal }),
    /** @param {string} q @param {{ limit?: number, cursor?: string | null } & Abortable} [options] @returns {Promise<{ results: Match[], nextCursor: string | null }>} */
    search: (q, { signal, ...page } = {}) => this.request('GET', `/api/conversations/search${query({ q, ...page })}`, { signal }),
    /** @param {string} id @returns {Promise<Conversation>} */
    get: (id) => this.request('GET', `/api/conversations/${encodeURIComponent(id)}`),
    /** @param {string} id @param {string} title @returns {Promise<Conversation>} */
    rename: (id, title) => this.request('PATCH', `/api/conversations/${encodeURIComponent(id)}`, { body: { title } }),
    /** @param {string} id @returns {Promise<void>} */
    remove: (id) => this.request('DELETE', `/api/conversations/${encodeURIComponent(id)}`),
    /** The model no longer sees what was said. @param {string} id @returns {Promise<void>} */
    clear: (id) => this.request('DELETE', `/api/conversations/${encodeURIComponent(id)}/messages`),
    /**
     * @param {string} id
     * @param {{ limit?: number, cursor?: string | null, offset?: number, order?: 'asc' | 'desc' } & Abortable} [options]
     * @returns {Promise<{ conversationId: string, messages: Message[], nextCursor: string | null, hasMore: boolean, total: number }>}
     */
    messages: (id, { signal, ...page } = {}) =>
      this.request('GET', `/api/conversations/${encodeURIComponent(id)}/messages${query(page)}`, { signal }),
  }

  /** @internal One page of events. @param {string} sessionId @param {{ after: number, limit?: number, wait?: number | null } & Abortable} options @returns {Promise<EventPage>} */
  async events(sessionId, { signal, ...page }) {
    const path = `/api/chat/session/${encodeURIComponent(sessionId)}/events${query(page)}`
    const answer = await this.request('GET', path, { signal })
    if (!Array.isArray(answer?.events)) throw new ApiError(200, 'bad_response', 'The answer holds no events.')
    return answer
  }

  /** @internal @param {string} sessionId @param {number} after @param {AbortSignal} signal @returns {Promise<ReadableStream<Uint8Array<ArrayBuffer>>>} */
  async openStream(sessionId, after, signal) {
    const response = await this.send('GET', `/api/chat/session/${encodeURIComponent(sessionId)}/stream`, {
      signal, headers: { Accept: 'text/event-stream', ...(after ? { 'Last-Event-ID': String(after) } : {}) } })
    const isStream = response.headers.get('Content-Type')?.startsWith('text/event-stream')
    if (!response.body || !isStream) throw new ApiError(response.status, 'bad_response', 'That is no event stream.')
    return response.body
  }

  /** Stop all following and leave the other tabs to it. */
  close() {
    for (const follower of [...this.followers.values()]) {
      for (const { reject } of follower.subscribers) reject(new DOMException('the client was closed', 'AbortError'))
      follower.subscribers.clear()
      follower.stop()
    }
    this.unlisten()
    this.channel?.close()
    // A closed channel throws; who follows again does it alone.
    this.channel = null
  }

  /** @internal @typedef {{ body?: object, headers?: Record<string, string>, signal?: AbortSignal, timeoutMs?: number }} RequestOptions */

  /** @internal @param {string} method @param {string} path @param {RequestOptions} [options] @returns {Promise<any>} */
  async request(method, path, options = {}) {
    const timeout = new AbortController()
    const timer = this.clock.setTimeout(
      () => timeout.abort(new DOMException('no answer in time', 'TimeoutError')), options.timeoutMs ?? 60_000)
    const follow = () => timeout.abort(options.signal?.reason)
    options.signal?.addEventListener('abort', follow)
    if (options.signal?.aborted) follow()
    try {
      const response = await this.send(method, path, { ...options, signal: timeout.signal })
      if (response.status === 204) return undefined
      const text = await response.text()
      try {
        return JSON.parse(text)
      } catch {
        // A captive portal answers everything with a page of its own.
        throw new ApiError(response.status, 'bad_response', 'The answer is no JSON.')
      }
    } finally {
      this.clock.clearTimeout(timer)
      options.signal?.removeEventListener('abort', follow)
    }
  }

  /** @internal @param {string} method @param {string} path @param {RequestOptions} options @returns {Promise<Response>} a good one */
  async send(method, path, { body, headers = {}, signal }) {
    const token = typeof this.token === 'function' ? await this.token() : this.token
    const response = await this.fetch.call(globalThis, this.baseUrl + path, {
      method,
      signal,
      headers: {
        Accept: 'application/json',
        ...(body ? { 'Content-Type': 'application/json' } : {}),
        ...(token ? { Authorization: `Bearer ${token}` } : {}),
        ...headers,
      },
      body: body ? JSON.stringify(body) : undefined,
    })
    if (response.ok) return response
    /** @type {Record<string, any>} */
    let problem = {}
    try {
      problem = (await response.json()) ?? {}
    } catch { /* a proxy answered */ }
    throw new ApiError(response.status, problem.code ?? `http_${response.status}`, problem.detail ?? problem.title ?? '',
      problem, parseRetryAfter(response.headers.get('Retry-After'), this.clock.now()))
  }
}

/**
 * A client of the API at `baseUrl`. One per page is enough.
 * @param {ClientOptions} [options]
 * @returns {Client}
 */
export function createClient(options = {}) {
  return new Client(options)
}
