import type { Claim } from '../claims.ts'
import { follow, readLink } from '../follow.ts'
import { MountTable } from './mount-table.ts'
import { planMounts, type MountPlan, type MountRequest } from './mounts.ts'
import { WritableAreas, type Named } from './writable-areas.ts'

/** What one worker sees. */
export interface View extends MountPlan {
  /** Held as long as it may see that. */
  readonly hold: Claim
}

/** What the workers of one backend see at `full`, from one start to the next: others may change meanwhile where a path leads. */
export class Sight {
  readonly #request: MountRequest
  readonly #areas = new WritableAreas()
  #bare = 0

  constructor(request: MountRequest) {
    this.#request = request
  }

  /** Whether the state directory is bare for any worker that runs: see {@link MountPlan.isBare}. */
  get isBare(): boolean {
    return this.#bare > 0
  }

  /** For the next worker. @throws as {@link planMounts}, also for what others that run may write to. */
  open(): View {
    const table = MountTable.read()
    const areas = this.#areas.hold(this.#writable(table))
    try {
      const plan = planMounts(this.#request, { table, areas: this.#areas })
      return { ...plan, hold: this.#hold(areas, plan.isBare) }
    } catch (error) {
      areas.releaseNow()
      throw error
    }
  }

  /** A part that is mounted elsewhere is the top of one there. */
  #writable(table: MountTable): Named[] {
    const sources = this.#request.binds.flatMap(({ source, access }) => (access === 'read-write' ? source : []))
    return sources.flatMap((source) => {
      const parts = table.partsOf(follow(source, { linkAt: readLink }))
      return [{ path: source, name: source }, ...parts.map((path) => ({ path, name: `${path} (part of ${source})` }))]
    })
  }

  #hold(areas: Claim, isBare: boolean): Claim {
    let bare = isBare ? 1 : 0
    this.#bare += bare
    const releaseNow = () => {
      areas.releaseNow()
      this.#bare -= bare
      bare = 0
    }
    return { release: async () => releaseNow(), releaseNow }
  }
}
