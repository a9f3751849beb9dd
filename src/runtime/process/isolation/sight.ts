import { planMounts, type MountPlan, type MountRequest } from './mounts.ts'
import { WritableAreas } from './writable-areas.ts'

/** What the workers of one backend see at `full`, from one start to the next: others may change meanwhile where a path leads. */
export class Sight {
  readonly #request: MountRequest
  readonly #areas = new WritableAreas()
  #isBare = false

  constructor(request: MountRequest) {
    this.#request = request
  }

  /** Whether the state directory is bare for any worker: see {@link MountPlan.isBare}. */
  get isBare(): boolean {
    return this.#isBare
  }

  /** For the next worker. @throws as {@link planMounts}, also for what those before it may write to. */
  plan(): MountPlan {
    const plan = planMounts(this.#request, this.#areas)
    this.#isBare ||= plan.isBare
    return plan
  }

  /** All workers have ended. */
  forget(): void {
    this.#areas.clear()
    this.#isBare = false
  }
}
