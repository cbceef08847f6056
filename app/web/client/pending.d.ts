// Generated from the JavaScript beside it by `npm run declarations` in tests/web. Do not edit.

/** Sessions that were running when this browser last saw them. */
import { JsonStorage } from './storage.js';
export type Pending = {
    sessionId: string;
    conversationId: string | null;
    after: number;
    startedAt: number;
};
/** @typedef {{ sessionId: string, conversationId: string | null, after: number, startedAt: number }} Pending */
export declare class PendingSessions {
    #private;
    /** @param {ConstructorParameters<typeof JsonStorage>[0]} storage @param {string} prefix @param {() => number} now */
    constructor(storage: ConstructorParameters<typeof JsonStorage>[0], prefix: string, now: () => number);
    /** Newest first. @returns {Pending[]} */
    list(): Pending[];
    /** @param {string} sessionId @param {number} after the last seq that was seen @param {string | null} [conversationId] */
    remember(sessionId: string, after: number, conversationId?: string | null): void;
    /** @param {string} sessionId */
    forget(sessionId: string): void;
}
