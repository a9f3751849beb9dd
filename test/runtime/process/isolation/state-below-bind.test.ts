import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { usesIsolation } from './_isolated.ts'
import { runAsUser, usesInstallation } from './_user.ts'

usesIsolation()

describe.runIf(process.platform === 'linux' && process.geteuid?.() === 0)('for workers of an ordinary user', () => {
  const directory = usesInstallation()

  /** Runs `body` with a pool whose workers have the directory, and what is asked for as `state` in it. */
  function run(body: string, state?: string, access: 'read-only' | 'read-write' = 'read-only') {
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
      import { chmodSync, mkdirSync, readdirSync, renameSync } from 'node:fs'
      import { createPool, processWorker } from '${directory}/dist/index.js'
      const open = () => createPool({ worker: processWorker(${JSON.stringify(options)}), size: { min: 0, max: 2 } })
      // Starts are held back for a while once some have failed.
      const acquireOnceItCan = async (pool, id) => {
        let lease
        while (lease === undefined) lease = await pool.acquire(id).catch(() => new Promise((resolve) => setTimeout(resolve, 50)))
        return lease
      }
      const ask = ({ worker }, script) => new Promise((resolve) => {
        request({ ...worker.address, method: 'POST', agent: false }, async (response) => {
          let text = ''
          for await (const chunk of response) text += chunk
          resolve(JSON.parse(text).output)
        }).end('cd ${directory}; ' + script)
      })
      ${body}`,
    )
  }

  test('a bind above the state directory shows nothing of it but what is their own', () => {
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
    const lines = (run(body) as string).split('\n')
    const seen = lines.filter((line) => !/cannot|Permission denied|Read-only|No such file/.test(line))
    expect(seen).toEqual(['.:', 'w', '', 'w:', expect.stringMatching(/^w\d+-[0-9a-f]{8}$/), 'tmp', 'well', ''])
    expect(lines.filter((line) => /Read-only file system|Device or resource busy/.test(line))).toHaveLength(3)
  }, 60_000)

  test.each([
    ['deeper', 'between/state', '/nowhere', /do not hold the state directory .*between\/state, or may only be read/],
    ['directly', 'state', '/nowhere', /do not hold the state directory .*\/state, or may only be read/],
    ['among temporary files', undefined, undefined, /do not hold .*, where a start looks for/],
  ])('one to write to is refused with the state directory in it, %s', (_where, state, temporary, message) => {
    const body = `
      ${temporary === undefined ? '' : `process.env.TMPDIR = '${temporary}'`}
      mkdirSync('${directory}/between', { recursive: true })
      await open().then(
        (pool) => pool.close().then(() => console.log('null')),
        ({ code, option, message }) => console.log(JSON.stringify({ code, option, message })))`
    expect(run(body, state, 'read-write')).toMatchObject({
      code: 'INVALID_OPTION',
      option: 'isolation.binds',
      message: expect.stringMatching(message) as string,
    })
  })

  test('a state directory that cannot be looked at is not taken for one that was replaced', () => {
    const body = `
      const above = '${directory}/above'
      mkdirSync(above + '/state', { recursive: true })
      const pool = await open()
      const red = await pool.acquire('red')
      chmodSync(above, 0)
      const refusal = await pool.acquire('blue').catch(({ message }) => message)
      chmodSync(above, 0o755)
      const blue = await acquireOnceItCan(pool, 'blue')
      for (const lease of [red, blue]) lease.release()
      await pool.close()
      console.log(JSON.stringify(refusal))`
    expect(run(body, 'above/state')).toMatch(
      /expected a directory that can be written to, got .*above\/state \(EACCES\)/,
    )
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
        const blue = await acquireOnceItCan(pool, 'blue')
        const own = await ask(blue, 'ls ${name}/w')
        blue.release()
        await pool.close()
        console.log(JSON.stringify({ refusal, seen, own }))`
      expect(run(body, name)).toEqual({
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
