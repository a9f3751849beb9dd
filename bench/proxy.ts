import type { IncomingMessage } from 'node:http'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { serve } from './child.ts'
import { memory } from './memory.ts'

/** What a proxy is put in front of: the port of each session, by the value of `x-session-id`. */
export interface Site {
  readonly ports: Readonly<Record<string, number>>
}

export interface ProxyAddress {
  readonly port: number
  /** What comes before the path. @default '' */
  readonly base?: string
  /** The process that does the work, when it is not this one. */
  readonly pid?: number
}

interface Proxy extends ProxyAddress {
  close?(): unknown
}

/** Makes this process a proxy under test. */
export function serveProxy(open: (site: Site) => Promise<Proxy>) {
  let proxy: Proxy | undefined
  const answers = {
    async open(site: Site): Promise<Required<ProxyAddress>> {
      proxy = await open(site)
      const { port, base = '', pid = process.pid } = proxy
      return { port, base, pid }
    },
    memory,
  }
  serve(answers, () => proxy?.close?.())
  return answers
}

export type ProxyAnswers = ReturnType<typeof serveProxy>

/** Finds the target of a request as a hand-written session proxy does: one look into a map. */
export function router({ ports }: Site): (req: IncomingMessage) => string {
  const targets = new Map(Object.entries(ports).map(([id, port]) => [id, `http://127.0.0.1:${port}`]))
  return (req) => {
    const target = targets.get(String(req.headers['x-session-id']))
    if (target === undefined) throw new Error('There is no such session')
    return target
  }
}

/** One of the packages that are installed in this folder only. @param path from `bench/node_modules`. */
export async function importPeer<T>(path: string): Promise<T> {
  // From the repository's folder, where npm runs its scripts.
  return (await import(pathToFileURL(resolve('bench/node_modules', path)).href)) as T
}
