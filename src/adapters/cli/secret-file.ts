import { isUtf8 } from 'node:buffer'
import { closeSync, constants, openSync, readSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import type { FlagName } from './flags.ts'
import { UsageError } from './given.ts'

/**
 * What a file holds, which has no place on a command line: everyone on the machine can read those.
 *
 * @throws {UsageError}
 */
export function readSecret(name: FlagName, file: string): string {
  let descriptor: number | undefined
  try {
    descriptor = openSync(file, 'r')
    return textOf(name, file, readWhole(file, descriptor))
  } catch (error) {
    throw error instanceof UsageError ? error : unreadable(name, error)
  } finally {
    if (descriptor !== undefined) closeSync(descriptor)
  }
}

/**
 * The same while requests are served, which neither a disk nor something else than a file must hold up.
 *
 * @throws {UsageError}
 */
export async function rereadSecret(name: FlagName, file: string): Promise<string> {
  let handle: FileHandle | undefined
  try {
    // The opening of a pipe would wait for a writer.
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK)
    const stats = await handle.stat()
    if (!stats.isFile()) throw new Error(`${JSON.stringify(file)} is none`)
    if (stats.size > maxSize) throw tooLarge(file)
    return textOf(name, file, await handle.readFile())
  } catch (error) {
    throw error instanceof UsageError ? error : unreadable(name, error)
  } finally {
    await handle?.close()
  }
}

/** All of a file, or of a pipe, which tells no size; not of a device without end. */
function readWhole(file: string, descriptor: number): Buffer {
  const pieces: Buffer[] = []
  for (let left = maxSize; ;) {
    const piece = Buffer.alloc(64 * 1024)
    const length = readSync(descriptor, piece)
    if (length === 0) return Buffer.concat(pieces)
    left -= length
    if (left < 0) throw tooLarge(file)
    pieces.push(piece.subarray(0, length))
  }
}

const maxSize = 16 * 1024 * 1024

function tooLarge(file: string): Error {
  return new Error(`${JSON.stringify(file)} has more than ${maxSize} bytes`)
}

/** The lines of a secret, without empty ones and comments. */
export function linesOf(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
}

function textOf(name: FlagName, file: string, bytes: Buffer): string {
  // What stands for bytes that are no text is the same for all of them: different secrets would become one.
  if (!isUtf8(bytes)) {
    const got = JSON.stringify(file)
    throw new UsageError(`--${name} expects a file of text in UTF-8, which ${got} is not: encode bytes as base64`)
  }
  return bytes.toString().trim()
}

function unreadable(name: FlagName, cause: unknown): UsageError {
  return new UsageError(`--${name} expects a file that can be read: ${(cause as Error).message}`, { cause })
}
