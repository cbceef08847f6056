// @ts-check
/** The access token, in this browser. */

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

/** @param {string} token */
export function storeToken(token) {
  held = null
  try {
    localStorage.setItem(KEY, token)
  } catch {
    held = token
  }
}
