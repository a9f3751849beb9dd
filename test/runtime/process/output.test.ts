import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { OutputTail, type OutputListeners } from '../../../src/runtime/process/output.ts'

function written(...chunks: (string | Buffer)[]): OutputTail {
  const tail = new OutputTail()
  for (const chunk of chunks) tail.write(Buffer.from(chunk))
  return tail
}

describe('lines', () => {
  test('are put together from chunks and split within them', () => {
    expect(written('one\ntw', 'o\n\nfour\n').lines()).toEqual(['one', 'two', '', 'four'])
  })

  test('lose the line break of Windows', () => {
    expect(written('one\r', '\ntwo\r\n').lines()).toEqual(['one', 'two'])
  })

  const bars = '\rone\r\rtwo\rthree\r\r\nfour\r\n\r\n\r\nfive\rsix\r'

  test.each([
    ['in one chunk', [bars]],
    [
      'over chunks',
      ['\r', 'one\r', '\r', 'two', '\r', 'three', '\r', '\r\nfour\r', '\n', '\r', '\n\r\nfive', '\r', 'six\r'],
    ],
    ['byte by byte', bars.split('')],
  ])('that are written over, as progress bars do, are the latest text of them: %s', (_how, chunks) => {
    const tail = written(...chunks)
    expect(tail.lines()).toEqual(['three', 'four', '', '', 'six'])
    tail.end()
    expect(tail.lines()).toEqual(['three', 'four', '', '', 'six'])
  })

  test('that are longer than what is kept can be written over', () => {
    const long = 'x'.repeat(3_000)
    expect(written(`${long}\r`, 'one\n', long, '\rtwo\n', `${long}\rthree`).lines()).toEqual(['one', 'two', 'three'])
  })

  test('do not end with a carriage return that nothing follows', () => {
    expect(written('boom\n\r').lines()).toEqual(['boom'])
  })

  test('include the unfinished last one', () => {
    const tail = written('one\ntwo')
    expect(tail.lines()).toEqual(['one', 'two'])
    tail.end()
    expect(tail.lines()).toEqual(['one', 'two'])
  })

  test('keep a character whole that is split over chunks', () => {
    const bytes = Buffer.from('a€😀z\n')
    expect(written(...[...bytes].map((byte) => Buffer.of(byte))).lines()).toEqual(['a€😀z'])
  })

  test('hold back half a character at the end', () => {
    expect(written(Buffer.from('a😀').subarray(0, 3)).lines()).toEqual(['a'])
  })
})

describe('memory is bounded', () => {
  test('to the last 50 lines', () => {
    const tail = written(Array.from({ length: 200 }, (_, index) => `line ${index}\n`).join(''))
    expect(tail.lines()).toHaveLength(50)
    expect(tail.lines().at(-1)).toBe('line 199')
    tail.write(Buffer.from('unfinished'))
    expect(tail.lines()).toHaveLength(50)
    expect(tail.lines().at(-1)).toBe('unfinished')
  })

  test('to the first 2 KiB of a line, and the next line is whole', () => {
    const chunk = 'x'.repeat(1000)
    const tail = written(...Array.from({ length: 20 }, () => chunk), '\nnext\n')
    expect(tail.lines()).toEqual([`${'x'.repeat(2048)}…`, 'next'])
  })

  test('without cutting a character in two', () => {
    expect(written(`${'x'.repeat(2047)}€ and more\n`).lines()).toEqual([`${'x'.repeat(2047)}…`])
  })
})

describe('listeners', () => {
  test('get each line once, and the unfinished one when the stream ends', () => {
    const lines: string[] = []
    const tail = new OutputTail({ onLine: (line) => lines.push(line) })
    tail.write(Buffer.from('one\ntw'))
    tail.write(Buffer.from('o\nthree'))
    tail.end()
    tail.end()
    expect(lines).toEqual(['one', 'two', 'three'])
  })

  test('that look for something get each line, and the unfinished one as it grows, until it has come', () => {
    const texts: string[] = []
    const tail = new OutputTail({ search: (text) => texts.push(text) === 5 })
    for (const chunk of ['a\n> ', 'x', '\n', 'b', 'c', '\n']) tail.write(Buffer.from(chunk))
    expect(texts).toEqual(['a', '> ', '> x', '> x', 'b'])
  })
})

