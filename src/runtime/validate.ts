import * as z from 'zod'
import { InvalidOptionError } from './errors.ts'

/** Longest delay that Node's timers keep; a longer one would fire at once. */
const MAX_DELAY = 2_147_483_647

const DURATION = `a duration in milliseconds from 0 to ${MAX_DELAY}`
const COUNT = 'a whole number of 0 or more'

/** A time in milliseconds: finite, not negative, and no longer than a timer can wait. */
export const duration = z.number(DURATION).min(0, DURATION).max(MAX_DELAY, DURATION)

export const abortSignal = z.instanceof(AbortSignal, { error: 'an AbortSignal' })

/** A whole number, zero or more. */
export const count = z.number(COUNT).int(COUNT).min(0, COUNT)

/** A function, whatever it takes and returns; `name` says what it is for in the error, such as "a function". */
export function callback<F>(name = 'a function'): z.ZodType<F> {
  return z.custom<F>((value) => typeof value === 'function', name)
}

/**
 * Returns `value` as `schema` reads it, defaults filled in.
 *
 * A schema's own messages are used as the `expected` part of the error, so write them as a noun phrase
 * (`z.custom(isPort, 'a port number')`), and put a refinement's `path` where the user has to look.
 *
 * @throws `INVALID_OPTION` for the first problem: the option's path, what was expected there and what was found.
 */
export function validate<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value, { reportInput: true, error: expectation })
  if (result.success) return result.data
  throw toError(schema, result.error.issues)
}

type Issue = z.core.$ZodIssue

function toError(schema: z.ZodType, issues: readonly Issue[]): InvalidOptionError {
  const issue = innermost(first(issues))
  if (issue.code !== 'unrecognized_keys') return new InvalidOptionError(toPath(issue.path), issue.message, found(issue))
  const key = issue.keys[0] ?? ''
  const path = [...issue.path, key]
  return new InvalidOptionError(toPath(path), knownKeys(keysAt(schema, issue.path), key), 'an unknown option')
}

/** An unknown key goes first: it is often the misspelling of the one that is reported as missing. */
function first(issues: readonly Issue[]): Issue {
  return issues.find((issue) => issue.code === 'unrecognized_keys') ?? issues[0]!
}

/** Of a union, the problem inside the one alternative that the value was meant to be, where that can be told. */
function innermost(issue: Issue): Issue {
  if (issue.code !== 'invalid_union') return issue
  const meant = issue.errors.filter((issues) =>
    issues.every((inner) => inner.path.length > 0 || inner.code === 'unrecognized_keys'),
  )
  if (meant.length !== 1) return issue
  const inner = first(meant[0]!)
  return innermost({ ...inner, path: [...issue.path, ...inner.path] })
}

/** What should have been there. Zod asks for it only where the schema gives no message of its own. */
function expectation(issue: z.core.$ZodRawIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return nameOf(issue.expected)
    case 'invalid_value':
      return orList(issue.values.map((value) => (typeof value === 'string' ? quote(value) : String(value))))
    case 'invalid_union':
      return unionOf(issue.errors)
    case 'too_small':
      return bound(issue.origin, issue.inclusive === false ? 'more than' : 'at least', issue.minimum)
    case 'too_big':
      return bound(issue.origin, issue.inclusive === false ? 'less than' : 'at most', issue.maximum)
    case 'invalid_key':
      return issue.issues[0]?.message ?? 'another name'
    case 'not_multiple_of':
      return `a multiple of ${issue.divisor}`
    case 'invalid_format':
      return issue.pattern === undefined ? `a valid ${issue.format}` : `text that matches ${issue.pattern}`
    default:
      return 'another value'
  }
}

function unionOf(alternatives: readonly (readonly Issue[])[]): string {
  const names = alternatives.map((issues) => issues.find((issue) => issue.path.length === 0)?.message ?? 'an object')
  return orList([...new Set(names)])
}

