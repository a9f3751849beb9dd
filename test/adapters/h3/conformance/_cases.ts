import { deflateRawSync } from 'node:zlib'

/*
 * What a client may send on a WebSocket, and what it must not: sizes, pings, reserved bits, opcodes, fragments, UTF-8, codes of
 * closing, and compression.
 */

export interface Case {
  readonly frames: readonly Buffer[]
  /** Size of the pieces that the bytes are sent in; as one piece when it is absent. */
  readonly chop?: number
  /** What the client offers in `Sec-WebSocket-Extensions`. */
  readonly extensions?: string
  /** What comes after the goodbye, and completes a frame that has swallowed it. */
  readonly filler?: Buffer
}

interface FrameOptions {
  readonly fin?: boolean
  /** Reserved bits, `0b100` being the first one. */
  readonly rsv?: number
  readonly masked?: boolean
  /** How the length is written: in 7, 16 or 64 bits; in as few as it needs when it is absent. */
  readonly lengthBits?: 7 | 16 | 64
}

export const opcodes = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const

const key = Buffer.from([0x37, 0xfa, 0x21, 0x3d])

/** A frame (RFC 6455 §5.2), right or wrong. */
export function frame(opcode: number, payload: Buffer | string = '', options: FrameOptions = {}): Buffer {
  const { fin = true, rsv = 0, masked = true } = options
  const data = Buffer.from(payload)
  const { lengthBits = data.length < 126 ? 7 : data.length < 65_536 ? 16 : 64 } = options
  const length = Buffer.alloc(lengthBits === 7 ? 1 : lengthBits === 16 ? 3 : 9)
  if (lengthBits === 7) length[0] = data.length
  else {
    length[0] = lengthBits === 16 ? 126 : 127
    if (lengthBits === 16) length.writeUInt16BE(data.length, 1)
    else length.writeBigUInt64BE(BigInt(data.length), 1)
  }
  const head = Buffer.concat([Buffer.from([(fin ? 0x80 : 0) | (rsv << 4) | opcode]), length])
  if (!masked) return Buffer.concat([head, data])
  head[1] = (head[1] as number) | 0x80
  for (let i = 0; i < data.length; i++) data[i] = (data[i] as number) ^ (key[i & 3] as number)
  return Buffer.concat([head, key, data])
}

function close(code?: number, reason: Buffer | string = ''): Buffer {
  if (code === undefined) return frame(opcodes.close)
  const payload = Buffer.alloc(2)
  payload.writeUInt16BE(code)
  return frame(opcodes.close, Buffer.concat([payload, Buffer.from(reason)]))
}

/** A message in fragments, with whatever comes between them. */
function fragments(opcode: number, parts: readonly (Buffer | string)[], between: readonly Buffer[] = []): Buffer[] {
  return parts.flatMap((part, i) => [
    frame(i === 0 ? opcode : opcodes.continuation, part, { fin: i === parts.length - 1 }),
    ...(i === parts.length - 1 ? [] : between),
  ])
}

const { text, binary, ping, pong, continuation } = opcodes
const sizes = [0, 1, 125, 126, 127, 128, 65_535, 65_536, 200_000]
const hello = frame(text, 'Hello')
const utf8 = 'Hello-µ@ßöäüàá-UTF-8!!'
const offer = 'permessage-deflate'

const invalidUtf8 = [
  'cebae1bdb9cf83cebcceb5eda080656469746564',
  'f4908080',
  'c0af',
  'e080af',
  'f08080af',
  'fe',
  'ff',
  '80',
  'bf',
  'c0',
  'e0a0',
  'f09080',
  'eda080edb080',
  'edbfbf',
  'cebae1bdb9cf83cebcceb5f4908080656469746564',
]

const validUtf8 = ['00', '7f', 'c280', 'dfbf', 'e0a080', 'efbfbf', 'f0908080', 'f48fbfbf', 'ed9fbf', 'ee8080', 'efbfbe']

const codes = {
  allowed: [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999],
  forbidden: [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535],
}

function compressed(data: Buffer | string, tail = 4): Buffer {
  const raw = deflateRawSync(Buffer.from(data), { finishFlush: 2 })
  return raw.subarray(0, raw.length - tail)
}

