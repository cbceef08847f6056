// @ts-check
/** All words of the page in the reader's language (`texts/` has one file for each), and how it writes times. */

import { en } from './texts/en.js'
import { language, locale, number } from './texts/language.js'
import { ru } from './texts/ru.js'

export const texts = { en, ru }[language]

const clock = new Intl.DateTimeFormat(locale, { hour: '2-digit', minute: '2-digit' })
const day = new Intl.DateTimeFormat(locale, { day: 'numeric', month: 'short' })
const exact = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short' })

/** @param {number} ms */
export function duration(ms) {
  const [milli, second, minute] = texts.units
  if (ms >= 0 && ms < 100) return `${ms < 1 ? '<1' : Math.round(ms)}\u00a0${milli}`
  const total = Math.max(ms, 0) / 1000
  if (total < 60) return `${number(total < 10 ? Math.round(total * 10) / 10 : Math.round(total))}\u00a0${second}`
  return `${number(Math.floor(total / 60))}\u00a0${minute} ${Math.floor(total % 60)}\u00a0${second}`
}

/** Whole seconds, for a count that runs. @param {number} ms */
export function ticking(ms) {
  return ms < 1000 ? `0\u00a0${texts.units[1]}` : duration(Math.floor(ms / 1000) * 1000)
}

/** Which heading of the list a time belongs under. @param {number} at @param {number} now @returns {'today' | 'yesterday' | 'earlier'} */
export function dayOf(at, now) {
  const midnight = new Date(now).setHours(0, 0, 0, 0)
  return at >= midnight ? 'today' : at >= midnight - 86_400_000 ? 'yesterday' : 'earlier'
}

/** The time of a day, or the day. @param {number} at @param {number} now */
export function shortTime(at, now) {
  return dayOf(at, now) === 'earlier' ? day.format(at) : clock.format(at)
}

/** @param {number} at */
export function fullTime(at) {
  return exact.format(at)
}

/** Why a run failed, in words. @param {{ code: string, message: string }} error */
export function runError(error) {
  return texts.runErrors[error.code] ?? (error.message || texts.runErrors.internal_error)
}

/** Why a request that is repeated by itself has failed so far, in words. @param {any} error */
export function troubleInWords(error) {
  return error?.status >= 400 ? texts.busy : texts.offline
}

/** Why a request failed, in words. @param {any} error */
export function requestError(error) {
  if (!error?.status) return texts.unreachable
  if (error.status === 429) return texts.tooMany
  return texts.requestErrors[error.code] ?? (error.status >= 500 ? texts.requestErrors.internal_error : error.detail || texts.requestFailed)
}
