import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** The variable by which everything that a worker starts is found again. */
export const mark = 'CORRAL_CHAOS'

export interface Found {
  readonly pid: number
  readonly group: number
  /** Whether it left its worker's group on purpose: see `daemon` in test/fixtures/chaos-worker.mjs. */
  readonly isDaemon: boolean
  readonly command: string
}

/** Every process with the mark, zombies not. */
export function markedProcesses(value: string): Found[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      const environment = read(`/proc/${name}/environ`).split('\0')
      if (!environment.includes(`${mark}=${value}`) || Number(name) === process.pid) return []
      const isDaemon = environment.includes('CHAOS_DAEMON=1')
      const command = read(`/proc/${name}/cmdline`).replaceAll('\0', ' ')
      return [{ pid: Number(name), group: Number(statOf(Number(name))?.[2]), isDaemon, command }]
    })
}

/** Whether the process is one of ours, now: ids are used again. */
export function isMarked(pid: number, value: string): boolean {
  return read(`/proc/${pid}/environ`).split('\0').includes(`${mark}=${value}`)
}

/** Neither gone nor a zombie. */
export function isAlive(pid: number): boolean {
  const state = statOf(pid)?.[0]
  return state !== undefined && state !== 'Z' && state !== 'X'
}

/** Whether somebody of the process group that `leader` led is left, zombies not. */
export function hasGroup(leader: number): boolean {
  try {
    process.kill(-leader, 0)
  } catch {
    return false
  }
  return readdirSync('/proc').some((name) => {
    if (!/^\d+$/.test(name)) return false
    const [state, , group] = statOf(Number(name)) ?? []
    return Number(group) === leader && state !== 'Z' && state !== 'X'
  })
}

/** Sends a signal to one of our own processes. @returns whether it was there. */
export function signal(pid: number, name: NodeJS.Signals, value: string): boolean {
  if (pid <= 1 || !isMarked(pid, value)) return false
  try {
    return process.kill(pid, name)
  } catch {
    return false
  }
}

export interface Holdings {
  /** Kinds of what keeps the process running, and how many there are. */
  readonly handles: ReadonlyMap<string, number>
  readonly descriptors: number
  /** Inodes of open sockets, pipes to children included. */
  readonly sockets: ReadonlySet<string>
}

/** What this process has open. */
export function holdings(): Holdings {
  const handles = new Map<string, number>()
  for (const kind of process.getActiveResourcesInfo()) handles.set(kind, (handles.get(kind) ?? 0) + 1)
  const links = readdirSync('/proc/self/fd').map((fd) => readLink(`/proc/self/fd/${fd}`))
  return { handles, descriptors: links.length, sockets: new Set(links.filter((link) => link.startsWith('socket:'))) }
}

/** Kinds of handles that mean a process, a connection or a listener. Files and timers come and go. */
export const lastingHandles = ['ProcessWrap', 'PipeWrap', 'TCPSocketWrap', 'TCPServerWrap', 'PipeServerWrap'] as const

/** State, parent and group: what follows the program's name, which stands in parentheses and may hold some itself. */
function statOf(pid: number): string[] | undefined {
  const stat = read(`/proc/${pid}/stat`)
  return stat === '' ? undefined : stat.slice(stat.lastIndexOf(')') + 2).split(' ')
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return '' // Gone in the meantime.
  }
}

function readLink(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}
