import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Makes a state directory, and in its ledger the record of a worker of an earlier start of the machine, but for `fields`. */
export function writeRecord(stateDirectory: string, name: string, fields: object = {}) {
  const ledger = join(stateDirectory, 'own', 'ledger')
  mkdirSync(ledger, { recursive: true, mode: 0o700 })
  mkdirSync(join(stateDirectory, 'w'), { recursive: true, mode: 0o711 })
  const directory = join(stateDirectory, 'w', name)
  const path = join(ledger, `0.${name}.json`)
  writeFileSync(path, JSON.stringify({ name, directory, cgroups: [], bootId: null, ...fields }))
  return { path, directory }
}
