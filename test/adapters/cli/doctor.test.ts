import { execFile } from 'node:child_process'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, onTestFinished, test } from 'vitest'
import { toTable } from '../../../src/adapters/cli/doctor.ts'
import { parseSize } from '../../../src/adapters/cli/size.ts'
import { root, usesBuild } from '../../_build.ts'

usesBuild()

const main = `${root}dist/adapters/cli/main.js`
const run = promisify(execFile)

interface Result {
  probe: string
  status: string
  detail: string
  fix?: string
}

async function doctor(env: NodeJS.ProcessEnv, setUp = ''): Promise<{ code: number; results: Result[] }> {
  const command = ['-c', `${setUp}\nexec "$0" "$@"`, process.execPath, main, 'doctor', '--json']
  const outcome = await run('sh', command, { env }).then(
    ({ stdout }) => ({ code: 0, stdout }),
    (error: { code: number; stdout: string }) => error,
  )
  return { code: outcome.code, results: JSON.parse(outcome.stdout) as Result[] }
}

/** Of every process, those of what wraps others too. */
function commandLines(): string[] {
  return readdirSync('/proc').flatMap((name) => {
    try {
      return /^\d+$/.test(name) ? readFileSync(`/proc/${name}/cmdline`, 'utf8') : []
    } catch {
      return [] // Gone in the meantime.
    }
  })
}

describe.runIf(process.platform === 'linux')('corral doctor', () => {
  test('tries out every level and limit, and leaves nothing of it', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'doctor-'))
    chmodSync(directory, 0o755)
    onTestFinished(() => rmSync(directory, { recursive: true }))
    const { code, results } = await doctor({ ...process.env, TMPDIR: directory })
    expect(results.map(({ probe }) => probe)).toEqual([
      'level none',
      'level group',
      'parent-death signal',
      'list of processes',
      'cgroup',
      'level namespaces',
      'level full',
      'level full without network',
      'limit memory',
      'limit cpu',
      'limit pids',
      'limit files',
      'limit disk',
    ])
    const missing = results.filter(({ status }) => status !== 'available')
    expect(code).toBe(missing.length > 0 ? 1 : 0)
    expect(missing.filter(({ fix }) => fix === undefined)).toEqual([])
    expect(readdirSync(directory)).toEqual([])
    expect(commandLines().filter((line) => line.includes(directory))).toEqual([])
  })

  test('names what is missing and how to get it', async () => {
    const { code, results } = await doctor(process.env, 'PATH=/nowhere')
    expect(code).toBe(1)
    expect(results.find(({ probe }) => probe === 'level full')).toEqual({
      probe: 'level full',
      status: 'unavailable',
      detail: 'bwrap is not in PATH',
      fix: 'install bubblewrap (Debian, Ubuntu: apt-get install bubblewrap)',
    })
  })

  test('says so where nothing can be written', async () => {
    const { code, results } = await doctor({ ...process.env, TMPDIR: '/proc' })
    expect(code).toBe(1)
    const missing = results.filter(({ detail }) => detail.includes("mkdir '/proc/"))
    expect(missing.map(({ probe }) => probe)).toEqual(expect.arrayContaining(['level full', 'limit disk']))
    expect(new Set(missing.map(({ fix }) => fix))).toEqual(
      new Set(['let TMPDIR name a directory that can be written to and has room']),
    )
  })

  test('says so where nothing has room', async () => {
    // As a full disk does, a limit lets files be made and not be written.
    const { code, results } = await doctor(process.env, "trap '' XFSZ; ulimit -f 0")
    expect(code).toBe(1)
    const missing = results.filter(({ detail }) => /EFBIG.*\/filter/.test(detail))
    expect(missing.map(({ probe }) => probe)).toEqual(expect.arrayContaining(['level full', 'limit disk']))
    expect(new Set(missing.map(({ fix }) => fix))).toEqual(
      new Set(['let TMPDIR name a directory that can be written to and has room']),
    )
  })

  test('refuses what it does not know', async () => {
    await expect(run(process.execPath, [main, 'doctor', '--jsno'])).rejects.toMatchObject({
      code: 2,
      stderr: expect.stringContaining('Unexpected "--jsno"') as string,
    })
  })
})

test('the table has a line for each, and the remedy below', () => {
  const table = toTable([
    { probe: 'level none', status: 'available', detail: 'needs nothing' },
    { probe: 'cgroup', status: 'unavailable', detail: 'no', fix: 'mount it' },
  ])
  expect(table).toBe('level none  yes  needs nothing\ncgroup      no   no\n                 to mend it: mount it\n')
})

test.each([
  ['4096', 4096],
  ['512MiB', 512 * 1024 ** 2],
  ['1.5GiB', 1.5 * 1024 ** 3],
  ['1.5', undefined],
  ['10MB', undefined],
  ['-1', undefined],
])('the size %s is %s', (text, bytes) => {
  expect(parseSize(text)).toBe(bytes)
})
