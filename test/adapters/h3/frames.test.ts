import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FrameScanner, closeFrame } from '../../../src/adapters/h3/frames.ts'

const opcodes = { text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const

interface Frame {
  opcode: number
  length: number
  masked: boolean
}

/** RFC 6455 §5.2, with the length in any of the forms that can hold it. */
function encode(
  { opcode, length, masked }: Frame,
  form: 0 | 2 | 8 = length < 126 ? 0 : length < 65_536 ? 2 : 8,
): Buffer {
  const extended = Buffer.alloc(form)
  if (form === 2) extended.writeUInt16BE(length)
  if (form === 8) extended.writeBigUInt64BE(BigInt(length))
  const second = form === 0 ? length : form === 2 ? 126 : 127
  return Buffer.concat([
    Buffer.from([0x80 | opcode, (masked ? 0x80 : 0) | second]),
    extended,
    Buffer.alloc(masked ? 4 : 0, 0x88),
    // What would be heads of close frames, were they heads.
    Buffer.alloc(length, 0x88),
  ])
}

const frames = fc.array(
  fc.record({
    opcode: fc.constantFrom(0, opcodes.text, opcodes.binary, opcodes.ping, opcodes.pong),
    length: fc.oneof(fc.integer({ min: 0, max: 130 }), fc.constantFrom(65_535, 65_536)),
    masked: fc.boolean(),
  }),
  { minLength: 1, maxLength: 6 },
)

describe('the frame scanner', () => {
  test('knows the boundaries between frames, however they are cut into chunks', () => {
    fc.assert(
      fc.property(frames, fc.array(fc.nat(70_000), { maxLength: 8 }), (list, cuts) => {
        const encoded = list.map((frame) => encode(frame))
        const bytes = Buffer.concat(encoded)
        const boundaries = new Set([0])
        let end = 0
        for (const { length } of encoded) boundaries.add((end += length))
        const scanner = new FrameScanner()
        let at = 0
        for (const cut of [...cuts.map((cut) => cut % bytes.length), bytes.length].sort((a, b) => a - b)) {
          scanner.feed(bytes.subarray(at, cut))
          at = cut
          expect(scanner.atBoundary).toBe(boundaries.has(at))
        }
        expect(scanner.closed).toBe(false)
      }),
      { numRuns: 200 },
    )
  })

  test('knows that a close frame ends a direction', () => {
    const scanner = new FrameScanner()
    scanner.feed(encode({ opcode: opcodes.text, length: 5, masked: false }))
    expect(scanner.closed).toBe(false)
    scanner.feed(closeFrame(1000, ''))
    expect(scanner).toMatchObject({ closed: true, atBoundary: true })
  })

  test('tells chunks of nothing but pongs from others, also within a frame', () => {
    const scanner = new FrameScanner()
    const pong = encode({ opcode: opcodes.pong, length: 20, masked: true })
    const text = encode({ opcode: opcodes.text, length: 20, masked: true })
    expect(scanner.feed(pong)).toBe(false)
    expect(scanner.feed(pong.subarray(0, 10))).toBe(false)
    expect(scanner.feed(pong.subarray(10))).toBe(false)
    expect(scanner.feed(Buffer.concat([pong, text.subarray(0, 10)]))).toBe(true)
    expect(scanner.feed(text.subarray(10))).toBe(true)
    expect(scanner.feed(pong)).toBe(false)
  })

  test('is never at a boundary again after a length that no frame reaches the end of', () => {
    const scanner = new FrameScanner()
    scanner.feed(Buffer.concat([Buffer.from([0x82, 127]), Buffer.alloc(8, 0xff), Buffer.alloc(1000)]))
    expect(scanner.atBoundary).toBe(false)
  })

  test('takes a length in a longer form than it needs', () => {
    const scanner = new FrameScanner()
    scanner.feed(encode({ opcode: opcodes.text, length: 3, masked: false }, 8))
    expect(scanner.atBoundary).toBe(true)
  })
})
