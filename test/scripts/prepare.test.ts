import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { root } from '../_build.ts'

let clone: string
const at = (path: string) => join(clone, path)

beforeEach(() => {
  clone = mkdtempSync(join(tmpdir(), 'corral-clone-'))
  cpSync(`${root}scripts/prepare.js`, at('scripts/prepare.js'), { recursive: true })
  write('package.json', JSON.stringify({ type: 'module', engines: { node: '>=20.19' } }))
  write('package-lock.json', lock({ a: '1.0.0' }))
  write('src/index.ts', 'one')
  // The npm of this test installs what the lock says, and a compiler.
  write('bin/npm', `#!${process.execPath}\n(${String(fakeNpm)})(${JSON.stringify(String(fakeTsc))})`)
  chmodSync(at('bin/npm'), 0o755)
})

afterEach(() => {
  rmSync(clone, { recursive: true })
})

describe('preparing a clone', () => {
  test('installs and builds once, and then says nothing', async () => {
    expect(await prepare()).toEqual({ code: 0, output: 'corral: installing dependencies …\ncorral: building …\n' })
    expect(await prepare()).toEqual({ code: 0, output: '' })
    expect(calls()).toEqual(['npm ci', 'tsc tsconfig.build.json', 'tsc tsconfig.examples.json'])
  })

  test('installs again when a version in the lock file is another one', async () => {
    await prepare()
    write('package-lock.json', lock({ a: '1.0.1' }))
    expect((await prepare()).output).toContain('installing')
    write('package-lock.json', lock({ a: '1.0.1', b: '1.0.0' }))
    expect((await prepare()).output).toContain('installing')
    expect(await prepare()).toEqual({ code: 0, output: '' })
  })

  test('does not wait for packages of other platforms', async () => {
    await prepare()
    const other = { 'node_modules/other': { version: '1.0.0', optional: true } }
    write('package-lock.json', JSON.stringify({ packages: { ...packages({ a: '1.0.0' }), ...other } }))
    expect((await prepare()).output).not.toContain('installing')
  })

  test.each(['src/index.ts', 'src/new.ts', 'examples/new.ts', 'dist/index.js', 'build/examples/index.js'])(
    'builds again when %s is not as it was',
    async (path) => {
      await prepare()
      write(path, 'two')
      expect(await prepare()).toEqual({ code: 0, output: 'corral: building …\n' })
      expect(await prepare()).toEqual({ code: 0, output: '' })
    },
  )

  test('builds again when dist is gone, and not when a file is only younger', async () => {
    await prepare()
    rmSync(at('dist'), { recursive: true })
    expect((await prepare()).output).toContain('building')
    write('src/index.ts', 'one')
    expect(await prepare()).toEqual({ code: 0, output: '' })
  })

  test('keeps the last build when one fails, and tries again', async () => {
    await prepare()
    write('src/index.ts', 'error')
    const failure = { code: 1, output: 'corral: building …\ncorral: tsc --project tsconfig.build.json failed\n' }
    expect(await prepare()).toEqual(failure)
    expect(await prepare()).toEqual(failure)
    expect(existsSync(at('dist/index.js'))).toBe(true)
    expect(existsSync(at('dist.next'))).toBe(false)
  })

  test('says when npm fails', async () => {
    write('package-lock.json', lock({ broken: '1.0.0' }))
    expect(await prepare()).toEqual({
      code: 1,
      output: 'corral: installing dependencies …\ncorral: npm ci failed\n',
    })
  })

  test('installs what a folder with a lock file of its own wants', async () => {
    write('bench/package-lock.json', lock({ peer: '1.0.0' }))
    expect(await prepare('install', 'bench')).toEqual({
      code: 0,
      output: 'corral: installing dependencies of bench …\n',
    })
    expect(await prepare('install', 'bench')).toEqual({ code: 0, output: '' })
    expect(existsSync(at('bench/node_modules/.package-lock.json'))).toBe(true)
    expect(existsSync(at('node_modules'))).toBe(false)
  })

  test('does the work once when two start at the same time', async () => {
    const both = await Promise.all([prepare(), prepare()])
    expect(both.map(({ code }) => code)).toEqual([0, 0])
    expect(calls()).toHaveLength(3)
  })

  test('needs a Node.js that is new enough, and says so first', async () => {
    write('package.json', JSON.stringify({ type: 'module', engines: { node: '>=999.1' } }))
    const { code, output } = await prepare()
    expect(code).toBe(1)
    expect(output).toBe(
      `corral: Corral needs Node.js >=999.1, and this is ${process.version}. See https://nodejs.org for a newer one.\n`,
    )
  })
})

async function prepare(...args: string[]): Promise<{ code: number; output: string }> {
  const env = { ...process.env, PATH: at('bin') + delimiter + process.env['PATH'] }
  const step = args.length === 0 ? ['build'] : args
  const child = spawn(process.execPath, [at('scripts/prepare.js'), ...step], { cwd: tmpdir(), env })
  let output = ''
  child.stdout.on('data', (chunk) => (output += String(chunk)))
  child.stderr.on('data', (chunk) => (output += String(chunk)))
  const [code] = (await once(child, 'close')) as [number]
  return { code, output }
}

function calls(): string[] {
  return readFileSync(at('calls'), 'utf8').trimEnd().split('\n')
}

function write(path: string, text: string): void {
  mkdirSync(dirname(at(path)), { recursive: true })
  writeFileSync(at(path), text)
}

function packages(versions: Record<string, string>) {
  const entries = Object.entries(versions).map(([name, version]) => [`node_modules/${name}`, { version }])
  return { '': {}, ...Object.fromEntries(entries) } as Record<string, object>
}

function lock(versions: Record<string, string>): string {
  return JSON.stringify({ packages: packages(versions) })
}

/** Runs as a program of its own. */
function fakeNpm(tsc: string): void {
  const fs = process.getBuiltinModule('node:fs')
  fs.appendFileSync('calls', `npm ${process.argv[2]}\n`)
  const wanted = fs.readFileSync('package-lock.json', 'utf8')
  if (wanted.includes('broken')) process.exit(1)
  fs.mkdirSync('node_modules/typescript/bin', { recursive: true })
  fs.writeFileSync('node_modules/typescript/package.json', '{"type":"commonjs"}')
  fs.writeFileSync('node_modules/typescript/bin/tsc', `(${tsc})()`)
  fs.writeFileSync('node_modules/.package-lock.json', wanted)
}

/** Runs as a program of its own. */
function fakeTsc(): void {
  const fs = process.getBuiltinModule('node:fs')
  const [, , , project, , folder = ''] = process.argv
  fs.appendFileSync('calls', `tsc ${project}\n`)
  if (fs.readFileSync('src/index.ts', 'utf8') === 'error') process.exit(2)
  fs.mkdirSync(folder, { recursive: true })
  fs.writeFileSync(`${folder}/index.js`, '')
}
