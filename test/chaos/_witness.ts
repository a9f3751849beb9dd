import type { Lease, PoolEvent, PoolEvents } from 'corral'
import type { Journal } from './_journal.ts'

/** What a worker says of itself in every answer: see test/fixtures/chaos-worker.mjs. */
export interface Stamp {
  readonly pid: number
  readonly boot: string
  readonly epoch: number
  readonly count: number
  readonly session: string
  readonly nonce: string
  readonly owner: string
}

/** One request, or one message of a WebSocket, that a worker is to count. */
export interface Ask {
  readonly id: string
  readonly nonce: string
  readonly sentAt: number
  /** The newest answer of that session when this was sent: the count must be higher. */
  readonly floor: { readonly epoch: string; readonly count: number } | undefined
  isAnswered: boolean
}

/** One session, from its start to its end, as the pool told of it. */
export interface Binding {
  readonly token: number
  readonly id: string
  readonly workerId: string
  readonly pid: number
  readonly startedAt: number
  endedAt: number
  lost: PoolEvents['session.lost'] | undefined
  /** When the harness killed its worker, if it did. */
  killedAt: number
  /** Looks in a row at which its worker was found dead. */
  deadLooks: number
}

/** What one process answered between two resets. */
interface Epoch {
  readonly id: string
  readonly pid: number
  /** The sessions that all its answers can have been of. */
  tokens: ReadonlySet<number>
  readonly counts: Set<number>
  highest: number
}

/** What a worker may have counted although nobody saw the answer. */
interface Unanswered {
  readonly sentAt: number
  /** Of a request: the gateway tells until when it was at it. It may hear late that a client has left. */
  readonly nonce: string | undefined
  /** Of what no request is: until when a worker may have counted it. */
  readonly failedAt: number
}

/** The news of a death has so long to get from the kernel to the pool, in milliseconds of a machine with better things to do. */
const NEWS_LIMIT = 5_000

/**
 * Holds what clients saw against what the pool told. It knows nothing of the pool but its public events, and everything is
 * decided by what happened before what: an answer is right when a session of that id was on that process at some moment
 * between its request and itself.
 */
export class Witness {
  readonly live = new Map<number, Binding>()
  readonly #journal: Journal
  readonly #name: string
  readonly #pids = new Map<string, number>()
  /** Bindings since the last settlement, by session id. */
  readonly #bindings = new Map<string, Binding[]>()
  readonly #epochs = new Map<string, Epoch>()
  readonly #newest = new Map<string, { epoch: string; count: number }>()
  readonly #unanswered = new Map<string, Unanswered[]>()
  /** The requests that the gateway has seen, by their nonces, and when it was done with them. */
  readonly #requests = new Map<string, number>()
  #asked = 0

  constructor(name: string, journal: Journal) {
    this.#name = name
    this.#journal = journal
  }

  observe(event: PoolEvent): void {
    switch (event.type) {
      case 'worker.ready':
        this.#pids.set(event.workerId, event.pid ?? 0)
        return
      case 'worker.dead':
        this.#pids.delete(event.workerId)
        return
      case 'session.started':
        this.#started(event)
        return
      case 'session.lost':
        this.#lost(event)
        return
      case 'session.ended':
        this.#ended(event)
        return
    }
  }

