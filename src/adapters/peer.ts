import { PeerMissingError } from '../index.ts'

/**
 * Loads a package that Corral needs for one of its entries only, and does not install by itself.
 *
 * @throws `PEER_MISSING` when it is not installed
 */
export async function loadPeer<T>(name: string, entry: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load()
  } catch (cause) {
    if ((cause as { code?: unknown }).code !== 'ERR_MODULE_NOT_FOUND') throw cause
    throw new PeerMissingError(name, entry, { cause })
  }
}
