import { statSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import type { Authorizer } from '../h3/index.ts'
import { bearerToken } from '../h3/index.ts'
import { UsageError, naming } from './given.ts'
import type { Report } from './report.ts'
import { linesOf, readSecret, rereadSecret } from './secret-file.ts'

/** A file with a principal and a token a line, and what was in it at the start. */
export interface TokenFile {
  readonly file: string
  readonly text: string
  readonly tokens: ReadonlyMap<string, string>
}

/** How often the file is looked at, in milliseconds. */
const interval = 1_000

/** @throws {UsageError} */
export function readTokenFile(file: string): TokenFile {
  const text = readSecret('tokens-file', file)
  return { file, text, tokens: tokensIn(text) }
}

/**
 * Authorises by the tokens of a file as it is now, so that they can be given and taken without an end of all sessions. What it says counts
 * once it says that twice, lest the beginning of a token that is being written is one; while it is of no use, what it said before.
 */
export function followTokens({ file, text, tokens }: TokenFile, report: Report): Authorizer {
  let current = authorizerOf(tokens)
  let taken = text
  let latest = text
  const take = (found: string | UsageError) => {
    try {
      if (found instanceof UsageError) throw found
      const good = tokensIn(found)
      current = authorizerOf(good)
      report({ type: 'tokens.read', tokens: good.size })
    } catch (error) {
      report({ type: 'warning', message: `${(error as Error).message}; the tokens that were in it before hold` })
    }
  }
  const look = async () => {
    const found = await rereadSecret('tokens-file', file).catch((error: unknown) => error as UsageError)
    const before = latest
    latest = String(found)
    if (latest !== before || latest === taken) return
    taken = latest
    take(found)
  }
  const lookLater = () => setTimeout(() => void look().finally(lookLater), interval).unref()
  // A pipe can be read once.
  if (statSync(file, { throwIfNoEntry: false })?.isFile() !== false) lookLater()
  const { challenge, consumes } = current
  return Object.assign((req: IncomingMessage, target: string) => current(req, target), { challenge, consumes })
}

function authorizerOf(tokens: ReadonlyMap<string, string>): Authorizer {
  return naming('--tokens-file', () => bearerToken(tokens))
}

function tokensIn(text: string): ReadonlyMap<string, string> {
  const principals = new Map<string, string>()
  for (const [index, line] of linesOf(text).entries()) {
    const [, principal, token] = /^([^\s\p{Cc}]+)\s+(\S+)$/u.exec(line) ?? []
    // The line itself may be a token.
    if (token === undefined || principal === undefined) {
      throw new UsageError(
        `--tokens-file expects a principal and a token in each line, which entry ${index + 1} is not`,
      )
    }
    // One by one: in the map there is no telling the number of the line.
    naming(`Entry ${index + 1} of --tokens-file`, () => bearerToken({ [token]: principal }))
    if ((principals.get(token) ?? principal) !== principal) {
      throw new UsageError(
        `--tokens-file expects a token of each principal’s own, which that of entry ${index + 1} is not`,
      )
    }
    principals.set(token, principal)
  }
  return principals
}
