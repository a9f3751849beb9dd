import { describe, expect, test } from 'vitest'
import { OutputTail } from '../../../src/runtime/process/output.ts'

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

  test('get the unfinished line as it grows', () => {
    const texts: string[] = []
    const tail = new OutputTail({ onPartialLine: (text) => texts.push(text) })
    for (const chunk of ['a\n> ', 'x', '\n', 'b']) tail.write(Buffer.from(chunk))
    expect(texts).toEqual(['> ', '> x', 'b'])
  })
})
