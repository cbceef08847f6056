// @ts-check
/** Errors, pauses between tries, queries, server-sent events, ids. */

/** The server refused, or what answered was not this server (`code: 'bad_response'`, `status` as received). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} code stable, for programs
   * @param {string} detail one sentence, for a person
   * @param {Record<string, any>} [problem] the whole problem+json
   * @param {number | null} [retryAfterMs]
   */
  constructor(status, code, detail, problem = {}, retryAfterMs = null) {
    super(detail || code)
    this.name = 'ApiError'
    this.status = status
    this.code = code
    this.detail = detail
    this.problem = problem
    this.retryAfterMs = retryAfterMs
  }

  /** Trying the same request again may help. */
  get transient() {
    return this.code === 'bad_response' || [408, 425, 429].includes(this.status) || this.status >= 500
  }
}

/** Trying again may help. @param {unknown} error */
export const isTransient = (error) => (error instanceof ApiError ? error.transient : true)

const BACKOFF_MS = 500
const MAX_BACKOFF_MS = 30_000

/**
 * How long to wait before the next try.
 * @param {number} failures in a row, before this one
 * @param {unknown} error
 * @param {number} random 0 to 1
 */
export function retryPauseMs(failures, error, random) {
  const full = Math.min(BACKOFF_MS * 2 ** failures, MAX_BACKOFF_MS)
  return Math.max(full * (0.5 + random / 2), (error instanceof ApiError && error.retryAfterMs) || 0)
}

/** @param {string | null} header @param {number} now @returns {number | null} */
export function parseRetryAfter(header, now) {
  if (!header) return null
  const seconds = Number(header)
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - now
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), 3_600_000) : null
}

/** @returns {string} */
export function uuid() {
  // randomUUID exists in secure contexts only; a chat on http://192.168.… has none.
  const { randomUUID } = /** @type {Partial<Crypto>} */ (crypto)
  if (randomUUID) return randomUUID.call(crypto)
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  bytes[6] = (bytes[6] & 0x0f) | 0x40
  bytes[8] = (bytes[8] & 0x3f) | 0x80
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

/** @param {Record<string, string | number | null | undefined>} values */
export function query(values) {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(values)) if (value != null && value !== '') search.set(name, String(value))
  const text = search.toString()
  return text && `?${text}`
}

/**
 * The data of the complete server-sent events in *buffer*, and what is left of it.
 * @param {string} buffer
 * @returns {{ data: string[], rest: string }}
 */
export function parseStream(buffer) {
  const blocks = buffer.split(/\r?\n\r?\n/)
  const rest = blocks.pop() ?? ''
  const data = blocks
    .map((block) => block.split(/\r?\n/).filter((line) => line.startsWith('data:'))
      .map((line) => line.slice(5).replace(/^ /, '')).join('\n'))
    .filter(Boolean)
  return { data, rest }
}
