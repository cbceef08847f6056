// What OpenAI's SDK for Node and WorkflowChatTransport do with a server; called as `clients.mjs` is.
import { WorkflowChatTransport } from '@ai-sdk/workflow/client'
import OpenAI from 'openai'

const [url, named] = process.argv.slice(2)
const models = JSON.parse(named)
const QUESTION = 'Сколько? 🙂'

async function openai() {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'any' })
  const messages = [{ role: 'user', content: QUESTION }]
  const whole = await client.chat.completions.create({ model: models.answers, messages })
  let streamed = ''
  for await (const chunk of await client.chat.completions.create({ model: models.answers, messages, stream: true })) {
    streamed += chunk.choices[0]?.delta.content ?? ''
  }
  const created = await client.responses.create({ model: models.answers, input: QUESTION, background: true })
  const numbers = []
  for await (const event of await client.responses.retrieve(created.id, { stream: true })) numbers.push(event.sequence_number)
  const { output_text } = await client.responses.retrieve(created.id)
  const failed = await client.chat.completions.create({ model: models.fails, messages }).catch((error) => error.status)
  return { whole: whole.choices[0].message.content, streamed, numbers, text: output_text, failed }
}

async function workflow() {
  const transport = new WorkflowChatTransport({
    api: `${url}/api/ai/chat`,
    prepareSendMessagesRequest: ({ id, messages }) => ({
      body: { id, messages, model: models.answers },
      headers: { 'content-type': 'application/json', 'x-backchat-ui': '7' },
    }),
  })
  const messages = [{ id: 'm1', role: 'user', parts: [{ type: 'text', text: QUESTION }] }]
  const stream = await transport.sendMessages({ chatId: `w-${Date.now()}`, messages, trigger: 'submit-message' })
  let text = ''
  const types = []
  for await (const chunk of stream) {
    types.push(chunk.type)
    if (chunk.type === 'text-delta') text += chunk.delta
  }
  return { text, first: types[0], last: types.at(-1) }
}

console.log(JSON.stringify({ openai: await openai(), workflow: await workflow() }))
process.exit(0)
