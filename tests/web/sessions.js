/** Sessions as fast-check makes them up: steps, resumes and ends in any mixture. */

import fc from 'fast-check'

/** @typedef {import('../../app/web/client.js').SessionEvent} SessionEvent */

/** @param {Partial<SessionEvent>[]} events @returns {SessionEvent[]} */
export const numbered = (events) => events.map((event, index) => /** @type {SessionEvent} */ ({ sessionId: 's', seq: index + 1, attempt: 1, ...event }))

export const piece = fc.string({ maxLength: 4, unit: 'grapheme' })
const callId = fc.constantFrom('a', 'b', 'c')
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ eventType: fc.constant('delta'), content: piece }) },
  { weight: 2, arbitrary: fc.record({ eventType: fc.constant('thinking'), content: piece }) },
  { weight: 1, arbitrary: fc.record({ eventType: fc.constant('tool_call'), toolCallId: callId, toolName: fc.constant('t'), toolArgs: fc.constant({ x: 1 }), toolSuccess: fc.constant(null) }) },
  { weight: 1, arbitrary: fc.record({ eventType: fc.constant('tool_call'), toolCallId: callId, toolName: fc.constant('t'), toolResult: piece, toolSuccess: fc.boolean(), durationMs: fc.nat(99) }) },
  { weight: 1, arbitrary: fc.record({ eventType: fc.constant('resume'), back: fc.nat(12) }) },
)
const ending = fc.option(fc.oneof(
  fc.record({ eventType: fc.constant('done'), content: fc.option(piece), model: fc.constant('m'), usageJson: fc.constant({ totalTokens: 1 }) }),
  fc.record({ eventType: fc.constant('error'), content: fc.option(piece), errorCode: fc.constant('cancelled'), errorMsg: fc.constant('stopped') }),
))

/** A whole session: steps, resumes that supersede some of what came before, perhaps an end. */
export const session = fc.tuple(fc.array(/** @type {fc.Arbitrary<any>} */ (step), { maxLength: 40 }), ending).map(([steps, last]) => {
  let attempt = 1
  const events = steps.map((one, index) => {
    if (one.eventType !== 'resume') return { ...one, attempt }
    attempt++
    return { eventType: 'thinking', content: '', attempt, supersedesFrom: Math.max(index + 1 - one.back, 1) }
  })
  return numbered(last ? [...events, { ...last, attempt }] : events)
})
