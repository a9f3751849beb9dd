import { tmpdir } from 'node:os'
import { follow, pathFromHere, readLink } from './follow.ts'

/**
 * The directory for temporary files, which TMPDIR may name from the working directory, or by a link: what is in it is written down, and
 * mounted.
 */
export function temporaryDirectory(): string {
  const path = pathFromHere(tmpdir())
  // Written otherwise there; and nothing is mounted.
  return process.platform === 'win32' ? path : follow(path, { linkAt: readLink })
}
