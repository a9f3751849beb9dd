/**
 * Seeds defects one by one in a temporary copy and shows which test catches each: `npm run defects`, or with names of
 * patches for some. Every `test/defects/*.patch` names the test files that are to catch it. Fails when a defect survives.
 * With `--check` it only makes sure that every patch still applies.
 */
import { spawn, spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const FOLDER = 'test/defects'
/** For one test, which a defect may make hang, and for all that one defect is tried with. */
const TEST_TIMEOUT = 10_000
const RUN_TIMEOUT = 180_000
const SIGNALS = /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])

/** @typedef {{ name: string, patch: string, title: string, tests: string[] }} Defect */

const args = process.argv.slice(2)
const names = args.filter((arg) => !arg.startsWith('--'))
const defects = readDefects().filter(({ name }) => names.length === 0 || names.includes(name))
const problems = defects.flatMap((defect) => problemsOf(defect))
const unknown = names.filter((name) => !defects.some((defect) => defect.name === name))
problems.push(...unknown.map((name) => `${name}: there is no such patch in ${FOLDER}`))
for (const problem of problems) console.error(problem)
if (problems.length > 0) process.exitCode = 1
else if (!args.includes('--check')) await trySome()

async function trySome() {
  const copy = makeCopy()
  const sound = await runTests(copy, [...new Set(defects.flatMap(({ tests }) => tests))])
  if (sound.length > 0) {
    console.error(`Without any defect these fail already:\n  ${sound.join('\n  ')}`)
    process.exitCode = 1
    return
  }
  let caught = 0
  for (const { name, patch, title, tests } of defects) {
    git(copy, ['apply', patch])
    const failed = await runTests(copy, tests)
    git(copy, ['apply', '--reverse', patch])
    if (failed.length > 0) caught++
    const [first = 'SURVIVED', ...others] = failed
    console.log(`${name}: ${title}\n  → ${first}${others.length > 0 ? ` (and ${others.length} more)` : ''}`)
  }
  console.log(`\n${caught} of ${defects.length} defects caught`)
  if (caught < defects.length) process.exitCode = 1
}

/** @returns {Defect[]} */
function readDefects() {
  const files = readdirSync(join(root, FOLDER)).filter((file) => file.endsWith('.patch'))
  return files.sort().map((file) => {
    const patch = join(root, FOLDER, file)
    const text = readFileSync(patch, 'utf8')
    const header = (/** @type {string} */ key) => new RegExp(`^${key}: (.+)$`, 'm').exec(text)?.[1]?.trim() ?? ''
    const tests = header('Tests').split(' ').filter(Boolean)
    return { name: basename(file, '.patch'), patch, title: header('Defect'), tests }
  })
}

/** @param {Defect} defect @returns {string[]} */
function problemsOf({ name, patch, title, tests }) {
  const found = []
  if (title === '') found.push(`${name}: has no line "Defect: …"`)
  if (tests.length === 0) found.push(`${name}: has no line "Tests: …"`)
  for (const file of tests) if (!existsSync(join(root, file))) found.push(`${name}: there is no ${file}`)
  const { status, stderr } = git(root, ['apply', '--check', patch])
  if (status !== 0) found.push(`${name}: does not apply any more; seed the same defect in the code of today\n${stderr}`)
  return found
}

/** What is in the working tree, ignored files apart: what a developer has changed is what the tests are tried on. */
function makeCopy() {
  const copy = mkdtempSync(join(tmpdir(), 'corral-defects-'))
  process.once('exit', () => rmSync(copy, { recursive: true, force: true }))
  chmodSync(copy, 0o755) // For the users that isolated workers run as: they have to get to the fixtures.
  const { stdout } = git(root, ['ls-files', '-z', '--cached', '--others', '--exclude-standard'])
  for (const path of stdout.split('\0')) {
    if (path === '' || path === 'node_modules' || !existsSync(join(root, path))) continue
    mkdirSync(join(copy, dirname(path)), { recursive: true })
    cpSync(join(root, path), join(copy, path))
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'))
  // Workers are started by a built file; tests that need more of the build bring it up to date themselves.
  cpSync(join(root, 'dist'), join(copy, 'dist'), { recursive: true })
  return copy
}

/**
 * @param {string} copy @param {string[]} files
 * @returns {Promise<string[]>} what failed, by title
 */
async function runTests(copy, files) {
  const report = join(copy, 'report.json')
  rmSync(report, { force: true })
  const vitest = join(copy, 'node_modules/vitest/vitest.mjs')
  const output = ['--reporter=json', `--outputFile=${report}`, `--testTimeout=${TEST_TIMEOUT}`]
  // In a group of its own: the tests run in processes that outlive the one that started them.
  const child = spawn(process.execPath, [vitest, 'run', ...files, ...output], {
    cwd: copy,
    stdio: 'ignore',
    detached: true,
  })
  const kill = (/** @type {NodeJS.Signals} */ signal) => process.kill(-Number(child.pid), signal)
  const stop = (/** @type {NodeJS.Signals} */ signal) => {
    kill(signal)
    process.exit(1)
  }
  for (const signal of SIGNALS) process.once(signal, stop)
  const timer = setTimeout(() => kill('SIGKILL'), RUN_TIMEOUT)
  await new Promise((resolve) => child.once('close', resolve))
  clearTimeout(timer)
  for (const signal of SIGNALS) process.off(signal, stop)
  if (!existsSync(report)) return [`the tests do not end within ${RUN_TIMEOUT / 1000} s`]
  return failuresOf(JSON.parse(readFileSync(report, 'utf8')))
}

/**
 * A file of which no test was run, as it could not be loaded or prepared, catches nothing: its defect is no defect but nonsense. One
 * that fails behind its tests, by what they leave, does.
 *
 * @param {{ testResults: { name: string, message: string, status: string, assertionResults: { status: string, fullName: string }[] }[] }} report
 */
function failuresOf({ testResults }) {
  return testResults.flatMap(({ name, message, status, assertionResults }) => {
    const failed = assertionResults.filter((result) => result.status === 'failed').map(({ fullName }) => fullName)
    if (status !== 'failed' || failed.length > 0) return failed
    if (assertionResults.every((result) => result.status !== 'passed')) {
      throw new Error(`${name} could not be run: ${message}`)
    }
    return [`${basename(name)}: ${message}`]
  })
}

/** @param {string} cwd @param {string[]} command */
function git(cwd, command) {
  // A copy in a temporary folder is no repository, and must not be taken for part of one.
  const env = { ...process.env, GIT_CEILING_DIRECTORIES: tmpdir() }
  return spawnSync('git', command, { cwd, env, encoding: 'utf8' })
}
