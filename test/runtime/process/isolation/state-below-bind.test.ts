import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { usesIsolation } from './_isolated.ts'
import { runAsUser, usesInstallation } from './_user.ts'

usesIsolation()

describe.runIf(process.platform === 'linux' && process.geteuid?.() === 0)('for workers of an ordinary user', () => {
  const directory = usesInstallation()

  /** Runs `body` with a pool whose workers have the directory, and what is asked for as `state` in it. */
  function run(access: 'read-only' | 'read-write', body: string, state?: string, mounts?: string) {
    const args = [join(directory, 'test/fixtures/runs-commands.mjs'), '{{socket}}']
    const binds = [
      { source: directory, access },
      { source: directory, target: '/mnt', access },
    ]
    const isolation = { level: 'full', network: 'none', binds }
    const stateDirectory = state === undefined ? undefined : join(directory, state)
    const options = { command: 'node', args, isolation, stateDirectory }
    return runAsUser(
      directory,
      `
      import { request } from 'node:http'
      import { mkdirSync, readdirSync, renameSync } from 'node:fs'
      import { createPool, processWorker } from '${directory}/dist/index.js'
      const open = () => createPool({ worker: processWorker(${JSON.stringify(options)}), size: { min: 0, max: 2 } })
      const ask = ({ worker }, script) => new Promise((resolve) => {
        request({ ...worker.address, method: 'POST', agent: false }, async (response) => {
          let text = ''
          for await (const chunk of response) text += chunk
          resolve(JSON.parse(text).output)
        }).end('cd ${directory}; ' + script)
      })
      ${body}`,
      { mounts },
    )
  }

  test.each(['read-only', 'read-write'] as const)(
    'a bind above the state directory, %s, shows nothing of it but what is their own',
    (access) => {
      const body = `
        const pool = await open()
        const leases = [await pool.acquire('red'), await pool.acquire('blue')]
        const [state] = readdirSync('${directory}').filter((name) => name.startsWith('corral-'))
        const output = await ask(leases[0],
          'cd ' + state + ' && ls . w; ls own; ls /mnt/' + state + '; cat own/ledger/*; touch x; touch /mnt/' + state +
          '/x; mv w v; touch $HOME/well && ls $HOME')
        for (const lease of leases) lease.release()
        await pool.close()
        console.log(JSON.stringify(output))`
      const lines = (run(access, body) as string).split('\n')
      const seen = lines.filter((line) => !/cannot|Permission denied|Read-only|No such file/.test(line))
      expect(seen).toEqual(['.:', 'w', '', 'w:', expect.stringMatching(/^w\d+-[0-9a-f]{8}$/), 'tmp', 'well', ''])
      expect(lines.filter((line) => /Read-only file system|Device or resource busy/.test(line))).toHaveLength(3)
    },
    60_000,
  )

  test('one in which the state directory lies deeper is refused where they could move what is in between', () => {
    const body = `
      mkdirSync('${directory}/between', { recursive: true })
      await open().then(
        (pool) => pool.close().then(() => console.log('null')),
        ({ code, option, message }) => console.log(JSON.stringify({ code, option, message })))`
    expect(run('read-write', body, 'between/state')).toMatchObject({
      code: 'INVALID_OPTION',
      option: 'isolation.binds',
      message: expect.stringMatching(
        /may be read only, where the state directory .*between\/state lies deeper in them/,
      ) as string,
    })
  })

  test('the state directory is hidden where it is mounted a second time, too', () => {
    const twice = [join(directory, 'again'), '/var/lib/corral-again']
    const body = `
      const pool = await open()
      const leases = [await pool.acquire('red'), await pool.acquire('blue')]
      const output = await ask(leases[0], 'ls -A ${twice.map((path) => `${path}/state-3`).join(' ')}')
      for (const lease of leases) lease.release()
      await pool.close()
      console.log(JSON.stringify(output))`
    const mounts = twice.map((path) => `mkdir ${path}; mount --bind ${directory} ${path}`)
    const output = run('read-only', body, 'state-3', ['mount -t tmpfs none /var/lib', ...mounts].join(';'))
    expect(output).toBe(twice.map((path) => `${path}/state-3:\n`).join('\n'))
  }, 60_000)

  test.each([
    ['moved away', 'state-1', `renameSync(state, moved)`],
    ['replaced by another', 'state-2', `renameSync(state, moved); mkdirSync(state)`],
  ])(
    'a state directory that is %s is made anew when the last has ended that could look into it, and not before',
    (_, name, replace) => {
      const body = `
        const state = '${directory}/${name}', moved = state + '-moved'
        const pool = await open()
        const red = await pool.acquire('red')
        ${replace}
        const refusal = await pool.acquire('blue').catch(({ code, message }) => ({ code, message }))
        const worker = { address: { socketPath: red.worker.address.socketPath.replace(state, moved) } }
        const seen = await ask({ worker }, 'ls -A ${name} 2>/dev/null')
        red.release()
        const dead = new Promise((resolve) => pool.on('worker.dead', resolve))
        pool.end('red')
        await dead
        // What the worker held is released behind its end.
        let blue
        while (blue === undefined) blue = await pool.acquire('blue').catch(() => new Promise((resolve) => setTimeout(resolve, 50)))
        const own = await ask(blue, 'ls ${name}/w')
        blue.release()
        await pool.close()
        console.log(JSON.stringify({ refusal, seen, own }))`
      expect(run('read-only', body, name)).toEqual({
        refusal: {
          code: 'WORKER_START_FAILED',
          message: expect.stringMatching(/expected a directory that nobody removes or replaces .*state-\d$/) as string,
        },
        seen: '',
        own: expect.stringMatching(/^w\d+-[0-9a-f]{8}\n$/) as string,
      })
    },
    60_000,
  )
})
