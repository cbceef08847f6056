import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ApiError, createClient, parseStream } from '../../app/web/client.js'
import { Api } from '../../app/web/client/api.js'
import { Outbox } from '../../app/web/client/outbox.js'
import { FakeClock, FakeServer, FakeStorage, FakeTab, json } from './fakes.js'

/** @param {import('../../app/web/client.js').ClientOptions} [options] */
function setUp(options = {}) {
  const clock = new FakeClock()
  const server = new FakeServer(clock)
  const storage = new FakeStorage()
  const tab = new FakeTab()
  /** @param {import('../../app/web/client.js').ClientOptions} [more] */
  const makeClient = (more) => createClient({
    fetch: server.fetch, storage: /** @type {any} */ (storage), clock, environment: tab, channel: null, ...options, ...more })
  return { clock, server, storage, tab, makeClient, client: makeClient(), begun: clock.now() }
}

/** @param {Promise<any>} promise */
function outcome(promise) {
  /** @type {{ value?: any, error?: any, ended: boolean }} */
  const box = { ended: false }
  promise.then((value) => Object.assign(box, { value, ended: true }), (error) => Object.assign(box, { error, ended: true }))
  return box
}

test('a started session is followed to its end', async () => {
  const { client, server, clock } = setUp()
  const { sessionId } = await client.start('hello')
  /** @type {string[]} */
  const shown = []
  const ended = outcome(client.follow(sessionId, { onState: (state) => shown.push(state.text) }))

  await clock.advance(1500)
  server.delta(sessionId, 'Hi')
  await clock.advance(1500)
  server.delta(sessionId, ' there')
  server.done(sessionId, 'Hi there')
  await clock.advance(1500)

  assert.deepEqual(shown, ['Hi', 'Hi there'])
  assert.equal(ended.value.status, 'done')
  assert.equal(ended.value.text, 'Hi there')
})

test('events are told once each and in order, to late listeners too', async () => {
  const { client, server, clock } = setUp()
  server.add('s')
  for (const text of 'abc') server.delta('s', text)
  /** @type {number[]} */
  const early = []
  /** @type {number[]} */
  const late = []
  client.follow('s', { onEvent: (event) => early.push(event.seq) })
  await clock.advance(2000)

  client.follow('s', { after: 1, onEvent: (event) => late.push(event.seq) })
  server.delta('s', 'd')
  await clock.advance(2000)

  assert.deepEqual(early, [1, 2, 3, 4])
  assert.deepEqual(late, [2, 3, 4])
})

test('it polls at the advice of the server: once per 1.5 s, and not once after the end', async () => {
  const { client, server, clock, begun } = setUp()
  server.add('s')
  client.follow('s')

  await clock.advance(60_000)
  server.done('s', 'x')
  await clock.advance(1500)
  const polls = server.polls(begun)
  await clock.advance(600_000)

  assert.deepEqual(polls.slice(0, 4), [0, 1500, 3000, 4500])
  assert.equal(polls.length, 42)
  assert.equal(server.polls().length, 42)
})

test('other advice is followed, but senseless advice makes no busy loop', async () => {
  const { client, server, clock } = setUp()
  server.add('s')
  client.follow('s')
  server.pollAfterMs = 500
  await clock.advance(10_000)
  const brisk = server.polls().length
  server.pollAfterMs = -1

  await clock.advance(10_000)

  assert.equal(brisk, 21)
  assert.ok(server.polls().length - brisk <= 51)
})

test('pages are read without a pause while there is more', async () => {
  const { client, server, clock } = setUp()
  server.add('s')
  for (let n = 0; n < 1200; n++) server.delta('s', 'x')
  let text = ''
  client.follow('s', { onState: (state) => { text = state.text } })

  await clock.advance(1)

  assert.equal(text.length, 1200)
  assert.deepEqual(server.requests.map((request) => request.query.get('after')), ['0', '500', '1000'])
})

test('a server that promises more and gives nothing is not asked in a circle', async () => {
  const { client, server, clock } = setUp()
  server.add('s')
  for (let n = 0; n < 1000; n++) server.faults.push(() => json(200, { status: 'running', events: [], hasMore: true, pollAfterMs: 1500 }))
  client.follow('s')

  await clock.advance(15_000)

  assert.equal(server.polls().length, 11)
})

test('a hidden tab polls slower, and at once when it is seen again', async () => {
  const { client, server, clock, tab, begun } = setUp()
  server.add('s')
  tab.isHidden = true
  client.follow('s')
  await clock.advance(20_000)
  assert.deepEqual(server.polls(begun), [0, 6000, 12_000, 18_000])

  tab.say('visible')
  await clock.advance(1500)

  assert.deepEqual(server.polls(begun).slice(4), [20_000, 21_500])
})

