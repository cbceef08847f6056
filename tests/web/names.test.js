import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { tokenizer } from 'acorn'

const WEB = join(import.meta.dirname, '../../app/web')
const LONGEST_MODULE = 300

/** Words that names are made of no more; today's are environment, storage, actions, onLeader, onMessage, onFailure. */
const OLD_WORDS = new Set(['surroundings', 'shelf', 'shelves', 'deed', 'deeds', 'heed', 'hear', 'stumble'])
/** Names that are no more; today's is onConnectionChange. */
const OLD_NAMES = new Set(['onTrouble'])

const modules = readdirSync(WEB, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.js') && !name.startsWith('vendor'))

/** @param {string} name */
const source = (name) => readFileSync(join(WEB, name), 'utf8')

/** The names that a module uses: those of its tokens, and the types in its comments. @param {string} text */
function namesOf(text) {
  /** @type {Set<string>} */
  const names = new Set()
  /** @param {boolean} block @param {string} comment */
  const onComment = (block, comment) => {
    for (const [tag] of comment.matchAll(/\{[^{}]*\}|@(?:param|typedef|property) \{[^{}]*\} [\w$]+/g)) {
      for (const [name] of tag.matchAll(/[\w$]+/g)) names.add(name)
    }
  }
  for (const token of tokenizer(text, { ecmaVersion: 'latest', sourceType: 'module', onComment })) {
    if (token.type.label === 'name' || token.type.label === 'privateId') names.add(text.slice(token.start, token.end).replace('#', ''))
  }
  return names
}

/** @param {string} name @returns {string[]} `pendingShelf` has two */
const wordsOf = (name) => name.split(/[^A-Za-z]+|(?<=[a-z])(?=[A-Z])/).filter(Boolean).map((word) => word.toLowerCase())

/** @param {string} text */
const oldNames = (text) => [...namesOf(text)].filter((name) => OLD_NAMES.has(name) || wordsOf(name).some((word) => OLD_WORDS.has(word)))

test('an old name is found wherever it stands, and in no text', () => {
  const planted = {
    'class Shelf {}': 'Shelf',
    'const x = { pendingShelf: 1 }': 'pendingShelf',
    'class A { #deeds = 1 }': 'deeds',
    'a.hear(1)': 'hear',
    '/** @type {Surroundings} */': 'Surroundings',
    '/** @typedef {object} Deeds */': 'Deeds',
    'follow(id, { onTrouble })': 'onTrouble',
    'const f = (a) => `${a.heed}`': 'heed',
  }
  for (const [text, name] of Object.entries(planted)) {
    assert.deepEqual(oldNames(text), [name], text)
  }
  for (const text of ['const s = "I hear a deed"', '// whoever may hear it', 'const t = `shelf`', 'const trouble = 1', 'heard()', 'x = /heed/']) {
    assert.deepEqual(oldNames(text), [], text)
  }
})

test('no module keeps an old name', () => {
  const found = modules.flatMap((name) => oldNames(source(name)).map((old) => `${name}: ${old}`))

  assert.deepEqual(found, [])
})

test(`no module is longer than ${LONGEST_MODULE} lines`, () => {
  const lengths = modules.map((name) => ({ name, lines: source(name).split('\n').length - 1 }))

  assert.deepEqual(lengths.filter(({ lines }) => lines > LONGEST_MODULE), [])
})

test('every module is looked at, those of folders too', () => {
  for (const name of ['client.js', 'client/client.js', 'client/tabs.js', 'store/rows.js']) assert.ok(modules.includes(name), name)
})
