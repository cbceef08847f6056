// @ts-check
/** Where the page is: empty at the root of its origin, `/chat` below that path, where others of its kind may be beside it. */
export const PLACE = new URL('.', document.baseURI).pathname.replace(/\/$/, '')
