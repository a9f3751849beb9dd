import type { AnyActorRef } from 'xstate'
import type { WorkerFact } from './events.ts'

/** What an action of the worker chart tells by: its `enqueue`. */
export interface Teller {
  emit(fact: WorkerFact): void
  sendTo(target: AnyActorRef, fact: WorkerFact): void
}

/** Emits a fact, and sends it to the pool when a pool spawned this worker. */
export function tell(enqueue: Teller, self: AnyActorRef, fact: WorkerFact): void {
  enqueue.emit(fact)
  if (self._parent) enqueue.sendTo(self._parent, fact)
}
