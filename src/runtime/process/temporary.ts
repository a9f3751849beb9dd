import { tmpdir } from 'node:os'
import { resolve } from 'node:path'

/** The directory for temporary files, which TMPDIR may name from the working directory: what is in it is written down, and mounted. */
export function temporaryDirectory(): string {
  return resolve(tmpdir())
}
