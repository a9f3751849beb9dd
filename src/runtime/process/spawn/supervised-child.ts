import type { ChildProcess } from 'node:child_process'
import { constants } from 'node:os'
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { childrenOf, isNamespaceInit, processClock, readProcess, readProcessNow, type ProcessEntry } from '../_proc.ts'
import { emptyGroup, signalGroup, signalLeader } from '../group.ts'
import { STATUS_FD } from '../isolation/levels.ts'
import { GIVE_UP_AFTER, killAll } from '../killed.ts'
import { endSession } from '../session.ts'
import type { ProcessEnd, SpawnRequest } from './spawned-process.ts'

/** How long the wrapper's last words may take: they are written before it exits. */
const STATUS_GRACE = 100

type SupervisedRequest = Pick<SpawnRequest, 'signals' | 'session'>

/**
 * A child of this process and its group, seen to its end. All signals go through here, as whoever reaps a process is the
 * one to know whether its id still is its own.
 */
export class SupervisedChild {
  readonly pid: number
  readonly exit: Promise<ProcessEnd>
  readonly stuck: Promise<void>
  readonly emptied: Promise<readonly number[]>

  readonly #child: ChildProcess
  readonly #session: SpawnRequest['session']
  readonly #wrapper: WrapperStatus | undefined
  /** `exited`: the leader is reaped, its group may have members. `gone`: its id may be somebody else's by now. */
  #phase: 'running' | 'exited' | 'gone' = 'running'
  /** By {@link processClock}. */
  #endedAt = 0
  #onExited!: (end: ProcessEnd | Promise<ProcessEnd>) => void
  #onStuck!: () => void
  /** Runs from the first SIGKILL to the exit. */
  #patience: NodeJS.Timeout | undefined

