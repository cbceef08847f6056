/** Writes the declarations of the client beside it, or into the folder that is named. */

import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'

const HEADER = '// Generated from the JavaScript beside it by `npm run declarations` in tests/web. Do not edit.\n\n'
const OPTIONS = [
  '--allowJs', '--checkJs', '--strict', '--target', 'es2023', '--lib', 'es2023,dom,dom.iterable', '--module', 'esnext',
  '--moduleResolution', 'bundler', '--declaration', '--emitDeclarationOnly', '--outDir', '.',
]

const here = import.meta.dirname
const web = join(here, '../../app/web')
const target = resolve(process.argv[2] ?? web)
/** @param {string} folder */
const declarationsIn = (folder) => existsSync(folder)
  ? readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.d.ts')) : []

const fresh = mkdtempSync(join(tmpdir(), 'declarations-'))
try {
  // A copy without the old declarations: the compiler would read those in place of the code.
  cpSync(join(web, 'client.js'), join(fresh, 'client.js'))
  cpSync(join(web, 'client'), join(fresh, 'client'), { recursive: true, filter: (name) => !name.endsWith('.d.ts') })
  execFileSync(join(here, 'node_modules/.bin/tsc'), ['client.js', ...OPTIONS], { cwd: fresh, stdio: 'inherit' })
  for (const stale of declarationsIn(join(target, 'client'))) rmSync(join(target, 'client', stale))
  for (const name of declarationsIn(fresh)) {
    mkdirSync(dirname(join(target, name)), { recursive: true })
    writeFileSync(join(target, name), HEADER + readFileSync(join(fresh, name), 'utf8'))
  }
} finally {
  rmSync(fresh, { recursive: true })
}
