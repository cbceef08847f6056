/** A clock, a server, a bus between tabs and a browser around a tab, all of which keep a record. */

/** Time moves only in `advance`; whatever a timer starts has run before the next timer fires. */
export class FakeClock {
  constructor() {
    this.time = 1_000_000
    this.next = 1
    /** @type {Map<number, { at: number, run: () => void }>} */
    this.timers = new Map()
  }

  now = () => this.time
  random = () => 0.5

  /** @param {() => void} run @param {number} ms */
  setTimeout = (run, ms) => {
    const id = this.next++
    this.timers.set(id, { at: this.time + Math.max(ms, 0), run })
    return id
  }

  /** @param {number} id */
  clearTimeout = (id) => void this.timers.delete(id)

  /** Let everything that can go on without time do so. */
  async settle() {
    for (let turn = 0; turn < 25; turn++) await new Promise((resolve) => setImmediate(resolve))
  }

  /** @param {number} ms */
  async advance(ms) {
    const end = this.time + ms
    await this.settle()
    for (;;) {
      const due = [...this.timers].filter(([, timer]) => timer.at <= end).sort((a, b) => a[1].at - b[1].at)[0]
      if (!due) break
      this.timers.delete(due[0])
      this.time = Math.max(this.time, due[1].at)
      due[1].run()
      await this.settle()
    }
    this.time = end
  }
}

/** What one tab sees of its browser. */
export class FakeTab {
  isHidden = false
  /** @type {Set<(what: any) => void>} */
  listeners = new Set()

  hidden = () => this.isHidden

  /** @param {(what: any) => void} listener */
  listen = (listener) => {
    this.listeners.add(listener)
    return () => void this.listeners.delete(listener)
  }

  /** @param {'visible' | 'hidden' | 'online' | 'leave'} what */
  say(what) {
    if (what === 'visible' || what === 'hidden') this.isHidden = what === 'hidden'
    for (const listener of [...this.listeners]) listener(what)
  }
}

/** Joins channels as BroadcastChannel does: asynchronously, cloned, never to the sender. */
export class FakeBus {
  /** @type {Set<any>} */
  channels = new Set()
  /** @type {any[]} */
  messages = []

  channel() {
    const bus = this
    /** @type {{ onmessage: ((event: { data: any }) => void) | null, postMessage(message: any): void, close(): void }} */
    const own = {
      onmessage: null,
      postMessage(message) {
        if (!bus.channels.has(own)) throw new DOMException('closed', 'InvalidStateError')
        bus.messages.push(message)
        const data = structuredClone(message)
        for (const other of bus.channels) if (other !== own) setImmediate(() => bus.channels.has(other) && other.onmessage?.({ data }))
      },
      close: () => void bus.channels.delete(own),
    }
    this.channels.add(own)
    return own
  }
}

/** localStorage. */
export class FakeStorage {
  /** @type {Map<string, string>} */
  map = new Map()
  get length() { return this.map.size }
  /** @param {number} index */
  key(index) { return [...this.map.keys()][index] ?? null }
  /** @param {string} key */
  getItem(key) { return this.map.get(key) ?? null }
  /** @param {string} key @param {string} value */
  setItem(key, value) { this.map.set(key, String(value)) }
  /** @param {string} key */
  removeItem(key) { this.map.delete(key) }
  clear() { this.map.clear() }
}

/** @param {number} status @param {object} body @param {Record<string, string>} [headers] */
export function json(status, body, headers = {}) {
  const type = status < 400 ? 'application/json' : 'application/problem+json'
  return new Response(JSON.stringify(body), { status, headers: { 'Content-Type': type, ...headers } })
}

/** The HTTP contract over a map, with a record of all requests and faults on demand. */
export class FakeServer {
  /** @param {FakeClock} clock */
  constructor(clock) {
    this.clock = clock
    /** @type {Map<string, any>} */
    this.sessions = new Map()
    /** @type {Map<string, string>} */
    this.keys = new Map()
    /** @type {{ at: number, method: string, path: string, query: URLSearchParams, headers: Headers, body: any }[]} */
    this.requests = []
    /** @type {(() => Response | Promise<Response>)[]} Answers to the next requests, instead of the true ones. */
    this.faults = []
    this.pollAfterMs = 1500
    this.holds = false
    this.limit = 500
  }

  /** @param {string} id */
  add(id) {
    this.sessions.set(id, { sessionId: id, conversationId: `c-${id}`, status: 'running', events: [], waiters: new Set() })
    return id
  }

