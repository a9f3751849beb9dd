import { tmpdir } from 'node:os'
import { follow, pathFromHere, readLink } from './follow.ts'

/**
 * The directory for temporary files, which TMPDIR may name from the working directory, or by a link: what is in it is written down, and
 * mounted.
 */
export function temporaryDirectory(): string {
  return follow(pathFromHere(tmpdir()), { linkAt: readLink })
}
