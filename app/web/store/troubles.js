// @ts-check
/** What fails at the moment, and when to read again what could not be read. */

/** After a read that failed, the first pause and the longest. */
const RECOVERY_MS = 2000
const LONGEST_RECOVERY_MS = 30_000

export class Troubles {
  /** Reads that failed since one succeeded. */
  failures = 0
  /** @type {Map<string, Error>} By session, message, or '' for what is read here. */
  #known = new Map()
  #timer = 0
  #changed
  #readAgain

  /** @param {(newest: Error | null) => void} changed @param {() => void} readAgain */
  constructor(changed, readAgain) {
    this.#changed = changed
    this.#readAgain = readAgain
  }

  /** @param {string} name @param {Error | null} error null: it is over */
  set(name, error) {
    if (error) this.#known.set(name, error)
    else this.#known.delete(name)
    this.#changed([...this.#known.values()].pop() ?? null)
  }

  /** Reading failed: it is tried again, after longer and longer pauses. @param {any} error */
  readAgainSoon(error) {
    this.set('', error)
    if (this.#timer) return
    const pause = Math.min(RECOVERY_MS * 2 ** this.failures++, LONGEST_RECOVERY_MS) * (0.75 + Math.random() / 4)
    this.#timer = window.setTimeout(() => {
      this.#timer = 0
      // Coming back to the tab reads again too.
      if (document.visibilityState === 'visible') this.#readAgain()
    }, Math.max(pause, error.retryAfterMs ?? 0))
  }

  /** A read has begun: no other is needed. */
  reading() {
    clearTimeout(this.#timer)
    this.#timer = 0
  }

  /** A read has succeeded. */
  over() {
    this.failures = 0
    this.set('', null)
  }
}