test('errors are waited out with growing pauses and told; the return of the network ends the pause', async () => {
  const { client, server, clock, tab, begun } = setUp()
  server.add('s')
  for (let n = 0; n < 6; n++) server.faults.push(() => Promise.reject(new TypeError('network')))
  /** @type {(Error | null)[]} */
  const troubles = []
  client.follow('s', { onConnectionChange: (trouble) => troubles.push(trouble) })

  await clock.advance(14_000)
  assert.deepEqual(server.polls(begun), [0, 375, 1125, 2625, 5625, 11_625])
  tab.say('online')
  await clock.advance(0)

  assert.equal(server.polls(begun)[6], 14_000)
  assert.ok(troubles[0] instanceof TypeError)
  assert.equal(troubles.at(-1), null)
})

test('a server that is away for an hour is asked rarely, and found again', async () => {
  const { client, server, clock } = setUp()
  server.add('s')
  server.done('s', 'x')
  for (let n = 0; n < 150; n++) server.faults.push(() => json(503, { code: 'database_unavailable' }))
  const ended = outcome(client.follow('s'))

  await clock.advance(3_600_000)

  assert.equal(ended.value.text, 'x')
  assert.ok(server.polls().length <= 151)
})

test('Retry-After is kept even if the tab becomes visible meanwhile', async () => {
  const { client, server, clock, tab, begun } = setUp()
  server.add('s')
  server.faults.push(() => json(429, { code: 'slow_down' }, { 'Retry-After': '20' }))
  client.follow('s')
  await clock.advance(5000)

  tab.say('visible')
  await clock.advance(20_000)

  assert.deepEqual(server.polls(begun).slice(0, 2), [0, 20_000])
})

test('a request that never answers is given up and made again', async () => {
  const { client, server, clock } = setUp()
  server.add('s')
  server.done('s', 'x')
  server.faults.push(() => new Promise(() => {}))
  const ended = outcome(client.follow('s'))

  await clock.advance(19_000)
  assert.equal(ended.ended, false)
  await clock.advance(3000)

  assert.equal(ended.value.text, 'x')
})

test('a connection from before the laptop slept is given up on waking', async () => {
  const { client, server, clock, tab } = setUp()
  server.add('s')
  server.done('s', 'x')
  server.faults.push(() => new Promise(() => {}))
  const ended = outcome(client.follow('s'))
  await clock.advance(10_000)

  tab.say('visible')
  await clock.advance(1)

  assert.equal(ended.value.text, 'x')
})

test('an answer that is no JSON, as a captive portal gives, is trouble and no end', async () => {
  const { client, server, clock } = setUp()
  server.add('s')
  server.done('s', 'x')
  server.faults.push(() => new Response('<html>Log in</html>', { status: 200 }), () => json(200, { hello: 1 }))
  const ended = outcome(client.follow('s'))

  await clock.advance(5000)

  assert.equal(ended.value.text, 'x')
})

for (const status of [404, 410]) {
  test(`a session that is gone (${status}) rejects and is no longer pending`, async () => {
    const { client, server, clock } = setUp()
    const { sessionId } = await client.start('hello')
    server.faults.push(() => json(status, { code: 'gone', detail: 'it is gone' }))
    const ended = outcome(client.follow(sessionId))

    await clock.advance(10_000)

    assert.ok(ended.error instanceof ApiError)
    assert.equal(ended.error.status, status)
    assert.deepEqual(client.pending(), [])
    assert.equal(server.polls().length, 1)
  })
}

test('an aborted follow stops polling and leaves the session pending', async () => {
  const { client, server, clock } = setUp()
  const { sessionId } = await client.start('hello')
  const controller = new AbortController()
  const ended = outcome(client.follow(sessionId, { signal: controller.signal }))
  await clock.advance(1500)

  controller.abort()
  await clock.advance(10_000)

  assert.equal(ended.error.name, 'AbortError')
  assert.equal(server.polls().length, 2)
  assert.equal(client.pending().length, 1)
})

