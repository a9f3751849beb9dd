import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished, vi } from 'vitest'

/** What to put in the place of `process.execPath`, so that a spawn helper hangs before it has become Node. */
export interface StoppingNode {
  readonly path: string
  /** From now on it stops itself as it starts. */
  stop(): void
  /** From now on it goes on. */
  go(): void
  /** Resolves to the id of the one that has stopped last, once it has. */
  stopped(): Promise<number>
}

/** One that goes on until it is told to stop. It is removed at the end of the test. */
export function createStoppingNode(): StoppingNode {
  const directory = mkdtempSync(join(tmpdir(), 'stopping-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  const [path, order, id] = ['node', 'stop', 'id'].map((name) => join(directory, name)) as [string, string, string]
  const script = `[ -e ${order} ] && echo $$ >${id} && kill -STOP $$\nexec ${process.execPath} "$@"`
  writeFileSync(path, `#!/bin/sh\n${script}\n`)
  chmodSync(path, 0o755)
  return {
    path,
    stop: () => writeFileSync(order, ''),
    go: () => rmSync(order),
    stopped: async () => {
      await vi.waitUntil(() => isStopped(read(id)), { timeout: 10_000 })
      return Number(read(id))
    },
  }
}

/** Has every process that this one starts by `process.execPath` be that, to the end of the test. */
export function useStoppingNode(): StoppingNode {
  const { execPath } = process
  const node = createStoppingNode()
  process.execPath = node.path
  onTestFinished(() => {
    process.execPath = execPath
  })
  return node
}

function isStopped(id: string): boolean {
  return id !== '' && /^State:\s+T/m.test(read(`/proc/${id.trim()}/status`))
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // Not there yet, or not any more.
  }
}
