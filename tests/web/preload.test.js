import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { posix } from 'node:path'
import { test } from 'node:test'

/** @param {string} name */
const source = (name) => readFileSync(new URL(`../../app/web/${name}`, import.meta.url), 'utf8')

/** @param {string} name @param {Set<string>} [found] all that it imports, directly or not */
function importsOf(name, found = new Set()) {
  for (const [, path] of source(name).matchAll(/^(?:import|export) [^;]*? from '([^']+)'/gm)) {
    const imported = posix.join(posix.dirname(name), path)
    if (found.has(imported)) continue
    found.add(imported)
    importsOf(imported, found)
  }
  return found
}

test('the page asks for all its modules at once, and not one after the other as they import each other', () => {
  const preloaded = [...source('index.html').matchAll(/<link rel="modulepreload" href="web\/([^"]+)">/g)].map(([, name]) => name)

  assert.deepEqual(preloaded, [...importsOf('page.js')].sort())
})