test('a signal that outlives its sessions keeps no listener of theirs', async () => {
  const { client, server, clock } = setUp()
  const { signal } = new AbortController()
  let listeners = 0
  const { addEventListener, removeEventListener } = signal
  signal.addEventListener = (/** @type {any[]} */ ...given) => (listeners++, /** @type {any} */ (addEventListener).apply(signal, given))
  signal.removeEventListener = (/** @type {any[]} */ ...given) => (listeners--, /** @type {any} */ (removeEventListener).apply(signal, given))
  const followed = ['done', 'gone'].map((name) => outcome(client.follow(server.add(name), { signal })))
  assert.equal(listeners, 2)

  server.done('done', 'x')
  server.sessions.delete('gone')
  await clock.advance(5000)

  assert.equal(followed[0].value.text, 'x')
  assert.equal(followed[1].error.status, 404)
  assert.equal(listeners, 0)
  assert.equal(clock.timers.size, 0)
})

test('a listener that leaves does not stop the others, and following anew works at once', async () => {
  const { client, server, clock } = setUp()
  server.add('s')
  const first = new AbortController()
  const left = outcome(client.follow('s', { signal: first.signal }))
  await clock.advance(100)
  first.abort()

  const ended = outcome(client.follow('s'))
  server.done('s', 'x')
  await clock.advance(2000)

  assert.ok(left.error)
  assert.equal(ended.value.text, 'x')
})

test('a listener that throws harms nobody', async (t) => {
  const { client, server, clock } = setUp()
  /** @type {unknown[]} */
  const thrown = []
  /** @param {unknown} error */
  const note = (error) => thrown.push(error)
  const others = process.listeners('uncaughtException')
  process.removeAllListeners('uncaughtException').on('uncaughtException', note)
  t.after(() => {
    process.off('uncaughtException', note)
    for (const other of others) process.on('uncaughtException', other)
  })
  server.add('s')
  server.delta('s', 'x')
  server.done('s', 'x')
  const ended = outcome(client.follow('s', { onEvent: () => { throw new Error('mine') } }))

  await clock.advance(2000)

  assert.equal(ended.value.text, 'x')
  assert.equal(thrown.length, 2)
})

test('a session that ended without a terminal event is told by its row', async () => {
  const { client, server, clock } = setUp()
  server.add('s')
  server.delta('s', 'par')
  Object.assign(server.sessions.get('s'), { status: 'error', finalResponse: 'partial', errorCode: 'worker_lost', errorMessage: 'the worker died' })
  const ended = outcome(client.follow('s'))

  await clock.advance(100)

  assert.equal(ended.value.text, 'partial')
  assert.deepEqual(ended.value.error, { code: 'worker_lost', message: 'the worker died' })
})

// starting

test('a POST is tried again with the same key, so the message runs once', async () => {
  const { client, server, clock } = setUp()
  server.faults.push(
    async () => { // it arrived, but its answer did not
      await server.answer('POST', new URL('http://server/api/chat/session'), { headers: server.requests.at(-1)?.headers })
      throw new TypeError('network')
    },
    () => json(503, { code: 'database_unavailable' }, { 'Retry-After': '1' }))
  const started = outcome(client.start('hello', { conversationId: 'c' }))

  await clock.advance(5000)

  assert.equal(started.value.sessionId, 's1')
  assert.equal(server.sessions.size, 1)
  assert.equal(server.requests.length, 3)
  assert.equal(new Set(server.requests.map((request) => request.headers.get('Idempotency-Key'))).size, 1)
  assert.deepEqual(server.requests[2].body, { message: 'hello', conversationId: 'c' })
})

test('two messages have two keys', async () => {
  const { client, server } = setUp()

  await client.start('hello')
  await client.start('hello')

  assert.equal(server.keys.size, 2)
})

test('a refusal is no reason to try again', async () => {
  const { client, server } = setUp()
  server.faults.push(() => json(409, { code: 'conversation_busy', detail: 'It is busy.' }))

  await assert.rejects(client.start('hello'), (/** @type {ApiError} */ error) => error.code === 'conversation_busy' && error.detail === 'It is busy.')

  assert.equal(server.requests.length, 1)
})

test('starting gives up after its time and says why', async () => {
  const { client, server, clock } = setUp()
  for (let n = 0; n < 50; n++) server.faults.push(() => json(502, {}))
  const started = outcome(client.start('hello', { retryForMs: 10_000 }))

  await clock.advance(20_000)

  assert.equal(started.error.status, 502)
  assert.deepEqual(client.outgoing(), [])
})

// reload

test('after a reload all pending sessions go on, from the start or from the last seq', async () => {
  const { client, server, clock, makeClient } = setUp()
  const { sessionId } = await client.start('hello')
  client.follow(sessionId).catch(() => {})
  server.delta(sessionId, 'one')
  await clock.advance(3000)
  client.close()
  server.delta(sessionId, 'two')
  server.done(sessionId, 'onetwo')

  const [whole] = makeClient({}).resumeAll()
  await clock.advance(100)

  assert.equal(whole.after, 1)
  assert.equal((await whole.ended).text, 'onetwo')
  assert.deepEqual(makeClient().pending(), [])
})

