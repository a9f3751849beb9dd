/**
 * The worker in each slot, by the slot's number less one: the number in its id (`7` is `w7`), `0` where none is, which is never
 * so at the end. A slot is a child of the pool. A worker's id is never used again, but its slot's is: XState remembers every
 * type of event it has seen, and the end of a child is a type of its own. An array, since copying a record takes a hundred times
 * as long, and of numbers, since finding one text among thousands takes as long as all the rest of a lease.
 */
export type Slots = readonly number[]

/** Puts a worker into the lowest slot that no worker is in. */
export function occupy(slots: Slots, workerId: string): Slots {
  const free = slots.indexOf(0)
  const number = numberOf(workerId)
  return free === -1 ? [...slots, number] : slots.with(free, number)
}

/** Takes a worker out of its slot. */
export function vacate(slots: Slots, workerId: string): Slots {
  const slot = slots.indexOf(numberOf(workerId))
  if (slot === -1) return slots
  const last = slots.findLastIndex((taken, index) => taken !== 0 && index !== slot)
  return slot > last ? slots.slice(0, last + 1) : slots.with(slot, 0)
}

/** Id of the child that the worker is; `undefined` when it is dead. */
export function childOf(slots: Slots, workerId: string): string | undefined {
  const slot = slots.indexOf(numberOf(workerId))
  return slot === -1 ? undefined : childIn(slot)
}

/** Id of the child that each worker is, by the worker's id. */
export function childrenOf(slots: Slots): Map<string, string> {
  return new Map(slots.flatMap((number, slot) => (number === 0 ? [] : [[workerIdOf(number), childIn(slot)]])))
}

/** Id of the worker that was made as the `number`th. */
export function workerIdOf(number: number): string {
  return `w${number}`
}

/** `NaN`, which is in no slot, for what is no worker's id. */
function numberOf(workerId: string): number {
  return Number.parseInt(workerId.slice(1), 10)
}

function childIn(slot: number): string {
  return `slot${slot + 1}`
}
