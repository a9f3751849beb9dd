import { isIPv6 } from 'node:net'
import { InvalidOptionError } from '../index.ts'

export function isBoolean(value: unknown): boolean {
  return typeof value === 'boolean'
}

export function isPort(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 65_535
}

/** What one can listen on: with a colon in it, it is an address of IPv6, and not another one with a port. */
export function isHostname(value: unknown): boolean {
  return typeof value === 'string' && value !== '' && (!value.includes(':') || isIPv6(value))
}

/** A time in milliseconds that a timer can wait, or the fallback. @throws `INVALID_OPTION` */
export function duration(option: string, value: unknown, fallback: number): number {
  return check(
    option,
    'a whole number of milliseconds, 0 or more',
    (value === undefined ? fallback : value) as number,
    (it) => Number.isSafeInteger(it) && (it as number) >= 0 && (it as number) <= 2_147_483_647,
  )
}

/** How many there may be, at least 1, or the fallback. @throws `INVALID_OPTION` */
export function count(option: string, value: unknown, fallback: number): number {
  return check(
    option,
    'a whole number, 1 or more',
    (value === undefined ? fallback : value) as number,
    (it) => Number.isSafeInteger(it) && (it as number) >= 1,
  )
}

/** Returns `value` when it is valid. @throws `INVALID_OPTION` that says what was expected and what was got. */
export function check<T>(option: string, expected: string, value: T, valid: (value: unknown) => boolean): T {
  if (!valid(value)) throw new InvalidOptionError(option, expected, show(value))
  return value
}

/** Lets an object pass that has no other keys than `keys`. @throws `INVALID_OPTION` */
export function object(option: string, value: unknown, keys: readonly string[]): void {
  check(option, 'an object', value, (it) => typeof it === 'object' && it !== null && !Array.isArray(it))
  for (const key of Object.keys(value as object)) {
    if (!keys.includes(key)) {
      const name = option === 'options' ? key : `${option}.${key}`
      throw new InvalidOptionError(name, `one of ${keys.join(', ')}`, 'an unknown option')
    }
  }
}

function show(value: unknown): string {
  if (typeof value === 'function') return 'a function'
  // JSON has no NaN.
  if (typeof value === 'number') return String(value)
  try {
    return JSON.stringify(value) ?? String(value)
  } catch {
    // It refers to itself, or holds what JSON has no word for.
    return typeof value === 'bigint' ? `${value}n` : 'an object'
  }
}
