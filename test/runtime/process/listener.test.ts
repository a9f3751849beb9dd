import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { networkInterfaces } from 'node:os'
import { afterEach, describe, expect, test } from 'vitest'
import { findListenerOwner } from '../../../src/runtime/process/listener.ts'
import { fixture, leavesNoProcess } from '../../_processes.ts'
import { launchReady, portOf } from './_launch.ts'

leavesNoProcess()

const hasIpv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ family }) => family === 'IPv6'))
const servers = new Set<ReturnType<typeof createServer>>()

afterEach(() => {
  for (const server of servers) server.close()
  servers.clear()
})

async function listen(host: string): Promise<number> {
  const server = createServer()
  servers.add(server)
  await once(server.listen(0, host), 'listening')
  return (server.address() as AddressInfo).port
}

describe.runIf(process.platform === 'linux')('the listener on a port', () => {
  test('is the worker itself', async () => {
    const worker = await launchReady(fixture('echo-server'))
    expect(await findListenerOwner(portOf(worker), worker.pid!)).toBe('own')
  })

  test.each(['127.0.0.1', '0.0.0.0', ...(hasIpv6 ? ['::', '::ffff:127.0.0.1'] : [])])(
    'is a process that listens on %s',
    async (host) => {
      expect(await findListenerOwner(await listen(host), process.pid)).toBe('own')
    },
  )

  test('is a stranger', async () => {
    const worker = await launchReady(fixture('echo-server'))
    expect(await findListenerOwner(await listen('127.0.0.1'), worker.pid!)).toBe('foreign')
  })

  test('is what has left the worker and is in its cgroup', async () => {
    const worker = await launchReady(fixture('echo-server'))
    const port = await listen('127.0.0.1')
    const members = async () => [worker.pid!, process.pid]
    expect(await findListenerOwner(port, worker.pid!, { members })).toBe('own')
    expect(await findListenerOwner(port, worker.pid!, { members: async () => [worker.pid!] })).toBe('foreign')
  })

  test('is nobody', async () => {
    const port = await listen('127.0.0.1')
    for (const server of servers) await once(server.close(), 'close')
    servers.clear()
    expect(await findListenerOwner(port, process.pid)).toBe('nobody')
  })

  test.runIf(hasIpv6)('is nobody when it is reached by IPv6 alone', async () => {
    expect(await findListenerOwner(await listen('::1'), process.pid)).toBe('nobody')
  })

  test('is unknown when the worker cannot be seen', async () => {
    expect(await findListenerOwner(await listen('127.0.0.1'), 2 ** 30)).toBe('unknown')
  })
})
