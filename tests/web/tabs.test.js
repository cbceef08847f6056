import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createClient } from '../../app/web/client.js'
import { FakeBus, FakeClock, FakeServer, FakeStorage, FakeTab, json } from './fakes.js'

function setUp() {
  const clock = new FakeClock()
  const server = new FakeServer(clock)
  const bus = new FakeBus()
  const storage = new FakeStorage()
  const openTab = () => {
    const tab = new FakeTab()
    const channel = bus.channel()
    let alive = true
    /** When this tab asked the server. @type {number[]} */
    const asked = []
    const client = createClient({
      fetch: (input, init) => {
        asked.push(clock.now())
        return alive ? server.fetch(input, init) : new Promise(() => {})
      },
      clock: { now: clock.now, random: clock.random, clearTimeout: clock.clearTimeout, setTimeout: (run, ms) => clock.setTimeout(() => alive && run(), ms) },
      environment: tab, storage: /** @type {any} */ (storage), channel })
    /** @type {{ text: string, seqs: number[], ended: any, error: any, troubles: any[] }} */
    const seen = { text: '', seqs: [], ended: null, error: null, troubles: [] }
    /** @param {string} id */
    const follow = (id) => {
      client.follow(id, {
        onEvent: (event) => seen.seqs.push(event.seq),
        onState: (state) => { seen.text = state.text },
        onConnectionChange: (trouble) => seen.troubles.push(trouble),
      }).then((state) => { seen.ended = state }, (error) => { seen.error = error })
    }
    /** The tab dies: no goodbye, no timers. */
    const crash = () => {
      alive = false
      channel.close()
    }
    return { client, tab, channel, asked, seen, follow, crash }
  }
  return { clock, server, bus, openTab }
}

/** Two tabs that show session s: a leads and polls, b hears from it. */
async function leaderAndFollower() {
  const { clock, server, bus, openTab } = setUp()
  server.add('s')
  const [a, b] = [openTab(), openTab()]
  a.follow('s')
  await clock.advance(500)
  b.follow('s')
  await clock.advance(500)
  return { clock, server, bus, openTab, a, b }
}

test('two tabs show one session, and one of them polls', async () => {
  const { clock, server, openTab } = setUp()
  server.add('s')
  const [a, b] = [openTab(), openTab()]
  a.follow('s')
  await clock.advance(500)
  b.follow('s')

  for (let n = 0; n < 40; n++) {
    server.delta('s', `${n} `)
    await clock.advance(1500)
  }
  server.done('s', 'all')
  await clock.advance(1500)

  assert.ok(server.polls().length <= 43, `${server.polls().length} polls`)
  for (const tab of [a, b]) {
    assert.deepEqual(tab.seen.seqs, Array.from({ length: 41 }, (_, n) => n + 1))
    assert.equal(tab.seen.ended.text, 'all')
  }
  assert.equal(clock.timers.size, 0)
})

test('a tab that joins late gets what came before from the other tab', async () => {
  const { clock, server, openTab } = setUp()
  server.add('s')
  for (let n = 0; n < 700; n++) server.delta('s', 'x')
  const [a, b] = [openTab(), openTab()]
  a.follow('s')
  await clock.advance(500)
  const before = server.requests.length

  b.follow('s')
  await clock.advance(200)

  assert.equal(b.seen.text.length, 700)
  assert.equal(server.requests.length, before)
})

test('two tabs that begin at the same moment agree on one', async () => {
  const { clock, server, openTab } = setUp()
  server.add('s')
  const tabs = [openTab(), openTab(), openTab()]
  for (const tab of tabs) tab.follow('s')
  await clock.advance(2000)
  const before = server.polls().length

  await clock.advance(15_000)

  assert.equal(server.polls().length - before, 10)
})

test('a tab that closes leaves the poll to another at once', async () => {
  const { clock, server, a, b } = await leaderAndFollower()

  a.tab.say('leave')
  a.crash()
  server.delta('s', 'x')
  await clock.advance(300)

  assert.equal(b.seen.text, 'x')
})

test('a tab that crashes is replaced within seconds', async () => {
  const { clock, server, a, b } = await leaderAndFollower()

  a.crash()
  server.delta('s', 'x')
  await clock.advance(10_000)

  assert.equal(b.seen.text, 'x')
})