  ask(id: string): Ask {
    const nonce = `${this.#name}-${++this.#asked}.`
    return { id, nonce, sentAt: performance.now(), floor: this.#newest.get(id), isAnswered: false }
  }

  answered(ask: Ask, stamp: Stamp): void {
    ask.isAnswered = true
    const now = performance.now()
    const key = `${stamp.boot}/${stamp.epoch}`
    const told = () => `${JSON.stringify(stamp)} answered ${ask.nonce} of ${ask.id}`
    if (stamp.nonce === 'poison' && stamp.session === ask.id) {
      // The worker's own session got the worker's own garbage. The count is another request's.
      this.#journal.tally('answer poisoned')
      this.#excuse(ask, { nonce: undefined, failedAt: now })
      return
    }
    if (stamp.nonce !== ask.nonce || stamp.session !== ask.id || stamp.owner !== ask.id) {
      this.#journal.violate('responses mixed between sessions', told(), ask.id)
      return
    }
    const possible = this.#possible(ask, stamp.pid, now)
    const epoch = this.#epochs.get(key)
    const tokens = epoch === undefined ? possible : new Set([...possible].filter((token) => epoch.tokens.has(token)))
    if (tokens.size === 0) {
      this.#journal.violate('affinity violations', `no session of that id was on that process: ${told()}`, ask.id)
    }
    if (epoch?.counts.has(stamp.count) === true) this.#journal.violate('counts repeated or missing', told(), ask.id)
    if (ask.floor?.epoch === key && stamp.count <= ask.floor.count) {
      this.#journal.violate('counts repeated or missing', `not above ${ask.floor.count}: ${told()}`, ask.id)
    }
    const known = epoch ?? { id: ask.id, pid: stamp.pid, tokens, counts: new Set(), highest: 0 }
    known.tokens = tokens
    known.counts.add(stamp.count)
    known.highest = Math.max(known.highest, stamp.count)
    this.#epochs.set(key, known)
    const newest = this.#newest.get(ask.id)
    if (newest?.epoch !== key || newest.count < stamp.count)
      this.#newest.set(ask.id, { epoch: key, count: stamp.count })
  }

  /** The gateway has got the request with that nonce. */
  arrived(nonce: string): void {
    this.#requests.set(nonce, Number.POSITIVE_INFINITY)
  }

  /** The gateway is done with the request: nothing more of it goes to a worker. */
  over(nonce: string): void {
    this.#requests.set(nonce, performance.now())
  }

  /** The request was refused, failed or was given up: the worker may have counted it all the same. */
  unanswered(ask: Ask): void {
    if (!ask.isAnswered) this.#excuse(ask, { nonce: ask.nonce, failedAt: Number.NaN })
  }

  /** Nor was the message of a WebSocket, which is over by now. */
  unansweredMessage(ask: Ask): void {
    this.#excuse(ask, { nonce: undefined, failedAt: performance.now() })
  }

  /** The client was told `SESSION_LOST`: so must the listeners have been. */
  toldLost(ask: Ask): void {
    const now = performance.now()
    const lost = this.#of(ask.id).some((it) => it.lost !== undefined && it.endedAt >= ask.sentAt && it.startedAt <= now)
    if (!lost) this.#journal.violate('unreported losses', `${ask.id} was answered SESSION_LOST`)
  }

  granted(id: string, lease: Lease): void {
    const { session, worker, signal } = lease
    const binding = this.live.get(session.token)
    if (binding === undefined ? signal.aborted : binding.id === id && binding.pid === worker.pid) return
    this.#journal.violate('leases on sessions that are over', `${id}: token ${session.token}, worker ${worker.id}`)
  }

  /** The harness has killed that process. */
  killed(pid: number): void {
    for (const binding of this.live.values()) if (binding.pid === pid) binding.killedAt = performance.now()
  }

  /** To be called every so often, with what the kernel says. */
  look(isAlive: (pid: number) => boolean): void {
    for (const binding of this.live.values()) {
      binding.deadLooks = isAlive(binding.pid) ? 0 : binding.deadLooks + 1
      if (binding.deadLooks !== LOOKS) continue
      this.#journal.violate('unreported losses', `process ${binding.pid} is gone, and ${describe(binding)} is live`)
    }
  }

  /** At a moment when every session is over: what can only be told then. Forgets it all. */
  settle(): void {
    for (const binding of this.live.values()) {
      this.#journal.violate('sessions started and not ended', describe(binding))
    }
    const owners = new Map<number, string>()
    for (const [key, epoch] of this.#epochs) {
      this.#settleCounts(key, epoch)
      const [token, ...others] = epoch.tokens
      if (token === undefined || others.length > 0) continue
      const other = owners.get(token)
      if (other !== undefined) {
        this.#journal.violate(
          'affinity violations',
          `token ${token} of ${epoch.id} was served by ${other} and by ${key}`,
        )
      }
      owners.set(token, key)
    }
    this.#bindings.clear()
    this.#epochs.clear()
    this.#newest.clear()
    this.#unanswered.clear()
    this.#requests.clear()
  }

