import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as tick } from 'node:timers/promises'
import { describe, expect, test, vi } from 'vitest'
import { levels as processLevels } from '../../../../src/runtime/process/isolation/levels.ts'
import { findTools } from '../../../../src/runtime/process/isolation/tools.ts'
import { NOTHING } from '../../../../src/runtime/process/isolation/trial.ts'
import { directSpawner } from '../../../../src/runtime/process/spawn/spawned-process.ts'
import { fixtureMark, fixtureProcesses } from '../../../_processes.ts'
import { delegateCgroups } from '../_cgroups.ts'
import { hungryWorker, levels, usesIsolation } from './_isolated.ts'
import { runAsUser, USER, usesInstallation } from './_user.ts'

usesIsolation()

describe.runIf(process.platform === 'linux' && process.geteuid?.() === 0)('for an ordinary user', () => {
  const directory = usesInstallation()

  test.each([...levels.map((level) => [level, ''] as const), ['full', ' with its directory limited'] as const])(
    'level %s%s starts, isolates and stops a worker',
    (level, limited) => {
      const fixtures = join(directory, 'test/fixtures')
      const isolation = level === 'full' ? { level, network: 'none', binds: [fixtures] } : level
      const limits = limited === '' ? {} : { disk: 1024 ** 2 }
      const options = { command: 'node', args: [join(fixtures, 'echo-server.mjs'), '{{socket}}'], isolation, limits }
      const script = `
        import { createPool, processWorker } from '${directory}/dist/index.js'
        const pool = await createPool({ worker: processWorker(${JSON.stringify(options)}) })
        const dead = new Promise((resolve) => pool.on('worker.dead', resolve))
        const lease = await pool.acquire('red')
        lease.release()
        const { isolation } = pool.stats()
        await pool.close()
        console.log(JSON.stringify({ isolation, dead: await dead }))`
      expect(runAsUser(directory, script)).toMatchObject({
        isolation: { level, missing: [] },
        dead: { reason: 'stopped', exitCode: 0, signal: null },
      })
    },
    60_000,
  )

  test('no moment at which its bubblewrap is killed leaves anything of what that starts', async () => {
    const user = ['setpriv', '--reuid', `${USER}`, '--regid', `${USER}`, '--clear-groups', '--']
    const wrapper = processLevels.namespaces.wrap({ ...NOTHING, tools: await findTools() })
    const [command, ...args] = [...user, ...wrapper, 'sleep', '1000']
    const env = { PATH: process.env['PATH'] ?? '', ...fixtureMark }
    const request = { command, args, cwd: '/', env, signals: 'wrapper', session: 'left', filter: undefined } as const
    for (let number = 0; number < 300; number++) {
      const child = await directSpawner.spawn(request, undefined)
      child.stdout.resume()
      child.stderr.resume()
      // Up to 15 ms. In every second case what it tells is only read when it is dead.
      const moment = performance.now() + (number % 150) / 10
      const isBusy = number % 2 === 0
      while (performance.now() < moment) if (!isBusy) await tick()
      if (number % 4 < 2) child.signal('group', 'SIGKILL')
      else process.kill(child.pid, 'SIGKILL')
      expect(await child.emptied).toEqual([])
    }
    expect(fixtureProcesses()).toEqual([])
  }, 120_000)

  // A mount of /proc has a mode of its own (Linux 5.8): where it were that of all others, they are left alone.
  const ownProc = 'before=$(stat -c %d /proc); mount -t proc proc /proc; [ "$before" != "$(stat -c %d /proc)" ]'

  describe.each([
    ['may be listed', `${ownProc}; chmod 555 /proc`],
    ['may not be listed', `${ownProc}; chmod 711 /proc`],
    ['hides what is of others', `${ownProc}; mount -o remount,hidepid=2 /proc`],
  ])('without a cgroup, where /proc %s, a daemon of a worker', (_, mounts) => {
    const args = [join(directory, 'test/fixtures/runs-commands.mjs'), '{{socket}}']
    const options = { command: 'node', args, env: fixtureMark, isolation: 'group' }

    /** Runs `body` with a session whose worker has started a daemon, or something else, of which `isThere` tells. */
    const runWithDaemon = (body: string, start = 'setsid sleep 1000 >/dev/null 2>&1 & echo $!') =>
      runAsUser(
        directory,
        `
        import { readFileSync } from 'node:fs'
        import { request } from 'node:http'
        import { createPool, processWorker } from '${directory}/dist/index.js'
        const pool = await createPool({ worker: processWorker(${JSON.stringify(options)}), size: { min: 0, max: 1 } })
        const lease = await pool.acquire('red')
        const { output } = await new Promise((resolve) => {
          request({ ...lease.worker.address, method: 'POST', agent: false }, async (response) => {
            let text = ''
            for await (const chunk of response) text += chunk
            resolve(JSON.parse(text))
          }).end(${JSON.stringify(start)})
        })
        const isThere = () => {
          try {
            return !readFileSync('/proc/' + output.trim() + '/stat', 'latin1').includes(') Z ')
          } catch {
            return false
          }
        }
        if (!isThere()) throw new Error('no daemon: ' + output)
        ${body}`,
        { mounts },
      )

    const untilDead = `
        const dead = new Promise((resolve) => pool.on('worker.dead', resolve))
        lease.release()
        await pool.end('red')
        await dead
        console.log(JSON.stringify(isThere()))
        await pool.close()`

    test('is ended with it', () => {
      expect(runWithDaemon(untilDead)).toBe(false)
    }, 60_000)

    test('is ended with it when it is but a job in a group of its own, with an emptied environment, too', () => {
      const job = `exec bash -c 'set -m; env -i sleep 1000 >/dev/null 2>&1 & echo $!'`
      expect(runWithDaemon(untilDead, job)).toBe(false)
    }, 60_000)

    test('is ended with the gateway', async () => {
      const killed = expect.objectContaining({ signal: 'SIGKILL' }) as Error
      expect(() => runWithDaemon(`process.kill(process.pid, 'SIGKILL')`)).toThrow(killed)
      await vi.waitUntil(() => fixtureProcesses().length === 0, { timeout: 15_000 })
    }, 60_000)

    test('is ended by the next start when the helper was killed, too', () => {
      const body = `
        const [helper] = readFileSync('/proc/self/task/' + process.pid + '/children', 'utf8').split(' ')
        process.kill(Number(helper), 'SIGSTOP') // Or it would notice the death of its parent first.
        process.kill(Number(helper), 'SIGKILL')
        process.kill(process.pid, 'SIGKILL')`
      expect(() => runWithDaemon(body)).toThrow(expect.objectContaining({ signal: 'SIGKILL' }) as Error)
      expect(fixtureProcesses().length).toBeGreaterThan(0)
      const next = `
        import { createPool, processWorker } from '${directory}/dist/index.js'
        const pool = await createPool({ worker: processWorker(${JSON.stringify(options)}), size: { min: 0, max: 1 } })
        await pool.close()
        console.log('null')`
      runAsUser(directory, next, { mounts })
      expect(fixtureProcesses()).toEqual([])
    }, 60_000)
  })

  test.each([
    ['may not be listed', `${ownProc}; chmod 711 /proc`],
    ['and the cgroups may not be listed', `${ownProc}; chmod 711 /proc; mount -t tmpfs none /sys/fs/cgroup`],
  ])("where /proc %s, a child of the worker that listens is the worker's", (_, mounts) => {
    const args = ['-c', 'node "$@" & wait', 'sh', join(directory, 'test/fixtures/echo-server.mjs'), '{{port}}']
    const options = { command: 'sh', args, env: fixtureMark, isolation: 'group' }
    const script = `
      import { createPool, processWorker } from '${directory}/dist/index.js'
      const pool = await createPool({ worker: processWorker(${JSON.stringify(options)}), size: { min: 0, max: 1 } })
      const lease = await pool.acquire('red')
      lease.release()
      await pool.close()
      console.log(JSON.stringify(pool.stats().totals.workersStarted))`
    expect(runAsUser(directory, script, { mounts })).toBe(1)
  })

  test('that processes cannot be listed at all is told, as daemons stay then', () => {
    const options = { command: 'node', isolation: 'group' }
    const script = `
      import { createPool, diagnose, processWorker } from '${directory}/dist/index.js'
      const warned = new Promise((resolve) => process.once('warning', resolve))
      const pool = await createPool({ worker: processWorker(${JSON.stringify(options)}), size: { min: 0 } })
      await pool.close()
      const found = (await diagnose()).find(({ probe }) => probe === 'list of processes')
      console.log(JSON.stringify({ warning: (await warned).message, found }))`
    const mounts = `${ownProc}; chmod 711 /proc; mount -t tmpfs none /sys/fs/cgroup`
    expect(runAsUser(directory, script, { mounts })).toEqual({
      warning: expect.stringMatching(/^What leaves the process group of a worker cannot be found.*555/) as string,
      found: {
        probe: 'list of processes',
        status: 'unavailable',
        detail: 'neither /proc nor a hierarchy of cgroups can be listed',
        fix: expect.stringContaining('/sys/fs/cgroup') as string,
      },
    })
  })

  test('limits without a cgroup to set them in are refused, with the probe that failed', () => {
    const script = `
      import { createPool, processWorker } from '${directory}/dist/index.js'
      await createPool({ worker: processWorker({ command: 'node', limits: { memory: 1 << 28 } }) }).catch((error) =>
        console.log(JSON.stringify({ ...error, message: error.message })))`
    expect(runAsUser(directory, script)).toMatchObject({
      code: 'SANDBOX_UNAVAILABLE',
      wanted: 'limits.memory',
      probe: 'limit memory',
      message: expect.stringContaining('Delegate=yes') as string,
    })
  })

  test('and may go on without them, which is told', () => {
    const options = { command: 'node', limits: { memory: 1 << 28 }, onUnavailable: 'degrade' }
    const script = `
      import { createPool, processWorker } from '${directory}/dist/index.js'
      const warned = new Promise((resolve) => process.once('warning', resolve))
      const pool = await createPool({ worker: processWorker(${JSON.stringify(options)}), size: { min: 0 } })
      const { isolation } = pool.stats()
      await pool.close()
      console.log(JSON.stringify({ isolation, warning: (await warned).message }))`
    expect(runAsUser(directory, script)).toMatchObject({
      isolation: { level: 'group', missing: ['limits.memory'] },
      warning: expect.stringContaining('limits.memory is not to be had') as string,
    })
  })

  describe('with cgroups that were given to it', () => {
    const limits = { memory: 128 * 1024 ** 2, cpu: 0.5, pids: 40 }

    /** Runs `body` with a pool of such workers, and returns what it does. */
    async function runDelegated(worker: object, body: string) {
      const cgroups = await delegateCgroups(['memory', 'cpu', 'pids', 'unified'], USER)
      const outcome = runAsUser(
        directory,
        `
        import { request } from 'node:http'
        import { createPool, processWorker } from '${directory}/dist/index.js'
        const pool = await createPool({
          worker: processWorker(${JSON.stringify({ ...worker, limits })}),
          size: { min: 0, max: 2 },
        })
        const ask = ({ worker }, script) => new Promise((resolve) => {
          const outgoing = request({ ...worker.address, method: 'POST', agent: false }, async (response) => {
            let text = ''
            for await (const chunk of response) text += chunk
            resolve(text)
          })
          outgoing.on('error', ({ code }) => resolve(code)).end(script)
        })
        const outcome = await (async () => { ${body} })()
        await pool.close({ force: true })
        console.log(JSON.stringify({ ...outcome, stats: pool.stats() }))`,
        { cgroups },
      )
      expect(outcome).toMatchObject({ stats: { isolation: { level: 'group', missing: [] } } })
      const left = cgroups.flatMap((path) => readdirSync(path, { withFileTypes: true })).filter((e) => e.isDirectory())
      // Where it moved itself to pass controllers of v2 on, it cannot remove.
      expect(left.map(({ name }) => name).filter((name) => name !== 'corral-supervisor')).toEqual([])
      expect(fixtureProcesses()).toEqual([])
      return outcome
    }

    const shell = {
      command: process.execPath,
      args: [join(directory, 'test/fixtures/runs-commands.mjs'), '{{socket}}'],
    }

    test.each(levels)(
      'a umask that leaves nobody any rights is in the way of nothing at level %s',
      async (isolation) => {
        const cgroups = await delegateCgroups(['pids', 'unified'], USER)
        const fixtures = join(directory, 'test/fixtures')
        const options = {
          command: process.execPath,
          args: [join(fixtures, 'echo-server.mjs'), '{{port}}'],
          env: { HOME: '{{dir}}' },
          isolation: isolation === 'full' ? { level: isolation, binds: [fixtures] } : isolation,
          limits: { pids: 40 },
        }
        // The second start reads what the first has left.
        const script = `
        import { createPool, processWorker } from '${directory}/dist/index.js'
        process.umask(0o777)
        const options = { ...${JSON.stringify(options)}, stateDirectory: '${directory}/state-${isolation}' }
        const outcomes = []
        for (const start of [1, 2]) {
          const pool = await createPool({ worker: processWorker(options) })
          const lease = await pool.acquire('red')
          outcomes.push(pool.stats().isolation)
          lease.release()
          await pool.close()
        }
        console.log(JSON.stringify(outcomes))`
        const sound = { level: isolation, missing: [] }
        expect(runAsUser(directory, script, { cgroups })).toEqual([sound, sound])
      },
    )

    test('a fork bomb ends at the limit, and goes with its worker, daemons too', async () => {
      const bomb = 'for i in $(seq 100); do setsid sleep 1000 >/dev/null 2>&1 & done'
      const body = `
        const red = await pool.acquire('red')
        const bomb = await ask(red, '${bomb}')
        return { bomb, healthy: await ask(await pool.acquire('blue'), 'echo well') }`
      expect(await runDelegated(shell, body)).toMatchObject({
        bomb: expect.stringMatching(/fork|[Rr]esource/) as string,
        healthy: expect.stringContaining('well') as string,
      })
    }, 60_000)

    test('a worker that is out of memory is lost for that reason', async () => {
      const body = `
        const lost = new Promise((resolve) => pool.on('session.lost', resolve))
        await ask(await pool.acquire('red'), 'eat')
        return { lost: await lost }`
      expect(await runDelegated(hungryWorker, body)).toMatchObject({
        lost: { reason: 'oom', signal: 'SIGKILL' },
        stats: { totals: { workersOutOfMemory: 1 } },
      })
    }, 60_000)
  })
})
