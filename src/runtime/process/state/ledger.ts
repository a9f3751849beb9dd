import { rename, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Claim } from '../claims.ts'
import { writeWhole } from '../write-whole.ts'
import { identify, readBootId } from './identity.ts'
import { namesIn } from './names.ts'
import { recordFile, type LedgerRecord } from './record.ts'

/**
 * What workers hold on this machine, on disk: a file per worker, so that whoever comes after a supervisor that died can end
 * and remove what it left. Written by one supervisor, a generation of the state directory.
 */
export class Ledger {
  readonly #directory: string
  readonly #generation: number
  readonly #bootId = readBootId()
  readonly #live = new Set<LedgerEntry>()

  constructor(directory: string, generation: number) {
    this.#directory = directory
    this.#generation = generation
  }

  async add(record: Omit<LedgerRecord, 'bootId'>): Promise<LedgerEntry> {
    const path = join(this.#directory, recordFile(this.#generation, record.name))
    const entry = new LedgerEntry(path, { ...record, bootId: await this.#bootId }, () => this.#live.delete(entry))
    await entry.write()
    this.#live.add(entry)
    return entry
  }

  /** Writes down once more what is held now. */
  async rewrite(): Promise<void> {
    await Promise.all(Array.from(this.#live, (entry) => entry.rewrite()))
  }
}

/** The ledger's file of one worker. */
export class LedgerEntry implements Claim {
  readonly #path: string
  #record: LedgerRecord
  readonly #onRelease: () => void
  /** Writes follow each other: the last one is what stays. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(path: string, record: LedgerRecord, onRelease: () => void) {
    this.#path = path
    this.#record = record
    this.#onRelease = onRelease
  }

  /** The record, with everything noted that is on its way. */
  async settled(): Promise<LedgerRecord> {
    await this.#last
    return this.#record
  }

  /** Notes the process. Nobody need wait: until it is written, the rest of the record finds it. */
  recordProcess(pid: number): void {
    const noted = this.#last.then(async () => {
      this.#record = { ...this.#record, process: await identify(pid) }
      await this.write()
    })
    this.#last = noted.catch((error: unknown) => {
      const problem = `The process of worker ${this.#record.name} could not be written down: ${String(error)}`
      process.emitWarning(problem, 'CorralWarning')
    })
  }

  /** In one step, so that no reader finds half a record. */
  async write(): Promise<void> {
    const draft = `${this.#path}.draft`
    await writeWhole(draft, JSON.stringify(this.#record))
    await rename(draft, this.#path)
  }

  rewrite(): Promise<void> {
    const written = this.#last.then(() => this.write())
    this.#last = written.catch(() => {})
    return written
  }

  async release(): Promise<void> {
    this.#onRelease()
    await this.#last
    await rm(this.#path, { force: true })
  }

  /** Kept: what could not be undone in a hurry is for the next one to undo. */
  releaseNow(): void {}
}

/** The files of the records of the generations that `isMeant` says. */
export async function listRecords(directory: string, isMeant: (generation: number) => boolean): Promise<string[]> {
  const names = await namesIn(directory)
  return names.filter((name) => isMeant(generationOf(name))).map((name) => join(directory, name))
}

/** Of a file in the ledger; `NaN` of one that is no record. */
export function generationOf(path: string): number {
  return Number.parseInt(basename(path), 10)
}
