import type { AnyMachineSnapshot } from 'xstate'
import type { Step } from './_chart.ts'

/**
 * Everything that a machine did in a walk, as text: what is kept of it as a snapshot and read in a review. The context is
 * there by what changed in it.
 */
export function transcript(steps: readonly Step[]): string {
  return steps.flatMap((step, index) => describeStep(step, steps[index - 1]?.snapshot)).join('\n')
}

function describeStep(step: Step, before: AnyMachineSnapshot | undefined): string[] {
  const { event, snapshot, emitted, sent, waits } = step
  const old = (before ?? snapshot).context as Record<string, unknown>
  const changes = Object.entries(snapshot.context as object).filter(([key, value]) => json(value) !== json(old[key]))
  return [
    `${event?.type ?? 'start'} → ${statesOf(snapshot.value)}`,
    ...changes.map(([key, value]) => `  ${key}: ${json(value)}`),
    ...emitted.map(({ type, ...fact }) => `  tells ${type} ${json(fact)}`),
    ...sent.map(({ to, event: { type, ...command } }) => `  to ${to}: ${type} ${json(command)}`),
    ...(waits.length > 0 ? [`  waits ${waits.join(', ')}`] : []),
    ...(snapshot.status === 'done' ? [`  output ${json(snapshot.output)}`] : []),
  ]
}

/** Rules are input and never change: that they are there is enough. */
function json(value: unknown): string {
  const text = JSON.stringify(value, (key, part: unknown) => (key === 'policy' && part ? '…' : part))
  return text.replaceAll(/"(\w+)":/gu, '$1: ').replaceAll(',', ', ')
}

function statesOf(value: unknown): string {
  return typeof value === 'string' ? value : json(value).replaceAll('"', '')
}
