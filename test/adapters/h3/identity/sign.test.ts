import { describe, expect, test } from 'vitest'
import { createIdSigner, fromCookie, fromHeader } from 'corral/h3'
import { get, openScene } from '../_scene.ts'

const keys = ['the new secret of enough bytes', 'an old secret of enough bytes']
const signer = createIdSigner(keys)

describe('with sign, the gateway', () => {
  test('takes signed ids, and the session goes by the id in front', async () => {
    const { port, pool } = await openScene((_req, res) => res.end('ok'), { sign: { keys } })
    expect((await get(port, '/', { 'x-session-id': signer.sign('red') })).status).toBe(200)
    expect((await get(port, '/', { 'x-session-id': createIdSigner(keys[1] as string).sign('red') })).status).toBe(200)
    expect(pool.acquired).toEqual(['red', 'red'])
  })

  test.each([
    ['unsigned', 'red'],
    ['signed by somebody else', createIdSigner('a stranger’s secret, long').sign('red')],
    ['another id’s signature', signer.sign('red').replace('red', 'blue')],
  ])('answers 401 to an id that is %s, and starts nothing', async (_what, id) => {
    const { port, pool } = await openScene((_req, res) => res.end('ok'), { sign: { keys } })
    const response = await get(port, '/', { 'x-session-id': id })
    expect([response.status, response.headers.get('www-authenticate')]).toEqual([401, 'SignedSessionId'])
    expect(await response.json()).toMatchObject({ code: 'SESSION_ID_FORGED' })
    expect(pool.acquired).toEqual([])
  })

  test.each(['refuse', 'issue'] as const)(
    'answers 400 to what names no one session, with forged %s',
    async (forged) => {
      const options = { sessionId: fromCookie('sid'), sign: { keys, forged }, issue: true } as const
      const { port, pool } = await openScene((_req, res) => res.end('ok'), options)
      for (const cookie of [`sid=${signer.sign('red')}; sid=${signer.sign('blue')}`, 'sid=']) {
        const response = await get(port, '/', { cookie })
        expect(response.status).toBe(400)
        expect(await response.json()).toMatchObject({ code: 'SESSION_ID_INVALID' })
      }
      expect(pool.acquired).toEqual([])
    },
  )

  test('still holds genuine ids against the pattern', async () => {
    const { port, pool } = await openScene((_req, res) => res.end('ok'), { sign: { keys }, idPattern: /^[a-z]+$/ })
    expect((await get(port, '/', { 'x-session-id': signer.sign('R3D') })).status).toBe(400)
    expect(pool.acquired).toEqual([])
  })

  test('issues signed ids, which it takes', async () => {
    const { port, pool } = await openScene((_req, res) => res.end('ok'), { sign: { keys }, issue: true })
    const first = await fetch(`http://127.0.0.1:${port}/`)
    const id = first.headers.get('x-session-id') as string
    expect(signer.verify(id)).toBe(pool.acquired[0])
    const second = await get(port, '/', { 'x-session-id': id })
    expect([second.status, second.headers.get('x-session-id')]).toEqual([200, null])
    expect(pool.acquired[1]).toBe(pool.acquired[0])
  })

  test('shows a forged id to no worker, where it gives a new one', async () => {
    const { port } = await openScene((req, res) => res.end(JSON.stringify(req.headers)), {
      sessionId: [fromCookie('sid'), fromCookie('old'), fromHeader('x-sid')],
      sign: { keys, forged: 'issue' },
      issue: true,
    })
    const ask = async (headers: Record<string, string>) =>
      (await (await get(port, '/', headers)).json()) as Record<string, string>
    const forged = await ask({ cookie: 'a=1; sid=red.AAAA; sid2=b;old=x', 'x-sid': 'red.AAAA', 'x-other': '1' })
    expect(forged).toMatchObject({ cookie: 'a=1; sid2=b', 'x-other': '1' })
    expect(forged).not.toHaveProperty('x-sid')
    expect(await ask({ cookie: 'sid=red.AAAA' })).not.toHaveProperty('cookie')
    const genuine = `sid=${signer.sign('red')}`
    expect(await ask({ cookie: genuine, 'x-sid': 'own' })).toMatchObject({ cookie: genuine, 'x-sid': 'own' })
  })

  test('gives a new session for a forged id where that is wanted', async () => {
    const { port, pool } = await openScene((_req, res) => res.end('ok'), {
      sessionId: fromCookie('sid'),
      sign: { keys, forged: 'issue' },
      issue: true,
    })
    const response = await get(port, '/', { cookie: 'sid=red' })
    expect(response.status).toBe(200)
    expect(response.headers.get('set-cookie')).toMatch(/^sid=[\w-]{22}\.[\w-]{43}; /)
    expect(pool.acquired).toEqual([expect.stringMatching(/^[\w-]{22}$/)])
  })

  test('refuses options that make no sense', async () => {
    const open = (options: object) => openScene(() => {}, options)
    await expect(open({ sign: { keys: [] } })).rejects.toThrow('sign.keys')
    await expect(open({ sign: { keys, forged: 'issue' } })).rejects.toThrow('sign.forged')
    await expect(open({ sign: { keys, key: 'x' } })).rejects.toThrow('sign.key')
    await expect(open({ sign: { keys }, adopt: true, sessionId: fromHeader('x') })).rejects.toThrow(
      'nothing beside sign',
    )
  })
})
