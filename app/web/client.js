// @ts-check
/**
 * Backchat in the browser: start a run, follow it, survive reloads. No dependencies, no build step.
 *
 *     import { createClient } from './client.js'
 *     const client = createClient({ baseUrl: 'https://chat.example.org' })
 *     const { sessionId } = await client.start('Hello')
 *     const state = await client.follow(sessionId, { onState: (s) => (out.textContent = s.text) })
 *
 * The run lives on the server. The client only reads its events, in order and each once, and folds them with `reduce`
 * into what is shown. This file is what others import; the modules are in `client/`:
 *
 *     client.js                          what a page calls
 *       outbox.js pending.js storage.js  what outlives the page
 *       follower.js                      runs the machine of one session
 *         following.js                   the machine: (state, message) → [state, effects]
 *           connection.js answers.js     its values; what the server's answers change
 *           tabs.js                      which of several tabs asks the server
 *           reducer.js parts.js          events → what is shown
 *       api.js http.js environment.js    requests, their words, the browser
 */

export { Client, createClient } from './client/client.js'
export { ApiError, parseStream } from './client/http.js'
export { eventsOf, initialState, reduce, reduceAll, settledState, toolCallsOf } from './client/reducer.js'

/** @typedef {import('./client/types.js').Abortable} Abortable */
/** @typedef {import('./client/types.js').Conversation} Conversation */
/** @typedef {import('./client/types.js').EventPage} EventPage */
/** @typedef {import('./client/types.js').Match} Match */
/** @typedef {import('./client/types.js').Message} Message */
/** @typedef {import('./client/types.js').SessionEvent} SessionEvent */
/** @typedef {import('./client/types.js').SessionRow} SessionRow */
/** @typedef {import('./client/types.js').Started} Started */
/** @typedef {import('./client/types.js').Status} Status */
/** @typedef {import('./client/types.js').Usage} Usage */
/** @typedef {import('./client/parts.js').Part} Part */
/** @typedef {import('./client/parts.js').SessionState} SessionState */
/** @typedef {import('./client/parts.js').TextPart} TextPart */
/** @typedef {import('./client/parts.js').ToolPart} ToolPart */
/** @typedef {import('./client/client.js').ClientOptions} ClientOptions */
/** @typedef {import('./client/client.js').Transport} Transport */
/** @typedef {import('./client/follower.js').FollowOptions} FollowOptions */
/** @typedef {import('./client/outbox.js').Outgoing} Outgoing */
/** @typedef {import('./client/outbox.js').StartOptions} StartOptions */
/** @typedef {import('./client/pending.js').Pending} Pending */
/** @typedef {import('./client/environment.js').Channel} Channel */
/** @typedef {import('./client/environment.js').Clock} Clock */
/** @typedef {import('./client/environment.js').Environment} Environment */
