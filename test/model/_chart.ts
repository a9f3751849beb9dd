import { getAdjacencyMap } from '@xstate/graph'
import {
  createActor,
  getNextTransitions,
  type AnyActorRef,
  type AnyEventObject,
  type AnyMachineSnapshot,
  type AnyStateMachine,
  type AnyStateNode,
  type AnyTransitionDefinition,
} from 'xstate'
import { VirtualClock } from '../support/virtual-clock.ts'

/** A sequence of events from the start of a machine that takes at least one transition no shorter one takes. */
export interface Walk {
  /** What it is for: the transitions that its last event takes. */
  readonly title: string
  readonly input: unknown
  readonly events: readonly AnyEventObject[]
  /** Names of the transitions that the last event takes, eventless ones that follow included. */
  readonly transitions: readonly string[]
}

export interface Exploration {
  readonly input: unknown
  /** Events to try in a state, given those that the chart itself names there (done, error and after events). */
  readonly events: (snapshot: AnyMachineSnapshot) => readonly AnyEventObject[]
  /** What tells two states apart; everything else is the same to the exploration. */
  readonly stateKey: (snapshot: AnyMachineSnapshot) => unknown
}

/** Names of all transitions of a chart, read from its state nodes: eventless and delayed ones included. */
export function transitionsOf(machine: AnyStateMachine): string[] {
  return [...namesOf(machine).values()]
}

/** Every state of a chart, by path. */
export function statesOf(machine: AnyStateMachine): AnyStateNode[] {
  const nodes = (node: AnyStateNode): AnyStateNode[] => [node, ...Object.values(node.states).flatMap(nodes)]
  return nodes(machine.root)
}

/**
 * Walks that together take every transition that can be taken, found by exploring the pure machine breadth first. The
 * machine's actors must be inert: their results are events of the exploration.
 */
export function findWalks(machine: AnyStateMachine, explorations: readonly Exploration[]): Walk[] {
  const missing = new Set(transitionsOf(machine))
  const taken = new Set<string>()
  const walks: Walk[] = []
  for (const exploration of explorations) {
    for (const { events, transitions } of edges(machine, exploration, missing)) {
      if (transitions.every((name) => taken.has(name))) continue
      for (const name of transitions) taken.add(name)
      walks.push({ title: transitions.join(', then '), input: exploration.input, events, transitions })
    }
  }
  return walks
}

/** The states of an exploration, by their key, from which no final state can be reached. */
export function deadEnds(machine: AnyStateMachine, exploration: Exploration): string[] {
  const before = new Map<string, Set<string>>()
  const final = new Set<string>()
  for (const { from, to, ends } of edges(machine, exploration)) {
    before.set(to, (before.get(to) ?? new Set()).add(from))
    if (ends) final.add(to)
  }
  // A Set visits what is added while it is walked.
  const ending = new Set(final)
  for (const key of ending) for (const earlier of before.get(key) ?? []) ending.add(earlier)
  return [...before.keys()].filter((key) => !ending.has(key))
}

/** The walks for `test.each`, titled in whole: it cuts what it formats by itself. */
export function byTitle(walks: readonly Walk[]): [title: string, walk: Walk][] {
  return walks.map((walk) => [walk.title, walk])
}

export interface Step {
  readonly event: AnyEventObject | undefined
  readonly snapshot: AnyMachineSnapshot
  readonly transitions: readonly string[]
  readonly emitted: readonly AnyEventObject[]
  /** What was sent to children; `xstate.init`, with the input, to one that was made. */
  readonly sent: readonly { readonly to: string; readonly event: AnyEventObject }[]
  /** The delays that the machine waits for now. */
  readonly waits: readonly number[]
}

/** Runs the events through an actor of the machine and tells what each of them did; the first step is the start. */
export function replay(machine: AnyStateMachine, input: unknown, events: readonly AnyEventObject[]): Step[] {
  const nameOf = namesOf(machine)
  const clock = new VirtualClock()
  let transitions: string[] = []
  let emitted: AnyEventObject[] = []
  let sent: { to: string; event: AnyEventObject }[] = []
  // The first microsteps happen inside createActor, before there is an actor to compare with.
  let actor: (AnyActorRef & { start(): void }) | undefined
  actor = createActor(machine, {
    input,
    clock,
    inspect: (inspection) => {
      const isChild = actor && inspection.actorRef !== actor
      if (inspection.type === '@xstate.microstep' && !isChild) {
        for (const definition of inspection._transitions) {
          const name = nameOf.get(definition)
          if (name !== undefined) transitions.push(name)
        }
      } else if (inspection.type === '@xstate.event' && isChild) {
        sent.push({ to: (inspection.actorRef as AnyActorRef).id, event: inspection.event })
      }
    },
  })
  const running = actor
  running.on('*', (event: AnyEventObject) => emitted.push(event))
  running.subscribe({ error: rethrow })
  const step = (event?: AnyEventObject): Step => {
    if (event) running.send(event)
    else running.start()
    const snapshot = running.getSnapshot() as AnyMachineSnapshot
    const done = { event, snapshot, transitions, emitted, sent, waits: clock.waits }
    transitions = []
    emitted = []
    sent = []
    return done
  }
  return [step(), ...events.map((event) => step(event))]
}

