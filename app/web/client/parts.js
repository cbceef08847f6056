// @ts-check
/** One event folded into what is shown: text, thinking and tool calls. `reducer.js` decides which events count. */

/** @typedef {import('./types.js').SessionEvent} SessionEvent */

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
 * @property {import('./types.js').Status} status
 * @property {number} after all events up to this seq are counted in
 * @property {number} attempt
 * @property {string} text the answer so far; the whole answer once done, the partial one on error
 * @property {string} thinking
 * @property {readonly Part[]} parts thinking, text and tool calls in the order they came; an unchanged part stays the same object
 * @property {{ code: string, message: string } | null} error
 * @property {import('./types.js').Usage | null} usage
 * @property {string | null} model
 * @property {number | null} durationMs
 * @property {string | null} finishReason why the model stopped: `stop`, or `length` at the limit of its output
 * @property {number} openCalls tool calls without a result
 * @property {number} begun how many parts have begun, those that no longer count included
 * @property {number} from events up to this seq were never seen: the state was begun after them
 * @property {readonly (readonly SessionEvent[])[]} log all counted-in events, in blocks; see `eventsOf`
 * @property {Readonly<Record<number, SessionEvent>>} ahead events that wait for one before them
 */

/**
 * A state that is being made: a copy of which nobody else knows.
 * @typedef {{ -readonly [K in keyof SessionState]: SessionState[K] } & { parts: Part[], log: SessionEvent[][], ahead: Record<number, SessionEvent> }} Draft
 */

/**
 * Change *draft* as *event* says.
 * @param {Draft} draft of a running session
 * @param {SessionEvent} event
 * @param {ReadonlyMap<number, number>} [numbers] of parts that have begun before, by seq
 */
export function fold(draft, event, numbers) {
  draft.attempt = Math.max(draft.attempt, event.attempt ?? 1)
  const content = event.content ?? ''
  switch (event.eventType) {
    case 'thinking':
      draft.thinking += content
      return grow(draft, 'thinking', content, event, numbers)
    case 'delta':
      draft.text += content
      return grow(draft, 'text', content, event, numbers)
    case 'tool_call':
      return foldToolCall(draft, event, numbers)
    case 'done':
      draft.status = 'done'
      if (event.content != null) settleText(draft, content, event)
      break
    case 'error':
      draft.status = 'error'
      draft.error = { code: event.errorCode ?? 'error', message: event.errorMsg ?? '' }
      if (content) settleText(draft, content, event)
      break
    default:
      return
  }
  draft.usage = event.usageJson ?? null
  draft.model = event.model ?? null
  draft.durationMs = event.durationMs ?? null
  draft.finishReason = event.finishReason ?? null
}

/**
 * The server stores the text of the terminal event: where it differs from what was streamed, it wins.
 * @param {Draft} draft
 * @param {string} text
 * @param {SessionEvent} event
 */
export function settleText(draft, text, event) {
  if (draft.text === text) return
  draft.text = text
  draft.parts = draft.parts.filter((part) => part.kind !== 'text')
  grow(draft, 'text', text, event)
}

/** @param {Draft} draft @param {SessionEvent} event @param {ReadonlyMap<number, number>} [numbers] */
function numberOf(draft, event, numbers) {
  return numbers?.get(event.seq) ?? draft.begun++
}

/** @param {Draft} draft @param {'thinking' | 'text'} kind @param {string} text @param {SessionEvent} event @param {ReadonlyMap<number, number>} [numbers] */
function grow(draft, kind, text, event, numbers) {
  if (!text) return
  const at = event.createdAt ?? ''
  const last = draft.parts[draft.parts.length - 1]
  if (last?.kind === kind) draft.parts[draft.parts.length - 1] = { ...last, text: last.text + text, endedAt: at }
  else draft.parts.push({ kind, n: numberOf(draft, event, numbers), seq: event.seq, text, startedAt: at, endedAt: at })
}

/** @param {Draft} draft @param {SessionEvent} event @param {ReadonlyMap<number, number>} [numbers] */
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
 * Where the call without a result stands that *event* belongs to. Some providers count their ids anew in each request:
 * an id whose call has its result is another call.
 * @param {Draft} draft
 * @param {SessionEvent} event
 * @param {boolean} begins
 * @returns {number} -1: there is none
 */
function openCallOf(draft, event, begins) {
  let found = -1
  // Rows of the first gateway have no ids: each beginning is another call, a result ends the oldest one of that name.
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