  /** @param {string} id @param {any} event */
  emit(id, event) {
    const session = this.sessions.get(id)
    session.events.push({
      id: 1000 + session.events.length, sessionId: id, seq: session.events.length + 1, attempt: 1, createdAt: '2025-01-01T00:00:00.000Z', ...event })
    if (event.eventType === 'done' || event.eventType === 'error') session.status = event.eventType
    for (const wake of [...session.waiters]) wake()
  }

  /** @param {string} id @param {string} text */
  delta(id, text) {
    this.emit(id, { eventType: 'delta', content: text })
  }

  /** @param {string} id @param {string} text */
  done(id, text) {
    this.emit(id, { eventType: 'done', content: text, model: 'scripted', usageJson: { totalTokens: 3 }, durationMs: 5 })
  }

  /** Polls so far, as milliseconds since *from*. */
  polls(from = 0) {
    return this.requests.filter((request) => request.path.endsWith('/events')).map((request) => request.at - from)
  }

  /** @param {any} input @param {any} [init] @returns {Promise<Response>} */
  fetch = async (input, init = {}) => {
    const url = new URL(String(input), 'http://server')
    const method = init.method ?? 'GET'
    this.requests.push({
      at: this.clock.now(), method, path: url.pathname, query: url.searchParams, headers: new Headers(init.headers),
      body: init.body && JSON.parse(init.body) })
    await null
    init.signal?.throwIfAborted()
    const fault = this.faults.shift()
    const answer = Promise.resolve(fault ? fault() : this.answer(method, url, init))
    return new Promise((resolve, reject) => {
      init.signal?.addEventListener('abort', () => reject(init.signal.reason))
      answer.then(resolve, reject)
    })
  }

  /** @param {string} method @param {URL} url @param {any} init @returns {Response | Promise<Response>} */
  answer(method, url, init) {
    if (method === 'POST' && url.pathname === '/api/chat/session') {
      const key = new Headers(init.headers).get('Idempotency-Key') ?? ''
      const id = this.keys.get(key) ?? this.add(`s${this.sessions.size + 1}`)
      this.keys.set(key, id)
      return json(202, { sessionId: id, conversationId: `c-${id}`, status: 'running' })
    }
    const [, id, tail] = /^\/api\/chat\/session\/([^/]+)(?:\/(\w+))?$/.exec(url.pathname) ?? []
    const session = this.sessions.get(id)
    if (!session) return json(404, { code: 'not_found', detail: 'no such session' })
    if (tail === 'events') return this.page(session, url.searchParams)
    if (tail === 'stream') return this.stream(session, Number(new Headers(init.headers).get('Last-Event-ID')), init.signal)
    const { events, waiters, ...row } = session
    return json(200, row)
  }

  /** @param {any} session @param {URLSearchParams} query @returns {Promise<Response>} */
  async page(session, query) {
    const after = Number(query.get('after'))
    const wait = Number(query.get('wait'))
    if (this.holds && wait && session.status === 'running' && session.events.length <= after) {
      await new Promise((resolve) => {
        const timer = this.clock.setTimeout(() => wake(), wait * 1000)
        const wake = () => {
          this.clock.clearTimeout(timer)
          session.waiters.delete(wake)
          resolve(null)
        }
        session.waiters.add(wake)
      })
    }
    const events = session.events.slice(after, after + this.limit)
    return json(200, {
      sessionId: session.sessionId, status: session.status, events, nextAfter: after + events.length,
      hasMore: after + events.length < session.events.length, pollAfterMs: this.pollAfterMs })
  }

  /** @param {any} session @param {number} after @param {AbortSignal} [signal] @returns {Response} */
  stream(session, after, signal) {
    const encoder = new TextEncoder()
    let sent = after
    const body = new ReadableStream({
      start(controller) {
        const push = () => {
          for (; sent < session.events.length; sent++) {
            const event = session.events[sent]
            controller.enqueue(encoder.encode(`id: ${event.seq}\ndata: ${JSON.stringify(event)}\n\n`))
          }
          if (session.status === 'running') return
          session.waiters.delete(push)
          controller.close()
        }
        session.waiters.add(push)
        /** @param {any} reason */
        const fail = (reason) => {
          if (session.waiters.delete(push)) controller.error(reason)
        }
        session.break = () => fail(new TypeError('connection lost'))
        signal?.addEventListener('abort', () => fail(signal.reason))
        push()
      },
    })
    return new Response(body, { headers: { 'Content-Type': 'text/event-stream' } })
  }
}
