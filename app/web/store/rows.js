// @ts-check
/** What the page makes of the API's rows: lines of the list, and turns of a conversation. */

/** @typedef {import('../client.js').SessionState} SessionState */
/** @typedef {import('../client.js').SessionRow} SessionRow */

/**
 * A line of the list.
 * @typedef {object} Entry
 * @property {string} key the conversation's id; `session:…` for a session of no conversation
 * @property {string} title
 * @property {number} at when it last moved, in ms
 * @property {'' | 'running' | 'stopped' | 'failed'} status
 * @property {boolean} unread it was answered while another one was open
 */

/**
 * A message and its answer.
 * @typedef {object} Turn
 * @property {string} id the session's id, or a name of its own until there is one
 * @property {string} message
 * @property {SessionRow | null} row null: not known to the server yet
 * @property {SessionState | null} state null: its events have not been read
 * @property {'sending' | 'unsent' | 'running' | 'ended'} phase
 * @property {any} problem why it could not be sent
 * @property {number} at by the server's clock
 * @property {boolean} [stopping] the user has stopped it, and its end has not been read yet
 * @property {number} [agentId] whom it was sent to
 */

const LONGEST_TITLE = 80

/** @param {string | null | undefined} time ISO 8601 @returns {number} */
export const ms = (time) => (time ? Date.parse(time) : 0)

/** The line of the list that a session belongs to. @param {SessionRow} row */
export const keyOf = (row) => row.conversationId ?? keyOfSession(row.sessionId)

/** The line of a session of no conversation. @param {string} sessionId */
export const keyOfSession = (sessionId) => `session:${sessionId}`

/** The session that is a line of its own; null: the key is a conversation's. @param {string} key */
export const sessionIn = (key) => (key.startsWith('session:') ? key.slice(8) : null)

/** @param {string} text */
export function titleOf(text) {
  const letters = [...text.trim().split('\n', 1)[0].slice(0, 200)]
  return letters.length > LONGEST_TITLE ? `${letters.slice(0, LONGEST_TITLE - 1).join('').trimEnd()}…` : letters.join('')
}

/** @param {{ status: string, errorCode?: string | null }} row @returns {Entry['status']} */
export function statusOf({ status, errorCode }) {
  if (status === 'running') return 'running'
  if (status === 'done') return ''
  return errorCode === 'cancelled' ? 'stopped' : 'failed'
}

/** A turn that the server knows. @param {SessionRow} row @param {SessionState | null} state @returns {Turn} */
export function turnOf(row, state) {
  return {
    id: row.sessionId, message: row.userMessage, row, state, problem: null, at: ms(row.createdAt), phase: row.status === 'running' ? 'running' : 'ended' }
}

/** A turn that the server does not know yet. @param {Pick<Turn, 'id' | 'message' | 'at' | 'agentId'>} written @returns {Turn} */
export function newTurn(written) {
  return { ...written, row: null, state: null, phase: 'sending', problem: null }
}
