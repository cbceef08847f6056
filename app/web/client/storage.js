// @ts-check
/** What outlives the page. */

/** One JSON value per key, so that two tabs never overwrite each other's entries. Never throws. */
export class JsonStorage {
  /** @type {Pick<Storage, 'getItem' | 'setItem' | 'removeItem' | 'key' | 'length'> | null} */
  #storage
  #prefix
  /** @type {Map<string, any>} What could not be stored lives as long as the page. */
  #memory = new Map()

  /** @param {Pick<Storage, 'getItem' | 'setItem' | 'removeItem' | 'key' | 'length'> | null} storage @param {string} prefix */
  constructor(storage, prefix) {
    this.#prefix = prefix
    this.#storage = storage
  }

  /** @param {string} name @param {object} value */
  put(name, value) {
    try {
      if (!this.#storage) throw new Error('no storage')
      this.#storage.setItem(this.#prefix + name, JSON.stringify(value))
    } catch {
      this.#memory.set(name, value)
    }
  }

  /** @param {string} name */
  remove(name) {
    this.#memory.delete(name)
    try {
      this.#storage?.removeItem(this.#prefix + name)
    } catch { /* storage is forbidden */ }
  }

  /** @returns {[string, any][]} */
  entries() {
    const found = new Map(this.#memory)
    try {
      for (let index = 0; index < (this.#storage?.length ?? 0); index++) {
        const key = this.#storage?.key(index) ?? ''
        if (!key.startsWith(this.#prefix)) continue
        try {
          const value = JSON.parse(this.#storage?.getItem(key) ?? '')
          if (value && typeof value === 'object') found.set(key.slice(this.#prefix.length), value)
        } catch { /* not written by this client */ }
      }
    } catch { /* storage was forbidden meanwhile */ }
    return [...found]
  }
}
