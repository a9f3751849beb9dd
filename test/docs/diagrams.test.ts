import { readFileSync, writeFileSync } from 'node:fs'
import { poolMachine, sessionMachine, workerMachine } from 'corral/machines'
import { expect, test } from 'vitest'
import { toMermaid } from '../support/mermaid.ts'

const readme = new URL('../../src/machines/README.md', import.meta.url)

test('the diagrams in src/machines/README.md are those of the machines', () => {
  const before = readFileSync(readme, 'utf8')
  const machines = { session: sessionMachine, worker: workerMachine, pool: poolMachine }
  const after = Object.entries(machines).reduce(
    (text, [name, machine]) =>
      text.replace(
        new RegExp(`(<!-- diagram:${name} -->\n)[^]*?(<!-- /diagram -->)`),
        (_, open: string, close: string) => `${open}\n\`\`\`mermaid\n${toMermaid(machine)}\n\`\`\`\n\n${close}`,
      ),
    before,
  )
  // `npm run diagrams` draws them anew.
  if (process.env['UPDATE_DOCS']) writeFileSync(readme, after)
  else expect(before).toBe(after)
})
