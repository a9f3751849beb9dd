import { parseArgs } from 'node:util'
import { InvalidOptionError } from '../../index.ts'
import { parseDuration } from './duration.ts'
import { type FlagName, flags } from './flags.ts'
import { parseSize } from './size.ts'

/** The command line is wrong: shown as one line, without a stack. */
export class UsageError extends Error {}

/** The options of a command line. */
export interface Given {
  has(name: FlagName): boolean
  one(name: FlagName): string
  all(name: FlagName): readonly string[]
}

export function readFlags(argv: readonly string[]): Given {
  const { values, tokens, positionals } = parse(argv)
  if (positionals.length > 0) {
    throw new UsageError(`Unexpected ${quote(positionals[0])}: the command of the workers goes behind "--"`)
  }
  const seen = tokens.flatMap((token) => (token.kind === 'option' ? [token.name] : []))
  for (const { name, repeatable } of flags) {
    if (!repeatable && seen.indexOf(name) !== seen.lastIndexOf(name)) throw new UsageError(`--${name} is given twice`)
  }
  const all = (name: FlagName): readonly string[] => {
    const value = values[name] ?? flags.find((flag) => flag.name === name)?.default
    return value === undefined ? [] : [value].flat().map(String)
  }
  return { has: (name) => seen.includes(name), one: (name) => all(name)[0] ?? '', all }
}

/** An option that takes a value, as it is typed. */
const valued = new Map(flags.flatMap(({ name, value }) => (value === undefined ? [] : [[`--${name}`, value]])))

/**
 * Node calls every value that begins with a dash ambiguous. A negative number is none, and what its flag expects instead is for
 * that one to say.
 */
function joinNegative(argv: readonly string[]): string[] {
  const args: string[] = []
  for (const arg of argv) {
    const flag = args.at(-1) ?? ''
    const value = valued.get(flag)
    if (value === undefined || !arg.startsWith('-')) args.push(arg)
    else if (/^-[\d.]/.test(arg)) args[args.length - 1] = `${flag}=${arg}`
    else throw new UsageError(`${flag} expects a value (${value}), got the option ${quote(arg)}`)
  }
  return args
}

function parse(argv: readonly string[]) {
  const options = Object.fromEntries(
    flags.map(({ name, value, repeatable }) => [
      name,
      { type: value === undefined ? 'boolean' : 'string', multiple: repeatable === true } as const,
    ]),
  )
  try {
    return parseArgs({ args: joinNegative(argv), options, strict: true, allowPositionals: true, tokens: true })
  } catch (error) {
    throw error instanceof UsageError ? error : new UsageError(firstSentence(error))
  }
}

/** Node's hints that follow tell how to spell a positional, which there are none of. */
function firstSentence(error: unknown): string {
  const [sentence = ''] = (error instanceof Error ? error.message : String(error)).split(/\.\s|\n/)
  return sentence.replace(/\.$/, '')
}

/** Longest time that Node's timers keep, in whole days. */
const MAX_DURATION = 24 * 86_400_000

export function port(name: FlagName, text: string): number {
  const value = /^\d{1,5}$/.test(text) ? Number(text) : NaN
  if (!(value <= 65_535)) throw invalid(name, text, 'a port from 0 to 65535')
  return value
}

export function count(name: FlagName, text: string, max: number = Number.MAX_SAFE_INTEGER): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN
  if (value <= max) return value
  throw invalid(name, text, max === Number.MAX_SAFE_INTEGER ? 'a whole number' : `a whole number from 0 to ${max}`)
}

export function duration(name: FlagName, text: string): number {
  const value = parseDuration(text)
  if (value !== undefined && value > MAX_DURATION) throw invalid(name, text, 'at most 24d')
  // As 0 it would be no limit at all to many an option. Behind enough zeros a digit is lost in the number.
  if (value !== undefined && value < 1 && /[1-9]/.test(text)) throw invalid(name, text, 'at least 1ms')
  if (value !== undefined) return Math.round(value)
  const hint = /^\d+$/.test(text) ? `; write ${text}ms or ${text}s` : ''
  throw invalid(name, text, `a duration such as 500ms, 5m or 1h30m${hint}`)
}

export function durationOrNever(name: FlagName, text: string): number | false {
  return text === 'never' ? false : duration(name, text)
}

export function size(name: FlagName, text: string): number {
  const bytes = parseSize(text)
  if (bytes === undefined) throw invalid(name, text, 'a size such as 4096, 512MiB or 1.5GiB')
  return bytes
}

export function oneOf<T extends string>(name: FlagName, text: string, choices: readonly T[]): T {
  const choice = choices.find((candidate) => candidate === text)
  if (choice === undefined) throw invalid(name, text, choices.join(', ').replace(/, ([^,]*)$/, ' or $1'))
  return choice
}

export function path(name: FlagName, text: string): string {
  if (!/^\/[^\s#]*$/.test(text)) throw invalid(name, text, 'a path that starts with /, without white space and "#"')
  return text
}

export function invalid(name: FlagName, got: string, expected: string): UsageError {
  return new UsageError(`--${name} expects ${expected}, got ${quote(got)}`)
}

function quote(text: string | undefined): string {
  return JSON.stringify(text ?? '')
}

/** Errors of the library name what is called here by what it was given as. */
export function naming<T>(source: `${'' | `Entry ${number} of `}--${FlagName}` | 'CORRAL_KEYS', make: () => T): T {
  try {
    return make()
  } catch (error) {
    if (!(error instanceof InvalidOptionError)) throw error
    throw new UsageError(error.message.replace(/^Invalid option "[^"]*"/, source), { cause: error })
  }
}