  #started({ sessionId: id, token, workerId }: PoolEvents['session.started']): void {
    if (this.#of(id).some((other) => other.token === token)) {
      this.#journal.violate('double reports', `session.started of ${id}, token ${token}`)
    }
    const pid = this.#pids.get(workerId) ?? 0
    for (const other of this.live.values()) {
      if (other.id !== id && other.workerId !== workerId && other.pid !== pid) continue
      this.#journal.violate('two sessions on one worker or id', `${describe(other)}, and ${id}, token ${token}`)
    }
    const startedAt = performance.now()
    const endedAt = Number.POSITIVE_INFINITY
    const binding: Binding = {
      token,
      id,
      workerId,
      pid,
      startedAt,
      endedAt,
      lost: undefined,
      killedAt: 0,
      deadLooks: 0,
    }
    this.live.set(token, binding)
    this.#bindings.set(id, [...this.#of(id), binding])
    this.#journal.tally('session')
  }

  #lost(event: PoolEvents['session.lost']): void {
    const binding = this.live.get(event.token)
    if (binding === undefined || binding.lost !== undefined) {
      this.#journal.violate('double reports', `session.lost of ${event.sessionId}, token ${event.token}`)
      return
    }
    binding.lost = event
    this.#journal.tally(`lost: ${event.reason}`)
  }

  #ended({ sessionId, token, reason }: PoolEvents['session.ended']): void {
    const binding = this.live.get(token)
    if (binding === undefined || binding.id !== sessionId) {
      this.#journal.violate('double reports', `session.ended of ${sessionId}, token ${token}`)
      return
    }
    this.live.delete(token)
    binding.endedAt = performance.now()
    this.#journal.tally(`ended: ${reason}`)
    if ((reason === 'lost') !== (binding.lost !== undefined)) {
      this.#journal.violate(
        'unreported losses',
        `${describe(binding)} ended as ${reason}, lost: ${binding.lost !== undefined}`,
      )
    }
    if (reason !== 'lost' && binding.killedAt > 0 && binding.endedAt - binding.killedAt > NEWS_LIMIT) {
      this.#journal.violate('unreported losses', `${describe(binding)} was killed, and ended as ${reason} long after`)
    }
  }

  /** Sessions of the id that were on the process at some moment since the request was sent. */
  #possible({ id, sentAt }: Ask, pid: number, now: number): ReadonlySet<number> {
    const bindings = this.#of(id).filter((it) => it.pid === pid && it.startedAt <= now && it.endedAt >= sentAt)
    return new Set(bindings.map(({ token }) => token))
  }

  /** Every count that nobody saw must be that of a request whose answer was not seen. */
  #settleCounts(key: string, { id, highest, counts, tokens }: Epoch): void {
    const missing = highest - counts.size
    if (missing === 0) return
    const bindings = this.#of(id).filter(({ token }) => tokens.has(token))
    const excuses = (this.#unanswered.get(id) ?? []).filter(({ sentAt, nonce, failedAt }) => {
      // What the gateway never saw no worker has counted.
      const until = nonce === undefined ? failedAt : (this.#requests.get(nonce) ?? Number.NEGATIVE_INFINITY)
      return bindings.some(({ startedAt, endedAt }) => sentAt <= endedAt && until >= startedAt)
    })
    if (missing <= excuses.length) return
    const text = `${id} at ${key}: ${missing} of 1 to ${highest} were not seen, ${excuses.length} requests were unanswered`
    this.#journal.violate('counts repeated or missing', text, id)
  }

  #excuse({ id, sentAt }: Ask, until: Omit<Unanswered, 'sentAt'>): void {
    const excuse = { sentAt, ...until }
    const list = this.#unanswered.get(id)
    if (list === undefined) this.#unanswered.set(id, [excuse])
    else list.push(excuse)
  }

  #of(id: string): Binding[] {
    return this.#bindings.get(id) ?? []
  }
}

const LOOKS = 40

function describe({ id, token, workerId, pid }: Binding): string {
  return `session ${id}, token ${token}, on ${workerId} (${pid})`
}
