// @ts-check
/** The chat page: wires the store to what is seen. The address says which conversation is open (`#id`). */

import { Composer } from './composer.js'
import { announce, ask, icon, iconButton, setText } from './dom.js'
import { Sidebar } from './sidebar.js'
import { Store } from './store.js'
import { forgetEverything, readToken, storeToken } from './store/token.js'
import { requestError, texts, troubleInWords } from './texts.js'
import { Thread } from './thread.js'

/** @typedef {import('./store.js').Turn} Turn */

/** @param {string} id @returns {HTMLElement} */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id))

const store = new Store()
/** Longer titles are refused. */
const LONGEST_TITLE = 255
/** The notice about the connection that is shown; '' when all is well. */
let trouble = ''
const keyInAddress = () => {
  try {
    return decodeURIComponent(location.hash.slice(1))
  } catch {
    return ''
  }
}

// All words of the page are in `texts/`; the document has none.
document.documentElement.lang = texts.language
for (const element of document.querySelectorAll('[data-text]')) {
  setText(element, String(texts[/** @type {'search'} */ (/** @type {HTMLElement} */ (element).dataset.text)]))
}
for (const element of document.querySelectorAll('[data-label]')) {
  const label = String(texts[/** @type {'search'} */ (/** @type {HTMLElement} */ (element).dataset.label)])
  element.setAttribute('aria-label', label)
  if (element instanceof HTMLInputElement) element.placeholder = label
  else if (element instanceof HTMLButtonElement) element.title = label
}
for (const element of document.querySelectorAll('[data-icon]')) {
  element.prepend(icon(/** @type {HTMLElement} */ (element).dataset.icon ?? ''))
}

/** @param {unknown} error */
function complain(error) {
  store.note(error)
  if (/** @type {any} */ (error)?.name === 'AbortError') return
  Composer.notice(requestError(error))
  announce(requestError(error))
}

/** @param {Turn} turn */
function stop(turn) {
  if (!trouble) Composer.notice('')
  return store.stop(turn).catch(complain)
}

const actions = {
  stop,
  /** @param {Turn} turn */
  isNext: (turn) => store.turns.find((other) => other.phase === 'running') === turn,
  /** @param {Turn} turn */
  retry: (turn) => void send(turn.message, turn.row?.agentId),
  /** @param {Turn} turn */
  sendAgain: (turn) => void store.sendAgain(turn),
  now: () => store.now(),
  /** @param {Turn} turn */
  async remove(turn) {
    const sure = await ask({
      title: texts.deleteTurnTitle, text: texts.deleteTurnText, confirm: texts.delete, cancel: texts.cancel, danger: true })
    if (sure === null) return
    try {
      await store.removeTurn(turn)
      announce(texts.said.deleted)
      composer.field.focus()
      if (!store.turns.length && !store.conversation.earlierCursor) {
        store.entries.delete(store.openKey)
        store.emit('list')
        location.hash = ''
      }
    } catch (error) {
      complain(error)
    }
  },
}

const thread = new Thread(store, actions, (example) => composer.write(example))
const sidebar = new Sidebar(store)
const composer = new Composer(store, (message, agentId) => void send(message, agentId), () => {
  const running = store.turns.find((turn) => turn.phase === 'running')
  if (running) void stop(running)
})

/** @param {string} message @param {number} [agentId] */
async function send(message, agentId) {
  if (!trouble) Composer.notice('')
  const sending = store.send(message, { agentId })
  if (keyInAddress() !== store.openKey) history.pushState(null, '', `#${encodeURIComponent(store.openKey)}`)
  thread.goToEnd()
  composer.focusSoftly()
  await sending
  announce(texts.said.sent)
}

async function openFromAddress() {
  const key = keyInAddress()
  if (!trouble) Composer.notice('')
  try {
    await store.open(key)
  } catch (error) {
    // The user has opened another conversation meanwhile: stay there.
    if (key === store.openKey) store.note(error, true)
  }
}

store.addEventListener('refused', (event) => complain(/** @type {CustomEvent} */ (event).detail))