function rethrow(error: unknown): never {
  throw error
}

/** A state of the exploration, and how the machine came there. */
interface Visit {
  readonly snapshot: AnyMachineSnapshot
  /** Names of the transitions that the last event took. */
  readonly transitions: readonly string[]
}

interface Edge {
  readonly events: readonly AnyEventObject[]
  /** Keys of the states that the last event leads from and to. */
  readonly from: string
  readonly to: string
  /** Whether the machine is done then. */
  readonly ends: boolean
  readonly transitions: readonly string[]
}

interface Move {
  readonly event: AnyEventObject
  readonly state: Visit
}

/**
 * Every event in every state that can be reached, as the sequence that leads there; shortest first. With `missing` it
 * strikes off what it takes, and goes no further when nothing is left.
 */
function edges(machine: AnyStateMachine, { input, events, stateKey }: Exploration, missing?: Set<string>): Edge[] {
  const options = {
    events: ({ snapshot }: Visit) =>
      snapshot.status === 'active' ? events(snapshot).filter((event) => snapshot.can(event)) : [],
    serializeState: ({ snapshot }: Visit) => JSON.stringify([snapshot.value, stateKey(snapshot)]),
    serializeEvent: (event: AnyEventObject) => JSON.stringify(event),
    stopWhen: () => missing?.size === 0,
    input,
    limit: 50_000,
  }
  const { start, step } = pureSteps(machine, input)
  const logic = {
    transition: ({ snapshot }: Visit, event: AnyEventObject) => {
      const visit = step(snapshot, event)
      for (const name of visit.transitions) missing?.delete(name)
      return visit
    },
    getInitialSnapshot: () => start,
    getPersistedSnapshot: (visit: Visit) => visit,
  }
  const map = getAdjacencyMap(logic as never, options as never)
  const first = options.serializeState(start)
  const paths = new Map<string, AnyEventObject[]>([[first, []]])
  const found: Edge[] = [{ events: [], from: first, to: first, ends: false, transitions: start.transitions }]
  // The map's keys keep the order of insertion, and a Map visits what is added while it is walked: breadth first.
  for (const [from, path] of paths) {
    const node = map[from as never] as { transitions: Record<string, Move> } | undefined
    for (const { event, state } of Object.values(node?.transitions ?? {})) {
      const longer = [...path, event]
      const to = options.serializeState(state)
      found.push({ events: longer, from, to, ends: state.snapshot.status === 'done', transitions: state.transitions })
      if (!paths.has(to)) paths.set(to, longer)
    }
  }
  return found
}

/**
 * What each event makes of a snapshot, and by which transitions. As `transition` of XState, which makes an actor for
 * every step and does not tell the transitions: here one actor, never started, stands for all.
 */
function pureSteps(machine: AnyStateMachine, input: unknown) {
  const nameOf = namesOf(machine)
  let transitions: string[] = []
  const self = createActor(machine, {
    input,
    inspect: (inspection) => {
      if (inspection.type !== '@xstate.microstep') return
      for (const definition of inspection._transitions) {
        const name = nameOf.get(definition)
        if (name !== undefined) transitions.push(name)
      }
    },
  })
  const nothing = () => {}
  const scope: Parameters<AnyStateMachine['transition']>[2] = {
    self,
    system: self.system,
    id: self.id,
    sessionId: self.sessionId,
    logger: nothing,
    defer: nothing,
    emit: nothing,
    stopChild: nothing,
    actionExecutor: nothing,
  }
  const visit = (snapshot: AnyMachineSnapshot): Visit => {
    const done = { snapshot, transitions }
    transitions = []
    return done
  }
  return {
    start: visit(self.getSnapshot() as AnyMachineSnapshot),
    step: (snapshot: AnyMachineSnapshot, event: AnyEventObject) => visit(machine.transition(snapshot, event, scope)),
  }
}

/** The done, error and after events that the chart waits for in this state. */
export function ownEvents(snapshot: AnyMachineSnapshot): string[] {
  const types = getNextTransitions(snapshot).map(({ eventType }) => eventType)
  return [...new Set(types)].filter((type) => type.startsWith('xstate.') && !type.includes('*'))
}

/** Every transition of a chart with its name. */
export function namesOf(machine: AnyStateMachine): Map<AnyTransitionDefinition, string> {
  const result = new Map<AnyTransitionDefinition, string>()
  for (const node of statesOf(machine)) {
    const all: AnyTransitionDefinition[] = [...node.transitions.values()].flat()
    for (const [index, definition] of [...all, ...(node.always ?? [])].entries()) {
      const source = node.path.join('.') || machine.id
      const targets = definition.target?.map(({ path }) => path.join('.')) ?? ['itself']
      result.set(definition, `${source} on ${definition.eventType || 'always'} → ${targets.join(', ')} (${index})`)
    }
  }
  return result
}
