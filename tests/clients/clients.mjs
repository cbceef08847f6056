// What the official clients of tRPC and the AI SDK do with a server; prints what they saw as JSON.
//
//     node clients.mjs URL '{"answers": MODEL, "holds": MODEL, "fails": MODEL}'
import { createTRPCClient, httpBatchLink, httpLink } from '@trpc/client'
import { DefaultChatTransport } from 'ai'
import { JSDOM } from 'jsdom'
import superjson from 'superjson'

const [url, named] = process.argv.slice(2)
const models = JSON.parse(named)
const QUESTION = 'Сколько? 🙂'

async function trpc(link) {
  const { orchestrator } = createTRPCClient({ links: [link] })
  const refused = (call) => call.then(() => null, (error) => [error.data.httpStatus, error.data.code])
  const { sessionId } = await orchestrator.startSession.mutate({ message: QUESTION, model: models.answers })
  const events = []
  for (let after = 0, status = 'running'; status === 'running';) {
    const [page, row] = await Promise.all([
      orchestrator.getEvents.query({ sessionId, after }),
      orchestrator.getSession.query({ sessionId }),
    ])
    if (row.sessionId !== sessionId) throw new Error('answers of a batch are mixed up')
    events.push(...page.events)
    after = page.nextAfter
    status = page.status
    if (status === 'running') await new Promise((resolve) => setTimeout(resolve, Math.min(page.pollAfterMs, 100)))
  }
  const listed = await orchestrator.listSessions.query()
  return {
    seqs: events.map(({ seq }) => seq),
    answer: events.at(-1).content,
    listed: listed.sessions.some((row) => row.sessionId === sessionId),
    absent: await refused(orchestrator.getSession.query({ sessionId: 'absent' })),
    wrong: await refused(orchestrator.startSession.mutate({ message: '' })),
  }
}

async function aiSdk() {
  const dom = new JSDOM('<main></main>', { url, pretendToBeVisual: true })
  // Newer versions of Node have a navigator of their own.
  const { window } = dom
  const globals = { window, document: window.document, navigator: window.navigator }
  for (const [name, value] of Object.entries(globals)) Object.defineProperty(globalThis, name, { value, configurable: true })
  const { createElement, useEffect } = await import('react')
  const { createRoot } = await import('react-dom/client')
  const { useChat } = await import('@ai-sdk/react')
  const headers = { 'x-backchat-ui': '7' }

  /** Shows a chat; `until` waits for a render in which something holds. */
  function mount(options) {
    const transport = new DefaultChatTransport({ api: `${url}/api/ai/chat`, headers })
    const waiting = new Set()
    const shown = { chat: null }
    function Chat() {
      shown.chat = useChat({ transport, ...options })
      useEffect(() => { for (const look of waiting) look() })
      return null
    }
    const root = createRoot(dom.window.document.querySelector('main'))
    root.render(createElement(Chat))
    shown.until = (holds) => new Promise((resolve) => {
      const look = () => { if (shown.chat && holds(shown.chat)) { waiting.delete(look); resolve(shown.chat) } }
      waiting.add(look)
      look()
    })
    shown.unmount = () => root.unmount()
    return shown
  }

  const said = ({ messages }) => messages.at(-1)?.parts.filter(({ type }) => type === 'text').map(({ text }) => text).join('')
  const id = `chat-${Date.now()}`
  const first = mount({ id })
  let chat = await first.until(({ status }) => status === 'ready')
  chat.sendMessage({ text: QUESTION }, { body: { model: models.answers } })
  chat = await first.until((now) => now.status === 'ready' && now.messages.length === 2)
  const answered = { text: said(chat), kinds: chat.messages[1].parts.map(({ type }) => type) }
  chat.sendMessage({ text: 'and now?' }, { body: { model: models.holds } })
  await first.until((now) => now.messages.length === 4 && said(now) === 'part')
  first.unmount()

  const stored = await (await fetch(`${url}/api/ai/chat/${id}/messages`)).json()
  const second = mount({ id, messages: stored, resume: true })
  await second.until((now) => now.messages.length === 4 && said(now) === 'part')
  const stop = await fetch(`${url}/api/ai/chat/${id}/stop`, { method: 'POST' })
  chat = await second.until(({ status }) => status === 'ready')
  const stopped = { status: stop.status, text: said(chat) }
  chat.sendMessage({ text: 'once more' }, { body: { model: models.fails } })
  chat = await second.until(({ status }) => status === 'error')
  const failed = chat.error.message
  second.unmount()
  const idle = await fetch(`${url}/api/ai/chat/${id}/stream`)
  return { answered, stored: stored.map(({ parts }) => parts.map(({ type }) => type)), stopped, failed, idle: idle.status }
}

const api = `${url}/api/trpc`
const seen = {
  batch: await trpc(httpBatchLink({ url: api })),
  superjson: await trpc(httpBatchLink({ url: api, transformer: superjson })),
  single: await trpc(httpLink({ url: api })),
  aiSdk: await aiSdk(),
}
console.log(JSON.stringify(seen))
process.exit(0)
