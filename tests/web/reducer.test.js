import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { eventsOf, initialState, reduce, reduceAll, settledState, toolCallsOf } from '../../app/web/client.js'
import { numbered, session } from './sessions.js'

/** @typedef {import('../../app/web/client.js').SessionEvent} SessionEvent */

/** Batches in which every event of the session occurs at least once, in any order and number. */
const delivery = session.chain((events) => fc.record({
  events: fc.constant(events),
  batches: fc.tuple(
    fc.shuffledSubarray(events, { minLength: events.length }),
    fc.array(events.length ? fc.constantFrom(...events) : fc.constant(null), { maxLength: 30 }),
    fc.array(fc.nat(6), { minLength: 1, maxLength: 80 }),
    fc.boolean(),
  ).map(([shuffled, repeats, sizes, inOrder]) => {
    const all = /** @type {SessionEvent[]} */ ([...(inOrder ? events : shuffled), ...repeats].filter(Boolean))
    // Repeats also come early.
    if (inOrder) for (const repeat of repeats) if (repeat) all.splice(repeat.seq, 0, repeat)
    const batches = []
    for (let at = 0, turn = 0; at < all.length; turn++) {
      const size = sizes[turn % sizes.length] + 1
      batches.push(all.slice(at, at + size))
      at += size
    }
    return batches
  }),
}))

/** @param {SessionEvent[]} events */
const once = (events) => reduceAll(initialState('s'), events)

test('any split, overlap, repetition and order of events gives the state of the list once', () => {
  fc.assert(fc.property(delivery, ({ events, batches }) => {
    const expected = once(events)

    const state = batches.reduce(reduceAll, initialState('s'))

    assert.deepEqual(state, expected)
  }), { numRuns: 1000 })
})

test('one event at a time gives the same as all at once', () => {
  fc.assert(fc.property(session, (events) => {
    assert.deepEqual(events.reduce(reduce, initialState('s')), once(events))
  }), { numRuns: 500 })
})

test('a replay from the start changes nothing, not even the identity of the state', () => {
  fc.assert(fc.property(session, (events) => {
    const state = once(events)

    assert.equal(reduceAll(state, events), state)
  }))
})

test('the text is what no later attempt superseded, or what the terminal event says', () => {
  fc.assert(fc.property(session, (events) => {
    const counting = events.filter((event) => !events.some((later) => later.seq > event.seq && later.supersedesFrom != null && later.supersedesFrom <= event.seq))
    /** @param {string} type */
    const joined = (type) => counting.filter((event) => event.eventType === type).map((event) => event.content).join('')
    const last = events.at(-1)
    const settled = last?.eventType === 'done' ? last.content ?? joined('delta')
      : last?.eventType === 'error' ? last.content || joined('delta') : joined('delta')

    const state = once(events)

    assert.equal(state.text, settled)
    assert.equal(state.thinking, joined('thinking'))
    assert.equal(state.parts.map((part) => (part.kind === 'text' ? part.text : '')).join(''), settled)
    assert.deepEqual(eventsOf(state), events)
  }), { numRuns: 1000 })
})

test('reducing never changes the state it is given', () => {
  fc.assert(fc.property(session, fc.nat(40), (events, cut) => {
    const before = once(events.slice(0, cut))
    const copy = structuredClone(before)

    reduceAll(before, events)

    assert.deepEqual(before, copy)
  }))
})

test('an event counts only when all before it are there', () => {
  const [first, second, third] = numbered([1, 2, 3].map((n) => ({ eventType: 'delta', content: `${n}` })))

  const gap = reduceAll(initialState('s'), [third, first])

  assert.equal(gap.text, '1')
  assert.equal(gap.after, 1)
  assert.equal(reduce(gap, second).text, '123')
})

test('why the model stopped is known from the last event, and from the row', () => {
  const done = /** @type {const} */ ({ eventType: 'done', content: 'cut', finishReason: 'length' })
  const row = /** @type {const} */ ({ status: 'done', finalResponse: 'cut', model: null, finishReason: 'length' })

  assert.equal(once(numbered([done])).finishReason, 'length')
  assert.equal(once(numbered([{ eventType: 'done', content: 'whole' }])).finishReason, null)
  assert.equal(settledState(initialState('s'), row).finishReason, 'length')
  assert.equal(settledState(initialState('s'), { ...row, finishReason: undefined }).finishReason, null)
})

