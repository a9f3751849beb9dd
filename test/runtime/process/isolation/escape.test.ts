import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Lease, Pool, ProcessWorkerOptions } from 'corral'
import { fixture, fixturePath, fixtureProcesses } from '../../../_processes.ts'
import { isolated, openPool, sh, usesIsolation } from './_isolated.ts'

usesIsolation()

const MIB = 1024 ** 2

/** Two workers side by side: one that tries, and one that must not notice. */
async function openTwo(options: Partial<ProcessWorkerOptions> = {}) {
  const { pool } = await openPool(isolated('full', options))
  const [attacker, victim] = await Promise.all([pool.acquire('attacker'), pool.acquire('victim')])
  return { pool, attacker, victim }
}

/** What an attempt must leave as it was: the other session, and the pool's ability to start a new one. */
async function isUnharmed(pool: Pool, victim: Lease): Promise<void> {
  expect(await sh(victim, 'echo well')).toEqual({ code: 0, signal: null, output: 'well\n' })
  const another = await pool.acquire('another')
  expect(await sh(another, 'echo well')).toMatchObject({ output: 'well\n' })
  another.release()
  expect(pool.stats().totals.sessionsLost).toBe(0)
}

/** Calls a function of the C library, with as few words as a shell has: prints its result and errno. */
const call = (name: string, ...args: (number | string)[]) => {
  const values = args.map((value) => (typeof value === 'string' ? `b"${value}"` : `ctypes.c_long(${value})`))
  const code = [
    'import ctypes',
    'libc = ctypes.CDLL(None, use_errno=True)',
    `r = libc.${name}(${values.join(', ')})`,
    'print(r, ctypes.get_errno())',
  ]
  return `/usr/bin/python3 -c '${code.join('; ')}'`
}