test('resuming from the last seq tells only what is new', async () => {
  const { client, server, clock, makeClient } = setUp()
  const { sessionId } = await client.start('hello')
  client.follow(sessionId).catch(() => {})
  server.delta(sessionId, 'one')
  await clock.advance(3000)
  client.close()
  server.delta(sessionId, 'two')
  /** @type {number[]} */
  const told = []

  makeClient().resumeAll({ from: 'last', onEvent: (event) => told.push(event.seq) })
  await clock.advance(100)

  assert.deepEqual(told, [2])
})

test('a message whose POST had no answer before the reload is sent again with its key', async () => {
  const { client, server, clock, makeClient } = setUp()
  server.faults.push(() => new Promise(() => {}))
  client.start('hello', { agentId: 2 }).catch(() => {})
  await clock.advance(1000)

  const [started] = await makeClient().resend()

  assert.equal(started.sessionId, 's1')
  assert.deepEqual(server.requests.map((request) => request.body), Array(2).fill({ message: 'hello', agentId: 2 }))
  assert.equal(server.requests[0].headers.get('Idempotency-Key'), server.requests[1].headers.get('Idempotency-Key'))
})

test('messages of one conversation arrive in the order they were written, whatever fails on the way', async () => {
  const { client, server, clock } = setUp()
  for (let n = 0; n < 4; n++) server.faults.push(() => { throw new TypeError('Failed to fetch') })
  const written = ['one', 'two', 'three']

  const sent = written.map((message) => client.start(message, { conversationId: 'c' }))
  await clock.advance(60_000)
  await Promise.all(sent)

  const arrived = server.requests.slice(4).map((request) => request.body.message)
  assert.deepEqual(arrived, written)
})

test('what has arrived leaves nothing behind, be it refused or not', async () => {
  const { server, storage, clock, tab } = setUp()
  const api = new Api('', server.fetch, null, clock)
  const outbox = new Outbox(api, clock, tab, /** @type {any} */ (storage), 'outbox:')
  server.faults.push(() => json(413, { code: 'body_too_large' }))
  const sent = ['one', 'two', 'three'].map((message) => outcome(outbox.send(message, { conversationId: 'c' })))
  assert.equal(outbox.size, 1)
  assert.equal(outbox.list().length, 3)

  await clock.advance(0)

  assert.deepEqual(sent.map(({ ended }) => ended), [true, true, true])
  assert.equal(outbox.size, 0)
  assert.deepEqual(outbox.list(), [])
  assert.equal(storage.length, 0)
})

test('a message that is refused does not hold up the one after it, nor another conversation', async () => {
  const { client, server, clock } = setUp()
  server.faults.push(() => new Promise(() => {}), () => json(413, { code: 'body_too_large' }))
  const long = outcome(client.start('long', { conversationId: 'c' }))

  const elsewhere = outcome(client.start('other', { conversationId: 'd' }))
  const after = outcome(client.start('short', { conversationId: 'c' }))
  await clock.advance(0)
  assert.equal(elsewhere.error.status, 413)
  assert.equal(after.ended, false)
  await clock.advance(60_000)

  assert.equal(long.value.status, 'running')
  assert.equal(after.value.status, 'running')
})

test('what is being sent is told, also after a reload', async () => {
  const { client, server, clock, makeClient } = setUp()
  server.faults.push(() => new Promise(() => {}))
  for (const message of ['one', 'two']) client.start(message, { conversationId: 'c', agentId: 2, idempotencyKey: `key-${message}` }).catch(() => {})
  await clock.advance(1000)

  const outgoing = makeClient().outgoing()

  assert.deepEqual(outgoing.map(({ message, options }) => ({ message, ...options })), [
    { message: 'one', conversationId: 'c', agentId: 2, idempotencyKey: 'key-one' },
    { message: 'two', conversationId: 'c', agentId: 2, idempotencyKey: 'key-two' },
  ])
})

test('a message from yesterday is not sent any more', async () => {
  const { client, server, clock, makeClient } = setUp()
  server.faults.push(() => new Promise(() => {}))
  client.start('hello').catch(() => {})
  await clock.advance(0)
  clock.time += 86_400_000

  assert.deepEqual(await makeClient().resend(), [])
  assert.equal(server.requests.length, 1)
})

