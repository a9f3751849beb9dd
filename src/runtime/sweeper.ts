import type { SessionEndReason } from '../machines/events.ts'
import type { Clock } from './clock.ts'
import type { IdleObserver, SessionRecord } from './session-record.ts'

export interface SweeperOptions {
  /** How long a session may be idle, in milliseconds; `false`: for ever. */
  readonly idleTtl: number | false
  /** Whether one is idle that has no open connection, or also one whose connections move no bytes. */
  readonly idle: 'connections' | 'bytes'
  /** How old a session may be once it is idle, in milliseconds; `false`: without limit. */
  readonly maxAge: number | false
  /** How old a session may be at all, in milliseconds; `false`: without limit. */
  readonly maxLifetime: number | false
}

/**
 * Ends sessions that are idle for too long or too old, with one timer for all of them. Idle sessions stand in a list in
 * the order in which they became idle, so the first is always the next to expire. A session with an open connection is
 * never in that list: only bytes that do not move and the limit of a lifetime end one.
 */
export class Sweeper implements IdleObserver {
  readonly #options: SweeperOptions
  readonly #clock: Clock
  #head: SessionRecord | undefined
  #tail: SessionRecord | undefined
  #timer: unknown
  /** When the timer fires; infinite when none is set. */
  #wakeAt = never
  #size = 0
  /** Every session, oldest first; none without a limit on lifetimes. One that closes may have been given longer than that. */
  readonly #oldest = new Set<SessionRecord>()
  /** Those with an open connection; none unless their bytes count. */
  readonly #connected = new Set<SessionRecord>()

  constructor(options: SweeperOptions, clock: Clock) {
    this.#options = options
    this.#clock = clock
  }

  /** Idle sessions. */
  get size(): number {
    return this.#size
  }

  /** A session has started, with its first connection. */
  add(record: SessionRecord): void {
    const { maxLifetime } = this.#options
    if (maxLifetime !== false) {
      this.#oldest.add(record)
      this.#wake(record.startedAt + maxLifetime, this.#clock.now())
    }
    this.#watchBytes(record)
  }

  onIdle(record: SessionRecord): void {
    this.#connected.delete(record)
    record.idleSince = this.#clock.now()
    record.previous = this.#tail
    record.next = undefined
    if (this.#tail) this.#tail.next = record
    else this.#head = record
    this.#tail = record
    this.#size++
    this.#check(record, record.idleSince)
  }

  onActive(record: SessionRecord): void {
    this.#unlist(record)
    this.#watchBytes(record)
  }

  /** A session is over. */
  remove(record: SessionRecord): void {
    this.#unlist(record)
    this.#oldest.delete(record)
    this.#connected.delete(record)
  }

  /** Forgets all sessions and clears the timer. */
  stop(): void {
    this.#clock.clearTimeout(this.#timer)
    this.#wakeAt = never
    this.#head = undefined
    this.#tail = undefined
    this.#size = 0
    this.#oldest.clear()
    this.#connected.clear()
  }

  /** Takes a session out of the list of idle ones, if it is in it. */
  #unlist(record: SessionRecord): void {
    if (record.previous === undefined && this.#head !== record) return
    if (record.previous) record.previous.next = record.next
    else this.#head = record.next
    if (record.next) record.next.previous = record.previous
    else this.#tail = record.previous
    record.previous = undefined
    record.next = undefined
    this.#size--
  }

  #watchBytes(record: SessionRecord): void {
    const { idle, idleTtl } = this.#options
    if (idle !== 'bytes' || idleTtl === false) return
    const now = this.#clock.now()
    record.quietSince = now
    record.seenActivity = record.activity
    this.#connected.add(record)
    this.#wake(now + lookInterval(idleTtl), now)
  }

  /** Ends the session if it is due, else makes sure that the timer fires when it will be. */
  #check(record: SessionRecord, now: number): void {
    const reason = this.#dueFor(record, now)
    if (reason) record.end(reason)
    else this.#wake(this.#dueAt(record), now)
  }

  #dueFor({ idleSince, startedAt }: SessionRecord, now: number): SessionEndReason | undefined {
    const { idleTtl, maxAge } = this.#options
    if (maxAge !== false && startedAt + maxAge <= now) return 'max-age'
    if (idleTtl !== false && idleSince + idleTtl <= now) return 'expired'
    return undefined
  }

  #dueAt({ idleSince, startedAt }: SessionRecord): number {
    const { idleTtl, maxAge } = this.#options
    return Math.min(idleTtl === false ? never : idleSince + idleTtl, maxAge === false ? never : startedAt + maxAge)
  }

  #wake(at: number, now: number): void {
    if (at >= this.#wakeAt) return
    this.#clock.clearTimeout(this.#timer)
    this.#wakeAt = at
    // Rounded up, so that the sweep does not come a fraction of a millisecond before anything is due.
    this.#timer = this.#clock.setTimeout(() => this.#sweep(), Math.ceil(at - now))
  }

  #sweep(): void {
    this.#wakeAt = never
    const now = this.#clock.now()
    this.#sweepOldest(now)
    this.#sweepConnected(now)
    this.#sweepIdle(now)
  }

  #sweepIdle(now: number): void {
    const due: SessionRecord[] = []
    for (let record = this.#head; record; record = record.next) {
      if (this.#dueFor(record, now)) due.push(record)
      else {
        this.#wake(Math.max(this.#dueAt(record), now + this.#resolution), now)
        // With an idle limit alone, nothing behind the first one that is not due can be due.
        if (this.#options.maxAge === false) break
      }
    }
    // Whoever listens to the end of one session may open a connection on the next.
    for (const record of due) if (record.leases === 0) this.#check(record, now)
  }

  #sweepOldest(now: number): void {
    const { maxLifetime } = this.#options
    if (maxLifetime === false) return
    for (const record of this.#oldest) {
      if (record.startedAt + maxLifetime > now) return this.#wake(record.startedAt + maxLifetime, now)
      this.#oldest.delete(record)
      record.end('max-age')
    }
  }

  /** Looks whether bytes have moved since the last look; the moment of the look stands for that of the last byte. */
  #sweepConnected(now: number): void {
    const { idleTtl } = this.#options
    if (idleTtl === false) return
    for (const record of this.#connected) {
      const { activity } = record
      if (activity !== record.seenActivity) {
        record.seenActivity = activity
        record.quietSince = now
      } else if (record.quietSince + idleTtl <= now) {
        this.#connected.delete(record)
        record.end('expired')
        continue
      }
      this.#wake(Math.min(record.quietSince + idleTtl, now + lookInterval(idleTtl)), now)
    }
  }

  /** Shortest time between two sweeps: with an age limit each one looks at every idle session. */
  get #resolution(): number {
    return this.#options.maxAge === false ? 0 : 100
  }
}

/** Time between two looks at the bytes of open connections: short beside the limit, and not too busy. */
function lookInterval(idleTtl: number): number {
  return Math.max(100, idleTtl / 10)
}

const never = Number.POSITIVE_INFINITY
