// @ts-check
/** What the API answers, as types. No code, so no page loads this file. */

/** @typedef {'running' | 'done' | 'error'} Status */
/**
 * One step of a session, as the server sends it. Unknown fields may appear.
 * @typedef {object} SessionEvent
 * @property {number} seq 1, 2, …, n within the session
 * @property {'thinking' | 'delta' | 'tool_call' | 'done' | 'error'} eventType
 * @property {string} [sessionId]
 * @property {number} [attempt]
 * @property {string} [createdAt] ISO 8601
 * @property {string | null} [content]
 * @property {number | null} [supersedesFrom] earlier events with this seq or above no longer count
 * @property {string | null} [toolCallId]
 * @property {string | null} [toolName]
 * @property {unknown} [toolArgs]
 * @property {string | null} [toolResult]
 * @property {boolean | null} [toolSuccess] null: about to run
 * @property {number | null} [durationMs]
 * @property {string | null} [model]
 * @property {Usage | null} [usageJson]
 * @property {string | null} [errorMsg]
 * @property {string | null} [errorCode]
 * @property {string | null} [finishReason]
 */

/**
 * @typedef {object} Usage
 * @property {number} inputTokens
 * @property {number} outputTokens
 * @property {number} cacheReadTokens
 * @property {number} cacheWriteTokens
 * @property {number} totalTokens
 */

/**
 * @typedef {object} SessionRow
 * @property {string} sessionId
 * @property {string} conversationId
 * @property {Status} status
 * @property {number} agentId
 * @property {string} userMessage
 * @property {string | null} finalResponse
 * @property {string | null} model
 * @property {number} totalTokens
 * @property {string | null} [errorCode]
 * @property {string | null} [errorMessage]
 * @property {string | null} [finishReason]
 * @property {string} createdAt
 * @property {string | null} [startedAt] null while queued
 */

/** @typedef {{ sessionId: string, status: Status, events: SessionEvent[], nextAfter: number, hasMore: boolean, pollAfterMs: number }} EventPage */

/** @typedef {{ sessionId: string, conversationId: string, status: Status }} Started */

/**
 * @typedef {object} Conversation
 * @property {string} conversationId
 * @property {string} title
 * @property {number} agentId
 * @property {number} messageCount
 * @property {string | null} runningSessionId
 * @property {string} createdAt
 * @property {string} updatedAt
 */

/** @typedef {{ conversationId: string, title: string, snippet: string, updatedAt: string, [more: string]: any }} Match */
/** @typedef {{ id: string | number, role: 'user' | 'assistant', content: string, sessionId: string, metadata: any, createdAt: string }} Message */
/** @typedef {{ signal?: AbortSignal }} Abortable */

export {}
