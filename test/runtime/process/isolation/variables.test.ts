import { describe, expect, test } from 'vitest'
import { isolated, levels, openPool, sh, usesIsolation } from './_isolated.ts'

usesIsolation()

/** What shells drop, or set to something of their own, and a plain one. */
const env = {
  'a.b': '1',
  'a-b': '2',
  '-c': '3',
  ä: '4',
  IFS: 'x',
  OPTIND: '7',
  PPID: '9',
  PS4: '5',
  _: '6',
  PLAIN: '= 7',
}

test.runIf(process.platform !== 'win32')(
  'a command with "=" in its path is refused where env(1) would take it for a variable',
  async () => {
    const given = { ...isolated('none', { env }), command: '/no/such=program' }
    const { pool } = await openPool({ ...given, limits: { files: 1_000 } })
    await expect(pool.acquire('red')).rejects.toThrow(
      '"command": expected one without "=", as some variables (_) are given by env(1)',
    )
    const { pool: plain } = await openPool(given)
    await expect(plain.acquire('red')).rejects.toThrow('there is no such file')
  },
)

// For a limit on files a shell is needed.
describe.runIf(process.platform === 'linux').each(levels)('at level %s', (level) => {
  test.each([undefined, 1_000])(
    'a worker gets every variable as it is given, with %s open files at most',
    async (files) => {
      const { pool } = await openPool(isolated(level, { env, limits: { files } }))
      using lease = await pool.acquire('red')
      const { output } = await sh(lease, `tr '\\0' '\\n' < /proc/$PPID/environ`)
      expect(output.split('\n')).toEqual(expect.arrayContaining(Object.entries(env).map((pair) => pair.join('='))))
    },
  )
})
