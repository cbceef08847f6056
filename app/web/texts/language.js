// @ts-check
/** The language of the page, and how it writes numbers. */

const LANGUAGES = /** @type {const} */ (['en', 'ru'])

const wanted = globalThis.navigator?.languages ?? []
/** @param {string} tag as `en-GB` */
const nameOf = (tag) => tag.toLowerCase().split('-')[0]

/** The first of the browser's languages that there is. */
export const language = wanted.map((tag) => LANGUAGES.find((name) => name === nameOf(tag))).find(Boolean) ?? 'en'
export const locale = wanted.find((tag) => nameOf(tag) === language) ?? language

const numbers = new Intl.NumberFormat(locale)
const plurals = new Intl.PluralRules('ru')

/** @param {number} value */
export function number(value) {
  return numbers.format(value)
}

/** The Russian form of a noun after *n*. @param {number} n @param {string} one @param {string} few @param {string} many */
export function plural(n, one, few, many) {
  const form = plurals.select(n)
  return form === 'one' ? one : form === 'few' ? few : many
}
