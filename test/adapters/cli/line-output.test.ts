import type { Writable } from 'node:stream'
import { expect, test } from 'vitest'
import { LineOutput, isClosed } from '../../../src/adapters/cli/line-output.ts'

/** An output that fails for as long as there is an error, and is never destroyed, as that of a process. */
class Disk {
  text = ''
  error: Error | undefined
  readonly told: string[] = []
  readonly #output = new LineOutput(this as unknown as Writable, {
    onLoss: ({ message }) => this.told.push(message),
    onMended: (lines) => {
      this.told.push(`${lines} lost`)
      this.print('mended')
    },
  })

  print(line: string): void {
    this.#output.write(`${line}\n`)
  }

  write(text: string, onWritten: (error?: Error) => void): boolean {
    const { error } = this
    if (error === undefined) this.text += text
    onWritten(error)
    return true
  }
}

function failure(code: string): Error {
  return Object.assign(new Error(code), { code })
}

test('lines that a full disk does not take are counted, and told of once it takes some', () => {
  const disk = new Disk()
  disk.print('first')
  disk.error = failure('ENOSPC')
  for (const line of ['lost', 'lost', 'lost']) disk.print(line)
  expect(disk.told).toEqual(['ENOSPC'])
  disk.error = undefined
  disk.print('next')
  // What was written last may be half a line.
  expect(disk.text).toBe('first\n\nnext\nmended\n')
  expect(disk.told).toEqual(['ENOSPC', '3 lost'])
  disk.print('last')
  expect(disk.text).toBe('first\n\nnext\nmended\nlast\n')
})

test('what nobody reads any more is not told of', () => {
  const disk = new Disk()
  disk.error = failure('EPIPE')
  disk.print('lost')
  expect(disk.told).toEqual([])
})

test.each(['ENOSPC', 'EDQUOT', 'EFBIG', 'EIO', 'EAGAIN'])('%s may pass', (code) => {
  expect(isClosed(failure(code))).toBe(false)
})

test.each(['EPIPE', 'ECONNRESET', 'EBADF', 'ERR_STREAM_DESTROYED'])('%s is for good', (code) => {
  expect(isClosed(failure(code))).toBe(true)
})