test('storage that throws or holds rubbish costs only the resume after a reload', async () => {
  const storage = new FakeStorage()
  storage.map.set('backchat::session:x', '{not json')
  storage.map.set('backchat::session:y', 'null')
  storage.setItem = () => { throw new DOMException('full', 'QuotaExceededError') }
  const { client, server, clock } = setUp({ storage: /** @type {any} */ (storage) })
  const { sessionId } = await client.start('hello')
  assert.equal(client.pending().length, 1)
  server.done(sessionId, 'x')

  const ended = outcome(client.follow(sessionId))
  await clock.advance(100)

  assert.equal(ended.value.text, 'x')
  assert.deepEqual(client.pending(), [])
})

// wait and SSE

test('with `wait` news arrives when it happens, in few requests', async () => {
  const { client, server, clock } = setUp({ transport: 'wait' })
  server.holds = true
  server.add('s')
  let text = ''
  client.follow('s', { onState: (state) => { text = state.text } })
  await clock.advance(40_000)
  const idle = server.polls().length

  server.delta('s', 'now')
  await clock.advance(10)

  assert.equal(text, 'now')
  assert.equal(idle, 2)
})

test('a server that does not hold requests is polled as usual', async () => {
  const { client, server, clock } = setUp({ transport: 'wait' })
  server.add('s')
  client.follow('s')

  await clock.advance(15_000)

  assert.equal(server.polls().length, 11)
})

test('at most three requests are held, so that others find a free connection', async () => {
  const { client, server, clock } = setUp({ transport: 'wait' })
  server.holds = true
  for (const id of ['a', 'b', 'c', 'd', 'e']) client.follow(server.add(id))

  await clock.advance(0)

  assert.equal(server.requests.filter((request) => request.query.get('wait')).length, 3)
})

test('with SSE events arrive as they happen, in one request', async () => {
  const { client, server, clock } = setUp({ transport: 'sse' })
  server.add('s')
  let text = ''
  const ended = outcome(client.follow('s', { onState: (state) => { text = state.text } }))
  await clock.advance(10)

  server.delta('s', 'now')
  await clock.advance(1)
  assert.equal(text, 'now')
  server.done('s', 'now')
  await clock.advance(1)

  assert.equal(ended.value.status, 'done')
  assert.equal(server.requests.length, 1)
})

test('a broken stream goes on where it was', async () => {
  const { client, server, clock } = setUp({ transport: 'sse' })
  server.add('s')
  /** @type {number[]} */
  const told = []
  client.follow('s', { onEvent: (event) => told.push(event.seq) })
  await clock.advance(10)
  server.delta('s', 'a')
  await clock.advance(1)
  server.sessions.get('s').break()

  await clock.advance(1000)
  server.delta('s', 'b')
  await clock.advance(1)

  assert.deepEqual(told, [1, 2])
  assert.equal(server.requests[1].headers.get('Last-Event-ID'), '1')
})

test('without SSE on the way it polls by itself', async () => {
  const { client, server, clock } = setUp({ transport: 'sse' })
  server.add('s')
  server.delta('s', 'x')
  server.faults.push(() => json(404, {}), () => json(200, {}))
  let text = ''
  client.follow('s', { onState: (state) => { text = state.text } })

  await clock.advance(5000)

  assert.equal(text, 'x')
  assert.deepEqual(server.requests.map((request) => request.path.split('/').at(-1)), ['stream', 'stream', 'events', 'events', 'events', 'events'])
})

test('a stream that falls silent is opened again', async () => {
  const { client, server, clock } = setUp({ transport: 'sse' })
  server.add('s')
  client.follow('s')

  await clock.advance(46_000)

  assert.equal(server.requests.length, 2)
})

test('server-sent events are read across any cut', () => {
  const whole = ': keep-alive\n\nid: 1\ndata: {"a":\ndata: 1}\n\nid: 2\r\ndata:{"b":2}\r\n\r\n'

  for (let cut = 0; cut <= whole.length; cut++) {
    const first = parseStream(whole.slice(0, cut))
    const second = parseStream(first.rest + whole.slice(cut))
    assert.deepEqual([...first.data, ...second.data].map((item) => JSON.parse(item)), [{ a: 1 }, { b: 2 }])
    assert.equal(second.rest, '')
  }
})

test('the token is sent as a bearer token, from a function too', async () => {
  const { makeClient, server } = setUp()

  await makeClient({ token: 'abc' }).start('x')
  await makeClient({ token: async () => 'def' }).start('x')

  assert.deepEqual(server.requests.map((request) => request.headers.get('Authorization')), ['Bearer abc', 'Bearer def'])
})