test('a tool call is one part from its start to its result', () => {
  const events = numbered([
    { eventType: 'tool_call', toolCallId: 'x', toolName: 'add', toolArgs: { a: 1 }, toolSuccess: null },
    { eventType: 'tool_call', toolCallId: 'y', toolName: 'sub', toolArgs: { a: 2 }, toolSuccess: null },
    { eventType: 'tool_call', toolCallId: 'x', toolName: 'add', toolResult: '3', toolSuccess: true, durationMs: 7 },
  ])

  const calls = toolCallsOf(once(events))

  assert.deepEqual(calls.map(({ toolCallId, args, result, success, durationMs }) => ({ toolCallId, args, result, success, durationMs })), [
    { toolCallId: 'x', args: { a: 1 }, result: '3', success: true, durationMs: 7 },
    { toolCallId: 'y', args: { a: 2 }, result: null, success: null, durationMs: null },
  ])
})

test('a call id that a provider uses again after its result is another call', () => {
  const call = { eventType: /** @type {const} */ ('tool_call'), toolCallId: 'call_0', toolName: 'add' }

  const calls = toolCallsOf(once(numbered([{ ...call, toolSuccess: null }, { ...call, toolSuccess: true, toolResult: '1' }, { ...call, toolSuccess: null }])))

  assert.deepEqual(calls.map((one) => one.result), ['1', null])
})

test('calls without an id, as the first gateway wrote them, are joined by name', () => {
  const call = { eventType: /** @type {const} */ ('tool_call'), toolName: 'add' }

  const calls = toolCallsOf(once(numbered([{ ...call, toolSuccess: null }, { ...call, toolSuccess: true, toolResult: '1' }])))

  assert.equal(calls.length, 1)
})

test('a resumed attempt takes back the text and the tool call that the dead one had past its checkpoint', () => {
  const state = once(numbered([
    { eventType: 'thinking', content: '' },
    { eventType: 'delta', content: 'Kept. ' },
    { eventType: 'delta', content: 'Lost' },
    { eventType: 'tool_call', toolCallId: 'x', toolName: 'add', toolSuccess: null },
    { eventType: 'thinking', content: '', attempt: 2, supersedesFrom: 3 },
    { eventType: 'delta', content: 'Again', attempt: 2 },
  ]))

  assert.equal(state.text, 'Kept. Again')
  assert.equal(state.attempt, 2)
  assert.deepEqual(toolCallsOf(state), [])
})

test('events of another session are not counted', () => {
  const state = reduce(initialState('s'), { seq: 1, eventType: 'delta', content: 'x', sessionId: 'other' })

  assert.equal(state.after, 0)
})

for (const [name, step] of /** @type {[string, (n: number) => any][]} */ ([
  ['deltas', () => ({ eventType: 'delta', content: 'word ' })],
  ['thoughts, calls and text in turn', (n) => [
    { eventType: 'thinking', content: 'hm' },
    { eventType: 'tool_call', toolCallId: `${n}`, toolName: 't', toolSuccess: null },
    { eventType: 'tool_call', toolCallId: `${n - 1}`, toolName: 't', toolSuccess: true, toolResult: 'x' },
    { eventType: 'delta', content: 'word ' },
  ][n % 4]],
])) {
  test(`5,000 ${name}, one by one, cost milliseconds, and four times as many in pages about four times that`, () => {
    /** @param {number} count @param {number} size */
    const cost = (count, size) => {
      const events = numbered(Array.from({ length: count }, (_, n) => step(n)))
      const batches = Array.from({ length: count / size }, (_, n) => events.slice(n * size, (n + 1) * size))
      const began = process.cpuUsage()
      batches.reduce(reduceAll, initialState('s'))
      return process.cpuUsage(began).user / 1000
    }
    cost(5000, 1)

    const single = Math.min(cost(5000, 1), cost(5000, 1), cost(5000, 1))
    const small = Math.min(cost(5000, 50), cost(5000, 50), cost(5000, 50))
    const large = Math.min(cost(20_000, 50), cost(20_000, 50), cost(20_000, 50))

    assert.ok(single < 1000, `5,000 events took ${single} ms`)
    assert.ok(large < Math.max(small * 10, 400), `${small} ms became ${large} ms`)
  })
}
