// @ts-check
/** What the client needs of the browser; tests bring their own. */

/**
 * @typedef {object} Clock
 * @property {() => number} now milliseconds
 * @property {(run: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} random 0 to 1
 */

/**
 * @typedef {object} Environment
 * @property {() => boolean} hidden the tab is not visible
 * @property {(listener: (what: 'visible' | 'hidden' | 'online' | 'leave') => void) => () => void} listen returns how to stop
 */

/**
 * @typedef {object} Channel what a BroadcastChannel does
 * @property {(message: any) => void} postMessage
 * @property {((event: { data: any }) => void) | null} onmessage
 * @property {() => void} close
 */

/** @type {Clock} */
export const systemClock = {
  now: () => Date.now(),
  setTimeout: (run, ms) => setTimeout(run, ms),
  clearTimeout: (timer) => clearTimeout(timer),
  random: () => Math.random(),
}

/** @type {Environment} */
export const browserEnvironment = {
  hidden: () => globalThis.document?.visibilityState === 'hidden',
  listen(listener) {
    if (typeof document === 'undefined') return () => {}
    const seen = () => listener(document.visibilityState === 'hidden' ? 'hidden' : 'visible')
    const online = () => listener('online')
    const leave = () => listener('leave')
    /** @param {PageTransitionEvent} event */
    const shown = (event) => event.persisted && listener('visible')
    document.addEventListener('visibilitychange', seen)
    window.addEventListener('online', online)
    window.addEventListener('pagehide', leave)
    window.addEventListener('pageshow', shown)
    return () => {
      document.removeEventListener('visibilitychange', seen)
      window.removeEventListener('online', online)
      window.removeEventListener('pagehide', leave)
      window.removeEventListener('pageshow', shown)
    }
  },
}

/** @returns {Storage | null} */
export function browserStorage() {
  try {
    return globalThis.localStorage ?? null
  } catch {
    return null // reading the property throws where the user forbids storage
  }
}

/** @param {string} name @returns {Channel | null} */
export function browserChannel(name) {
  if (typeof document === 'undefined' || typeof BroadcastChannel === 'undefined') return null
  return /** @type {Channel} */ (new BroadcastChannel(name))
}
