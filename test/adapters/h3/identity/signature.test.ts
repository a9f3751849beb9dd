import { execFileSync } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createIdSigner } from 'corral/h3'

const [old, current] = ['an old secret of enough bytes', 'the new secret of enough bytes']

describe('a signed id', () => {
  test('is the id, a dot and the HMAC-SHA-256 in base64url', () => {
    const hmac = createHmac('sha256', current).update('corral session id\0red').digest('base64url')
    expect(createIdSigner(current).sign('red')).toBe(`red.${hmac}`)
  })

  test('is what the docs make in Python', () => {
    const docs = readFileSync(new URL('../../../../docs/gateway.md', import.meta.url), 'utf8')
    const [, block = ''] = /^```py\n([^]*?)^```$/m.exec(docs) ?? []
    const program = `import base64, hmac, sys\n${block}print(sign(sys.argv[1].encode(), sys.argv[2]), end='')`
    const signed = execFileSync('python3', ['-c', program, current, 'red'], { encoding: 'utf8' })
    expect(createIdSigner(current).verify(signed)).toBe('red')
  })

  test('is found genuine with any of the keys, and signed with the first', () => {
    const rotated = createIdSigner([current, old])
    expect(rotated.verify(createIdSigner(old).sign('red'))).toBe('red')
    expect(rotated.sign('red')).toBe(createIdSigner(current).sign('red'))
    expect(createIdSigner(current).verify(createIdSigner(old).sign('red'))).toBeUndefined()
  })

  test('keeps dots of the id, and takes bytes for keys', () => {
    const signer = createIdSigner(Buffer.alloc(32, 7))
    expect(signer.verify(signer.sign('a.b..c'))).toBe('a.b..c')
  })

  test('is not genuine after any change', () => {
    const signer = createIdSigner(current)
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), fc.nat(), fc.nat(255), (id, at, char) => {
        const signed = signer.sign(id)
        expect(signer.verify(signed)).toBe(id)
        const i = at % signed.length
        const changed = signed.slice(0, i) + String.fromCharCode(char) + signed.slice(i + 1)
        if (changed !== signed) expect(signer.verify(changed)).toBeUndefined()
      }),
    )
  })

  test.each([
    '',
    '.',
    'red',
    'red.',
    `red.${'A'.repeat(43)}`,
    `.${'A'.repeat(43)}`,
    'A'.repeat(44),
    'red.é'.repeat(30),
  ])('is not %j', (text) => {
    expect(createIdSigner(current).verify(text)).toBeUndefined()
  })

  test.each<[string, unknown]>([
    ['one of 5 bytes', 'short'],
    ['none', []],
    ['number', 7],
    ['bytes that were read as text', Buffer.alloc(16, 0xe9).toString()],
    ['bytes that were read as text', '\ud800'.repeat(16)],
    ['one of 15 bytes', ['long enough, this one', Buffer.alloc(15)]],
  ])('needs good keys: %s is refused', (got, keys) => {
    expect(() => createIdSigner(keys as string)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
    expect(() => createIdSigner(keys as string)).toThrow(got)
  })
})
