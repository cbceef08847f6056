import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { initialState, reduce, reduceAll } from '../../app/web/client.js'
import { session } from './sessions.js'

/** @typedef {import('../../app/web/client.js').SessionState} SessionState */

/** @type {{ vectors: { name: string, events: any[], parts: any[], end: any }[] }} */
const { vectors } = JSON.parse(readFileSync(new URL('../fold_vectors.json', import.meta.url), 'utf8'))

/** The parts in the words of the vectors. @param {SessionState} state */
const partsOf = (state) => state.parts.map((part) => part.kind === 'tool'
  ? { kind: 'tool', n: part.n, toolCallId: part.toolCallId, toolName: part.name, toolArgs: part.args, toolResult: part.result, toolSuccess: part.success, durationMs: part.durationMs }
  : { kind: part.kind === 'thinking' ? 'reasoning' : 'text', n: part.n, text: part.text })

/** @param {SessionState} state */
function endOf({ status, text, error, model, usage, durationMs, finishReason }) {
  if (status === 'running') return null
  if (status === 'done') return { type: 'done', content: text, model, usageJson: usage, durationMs, finishReason }
  return { type: 'error', content: text, errorCode: error?.code, errorMsg: error?.message, durationMs }
}

for (const { name, events, parts, end } of vectors) {
  test(`vector: ${name}`, () => {
    const state = reduceAll(initialState(), events)

    assert.deepEqual(partsOf(state), parts)
    assert.deepEqual(endOf(state), end)
    assert.deepEqual(events.reduce(reduce, initialState()), state)
    assert.equal(state.parts.map((part) => (part.kind === 'text' ? part.text : '')).join(''), state.text)
  })
}

test('every event of the vectors is as the API gives it, numbered from 1', () => {
  for (const { name, events } of vectors) {
    assert.deepEqual(events.map((event) => event.seq), events.map((_, index) => index + 1), name)
  }
  assert.equal(new Set(vectors.map(({ name }) => name)).size, vectors.length)
})

test('what remains is what the remaining events fold to, as if the others had never been', () => {
  fc.assert(fc.property(session, (events) => {
    const counting = events.filter((event) => !events.some((later) => later.seq > event.seq && later.supersedesFrom != null && later.supersedesFrom <= event.seq))
    const renumbered = counting.map((event, index) => ({ ...event, seq: index + 1, supersedesFrom: null }))
    /** @param {any[]} parts */
    const shown = (parts) => parts.map(({ n, ...part }) => part)

    const state = reduceAll(initialState('s'), events)

    assert.deepEqual(shown(partsOf(state)), shown(partsOf(reduceAll(initialState('s'), renumbered))))
  }), { numRuns: 500 })
})

test('a part keeps its number while it lives, later parts have higher ones, and none is used again', () => {
  fc.assert(fc.property(session, (events) => {
    /** @type {Map<number, number>} */
    const seqs = new Map()
    let state = initialState('s')
    for (const event of events) {
      state = reduce(state, event)
      const numbers = state.parts.map((part) => part.n)
      assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b))
      for (const { n, seq } of state.parts) {
        assert.equal(seqs.get(n) ?? seq, seq)
        seqs.set(n, seq)
      }
    }
    assert.deepEqual([...seqs.keys()].sort((a, b) => a - b), Array.from({ length: state.begun }, (_, n) => n))
  }), { numRuns: 500 })
})
