/**
 * The worker in each slot, by the slot's number less one; `null` where none is, which is never so at the end. A slot is a
 * child of the pool. A worker's id is never used again, but its slot's is: XState remembers every type of event it has seen,
 * and the end of a child is a type of its own. An array, since copying a record takes a hundred times as long.
 */
export type Slots = readonly (string | null)[]

/** Puts a worker into the lowest slot that no worker is in. */
export function occupy(slots: Slots, workerId: string): Slots {
  const free = slots.indexOf(null)
  return free === -1 ? [...slots, workerId] : slots.with(free, workerId)
}

/** Takes a worker out of its slot. */
export function vacate(slots: Slots, workerId: string): Slots {
  const slot = slots.indexOf(workerId)
  if (slot === -1) return slots
  const last = slots.findLastIndex((taken, index) => taken !== null && index !== slot)
  return slot > last ? slots.slice(0, last + 1) : slots.with(slot, null)
}

/** Id of the child that the worker is; `undefined` when it is dead. */
export function childOf(slots: Slots, workerId: string): string | undefined {
  const slot = slots.indexOf(workerId)
  return slot === -1 ? undefined : childIn(slot)
}

/** Id of the child that each worker is, by the worker's id. */
export function childrenOf(slots: Slots): Map<string, string> {
  return new Map(slots.flatMap((workerId, slot) => (workerId === null ? [] : [[workerId, childIn(slot)]])))
}

function childIn(slot: number): string {
  return `slot${slot + 1}`
}
