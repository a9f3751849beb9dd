import type { AnyStateMachine, AnyStateNode, AnyTransitionDefinition } from 'xstate'

/** A machine as a Mermaid state diagram, nested as the chart is: every state, every transition, and what is invoked. */
export function toMermaid(machine: AnyStateMachine): string {
  return ['stateDiagram-v2', ...contents(machine.root, 1)].join('\n')
}

function contents(node: AnyStateNode, depth: number): string[] {
  const pad = '  '.repeat(depth)
  const children = Object.values(node.states)
  const lines: string[] = []
  if (node.type === 'compound') lines.push(`${pad}[*] --> ${idOf(node.initial.target[0])}`)
  for (const [index, child] of children.entries()) {
    // Mermaid divides the regions of a parallel state by this line.
    if (node.type === 'parallel' && index > 0) lines.push(`${pad}--`)
    lines.push(...state(child, depth))
  }
  for (const child of children) lines.push(...transitions(child).map((line) => pad + line))
  return lines
}

function state(node: AnyStateNode, depth: number): string[] {
  const pad = '  '.repeat(depth)
  const invoked = node.invoke.map(({ src }) => `invoke ${typeof src === 'string' ? src : 'an actor'}`)
  const title = [node.key, ...invoked].join('<br/>')
  if (Object.keys(node.states).length > 0) {
    return [`${pad}state "${title}" as ${idOf(node)} {`, ...contents(node, depth + 1), `${pad}}`]
  }
  const lines = [`${pad}state "${title}" as ${idOf(node)}`]
  if (node.type === 'final') lines.push(`${pad}${idOf(node)} --> [*]`)
  return lines
}

function transitions(node: AnyStateNode): string[] {
  const all: AnyTransitionDefinition[] = [...node.transitions.values()].flat()
  return [...all, ...(node.always ?? [])].map((transition) => {
    const target = transition.target?.[0]
    const label = [eventOf(transition), guardOf(transition), actionsOf(transition)].filter(Boolean).join(' ')
    return `${idOf(node)} --> ${idOf(target ?? node)}${label && `: ${label}`}`
  })
}

function eventOf({ eventType }: AnyTransitionDefinition): string {
  const [, delay] = /^xstate\.after\.([^.]+)\./.exec(eventType) ?? []
  if (delay) return `after ${delay}`
  const [, outcome, actor] = /^xstate\.(done|error)\.actor\.(.+)$/.exec(eventType) ?? []
  if (outcome) return `${outcome} ${actor}`
  return eventType
}

function guardOf({ guard }: AnyTransitionDefinition): string {
  if (!guard) return ''
  const named = typeof guard === 'object' && 'type' in guard ? guard.type : guard
  return `[${String(named)}]`
}

/** Only where nothing else shows what happens: a transition without a target. */
function actionsOf({ actions, target }: AnyTransitionDefinition): string {
  if (target) return ''
  const names = actions.map((action) => (typeof action === 'object' ? action.type : String(action)))
  return `/ ${names.join(', ')}`
}

function idOf(node: AnyStateNode | undefined): string {
  return node?.path.join('_') ?? ''
}
