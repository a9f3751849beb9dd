import { inspect } from 'node:util'
import vm from 'node:vm'

export type Evaluation = { readonly value: string } | { readonly error: string }

const TIMEOUT_MS = 1000
const MAX_VALUE_LENGTH = 64 * 1024

/**
 * Holds what the session has defined. With `afterEvaluate` promise callbacks run within the evaluation that made them,
 * so that the timeout bounds an endless one too. It is a scope, not a sandbox: what isolates a session is its process.
 */
const context = vm.createContext({ __proto__: null }, { name: 'repl', microtaskMode: 'afterEvaluate' })

/** Runs `code` as a script, so that its top-level `const` and `let` are seen by the scripts after it. */
export function evaluate(code: string): Evaluation {
  try {
    const value: unknown = vm.runInContext(code, context, { filename: 'repl', timeout: TIMEOUT_MS })
    return { value: shorten(describe(value)) }
  } catch (error) {
    return { error: shorten(messageOf(error)) }
  }
}

/** Custom inspect functions, getters and proxies are the session's code, and would run without the timeout. */
function describe(value: unknown): string {
  return inspect(value, { customInspect: false, getters: false, showProxy: true, depth: 4 })
}

function messageOf(thrown: unknown): string {
  try {
    return isError(thrown) ? `${thrown.name}: ${thrown.message}` : `Uncaught ${describe(thrown)}`
  } catch {
    return 'Uncaught value that cannot be shown'
  }
}

/** `instanceof` does not do: errors of the context have another `Error` class. */
function isError(value: unknown): value is Error {
  return typeof value === 'object' && value !== null && 'name' in value && 'message' in value
}

function shorten(text: string): string {
  return text.length <= MAX_VALUE_LENGTH ? text : `${text.slice(0, MAX_VALUE_LENGTH)}… (${text.length} characters)`
}