store.addEventListener('gone', () => {
  const key = store.openKey
  Composer.notice(texts.gone)
  announce(texts.gone)
  if (keyInAddress() === key) history.replaceState(null, '', location.pathname)
  store.entries.delete(key)
  store.emit('list')
  void store.open('')
})

// head

const rename = iconButton('pencil', texts.rename, async () => {
  const entry = store.entries.get(store.openKey)
  const title = await ask({
    title: texts.renameTitle, confirm: texts.save, cancel: texts.cancel, input: { label: texts.title, value: entry?.title ?? '', longest: LONGEST_TITLE } })
  if (title?.trim()) await store.rename(store.openKey, title.trim()).catch(complain)
})
const remove = iconButton('trash', texts.deleteConversation, async () => {
  const key = store.openKey
  const sure = await ask({ title: texts.deleteTitle, text: texts.deleteText, confirm: texts.delete, cancel: texts.cancel, danger: true })
  if (sure === null) return
  try {
    await store.removeConversation(key)
    announce(texts.said.deleted)
    location.hash = ''
    composer.field.focus()
  } catch (error) {
    complain(error)
  }
})
byId('head-tools').append(rename, remove)

function drawHead() {
  const entry = store.entries.get(store.openKey)
  const title = store.openKey ? entry ? entry.title || texts.untitled : '…' : texts.newConversation
  setText(byId('title'), title)
  document.title = store.openKey ? `${title} · Backchat` : 'Backchat'
  byId('head-tools').hidden = !store.conversation.exists
  rename.hidden = !store.list.hasConversations || store.openKey.startsWith('session:')
}

for (const type of ['list', 'thread', 'turn']) store.addEventListener(type, drawHead)
byId('new').addEventListener('click', () => {
  sidebar.open(false, false)
  if (keyInAddress()) location.hash = ''
  composer.focusSoftly()
})
byId('skip').addEventListener('click', (event) => {
  event.preventDefault()
  composer.field.focus()
})
for (const type of ['hashchange', 'popstate']) {
  window.addEventListener(type, () => {
    if (keyInAddress() !== store.openKey) void openFromAddress()
  })
}

// trouble

store.addEventListener('trouble', (event) => {
  const error = /** @type {CustomEvent} */ (event).detail
  const now = error ? troubleInWords(error) : ''
  if (now === trouble) return
  trouble = now
  Composer.notice(trouble)
  announce(trouble || texts.online)
})
window.addEventListener('online', () => void store.refresh())

let asking = false
async function askForToken() {
  if (asking) return
  asking = true
  const token = await ask({
    title: texts.tokenTitle, text: texts.tokenText, confirm: texts.useToken, cancel: texts.cancel,
    input: { label: texts.token, value: '', type: 'password' } })
  asking = false
  if (!token?.trim()) return
  // It may be somebody else's: nothing of what was shown is theirs.
  if (storeToken(token.trim())) return location.reload()
  showWhetherSignedIn()
  Composer.notice('')
  void start()
}
store.addEventListener('unauthorized', () => {
  Composer.notice(texts.unauthorized, texts.enterToken, () => void askForToken())
  if (!readToken()) void askForToken()
})

/** @type {string | null} */
let shownToken = null
const signOut = byId('sign-out')

function showWhetherSignedIn() {
  shownToken = readToken()
  signOut.hidden = !shownToken
}
showWhetherSignedIn()
signOut.addEventListener('click', async () => {
  const sure = await ask({ title: texts.signOutTitle, text: texts.signOutText, confirm: texts.signOut, cancel: texts.cancel })
  if (sure !== null) leave()
})

function leave() {
  store.client.close()
  // Again at the very end: what was under way may have stored something meanwhile.
  window.addEventListener('pagehide', forgetEverything)
  forgetEverything()
  history.replaceState(null, '', location.pathname)
  location.reload()
}

/** Another tab has signed in or out, perhaps while this one lay in the browser's cache. */
function keepUp() {
  const token = readToken()
  if (token === shownToken) return
  if (token) location.reload()
  else leave()
}
window.addEventListener('storage', keepUp)
window.addEventListener('pageshow', (event) => event.persisted && keepUp())

function start() {
  return Promise.allSettled([store.begin(), openFromAddress()])
}

drawHead()
composer.focusSoftly()
void start()
