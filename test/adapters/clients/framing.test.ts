import type { IncomingMessage } from 'node:http'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Framing } from '../../../src/adapters/clients/framing.ts'

const chunkSize = fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 4000, max: 70_000 }))

const body = fc.oneof(
  fc.constant({ by: 'nothing' as const }),
  fc.record({ by: fc.constant('length' as const), size: chunkSize }),
  fc.record({
    by: fc.constant('chunks' as const),
    sizes: fc.array(chunkSize, { maxLength: 5 }),
    extension: fc.constantFrom('', ';a', ' ; a="b;c"'),
    trailers: fc.constantFrom('', 'A: b\r\n', 'A: b\r\nC: d\r\n'),
  }),
)
type Body = typeof body extends fc.Arbitrary<infer Type> ? Type : never

const message = fc.record({ blank: fc.constantFrom('', '', '\r\n', '\r\n\r\n\r\n'), fields: fc.nat(4), body })

/** Looks like everything that ends anything. */
const content = '\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n'.repeat(3000)

function headersOf(body: Body): Record<string, string> {
  if (body.by === 'length') return { 'content-length': String(body.size) }
  return body.by === 'chunks' ? { 'transfer-encoding': 'chunked' } : {}
}

function textOf(body: Body): string {
  if (body.by === 'nothing') return ''
  if (body.by === 'length') return content.slice(0, body.size)
  const { sizes, extension, trailers } = body
  const chunks = sizes.map((size) => `${size.toString(16)}${extension}\r\n${content.slice(0, size)}\r\n`)
  return `${chunks.join('')}0${extension}\r\n${trailers}\r\n`
}

test('every head ends a step, wherever messages are cut', () => {
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 6 }), fc.infiniteStream(chunkSize), (messages, cuts) => {
      let text = ''
      /** What begins where. */
      const bodies = new Map<number, Body>()
      for (const { blank, fields, body } of messages) {
        text += `${blank}POST / HTTP/1.1\r\n${'Name: value\r\n'.repeat(fields)}\r\n`
        bodies.set(text.length, body)
        text += textOf(body)
      }
      const bytes = Buffer.from(text)
      const framing = new Framing()
      for (let at = 0; at < bytes.length;) {
        const piece = bytes.subarray(at, at + cuts.next().value)
        for (let start = 0; start < piece.length;) {
          start = framing.step(piece, start, 1_000_000)
          const body = bodies.get(at + start)
          if (body === undefined) expect(start).toBe(piece.length)
          else framing.begin({ headers: headersOf(body) } as unknown as IncomingMessage)
          bodies.delete(at + start)
        }
        at += piece.length
      }
      expect(bodies.size).toBe(0)
    }),
  )
})

test('a step ends behind as many chunks as it may cost, however long they are', () => {
  const framing = new Framing()
  framing.begin({ headers: { 'transfer-encoding': 'chunked' } } as unknown as IncomingMessage)
  const chunk = `3e8\r\n${'\n'.repeat(1000)}\r\n`
  const bytes = Buffer.from(chunk.repeat(10))
  expect(framing.step(bytes, 0, 4 * 64)).toBe(3 * chunk.length + '3e8\r\n'.length)
  expect(framing.cost).toBe(4 * 64)
})