/** Cases by section, each with a name. */
export const sections: Record<string, Record<string, Case>> = {
  'sizes of messages': Object.fromEntries(
    sizes.flatMap((size) =>
      [text, binary].flatMap((opcode) =>
        [undefined, ...(size > 60_000 ? [997] : [1])].map((chop) => [
          `${opcode} ${size} ${chop}`,
          { frames: [frame(opcode, Buffer.alloc(size, '*'))], ...(chop !== undefined && { chop }) },
        ]),
      ),
    ),
  ),
  'pings and pongs': {
    empty: { frames: [frame(ping)] },
    'with a payload': { frames: [frame(ping, 'payload')] },
    'with bytes of no text': { frames: [frame(ping, Buffer.from([0, 255, 254, 253]))] },
    'as long as may be': { frames: [frame(ping, Buffer.alloc(125, 254))] },
    'in single bytes': { frames: [frame(ping, Buffer.alloc(125, 254))], chop: 1 },
    'too long': { frames: [frame(ping, Buffer.alloc(126, 254))] },
    'unasked pong': { frames: [frame(pong, 'x'), frame(ping, 'y')] },
    'ten at once': { frames: Array.from({ length: 10 }, (_, i) => frame(ping, `payload-${i}`)) },
    'ten in single bytes': { frames: Array.from({ length: 10 }, (_, i) => frame(ping, `payload-${i}`)), chop: 1 },
  },
  'reserved bits': Object.fromEntries(
    [text, binary, ping, pong, opcodes.close].flatMap((opcode) =>
      Array.from({ length: 7 }, (_, rsv) => [
        `${opcode} ${rsv + 1}`,
        { frames: [hello, frame(opcode, '', { rsv: rsv + 1 }), frame(ping)] },
      ]),
    ),
  ),
  opcodes: Object.fromEntries(
    [3, 4, 5, 6, 7, 11, 12, 13, 14, 15].flatMap((opcode) => [
      [`${opcode}`, { frames: [frame(opcode), frame(ping)] }],
      [`${opcode} behind a message, in pieces`, { frames: [hello, frame(opcode, 'payload'), frame(ping)], chop: 3 }],
    ]),
  ),
  fragments: {
    'of a ping': { frames: fragments(ping, ['a', 'b']) },
    'of a pong': { frames: fragments(pong, ['a', 'b']) },
    'of a text': { frames: fragments(text, ['a', 'b']) },
    'of a text, in single bytes': { frames: fragments(text, ['fragment1', 'fragment2']), chop: 1 },
    'with a ping between': { frames: fragments(text, ['a', 'b'], [frame(ping, 'between')]) },
    'with two pings between, in single bytes': {
      frames: fragments(text, ['a', 'b', 'c'], [frame(ping, '1'), frame(ping, '2')]),
      chop: 1,
    },
    'that are empty': { frames: fragments(text, ['', '', '']) },
    'that are empty but one': { frames: fragments(binary, ['', 'middle', '']) },
    'that continue nothing': { frames: [frame(continuation, 'a')] },
    'that continue nothing, unfinished': { frames: [frame(continuation, 'a', { fin: false }), hello] },
    'that continue what is over': { frames: [...fragments(text, ['a', 'b']), frame(continuation, 'c')] },
    'with another message between': { frames: [frame(text, 'a', { fin: false }), hello] },
    'of many': {
      frames: fragments(
        binary,
        Array.from({ length: 500 }, (_, i) => `${i},`),
      ),
    },
    'of many, in pieces': {
      frames: fragments(
        binary,
        Array.from({ length: 500 }, (_, i) => `${i},`),
      ),
      chop: 7,
    },
    'cut by a close': { frames: [frame(text, 'a', { fin: false }), close(1000)] },
  },
  'UTF-8': Object.fromEntries([
    ['all of it', { frames: [frame(text, utf8)] }],
    [
      'in single bytes',
      {
        frames: fragments(
          text,
          [...Buffer.from(utf8)].map((byte) => Buffer.from([byte])),
        ),
      },
    ],
    ...validUtf8.map((hex): [string, Case] => [`valid ${hex}`, { frames: [frame(text, Buffer.from(hex, 'hex'))] }]),
    ...invalidUtf8.flatMap((hex): [string, Case][] => {
      const bytes = Buffer.from(hex, 'hex')
      const parts = [...bytes].map((byte) => Buffer.from([byte]))
      return [
        [`invalid ${hex}`, { frames: [frame(text, bytes), hello] }],
        [`invalid ${hex} in fragments`, { frames: [...fragments(text, parts), hello] }],
        [`invalid ${hex} as binary`, { frames: [frame(binary, bytes)] }],
      ]
    }),
  ]),
  closing: Object.fromEntries([
    ['without a code', { frames: [close()] }],
    ['behind a message', { frames: [hello, close(1000, 'bye')] }],
    ['twice', { frames: [close(1000), close(1000)] }],
    ['and a ping behind it', { frames: [close(1000), frame(ping)] }],
    ['and a message behind it', { frames: [close(1000), hello] }],
    ['behind a large message', { frames: [frame(binary, Buffer.alloc(300_000, 1)), close(1000)] }],
    ['with half a code', { frames: [frame(opcodes.close, 'a')] }],
    ['with the longest reason', { frames: [close(1000, '*'.repeat(123))] }],
    ['with a reason that is too long', { frames: [close(1000, '*'.repeat(124))] }],
    ['with a reason that is no UTF-8', { frames: [close(1000, Buffer.from('cebae1bdb9cf83eda080', 'hex'))] }],
    ['in fragments', { frames: [frame(opcodes.close, '', { fin: false }), frame(continuation)] }],
    ...[...codes.allowed, ...codes.forbidden].map((code): [string, Case] => [
      `with ${code}`,
      { frames: [close(code, 'reason')] },
    ]),
  ]),
  'frames that are wrong': {
    'not masked': { frames: [frame(text, 'Hello', { masked: false })] },
    'a length in more bits than it needs': { frames: [frame(text, 'Hello', { lengthBits: 16 }), hello] },
    'a length in many more bits than it needs': { frames: [frame(text, 'Hello', { lengthBits: 64 }), hello] },
    'a length beyond counting': { frames: [Buffer.from('82ffffffffffffffffff37fa213d', 'hex')] },
    'a length with the first bit set': { frames: [Buffer.from('82ff800000000000000037fa213d', 'hex')] },
    'a ping of 16 bits of length': { frames: [frame(ping, 'a', { lengthBits: 16 })] },
    'a message beyond the limit': { frames: [Buffer.from('82ff000000010000000037fa213d', 'hex')] },
    'HTTP in place of frames': { frames: [Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n')] },
  },
  'large messages': Object.fromEntries(
    [1, 4].flatMap((mebibytes) => {
      const data = Buffer.alloc(mebibytes * 1024 * 1024, 'x')
      const parts = Array.from({ length: mebibytes * 16 }, (_, i) => data.subarray(i * 65_536, (i + 1) * 65_536))
      return [text, binary].flatMap((opcode) => [
        [`${opcode} ${mebibytes}`, { frames: [frame(opcode, data)] }],
        [`${opcode} ${mebibytes} in fragments`, { frames: fragments(opcode, parts) }],
        [`${opcode} ${mebibytes} in pieces`, { frames: [frame(opcode, data)], chop: 2048 }],
      ])
    }),
  ),
  compression: Object.fromEntries(
    [
      offer,
      `${offer}; client_no_context_takeover`,
      `${offer}; server_no_context_takeover`,
      `${offer}; client_no_context_takeover; server_no_context_takeover`,
      `${offer}; server_max_window_bits=9`,
      `${offer}; client_max_window_bits`,
      `${offer}; server_max_window_bits=7`,
      `${offer}; unknown=1`,
      `x-unknown, ${offer}`,
    ].flatMap((extensions): [string, Case][] => [
      [`${extensions}, small`, { extensions, frames: [frame(text, compressed('Hello'), { rsv: 4 })] }],
      [
        `${extensions}, large`,
        { extensions, frames: [frame(text, compressed('Hello, '.repeat(20_000)), { rsv: 4 })], chop: 1000 },
      ],
      [`${extensions}, not compressed`, { extensions, frames: [frame(text, 'x'.repeat(2000))] }],
      [
        `${extensions}, in fragments`,
        {
          extensions,
          frames: [
            frame(binary, compressed('abc'.repeat(1000)).subarray(0, 9), { rsv: 4, fin: false }),
            frame(continuation, compressed('abc'.repeat(1000)).subarray(9)),
          ],
        },
      ],
      [`${extensions}, no deflate`, { extensions, frames: [frame(text, 'not deflated', { rsv: 4 })] }],
      [`${extensions}, a ping with the bit`, { extensions, frames: [frame(ping, 'a', { rsv: 4 })] }],
      [
        `${extensions}, the bit on a continuation`,
        { extensions, frames: [frame(text, 'a', { fin: false }), frame(continuation, 'b', { rsv: 4 })] },
      ],
    ]),
  ),
}

/** What ends a case that does not end itself. */
export const goodbye = close(1000)