test('a visible tab takes the poll from one that becomes hidden, and keeps it', async () => {
  const { clock, server, a, b } = await leaderAndFollower()

  a.tab.say('hidden')
  await clock.advance(100)
  const [before, asked] = [server.polls().length, a.asked.length]
  await clock.advance(15_000)

  assert.ok(Math.abs(server.polls().length - before - 10) <= 1)
  assert.equal(a.asked.length, asked)
})

test('a hidden tab that becomes visible takes the poll from a hidden one', async () => {
  const { clock, server, openTab } = setUp()
  server.add('s')
  const [a, b] = [openTab(), openTab()]
  b.tab.isHidden = true
  a.follow('s')
  b.follow('s')
  await clock.advance(500)
  a.tab.say('hidden')
  await clock.advance(3000)

  b.tab.say('visible')
  server.delta('s', 'x')
  await clock.advance(300)

  assert.equal(b.seen.text, 'x')
  assert.ok(b.asked.length)
})

test('two hidden tabs together poll at the slow pace', async () => {
  const { clock, server, openTab } = setUp()
  server.add('s')
  const [a, b] = [openTab(), openTab()]
  for (const { tab, follow } of [a, b]) {
    tab.isHidden = true
    follow('s')
  }
  await clock.advance(10_000)
  const before = server.polls().length

  await clock.advance(60_000)

  assert.ok(server.polls().length - before <= 11)
})

test('while the server is away one tab tries, and both come back', async () => {
  const { clock, server, a, b } = await leaderAndFollower()
  const before = server.polls().length
  for (let n = 0; n < 8; n++) server.faults.push(() => json(503, {}))

  await clock.advance(40_000)
  const tries = server.polls().length - before
  server.done('s', 'x')
  await clock.advance(40_000)

  assert.ok(tries <= 9, `${tries} tries`)
  assert.equal(a.seen.ended.text, 'x')
  assert.equal(b.seen.ended.text, 'x')
})

test('a lost message between tabs is read from the server', async () => {
  const { clock, server, bus, a, b } = await leaderAndFollower()
  bus.channels.delete(b.channel)
  server.delta('s', 'lost ')
  await clock.advance(1500)
  bus.channels.add(b.channel)

  server.delta('s', 'and found')
  await clock.advance(2500)

  assert.equal(b.seen.text, 'lost and found')
})

test('a session that is gone is gone in all tabs', async () => {
  const { clock, server, a, b } = await leaderAndFollower()

  server.sessions.delete('s')
  await clock.advance(3000)

  assert.equal(a.seen.error.status, 404)
  assert.equal(b.seen.error.status, 404)
  assert.equal(server.polls().length, 2)
})

test('a session that this tab has just started is polled at once, without asking the others', async () => {
  const { clock, server, openTab } = setUp()
  const a = openTab()
  const { sessionId } = await a.client.start('hello')
  server.delta(sessionId, 'x')

  a.follow(sessionId)
  await clock.advance(0)

  assert.equal(a.seen.text, 'x')
})

test('a closed client can follow again, alone, and leaves no timer behind when it is closed again', async () => {
  const { clock, server, openTab } = setUp()
  server.add('s')
  const a = openTab()
  a.follow('s')
  await clock.advance(500)
  a.client.close()
  await clock.advance(0)
  assert.equal(a.seen.error.name, 'AbortError')

  a.follow('s')
  server.delta('s', 'x')
  await clock.advance(2000)
  assert.equal(a.seen.text, 'x')

  a.client.close()
  const polls = server.polls().length
  await clock.advance(60_000)
  assert.equal(server.polls().length, polls)
  assert.equal(clock.timers.size, 0)
})

test('a tab that had trouble while it led hears from the next leader that the server answers', async () => {
  const { clock, server, a, b } = await leaderAndFollower()
  server.faults.push(() => json(503, {}), () => json(503, {}))
  await clock.advance(1500)
  assert.ok(a.seen.troubles.at(-1))

  a.tab.say('hidden')
  await clock.advance(500)

  assert.equal(b.seen.troubles.length, 0)
  assert.equal(a.seen.troubles.at(-1), null)
})
