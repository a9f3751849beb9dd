import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { FileSink, LineOutput, isClosed, type LineSink } from '../../../src/adapters/cli/line-output.ts'

/** An output that takes no more than `room` bytes, and fails with `error` of the rest. */
class Disk implements LineSink {
  text = ''
  room = Number.POSITIVE_INFINITY
  error = failure('ENOSPC')
  readonly told: string[] = []
  readonly #output = new LineOutput(this, {
    onLoss: ({ message }) => this.told.push(message),
    onMended: (lines) => {
      this.told.push(`${lines} lost`)
      this.print('mended')
    },
  })

  print(line: string): void {
    this.#output.write(`${line}\n`)
  }

  write(text: string, onWritten: (error?: Error, written?: number) => void): boolean {
    const taken = text.slice(0, this.room)
    this.text += taken
    this.room -= taken.length
    if (taken === text) onWritten()
    else onWritten(this.error, taken.length)
    return true
  }
}

function failure(code: string): Error {
  return Object.assign(new Error(code), { code })
}

test('lines that a full disk does not take are counted, and told of once it takes some', () => {
  const disk = new Disk()
  disk.print('first')
  disk.room = 0
  for (const line of ['lost', 'lost', 'lost']) disk.print(line)
  expect(disk.told).toEqual(['ENOSPC'])
  disk.room = 100
  disk.print('next')
  expect(disk.text).toBe('first\nnext\nmended\n')
  expect(disk.told).toEqual(['ENOSPC', '3 lost'])
  disk.print('last')
  expect(disk.text).toBe('first\nnext\nmended\nlast\n')
})

test.each([
  ['at once', []],
  ['after another one that is lost', [0]],
  ['after the end of the torn one', [1]],
  ['after the end of the torn one and some of another', [3, 0]],
])('a line that is torn is lost, and the next one begins on a line of its own: %s', (_when, rooms) => {
  const disk = new Disk()
  disk.room = 3
  disk.print('torn')
  for (const room of rooms) {
    disk.room = room
    disk.print('lost')
  }
  disk.room = 100
  disk.print('next')
  expect(disk.text).toBe(rooms[0] === 3 ? 'tor\nlo\nnext\nmended\n' : 'tor\nnext\nmended\n')
  expect(disk.told).toEqual(['ENOSPC', `${1 + rooms.length} lost`])
})

test('a reader that stops costs lines, and not memory without end', () => {
  const written: string[] = []
  const waiting: { readonly line: string; readonly done: () => void }[] = []
  const told: string[] = []
  const output = new LineOutput(
    {
      get writableLength() {
        return waiting.reduce((sum, { line }) => sum + line.length, 0)
      },
      write: (line, onWritten) => {
        waiting.push({ line, done: onWritten })
        return false
      },
    },
    {
      onLoss: ({ message }) => told.push(message),
      onMended: (lines) => {
        told.push(`${lines} lost`)
        output.write('mended')
      },
    },
  )
  const read = () => {
    const { line, done } = waiting.shift()!
    written.push(line.slice(0, 6))
    done()
  }
  const mib = 'x'.repeat(1024 * 1024)
  for (let index = 0; index < 20; index++) output.write(`${String(index).padEnd(6)}${mib}`)
  expect(waiting).toHaveLength(8)
  expect(told).toEqual([expect.stringMatching(/^its reader takes too little, 838\d+ bytes wait for it$/)])
  for (let lines = 0; lines < 4; lines++) read()
  output.write('still lost')
  read()
  expect(told).toEqual([told[0], '13 lost'])
  output.write('next')
  while (waiting.length > 0) read()
  expect(written).toEqual([
    '0     ',
    '1     ',
    '2     ',
    '3     ',
    '4     ',
    '5     ',
    '6     ',
    '7     ',
    'mended',
    'next',
  ])
})

test('what nobody reads any more is not told of', () => {
  const disk = new Disk()
  disk.room = 0
  disk.error = failure('EPIPE')
  disk.print('lost')
  expect(disk.told).toEqual([])
})

test('a file gets what is written, and says what it does not take', () => {
  const directory = mkdtempSync(join(tmpdir(), 'lines-'))
  const [file, full] = [openSync(join(directory, 'log'), 'a'), openSync('/dev/full', 'w')]
  onTestFinished(() => {
    for (const fd of [file, full]) closeSync(fd)
    rmSync(directory, { recursive: true })
  })
  const told: unknown[] = []
  const tell = (error?: Error, written?: number) => told.push([(error as NodeJS.ErrnoException)?.code, written])
  for (const text of ['één\n', 'two\n']) new FileSink(file).write(text, tell)
  new FileSink(full).write('three\n', tell)
  expect(readFileSync(join(directory, 'log'), 'utf8')).toBe('één\ntwo\n')
  expect(told).toEqual([
    [undefined, undefined],
    [undefined, undefined],
    ['ENOSPC', 0],
  ])
})

test.each(['ENOSPC', 'EDQUOT', 'EFBIG', 'EIO', 'EAGAIN'])('%s may pass', (code) => {
  expect(isClosed(failure(code))).toBe(false)
})

test.each(['EPIPE', 'ECONNRESET', 'EBADF', 'ERR_STREAM_DESTROYED'])('%s is for good', (code) => {
  expect(isClosed(failure(code))).toBe(true)
})