describe.runIf(process.platform === 'linux')('at level full a worker cannot', () => {
  test("read another worker's directory", async () => {
    const { pool, attacker, victim } = await openTwo()
    const { output } = await sh(victim, 'echo secret > "$HOME/secret" && echo $HOME')
    const home = output.trim()
    expect(existsSync(join(home, 'secret'))).toBe(true)
    expect((await sh(attacker, `cat ${home}/secret`)).code).not.toBe(0)
    expect((await sh(attacker, `ls ${dirname(dirname(home))}`)).output).not.toContain(home.split('/').at(-2))
    await isUnharmed(pool, victim)
  })

  test("see another worker, its memory or its environment, nor the machine's processes", async () => {
    const { pool, attacker, victim } = await openTwo()
    const seen = await sh(attacker, 'cat /proc/[0-9]*/cmdline | tr "\\0" " "')
    expect(seen.output.match(/runs-commands/g)).toHaveLength(2) // Itself, and the wrapper that is its init.
    for (const pid of [victim.worker.pid, process.pid]) {
      for (const file of ['environ', 'mem', 'maps', 'root', 'fd']) {
        expect((await sh(attacker, `ls /proc/${pid}/${file}`)).code).not.toBe(0)
      }
    }
    await isUnharmed(pool, victim)
  })

  test('signal another worker or the gateway', async () => {
    const { pool, attacker, victim } = await openTwo()
    for (const pid of [victim.worker.pid!, process.pid]) expect((await sh(attacker, `kill -9 ${pid}`)).code).not.toBe(0)
    await isUnharmed(pool, victim)
  })

  test('reach the socket of another, nor anything on the network', async () => {
    const { pool, attacker, victim } = await openTwo()
    const { address } = victim.worker
    const path = 'socketPath' in address ? address.socketPath : ''
    const connect = (target: string) => `/usr/bin/python3 -c 'import socket, sys; ${target}' 2>&1`
    expect((await sh(attacker, connect(`socket.socket(socket.AF_UNIX).connect("${path}")`))).output).toMatch(
      /FileNotFoundError|PermissionError/,
    )
    const host = connect('socket.create_connection(("127.0.0.1", 22), 2)')
    expect((await sh(attacker, host)).output).toMatch(/ConnectionRefusedError|unreachable/)
    expect((await sh(attacker, 'cat /proc/net/dev')).output).not.toMatch(/eth|ens|enp/)
    await isUnharmed(pool, victim)
  })

  test('write outside of its directory', async () => {
    const { pool, attacker, victim } = await openTwo()
    for (const place of [
      '/',
      '/etc',
      '/usr/bin',
      '/var/lib',
      '/home',
      '/root',
      '/run',
      '/dev',
      dirname(fixturePath('runs-commands')),
    ]) {
      expect((await sh(attacker, `touch ${place}/x`)).code, place).not.toBe(0)
    }
    expect((await sh(attacker, 'echo 1 > /proc/sys/kernel/core_pattern')).code).not.toBe(0)
    expect((await sh(attacker, 'touch /tmp/x /dev/shm/x "$HOME/x"')).code).toBe(0)
    expect(existsSync('/tmp/x')).toBe(false)
    await isUnharmed(pool, victim)
  })

  test('see what others keep in the directories for temporary files', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'open-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    writeFileSync(join(directory, 'file'), 'content')
    const { attacker } = await openTwo()
    expect((await sh(attacker, `cat ${directory}/file`)).code).not.toBe(0)
  })

  test('mount, trace, load or enter anything', async () => {
    const { pool, attacker, victim } = await openTwo()
    const attempts = [
      call('mount', 'none', '/tmp', 'tmpfs', 0, 0),
      call('umount2', '/proc', 2),
      call('unshare', 0x10000000),
      call('ptrace', 0, 0, 0, 0),
      call('syscall', 321, 0, 0, 0), // bpf
      call('syscall', 425, 1, 0), // io_uring_setup
      call('chroot', '/tmp'),
      call('setns', 0, 0),
    ]
    const results = await Promise.all(attempts.map((attempt) => sh(attacker, attempt)))
    expect(results.map(({ output }) => output)).toEqual(attempts.map(() => '-1 1\n'))
    await isUnharmed(pool, victim)
  })

  test('make a socket of a family that leads past the network, or into old code', async () => {
    const { attacker } = await openTwo()
    const families = 'for f in 1 2 10 16 17 29 31 38 40 44; do' // From AF_UNIX to AF_VSOCK and AF_XDP.
    const attempt = "/usr/bin/python3 -c 'import socket, sys; socket.socket(int(sys.argv[1]), socket.SOCK_DGRAM)' $f"
    const { output } = await sh(attacker, `${families} echo $f $(${attempt} 2>&1 | grep -o "Errno.*"); done`)
    const refused = [17, 29, 31, 38, 40, 44].map(
      (family) => `${family} Errno 97] Address family not supported by protocol`,
    )
    expect(output.trim().split('\n')).toEqual(['1', '2', '10', '16', ...refused])
    expect((await sh(attacker, call('socketpair', 40, 1, 0, '12345678'))).output).toBe('-1 97\n')
    expect((await sh(attacker, call('socketpair', 1, 1, 0, '12345678'))).output).toBe('0 0\n')
    const listed = await sh(attacker, 'node -p "Object.keys(os.networkInterfaces())"')
    expect(listed).toMatchObject({ code: 0, output: expect.stringContaining('lo') as string })
  })

  test('gain privileges', async () => {
    const { pool, attacker, victim } = await openTwo()
    const { output } = await sh(attacker, 'grep -E "^(CapEff|CapPrm|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status')
    expect(output.replaceAll('\t', ' ')).toBe(
      'CapPrm: 0000000000000000\nCapEff: 0000000000000000\nCapBnd: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n',
    )
    expect((await sh(attacker, call('setuid', 0))).output).toMatch(/^-1 /)
    expect((await sh(attacker, 'su -c id root </dev/null; id -u')).output).not.toMatch(/uid=0|^0$/m)
    await isUnharmed(pool, victim)
  })

  test('take the memory of the machine', async () => {
    const { pool, attacker, victim } = await openTwo({ limits: { memory: 256 * MIB } })
    const eating = sh(attacker, '/usr/bin/python3 -c "b = bytearray(1 << 30)"')
    // With v1 the kernel kills the one that eats, with v2 all of the worker.
    await expect(eating.catch(() => ({ code: null }))).resolves.not.toMatchObject({ code: 0 })
    expect(await sh(victim, 'echo well')).toMatchObject({ output: 'well\n' })
    await pool.close({ force: true })
  })

  test('take its processes', async () => {
    const { pool, attacker, victim } = await openTwo({ limits: { pids: 40 } })
    expect((await sh(attacker, 'for i in $(seq 100); do sleep 1000 >/dev/null 2>&1 & done')).output).toMatch(
      /fork|source/,
    )
    await isUnharmed(pool, victim)
  })

  test('fill the disk beyond its quota', async () => {
    const env = { SOCKET: '{{socket}}' }
    const { pool, attacker, victim } = await openTwo({ limits: { disk: 4 * MIB }, env })
    for (const place of ['$HOME', '$TMPDIR', '/tmp', '/dev/shm', '$(dirname "$SOCKET")']) {
      const fill = await sh(attacker, `head -c 8M /dev/zero > "${place}/fill"; s=$?; rm "${place}/fill"; exit $s`)
      expect(fill.output).toMatch(/No space left/)
    }
    await isUnharmed(pool, victim)
  })

  test.each(['socket', 'port'] as const)('write to any disk when that is limited, serving on a %s', async (address) => {
    const { args } = fixture('runs-commands', {}, address)
    const binds = [dirname(fixturePath('runs-commands'))]
    const { pool } = await openPool(
      isolated('full', { args, limits: { disk: 4 * MIB }, isolation: { level: 'full', binds } }),
    )
    using lease = await pool.acquire('red')
    const { output } = await sh(lease, 'cat /proc/self/mountinfo')
    const mounts = output
      .trim()
      .split('\n')
      .map((line) => {
        const [fields = '', source = ''] = line.split(' - ')
        const [, , , , target = '', options = ''] = fields.split(' ')
        return { target, options, type: source.split(' ')[0]! }
      })
    const writable = mounts.filter(({ options }) => options.startsWith('rw'))
    expect(writable.map(({ target }) => target)).toContain('/tmp')
    const inMemory = new Set(['tmpfs', 'proc', 'devpts', 'mqueue'])
    const onDisk = writable.filter(({ type, target }) => !inMemory.has(type) && !target.startsWith('/dev/'))
    expect(onDisk).toEqual([])
  })

  test('keep a daemon alive', async () => {
    const { pool, attacker, victim } = await openTwo()
    const before = fixtureProcesses().length
    await sh(attacker, 'setsid sh -c "setsid sleep 1000 & sleep 1000 &" >/dev/null 2>&1 </dev/null & wait')
    expect(fixtureProcesses().length).toBeGreaterThan(before)
    attacker.release()
    await pool.end('attacker')
    await isUnharmed(pool, victim)
    victim.release()
    await pool.close()
    expect(fixtureProcesses()).toEqual([])
  })
})
