// Generated from the JavaScript beside it by `npm run declarations` in tests/web. Do not edit.

/** What outlives the page. */
/** One JSON value per key, so that two tabs never overwrite each other's entries. Never throws. */
export declare class JsonStorage {
    #private;
    /** @param {Pick<Storage, 'getItem' | 'setItem' | 'removeItem' | 'key' | 'length'> | null} storage @param {string} prefix */
    constructor(storage: Pick<Storage, 'getItem' | 'setItem' | 'removeItem' | 'key' | 'length'> | null, prefix: string);
    /** @param {string} name @param {object} value */
    put(name: string, value: object): void;
    /** @param {string} name */
    remove(name: string): void;
    /** @returns {[string, any][]} */
    entries(): [string, any][];
}
