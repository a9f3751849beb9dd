import { readFile } from 'node:fs/promises'

/** What the file holds; nothing when there is none, or none that we may read. */
export function readText(path: string): Promise<string> {
  return readFile(path, 'latin1').catch(() => '')
}

/** The number that the file holds; `undefined` when it holds none, such as `max`. */
export async function readNumber(path: string): Promise<number | undefined> {
  const text = (await readText(path)).trim()
  return /^-?\d+$/.test(text) ? Number(text) : undefined
}

/** The number in the line that begins with `name`, of a file of such lines. */
export function numberAt(text: string, name: string): number | undefined {
  const [, value] = new RegExp(`^${name}:?\\s+(\\d+)`, 'm').exec(text) ?? []
  return value === undefined ? undefined : Number(value)
}
