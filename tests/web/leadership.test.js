import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ASK_MS, BEAT_MS, GOODBYE_SPREAD_MS, GRACE_MS, HIDDEN_PATIENCE_MS, join, onEnvironment, onMessage, onTime } from '../../app/web/client/tabs.js'

/** @typedef {import('../../app/web/client/tabs.js').TabMessage} TabMessage */
/** @typedef {import('../../app/web/client/tabs.js').Leadership} Leadership */

/** Tabs that follow one session, and the messages between them, which a test delivers, repeats or loses. */
class Tabs {
  now = 0
  /** @type {Map<string, { leadership: Leadership, hidden: boolean, after: number, beatAt: number }>} */
  open = new Map()
  /** @type {{ to: string, message: TabMessage }[]} */
  onTheWay = []

  /** @param {string} id @param {boolean} [hidden] @param {boolean} [alone] */
  join(id, hidden = false, alone = false) {
    if (this.open.has(id)) return
    const [leadership, word] = join(alone, this.now)
    this.open.set(id, { leadership, hidden, after: 0, beatAt: this.now + BEAT_MS })
    this.say(id, word)
  }

  /** @param {string} id @param {import('../../app/web/client/tabs.js').Word} word */
  say(id, word) {
    const tab = this.open.get(id)
    if (!tab || !word) return
    const message = /** @type {TabMessage} */ ({ kind: word, sessionId: 's', tab: id, hidden: tab.hidden, after: tab.after, within: BEAT_MS })
    if (word === 'lead' || word === 'events') tab.beatAt = this.now + BEAT_MS
    for (const to of this.open.keys()) if (to !== id) this.onTheWay.push({ to, message })
  }

  /** @param {string} id */
  self(id) {
    const tab = /** @type {NonNullable<ReturnType<typeof this.open.get>>} */ (this.open.get(id))
    return { tab: id, hidden: tab.hidden, now: this.now, random: id.charCodeAt(0) % 10 / 10, after: tab.after }
  }

  /** @param {number} at */
  deliver(at) {
    const [{ to, message }] = this.onTheWay.splice(at, 1)
    const tab = this.open.get(to)
    if (!tab) return
    const [leadership, word] = onMessage(tab.leadership, message, this.self(to))
    tab.leadership = leadership
    this.say(to, word)
  }

  /** @param {string} id @param {'visible' | 'hidden' | 'online' | 'leave'} what */
  notice(id, what) {
    const tab = this.open.get(id)
    if (!tab) return
    if (what === 'visible' || what === 'hidden') tab.hidden = what === 'hidden'
    this.say(id, onEnvironment(tab.leadership, what))
    if (what === 'leave') this.open.delete(id)
  }

  /** @param {number} ms what is due then happens; a leader tells what it read, as polling makes it do */
  pass(ms) {
    this.now += ms
    for (const [id, tab] of this.open) {
      const [leadership, word] = onTime(tab.leadership, this.self(id))
      tab.leadership = leadership
      this.say(id, word ?? (leadership.role === 'leader' && this.now >= tab.beatAt ? 'events' : null))
    }
  }

  /** No message is lost any more. @param {number} ms */
  calm(ms) {
    for (let passed = 0; passed < ms; passed += 20) {
      let most = 1000
      while (this.onTheWay.length) {
        assert.ok(most-- > 0, 'the tabs answer each other without end')
        this.deliver(0)
      }
      this.pass(20)
    }
    while (this.onTheWay.length) this.deliver(0)
  }

  leaders() {
    return [...this.open].filter(([, tab]) => tab.leadership.role === 'leader').map(([id]) => id)
  }
}

const ids = ['a', 'b', 'c', 'd']
const id = fc.constantFrom(...ids)
const move = fc.oneof(
  { weight: 2, arbitrary: fc.record({ do: fc.constant('join'), id, hidden: fc.boolean(), alone: fc.boolean() }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('deliver'), at: fc.nat(), again: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('lose'), at: fc.nat() }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('pass'), ms: fc.constantFrom(1, 50, 130, 1000, 4000, 8000, 40_000) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('notice'), id, what: fc.constantFrom('visible', 'hidden', 'online', 'leave') }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('crash'), id }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('read'), id, after: fc.nat(50) }) },
)

