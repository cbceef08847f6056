import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { begin, step, wakeAt } from '../../app/web/client/following.js'
import { ApiError } from '../../app/web/client/http.js'
import { numbered } from './sessions.js'

/** @typedef {import('../../app/web/client/connection.js').Following} Following */
/** @typedef {import('../../app/web/client/connection.js').Effect} Effect */
/** @typedef {import('../../app/web/client/connection.js').Happening} Happening */
/** @typedef {import('../../app/web/client/connection.js').Request} Request */

/** @param {any} value */
function freeze(value) {
  if (!value || typeof value !== 'object' || Object.isFrozen(value) || value instanceof Error) return value
  Object.freeze(value)
  for (const inner of Object.values(value)) freeze(inner)
  return value
}

/** Machines that follow one session, a server that has it, and all that is on its way between them. */
class World {
  now = 1000
  /** @type {any[]} */
  events = []
  /** @type {Map<string, { state: Following, hidden: boolean, request: Request | null, told: string[] }>} */
  tabs = new Map()
  /** @type {{ to: string, message: any }[]} */
  onTheWay = []
  requests = 0

  /** @param {string} id @param {any} transport */
  open(id, transport) {
    if (this.tabs.has(id)) return
    const [state, effects] = begin({ tab: id, transport, minPollMs: 200 }, 's', 0, false, this.moment(false))
    this.tabs.set(id, { state: freeze(state), hidden: false, request: null, told: [] })
    this.run(id, effects)
    this.happen(id, { kind: 'time' })
  }

  /** @param {boolean} hidden */
  moment(hidden) {
    return { now: this.now, hidden, random: 0.5, mayHold: true }
  }

  /** @param {string} id @param {Happening} happening */
  happen(id, happening) {
    const tab = this.tabs.get(id)
    if (!tab) return
    const [state, effects] = step(tab.state, freeze({ ...happening, ...this.moment(tab.hidden) }))
    tab.state = freeze(state)
    this.run(id, effects)
  }

  /** @param {string} id @param {Effect[]} effects */
  run(id, effects) {
    const tab = /** @type {NonNullable<ReturnType<typeof this.tabs.get>>} */ (this.tabs.get(id))
    for (const effect of effects) {
      if (effect.kind === 'polling' || effect.kind === 'settling' || effect.kind === 'streaming') {
        assert.equal(tab.request, null, 'a second request beside the first')
        tab.request = effect
        this.requests++
      } else if (effect.kind === 'abort') tab.request = null
      else if (effect.kind === 'post') for (const to of this.tabs.keys()) to !== id && this.onTheWay.push({ to, message: freeze(effect.message) })
      else tab.told.push(effect.kind)
    }
  }

  /** The server answers what a tab asks. @param {string} id @param {'well' | 'fails' | 'nothing'} how */
  answer(id, how) {
    const tab = this.tabs.get(id)
    if (!tab?.request || how === 'nothing') return
    const { kind, request, after } = tab.request
    if (how === 'fails') {
      tab.request = null
      return this.happen(id, { kind: 'failed', request, error: new ApiError(503, 'away', '') })
    }
    if (kind === 'streaming') {
      this.happen(id, { kind: 'chunk', request, events: this.events.slice(after) })
      if (!tab.request) return
      tab.request = null
      return this.happen(id, { kind: 'closed', request })
    }
    tab.request = null
    const page = { sessionId: 's', status: /** @type {any} */ (this.status), events: this.events.slice(after, after + 5), nextAfter: 0, hasMore: this.events.length > after + 5, pollAfterMs: 1500 }
    this.happen(id, { kind: 'page', request, page })
  }

  get status() {
    const last = this.events.at(-1)?.eventType
    return last === 'done' ? 'done' : 'running'
  }

  /** @param {number} ms */
  pass(ms) {
    const end = this.now + ms
    for (let turns = 0; ; turns++) {
      assert.ok(turns < 5000, 'the machines find no rest')
      const due = [...this.tabs].map(([id, { state, hidden }]) => ({ id, at: wakeAt(state, hidden) })).sort((a, b) => a.at - b.at)[0]
      if (!due || due.at > end) break
      this.now = Math.max(this.now, due.at)
      this.happen(due.id, { kind: 'time' })
    }
    this.now = end
  }

  /** From now on the server answers, and no message is lost. @param {number} ms */
  calm(ms) {
    for (const end = this.now + ms; this.now < end; this.pass(50)) {
      for (let most = 1000; this.onTheWay.length; most--) {
        assert.ok(most > 0, 'the tabs answer each other without end')
        const { to, message } = /** @type {any} */ (this.onTheWay.shift())
        this.happen(to, { kind: 'tab', message })
      }
      for (const id of this.tabs.keys()) this.answer(id, 'well')
    }
  }
}

const id = fc.constantFrom('a', 'b', 'c')
const move = fc.oneof(
  { weight: 2, arbitrary: fc.record({ do: fc.constant('open'), id, transport: fc.constantFrom('poll', 'wait', 'sse') }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('write'), count: fc.integer({ min: 1, max: 12 }) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('deliver'), at: fc.nat(), again: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('lose'), at: fc.nat() }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('answer'), id, how: fc.constantFrom('well', 'well', 'fails', 'nothing') }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('pass'), ms: fc.constantFrom(1, 130, 1500, 8000, 50_000) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('see'), id, what: fc.constantFrom('visible', 'hidden', 'online', 'leave') }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('crash'), id }) },
)