test.each([
  ['in one chunk', ['\rone\rtwo READY\rthree\r\n']],
  ['over chunks', ['\rone\rtwo', ' READ', 'Y\r', 'three\r\n']],
  ['shorter than what it is written over', ['\rone and a half', '\rtwo READY', '\rthree\r\n']],
])('what is looked for is found in what is written over at once, %s', (_how, chunks) => {
  const seen: string[] = []
  const tail = new OutputTail({
    search: (text) => {
      seen.push(text)
      return text.includes('READY')
    },
  })
  for (const chunk of chunks) tail.write(Buffer.from(chunk))
  expect(seen.at(-1)).toBe('two READY')
  expect(tail.lines()).toEqual(['three'])
})

test('a flood of what is written over lets others have their turn while something is looked for', () => {
  const bars = Buffer.from('50 %\r'.repeat(2_000))
  expect(new OutputTail({ search: () => false }).write(bars)).toBe(true)
  expect(new OutputTail().write(bars)).toBe(false)
})

describe('of a flood of lines', () => {
  const flood = Array.from({ length: 5_000 }, (_, index) => `line ${index}\n`).join('')
  const notice = /^… \d+ bytes of output left out: more than 1000 lines in a second$/

  function flooded(options: OutputListeners = {}) {
    const told: string[] = []
    const clock = { now: 5_000 }
    const tail = new OutputTail({ ...options, onLine: (line) => told.push(line) }, () => clock.now)
    return { told, clock, tail }
  }

  test('1,000 are told in a second, then how much was left out, and the last ones are kept', () => {
    const { told, clock, tail } = flooded()
    tail.write(Buffer.from(flood))
    expect(told).toHaveLength(1_000)
    expect([told[0], told.at(-1)]).toEqual(['line 0', 'line 999'])
    expect(tail.lines()).toHaveLength(50)
    expect([tail.lines()[0], tail.lines().at(-1)]).toEqual(['line 4950', 'line 4999'])
    tail.write(Buffer.from('one more\nand th'))
    expect(told).toHaveLength(1_000)
    expect(tail.lines().slice(-2)).toEqual(['one more', 'and th'])
    clock.now += 1_000
    tail.write(Buffer.from('en\n'))
    expect(told.slice(1_000)).toEqual([expect.stringMatching(notice), 'and then'])
    const bytes = flood.length - flood.indexOf('line 1000\n') + 'one more\n'.length
    expect(told[1_000]).toContain(` ${bytes} bytes `)
  })

  test('all of a long line that is left out counts, in whatever pieces it came', () => {
    const { tail, told } = flooded()
    tail.write(Buffer.from('line\n'.repeat(1_000)))
    const piece = Buffer.alloc(10_000, 'x')
    for (let index = 0; index < 10; index++) tail.write(piece)
    tail.write(Buffer.from('\nand more\n'))
    tail.end()
    expect(told.at(-1)).toBe(
      `… ${100_000 + '\nand more\n'.length} bytes of output left out: more than 1000 lines in a second`,
    )
  })

  test('what was left out is told at the end, too', () => {
    const { told, tail } = flooded()
    tail.write(Buffer.from(flood))
    tail.end()
    expect(told.slice(1_000)).toEqual([expect.stringMatching(notice)])
  })

  test('what was left out is told when nothing more comes, too', () => {
    vi.useFakeTimers()
    onTestFinished(() => void vi.useRealTimers())
    const { told, tail } = flooded()
    tail.write(Buffer.from(flood))
    vi.advanceTimersByTime(999)
    expect(told).toHaveLength(1_000)
    vi.advanceTimersByTime(1)
    expect(told.slice(1_000)).toEqual([expect.stringMatching(notice)])
    tail.end()
    expect(told).toHaveLength(1_001)
    expect(vi.getTimerCount()).toBe(0)
  })

  test('none is left out for whoever looks for something, until it has come', () => {
    const seen: string[] = []
    const { told, tail } = flooded({ search: (line) => seen.push(line) === 4_000 })
    tail.write(Buffer.from(flood))
    expect([seen.length, seen.at(-1)]).toEqual([4_000, 'line 3999'])
    expect(told).toHaveLength(1_000)
    expect(tail.lines()).toHaveLength(50)
    tail.write(Buffer.from('one more\n'))
    expect(seen).toHaveLength(4_000)
  })

  test('no more than the last ones of a chunk is looked at', () => {
    const { told, clock, tail } = flooded()
    const chunk = Buffer.from('\n'.repeat(64 * 1024))
    tail.write(chunk)
    const search = vi.spyOn(Buffer.prototype, 'indexOf')
    onTestFinished(() => search.mockRestore())
    for (let i = 0; i < 100; i++) tail.write(chunk)
    expect(search.mock.calls.length).toBeLessThan(100 * 60)
    expect(told).toHaveLength(1_000)
    clock.now += 1_000
    tail.write(Buffer.from('still here\n'))
    expect(told.at(-1)).toBe('still here')
  })
})
