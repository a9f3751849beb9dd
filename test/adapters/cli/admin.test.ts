import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { fixtureProcesses, leavesNoProcess } from '../../_processes.ts'
import { type Cli, get, getJson, run, urlOf, usesCli } from './_cli.ts'

usesCli()
leavesNoProcess()

const token = 'a-token-of-enough-letters'
const tokenFile = join(mkdtempSync(join(tmpdir(), 'corral-')), 'token')
writeFileSync(tokenFile, `${token}\n`)
afterAll(() => rmSync(dirname(tokenFile), { recursive: true }))

describe('corral run --admin', () => {
  test('lists and ends sessions, and drains workers, with the token of a file', async () => {
    const cli = run('echo-server', ['--admin', '0', '--admin-token-file', tokenFile])
    const [url, admin] = [await urlOf(cli), await adminOf(cli)]
    const red = await getJson(url, 'red')
    await getJson(`${url}/print?line=hello&stream=stderr`, 'red')
    expect((await fetch(`${admin}/sessions`)).status).toBe(401)
    expect(await json(admin, '/sessions')).toMatchObject({ sessions: [{ id: 'red', state: 'idle', connections: 0 }] })
    const [{ id: worker }] = (
      (await json(admin, '/sessions')) as { sessions: [{ id: string; workerId: string }] }
    ).sessions.map(({ workerId }) => ({ id: workerId })) as [{ id: string }]
    expect(await json(admin, `/workers/${worker}`)).toMatchObject({
      pid: red['pid'],
      sessionId: 'red',
      output: ['hello'],
    })

    expect((await call(admin, 'DELETE', '/sessions/red')).status).toBe(204)
    expect(await cli.line('session.ended', { sessionId: 'red' })).toMatchObject({ reason: 'released' })
    const again = await getJson(url, 'red')
    expect(again).toMatchObject({ count: 1 })

    const endless = await get(`${url}/sse`, 'red')
    const { workers } = (await json(admin, '/workers')) as { workers: { id: string; sessionId?: string }[] }
    const id = workers.find(({ sessionId }) => sessionId === 'red')?.id
    expect((await call(admin, 'POST', `/workers/${id}/drain`, '{"deadline":50}')).status).toBe(202)
    await expect(endless.text()).rejects.toThrow('terminated')
    expect(await cli.line('worker.dead', { workerId: id })).toMatchObject({ reason: 'stopped' })
    expect((await call(admin, 'GET', `/workers/${id}`)).status).toBe(404)
    await stop(cli)
  })

  test('takes the token from the environment, and does not pass it on', async () => {
    process.env['CORRAL_ADMIN_TOKEN'] = token
    const cli = run('echo-server', ['--admin', '0'])
    delete process.env['CORRAL_ADMIN_TOKEN']
    const [url, admin] = [await urlOf(cli), await adminOf(cli)]
    expect(await getJson(`${url}/env`, 'red')).not.toHaveProperty('CORRAL_ADMIN_TOKEN')
    expect((await fetch(`${admin}/workers`)).status).toBe(401)
    expect((await call(admin, 'GET', '/workers')).status).toBe(200)
    await stop(cli)
  })

  test('without a token changes nothing', async () => {
    const cli = run('echo-server', ['--admin', '0'])
    const [url, admin] = [await urlOf(cli), await adminOf(cli)]
    await getJson(url, 'red')
    expect((await call(admin, 'DELETE', '/sessions/red')).status).toBe(403)
    expect(await getJson(url, 'red')).toMatchObject({ count: 2 })
    await stop(cli)
  })

  test('refuses a token that can be guessed, without showing it', async () => {
    writeFileSync(`${tokenFile}-short`, 'hunter2')
    const { code, stdout, stderr } = await run('echo-server', [
      '--admin',
      '0',
      '--admin-token-file',
      `${tokenFile}-short`,
    ]).exit
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain('corral: --admin-token-file: expected at least 16 letters')
    expect(stderr).not.toContain('hunter2')
  })
})

test('--drain-delay: /readyz fails first, and new sessions are taken until the delay is over', async () => {
  const cli = run('echo-server', ['--admin', '0', '--drain-delay', '10m', '--max', '4'])
  const [url, admin] = [await urlOf(cli), await adminOf(cli)]
  expect((await fetch(`${admin}/readyz`)).status).toBe(200)
  cli.kill('SIGTERM')
  await cli.line('gateway.stopping')
  expect((await fetch(`${admin}/readyz`)).status).toBe(503)
  expect(await getJson(url, 'new')).toMatchObject({ count: 1 })
  // The second signal does not wait for it. It counts as another one only some time after the first.
  const timer = setInterval(() => cli.kill('SIGTERM'), 100)
  expect(await cli.exit).toMatchObject({ code: 1 })
  clearInterval(timer)
  expect(fixtureProcesses()).toEqual([])
})

async function adminOf(cli: Cli): Promise<string> {
  return String((await cli.line('admin.listening'))['url'])
}

function call(admin: string, method: string, path: string, body?: string): Promise<Response> {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  return fetch(`${admin}${path}`, { method, headers, ...(body !== undefined && { body }) })
}

async function json(admin: string, path: string): Promise<unknown> {
  return (await call(admin, 'GET', path)).json()
}

/** Ends it, and checks that it ended as asked. */
async function stop(cli: Cli): Promise<void> {
  cli.kill('SIGTERM')
  const { code, stderr } = await cli.exit
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(fixtureProcesses()).toEqual([])
}