  /** `child` must have been spawned in this very tick, or its exit would be missed. */
  constructor(child: ChildProcess, pid: number, request: SupervisedRequest) {
    this.pid = pid
    this.#child = child
    this.#session = request.session
    this.#wrapper =
      request.signals === 'wrapper' ? new WrapperStatus(pid, child.stdio[STATUS_FD] as Readable) : undefined
    child.on('error', () => {}) // Of Node's own child.kill(), which nobody calls; unheard it would end this process.
    this.stuck = new Promise((resolve) => {
      this.#onStuck = resolve
    })
    this.exit = new Promise((resolve) => {
      this.#onExited = resolve
    })
    child.once('exit', (exitCode, signal) => this.#end({ exitCode, signal }))
    this.emptied = this.exit.then(() => this.#empty())
  }

  signal(target: 'group' | 'leader', signal: NodeJS.Signals): void {
    if (this.#phase === 'gone') return
    // bubblewrap takes everything in it along, and it passes nothing else on.
    if (signal === 'SIGKILL') this.#kill()
    else if (this.#phase === 'exited') return
    else if (this.#wrapper !== undefined) this.#wrapper.signal(target, signal, () => this.#phase === 'running')
    else if (target === 'leader') signalLeader(this.pid, signal)
    else signalGroup(this.pid, signal)
  }

  killNow(): void {
    this.signal('group', 'SIGKILL')
  }

  #kill(): void {
    signalGroup(this.pid, 'SIGKILL')
    if (this.#phase !== 'running') return
    this.#patience ??= setTimeout(() => this.#giveUp(), GIVE_UP_AFTER)
  }

  #giveUp(): void {
    // A program that has closed its pool is not to wait for it.
    this.#child.unref()
    // A debugger may keep from us what has ended, and with it the news of that.
    if (readProcessNow(this.pid)?.isZombie === true) this.#end({ exitCode: null, signal: 'SIGKILL' })
    else this.#onStuck()
  }

  #end(end: ProcessEnd): void {
    if (this.#phase !== 'running') return
    this.#phase = 'exited'
    this.#endedAt = processClock()
    clearTimeout(this.#patience)
    // Here and not later: the leader has just been reaped, and until its group is empty its id stays taken.
    signalGroup(this.pid, 'SIGKILL')
    this.#onExited(this.#wrapper === undefined ? end : this.#wrapper.translate(end))
  }

  async #empty(): Promise<readonly number[]> {
    const deadline = performance.now() + GIVE_UP_AFTER
    const session = this.#session === 'ended' ? endSession(this.pid, this.#endedAt) : []
    const group = await emptyGroup(this.pid)
    this.#phase = 'gone'
    return [...new Set([...group, ...(await session), ...((await this.#wrapper?.emptied(deadline)) ?? [])])]
  }
}

/** What bubblewrap tells of what runs in it, as lines of JSON. */
class WrapperStatus {
  readonly #wrapper: number
  readonly #ended: Promise<unknown>
  #text = ''
  /** Its init, as we see it: the leader of a process group that has everything in it, and immune to polite signals. */
  #init: number | undefined
  /** By which that is known again; absent: it was gone when we heard of it. */
  #identity: ProcessEntry | undefined
  #exitCode: number | undefined
  #onInit: (() => void) | undefined

  constructor(wrapper: number, stream: Readable) {
    this.#wrapper = wrapper
    this.#ended = new Promise((resolve) => {
      stream.once('close', resolve)
    })
    stream.on('error', () => {})
    stream.on('data', (chunk: Buffer) => {
      this.#text += chunk.toString('latin1')
      const lines = this.#text.split('\n')
      this.#text = lines.pop() ?? ''
      for (const line of lines) this.#read(line)
    })
  }

  /** Sends a polite signal, as soon as there is somebody to get it; `isRunning` says whether there still is. */
  signal(target: 'group' | 'leader', signal: NodeJS.Signals, isRunning: () => boolean): void {
    this.#onInit = () => {
      const init = this.#init
      if (init === undefined || !isRunning()) return
      if (target === 'group') signalGroup(init, signal)
      else for (const leaf of childrenOf(init).slice(0, 1)) signalLeader(leaf, signal)
    }
    this.#onInit()
  }

  /** The end of the command, from that of its wrapper: a signal is an exit status of 128 and more there. */
  async translate(end: ProcessEnd): Promise<ProcessEnd> {
    await Promise.race([this.#ended, delay(STATUS_GRACE)])
    if (this.#exitCode !== undefined) return fromShell(this.#exitCode)
    return end.signal === null ? { ...end, fault: 'wrapper' } : end
  }

  /**
   * Ends its init, once the wrapper and its group are gone. With that everything is: the kernel ends the namespace before the
   * init can be reaped. Mostly it has died with the wrapper; one that was killed while it started leaves an init that has a
   * group of its own, and no parent-death signal yet.
   *
   * @param deadline when to give up, by the monotonic clock.
   * @returns its id, if it would not die.
   */
  async emptied(deadline: number): Promise<readonly number[]> {
    // It may have been told and not been read yet. Only the wrapper, and who is in its group, could hold that up.
    if (this.#identity === undefined) {
      await Promise.race([this.#ended, delay(timeUntil(deadline), undefined, { ref: false })])
    }
    const init = this.#identity
    if (init === undefined) return []
    const isGone = await killAll(async () => {
      const entry = await readProcess(init.pid)
      // Another start: an id that was given out again.
      const isOver = entry === undefined || entry.isZombie || entry.startTime !== init.startTime
      if (!isOver) signalLeader(init.pid, 'SIGKILL')
      return isOver
    }, timeUntil(deadline))
    return isGone ? [] : [init.pid]
  }

  /** The wrapper reaps its init as its last act: until then the id is that of its child. */
  #identify(init: number): ProcessEntry | undefined {
    const entry = readProcessNow(init)
    return entry?.parent === this.#wrapper || isNamespaceInit(init) ? entry : undefined
  }

  #read(line: string): void {
    try {
      const status = JSON.parse(line) as Record<string, unknown>
      if (typeof status['child-pid'] === 'number') {
        this.#init = status['child-pid']
        this.#identity = this.#identify(this.#init)
        this.#onInit?.()
      }
      if (typeof status['exit-code'] === 'number') this.#exitCode = status['exit-code']
    } catch {
      // Not a line of the wrapper's: nothing else can write there, and nothing depends on it.
    }
  }
}

function timeUntil(deadline: number): number {
  return Math.max(0, deadline - performance.now())
}

function fromShell(exitCode: number): ProcessEnd {
  const signal = Object.entries(constants.signals).find(([, number]) => number === exitCode - 128)?.[0]
  return signal === undefined ? { exitCode, signal: null } : { exitCode: null, signal }
}
