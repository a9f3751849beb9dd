/**
 * Makes a clone ready to run: `node scripts/prepare.js build` installs and builds what is missing or out of date, and
 * is silent and quick when nothing is. `install FOLDER` does so for a folder with a lock file of its own. Runs before `npm start` and `npm test`, when nothing may be installed yet, so
 * it uses Node's built-ins only.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const at = (/** @type {string} */ path) => join(root, path)

const INPUTS = [
  'src',
  'examples',
  'tsconfig.json',
  'tsconfig.build.json',
  'tsconfig.examples.json',
  'package-lock.json',
]
const PROJECTS = /** @type {const} */ ([
  ['tsconfig.build.json', 'dist'],
  ['tsconfig.examples.json', 'build/examples'],
])
const STAMP = 'build/.stamp'

class Failure extends Error {}

try {
  main(process.argv[2], process.argv[3])
} catch (error) {
  if (!(error instanceof Failure)) throw error
  console.error(`corral: ${error.message}`)
  process.exitCode = 1
}

/** @param {string | undefined} step @param {string} [folder] */
function main(step, folder = '') {
  if (step !== 'install' && (step !== 'build' || folder !== '')) {
    throw new Failure('usage: node scripts/prepare.js build | install [FOLDER]')
  }
  checkNodeVersion()
  if (isInstalled(folder) && (step === 'install' || isBuilt())) return
  withLock(() => {
    if (!isInstalled(folder)) install(folder)
    if (step === 'build' && !isBuilt()) build()
  })
}

function checkNodeVersion() {
  const wanted = String(readJson('package.json').engines.node)
  const [major = 0, minor = 0] = wanted.replace('>=', '').split('.').map(Number)
  const [hasMajor = 0, hasMinor = 0] = process.versions.node.split('.').map(Number)
  if (hasMajor < major || (hasMajor === major && hasMinor < minor)) {
    throw new Failure(
      `Corral needs Node.js ${wanted}, and this is ${process.version}. See https://nodejs.org for a newer one.`,
    )
  }
}

/**
 * Compares what is wanted with what npm wrote down after its last install. An interrupted install writes nothing, and
 * packages for other platforms are optional.
 *
 * @param {string} folder
 */
function isInstalled(folder) {
  const record = join(folder, 'node_modules/.package-lock.json')
  if (!existsSync(at(record))) return false
  const wanted = readJson(join(folder, 'package-lock.json')).packages
  const installed = readJson(record).packages
  for (const [path, { version, optional }] of Object.entries(wanted)) {
    if (path === '') continue
    if (installed[path] === undefined ? !optional : installed[path].version !== version) return false
  }
  return true
}

/** @param {string} folder */
function install(folder) {
  say(folder === '' ? 'installing dependencies' : `installing dependencies of ${folder}`)
  // With NODE_ENV=production npm would leave out the compiler.
  run('npm', ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'], 'npm ci failed', folder)
}

function isBuilt() {
  return existsSync(at(STAMP)) && readFileSync(at(STAMP), 'utf8') === stamp()
}

/** Builds beside what is there and swaps, so that a command that runs from `dist` meanwhile does not lose its files. */
function build() {
  say('building')
  rmSync(at(STAMP), { force: true })
  for (const [project, output] of PROJECTS) {
    const next = `${output}.next`
    rmSync(at(next), { recursive: true, force: true })
    try {
      const tsc = at('node_modules/typescript/bin/tsc')
      run(process.execPath, [tsc, '--project', project, '--outDir', next], `tsc --project ${project} failed`)
    } catch (error) {
      rmSync(at(next), { recursive: true, force: true })
      throw error
    }
    rmSync(at(output), { recursive: true, force: true })
    renameSync(at(next), at(output))
  }
  writeFileSync(at(STAMP), stamp())
}

/** Says which sources were built, by content, and what came of it, by time: outputs that others wrote do not count. */
function stamp() {
  const hash = createHash('sha256')
  for (const path of INPUTS.flatMap(filesOf)) hash.update(`${path}\0`).update(readFileSync(at(path)))
  for (const path of PROJECTS.flatMap(([, output]) => filesOf(output))) {
    const { size, mtimeMs } = statSync(at(path))
    hash.update(`${path}\0${size}\0${mtimeMs}\0`)
  }
  return hash.digest('hex')
}

/** @param {string} path @returns {string[]} */
function filesOf(path) {
  const stats = statSync(at(path), { throwIfNoEntry: false })
  if (stats === undefined) return []
  if (!stats.isDirectory()) return [path]
  return readdirSync(at(path))
    .sort()
    .flatMap((name) => filesOf(join(path, name)))
}

/**
 * Keeps two runs in one clone apart, such as `npm start` and `npm test` in two terminals. The lock of a process that
 * is gone is taken over.
 *
 * @param {() => void} task
 */
function withLock(task) {
  const lock = join(tmpdir(), `corral-prepare-${createHash('sha256').update(root).digest('hex').slice(0, 16)}`)
  while (!takeLock(lock)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100)
  try {
    task()
  } finally {
    rmSync(lock, { force: true })
  }
}

/** @param {string} lock */
function takeLock(lock) {
  try {
    writeFileSync(lock, String(process.pid), { flag: 'wx' })
    return true
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || error.code !== 'EEXIST') throw error
  }
  if (!isAlive(lock)) rmSync(lock, { force: true })
  return false
}

/** @param {string} lock */
function isAlive(lock) {
  try {
    process.kill(Number(readFileSync(lock, 'utf8')), 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

/** @param {string} command @param {string[]} args @param {string} failure @param {string} [folder] */
function run(command, args, failure, folder = '') {
  const shell = process.platform === 'win32' && command === 'npm'
  const { status, error } = spawnSync(command, args, { cwd: at(folder), stdio: 'inherit', shell })
  if (error) throw new Failure(`${failure}: ${error.message}`)
  if (status !== 0) throw new Failure(failure)
}

/** @param {string} path @returns {any} */
function readJson(path) {
  return JSON.parse(readFileSync(at(path), 'utf8'))
}

/** @param {string} text */
function say(text) {
  console.error(`corral: ${text} …`)
}