/** Whatever happens: messages in any order, twice or never, tabs that come and go. @param {any[]} moves */
function turmoil(moves) {
  const tabs = new Tabs()
  for (const one of moves) {
    const at = one.at % (tabs.onTheWay.length || 1)
    if (one.do === 'join') tabs.join(one.id, one.hidden, one.alone)
    else if (one.do === 'pass') tabs.pass(one.ms)
    else if (one.do === 'notice') tabs.notice(one.id, one.what)
    else if (one.do === 'crash') tabs.open.delete(one.id)
    else if (one.do === 'read') {
      const tab = tabs.open.get(one.id)
      if (tab) tab.after = Math.max(tab.after, one.after)
    } else if (tabs.onTheWay.length) {
      if (one.do === 'lose') tabs.onTheWay.splice(at, 1)
      else {
        if (one.again) tabs.onTheWay.push(tabs.onTheWay[at])
        tabs.deliver(at)
      }
    }
  }
  return tabs
}

/** However things stood: the longest silence that anybody waits out, and then all have heard each other. */
const SETTLED_MS = BEAT_MS + GRACE_MS + HIDDEN_PATIENCE_MS + 2 * BEAT_MS

test('whatever was lost, repeated or late: when messages arrive again, exactly one tab leads, and a visible one if there is one', () => {
  fc.assert(fc.property(fc.array(/** @type {fc.Arbitrary<any>} */ (move), { maxLength: 60 }), (moves) => {
    const tabs = turmoil(moves)
    fc.pre(tabs.open.size > 0)

    tabs.calm(SETTLED_MS)

    const leaders = tabs.leaders()
    assert.equal(leaders.length, 1)
    const visible = [...tabs.open].filter(([, tab]) => !tab.hidden).map(([name]) => name)
    assert.ok(!visible.length || visible.includes(leaders[0]))
    tabs.calm(BEAT_MS * 3)
    assert.deepEqual(tabs.leaders(), leaders)
  }), { numRuns: 300 })
})

test('a leader that vanishes is replaced: at once after a goodbye, else when its next word is overdue', () => {
  fc.assert(fc.property(fc.array(/** @type {fc.Arbitrary<any>} */ (move), { maxLength: 40 }), fc.boolean(), (moves, goodbye) => {
    const tabs = turmoil(moves)
    for (const name of ids.slice(0, 2)) tabs.join(name)
    tabs.calm(SETTLED_MS)
    const [leader] = tabs.leaders()
    for (const tab of tabs.open.values()) tab.hidden = false

    if (goodbye) tabs.notice(leader, 'leave')
    else tabs.open.delete(leader)
    tabs.calm(goodbye ? GOODBYE_SPREAD_MS + 40 : BEAT_MS + GRACE_MS + 40)

    const next = tabs.leaders()
    assert.equal(next.length, 1)
    assert.notEqual(next[0], leader)
  }), { numRuns: 200 })
})

test('no tab that begins is left waiting: it hears from a leader or leads, though every message is lost', () => {
  fc.assert(fc.property(fc.array(/** @type {fc.Arbitrary<any>} */ (move), { maxLength: 40 }), (moves) => {
    const tabs = turmoil(moves)
    tabs.join('z')

    tabs.pass(ASK_MS)

    assert.ok(tabs.leaders().includes('z'))
  }), { numRuns: 200 })
})

test('a function of state and message changes neither of them', () => {
  const listener = Object.freeze(join(false, 0)[0])
  const leader = Object.freeze(join(true, 0)[0])
  const self = Object.freeze({ tab: 'b', hidden: false, now: 5, random: 0.5, after: 3 })
  for (const kind of /** @type {const} */ (['who', 'lead', 'events', 'bye', 'gone'])) {
    for (const state of [listener, leader]) {
      const message = Object.freeze({ kind, sessionId: 's', tab: 'a', hidden: false, after: 9, within: 10 })
      assert.deepEqual(onMessage(state, message, self), onMessage(state, message, self))
    }
  }
})