/** @param {any[]} moves */
function turmoil(moves) {
  const world = new World()
  const write = () => { world.events = numbered([...world.events, { eventType: 'delta', content: `${world.events.length} ` }]) }
  for (const one of moves) {
    const { onTheWay } = world
    const at = one.at % (onTheWay.length || 1)
    if (one.do === 'open') world.open(one.id, one.transport)
    else if (one.do === 'write') for (let n = 0; n < one.count; n++) write()
    else if (one.do === 'answer') world.answer(one.id, one.how)
    else if (one.do === 'pass') world.pass(one.ms)
    else if (one.do === 'crash' || (one.do === 'see' && one.what === 'leave')) {
      if (one.do === 'see') world.happen(one.id, { kind: 'leave' })
      world.tabs.delete(one.id)
    } else if (one.do === 'see') {
      const tab = world.tabs.get(one.id)
      if (tab) tab.hidden = one.what === 'hidden'
      world.happen(one.id, { kind: one.what })
    } else if (onTheWay.length) {
      const [{ to, message }] = onTheWay.splice(at, 1)
      if (one.do === 'lose') continue
      if (one.again) onTheWay.push({ to, message })
      world.happen(to, { kind: 'tab', message })
    }
  }
  return world
}

test('whatever happened before: when server and messages are back, every tab sees everything once, and the end', () => {
  fc.assert(fc.property(fc.array(/** @type {fc.Arbitrary<any>} */ (move), { maxLength: 60 }), (moves) => {
    const world = turmoil([{ do: 'open', id: 'a', transport: 'poll' }, ...moves])
    world.calm(60_000)
    world.events = numbered([...world.events, { eventType: 'done', content: world.events.map((event) => event.content).join('') }])

    world.calm(60_000)

    for (const { state, told, request } of world.tabs.values()) {
      assert.equal(state.session.after, world.events.length)
      assert.equal(state.session.status, 'done')
      assert.deepEqual(state.connection, { is: 'over' })
      assert.equal(told.filter((kind) => kind === 'resolve').length, 1)
      assert.ok(!told.includes('reject'))
      assert.equal(request, null)
      assert.equal(state.trouble, null)
    }
  }), { numRuns: 300 })
})

test('when all is well, the tabs together ask as often as one of them would', () => {
  fc.assert(fc.property(fc.array(/** @type {fc.Arbitrary<any>} */ (move), { maxLength: 40 }), (moves) => {
    const polling = moves.map((one) => (one.do === 'open' ? { ...one, transport: 'poll' } : one))
    const world = turmoil([{ do: 'open', id: 'a', transport: 'poll' }, { do: 'open', id: 'b', transport: 'poll' }, ...polling])
    fc.pre(world.tabs.size > 0)
    world.calm(60_000)
    const before = world.requests

    world.calm(60_000)

    assert.ok(world.requests - before <= 41, `${world.requests - before} requests in a minute`)
  }), { numRuns: 100 })
})

test('a session that is gone ends in every tab, told by the one that asked', () => {
  const world = new World()
  for (const name of ['a', 'b', 'c']) world.open(name, 'poll')
  world.calm(5000)
  const [leader] = [...world.tabs].filter(([, { state }]) => state.leadership.role === 'leader')
  world.pass(1500)
  const request = /** @type {Request} */ (leader[1].request)

  world.happen(leader[0], { kind: 'failed', request: request.request, error: new ApiError(410, 'gone', 'it is gone') })
  for (const { to, message } of world.onTheWay.splice(0)) world.happen(to, { kind: 'tab', message })

  for (const { told } of world.tabs.values()) assert.deepEqual(told.slice(-2), ['forget', 'reject'])
  assert.deepEqual(world.onTheWay, [])
})

/** One tab that leads and asks, and another that will be heard. */
function leaderWithRequest() {
  const world = new World()
  world.open('b', 'poll')
  world.pass(120)
  const tab = /** @type {NonNullable<ReturnType<typeof world.tabs.get>>} */ (world.tabs.get('b'))
  assert.ok(tab.request)
  return { world, tab, request: /** @type {Request} */ (tab.request).request }
}

test('a tab that another takes the lead from gives up its request', () => {
  const { world, tab } = leaderWithRequest()

  world.happen('b', { kind: 'tab', message: { kind: 'lead', sessionId: 's', tab: 'a', hidden: false, after: 0, within: 4000 } })

  assert.equal(tab.state.leadership.role, 'listener')
  assert.equal(tab.state.connection.is, 'resting')
  assert.equal(tab.request, null)
})

for (const late of /** @type {const} */ (['page', 'failed'])) {
  test(`what comes of a request that was given up (${late}) changes nothing`, () => {
    const { world, tab, request } = leaderWithRequest()
    world.pass(21_000)
    const before = tab.state
    const page = /** @type {any} */ ({ status: 'running', events: [], hasMore: false, pollAfterMs: 1500 })

    world.happen('b', late === 'page' ? { kind: 'page', request, page } : { kind: 'failed', request, error: new ApiError(404, 'gone', '') })

    assert.equal(tab.state, before)
  })
}
