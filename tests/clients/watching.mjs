// Clients of tRPC and the AI SDK while something dies; called as `clients.mjs` is, and with the name of one.
import { WorkflowChatTransport } from '@ai-sdk/workflow/client'
import { createTRPCClient, httpBatchLink } from '@trpc/client'
import { DefaultChatTransport } from 'ai'

const [url, named, kind] = process.argv.slice(2)
const model = JSON.parse(named).slow
const QUESTION = 'Сколько? 🙂'
const pause = () => new Promise((resolve) => setTimeout(resolve, 100))

/** fetch that waits for a server which is on its way back. */
async function patiently(...request) {
  for (let tries = 0; ; tries++) {
    try {
      return await fetch(...request)
    } catch (error) {
      if (tries > 600) throw error
      await pause()
    }
  }
}

const messages = [{ id: 'm1', role: 'user', parts: [{ type: 'text', text: QUESTION }] }]
const headers = { 'content-type': 'application/json', 'x-backchat-ui': '7' }

async function shown(stream) {
  let text = ''
  let resets = 0
  const starts = []
  for await (const chunk of stream) {
    if (chunk.type === 'reset-step') { text = ''; resets++ }
    if (chunk.type === 'text-start') starts.push(chunk.id)
    if (chunk.type === 'text-delta') text += chunk.delta
  }
  return { text, resets, twice: starts.length - new Set(starts).size }
}

const kinds = {
  async aiSdk() {
    const transport = new DefaultChatTransport({ api: `${url}/api/ai/chat`, headers, body: { model } })
    return shown(await transport.sendMessages({ chatId: crypto.randomUUID(), messages, trigger: 'submit-message' }))
  },
  async workflow() {
    console.error = () => {}
    const transport = new WorkflowChatTransport({
      api: `${url}/api/ai/chat`,
      fetch: patiently,
      prepareSendMessagesRequest: ({ id }) => ({ body: { id, messages, model }, headers }),
      prepareReconnectToStreamRequest: ({ api }) => ({ api, headers }),
    })
    return shown(await transport.sendMessages({ chatId: crypto.randomUUID(), messages, trigger: 'submit-message' }))
  },
  async trpc() {
    const { orchestrator } = createTRPCClient({ links: [httpBatchLink({ url: `${url}/api/trpc`, fetch: patiently })] })
    const { sessionId } = await orchestrator.startSession.mutate({ message: QUESTION, model })
    const seqs = []
    for (let after = 0; ;) {
      const page = await orchestrator.getEvents.query({ sessionId, after }).catch(() => null)
      if (page) {
        seqs.push(...page.events.map(({ seq }) => seq))
        after = page.nextAfter
        if (page.status !== 'running') return { text: page.events.at(-1).content, seqs }
      }
      await pause()
    }
  },
}

console.log(JSON.stringify(await kinds[kind]()))
process.exit(0)
