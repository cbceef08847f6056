// @ts-check
/** The access token, in this browser, and how all that the page keeps there is forgotten. */

import { PLACE } from './place.js'

const KEY = `backchat:token${PLACE}`

/** @type {string | null} A token that could not be stored lasts as long as the page. */
let held = null

/** @returns {string | null} */
export function readToken() {
  try {
    return held ?? localStorage.getItem(KEY)
  } catch {
    return null
  }
}

/** @param {string} token @returns {boolean} it outlives the page */
export function storeToken(token) {
  held = null
  try {
    localStorage.setItem(KEY, token)
    return true
  } catch {
    held = token
    return false
  }
}

/** Keep nothing of its user: not the token, no message on its way, no draft of this tab. Others of its kind keep theirs. */
export function forgetEverything() {
  held = null
  try {
    removeFrom(localStorage, (key) => key === KEY || key.startsWith(`backchat:${PLACE}:`))
    removeFrom(sessionStorage, (key) => key.startsWith('backchat:'))
  } catch { /* where storage is forbidden nothing was kept */ }
}

/** @param {Storage} storage @param {(key: string) => boolean} isOurs */
function removeFrom(storage, isOurs) {
  for (const key of Object.keys(storage)) if (isOurs(key)) storage.removeItem(key)
}
