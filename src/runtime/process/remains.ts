import { setTimeout as delay } from 'node:timers/promises'
import { readProcessNow } from './_proc.ts'
import { signalGroup } from './group.ts'
import { killQuietly } from './killed.ts'

/** Milliseconds from one look to the next: rare, as it may be for days. */
const LOOK_INTERVAL = 1_000

/** One that is known again by when it started, unless that cannot be told. */
interface Remain {
  readonly pid: number
  readonly startTime: number | undefined
}

/** Processes of one worker that SIGKILL did not end, for as long as they are there. */
export class Remains {
  #known: readonly Remain[]

  /** @param pids of processes that were there a moment ago. */
  constructor(pids: readonly number[]) {
    this.#known = identify(pids)
  }

  /** More of them, that were there a moment ago. */
  add(pids: readonly number[]): void {
    this.#known = [...this.#known, ...identify(pids)]
  }

  /** Ids of those that are there now. */
  pids(): readonly number[] {
    return [...new Set(this.#known.filter(isThere).map(({ pid }) => pid))]
  }

  /**
   * Resolves when nothing is there any more; until then, what is there is killed again now and then. Keeps no program running.
   *
   * @param endOthers ends what those that are known may have left, once they are gone, with the ids of what would not die.
   */
  async gone(endOthers: () => Promise<readonly number[]>): Promise<void> {
    do {
      while (this.#kill()) await delay(LOOK_INTERVAL, undefined, { ref: false })
      this.#known = identify(await endOthers())
    } while (this.#known.length > 0)
  }

  /** @returns whether there was anything to kill. */
  #kill(): boolean {
    const there = this.#known.filter(isThere)
    for (const { pid, startTime } of there) {
      if (startTime === undefined) signalGroup(pid, 'SIGKILL')
      else killQuietly(pid)
    }
    return there.length > 0
  }
}

function identify(pids: readonly number[]): Remain[] {
  const remains: Remain[] = []
  for (const pid of new Set(pids)) {
    const startTime = readProcessNow(pid)?.startTime
    if (startTime !== undefined || !hasProcessTable()) remains.push({ pid, startTime })
  }
  return remains.filter(isThere)
}

function isThere({ pid, startTime }: Remain): boolean {
  // Where there is no other way to tell, only groups are known to be left, by their leaders: see {@link emptyGroup}.
  if (startTime === undefined) return signalGroup(pid, 0)
  const entry = readProcessNow(pid)
  return entry !== undefined && !entry.isZombie && entry.startTime === startTime
}

function hasProcessTable(): boolean {
  return readProcessNow(process.pid) !== undefined
}