function bound(origin: string, comparison: string, limit: number | bigint): string {
  if (origin === 'string') return limit === 1 ? 'text that is not empty' : `text of ${comparison} ${limit} characters`
  if (origin === 'array' || origin === 'set') return `${comparison} ${limit} items`
  return `a number of ${comparison} ${limit}`
}

function nameOf(type: string): string {
  if (type === 'int') return 'a whole number'
  if (type === 'number') return 'a finite number'
  if (type === 'undefined' || type === 'null') return type
  const name = type === 'record' ? 'object' : type
  return `${/^[aeiou]/i.test(name) ? 'an' : 'a'} ${name}`
}

function found(issue: Issue): string {
  const value = issue.code === 'custom' ? refined(issue.input, issue.path) : issue.input
  if (typeof value === 'string') return quote(value.length > 60 ? `${value.slice(0, 60)}…` : value)
  if (typeof value === 'bigint') return `${value}n`
  if (Array.isArray(value)) return value.length === 0 ? 'an empty array' : 'an array'
  if (value instanceof Date || value instanceof RegExp) return `a ${value.constructor.name}`
  if (typeof value === 'object' && value !== null)
    return Object.keys(value).length === 0 ? 'an empty object' : 'an object'
  return typeof value === 'function' || typeof value === 'symbol' ? `a ${typeof value}` : String(value)
}

/** A refinement of an object may point to one of its members: that one's value is what was found. */
function refined(input: unknown, path: readonly PropertyKey[]): unknown {
  for (const key of path) {
    if (typeof input === 'object' && input !== null && key in input) input = Reflect.get(input, key)
  }
  return input
}

function toPath(path: readonly PropertyKey[]): string {
  return path.length === 0 ? 'options' : path.map(String).join('.')
}

function knownKeys(known: readonly string[], key: string): string {
  const nearest = known
    .map((name) => ({ name, distance: editDistance(name.toLowerCase(), key.toLowerCase()) }))
    .filter(({ name, distance }) => distance <= Math.max(1, Math.floor(name.length / 3)))
    .sort((a, b) => a.distance - b.distance)[0]
  if (nearest !== undefined) return `one of the known options (did you mean ${quote(nearest.name)}?)`
  return known.length === 0 ? 'no option here' : `one of the known options (${known.join(', ')})`
}

/** The keys that the objects at `path` know; those of every alternative where a union leads there. */
function keysAt(schema: unknown, path: readonly PropertyKey[]): readonly string[] {
  const objects = objectsOf(schema)
  const [key, ...rest] = path
  if (key === undefined) return [...new Set(objects.flatMap((object) => Object.keys(object.shape)))]
  return objects.flatMap((object) => keysAt(object.shape[String(key)], rest))
}

function objectsOf(schema: unknown): readonly z.ZodObject[] {
  if (schema instanceof z.ZodObject) return [schema]
  if (schema instanceof z.ZodUnion) return schema.options.flatMap(objectsOf)
  if (schema instanceof z.ZodPipe) return objectsOf(schema.in)
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodReadonly) return objectsOf(schema.unwrap())
  if (schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault) return objectsOf(schema.unwrap())
  return []
}

/** Letters to add, drop, change or swap with their neighbour to get from `a` to `b`. */
function editDistance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, index) => index)]
  const at = (i: number, j: number) => rows[i]?.[j] ?? Number.POSITIVE_INFINITY
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    rows.push(row)
    for (let j = 1; j <= b.length; j++) {
      const changed = at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1)
      const swapped = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? at(i - 2, j - 2) + 1 : Number.POSITIVE_INFINITY
      row.push(Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, changed, swapped))
    }
  }
  return at(a.length, b.length)
}

function orList(items: readonly string[]): string {
  if (items.length < 2) return items.join('')
  return `${items.slice(0, -1).join(', ')} or ${items.at(-1)}`
}

function quote(text: string): string {
  return JSON.stringify(text)
}
