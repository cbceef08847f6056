// @ts-check
/** The server's clock, as its answers tell it. */

/** Clocks that differ by less than this agree: the server tells whole seconds. */
const SKEW_MS = 3000

export class ServerClock {
  /** How far the server's clock is ahead of this one. */
  #skew = 0

  now() {
    return Date.now() + this.#skew
  }

  /** As `fetch` does, and sets the clock. @type {typeof globalThis.fetch} */
  fetch = async (input, init) => {
    const response = await fetch(input, init)
    const skew = Date.parse(response.headers.get('Date') ?? '') - Date.now()
    if (!Number.isNaN(skew)) this.#skew = Math.abs(skew) > SKEW_MS ? skew : 0
    return response
  }
}
