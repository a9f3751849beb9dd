import { createHmac, timingSafeEqual } from 'node:crypto'
import { InvalidOptionError } from '../../../index.ts'

/** Makes and checks signed session ids. */
export interface IdSigner {
  /** The id with its signature: `id.signature`. */
  sign(id: string): string
  /**
   * The id of a signed one; `undefined` unless one of the keys made its signature. Takes some microseconds, whatever is
   * wrong.
   */
  verify(signed: string): string | undefined
}

/**
 * Signed ids are `id.signature`, where the signature is the HMAC-SHA-256 (RFC 2104) of `corral session id`, a NUL and the id, in
 * UTF-8, as base64url without padding (RFC 4648 §5). The gateway issues and checks them; an application that hands out ids
 * itself makes them with the same keys.
 *
 * @param keys secrets of at least 16 bytes. The first signs; all are accepted, so that keys can be rotated: put the new one
 * in front, and take the old one out when the ids that it signed are of no use any more.
 * @throws `INVALID_OPTION`, also for text with U+FFFD, which stands for bytes that are no text.
 */
export function createIdSigner(keys: SigningKey | readonly SigningKey[]): IdSigner {
  const secrets = (isList(keys) ? keys : [keys]).map(secretOf)
  if (secrets.length === 0) throw new InvalidOptionError('sign.keys', 'at least one key', 'none')
  return {
    sign: (id) => `${id}.${signatureOf(secrets[0] as Buffer, id)}`,
    verify(signed) {
      const dot = signed.length - signatureLength - 1
      if (dot < 1 || signed[dot] !== '.') return undefined
      const id = signed.slice(0, dot)
      const given = Buffer.from(signed.slice(dot + 1), 'latin1')
      let isGenuine = false
      // All keys, and no early end: the time tells nothing of which key it was.
      for (const secret of secrets) {
        const expected = Buffer.from(signatureOf(secret, id), 'latin1')
        if (given.length === expected.length && timingSafeEqual(given, expected)) isGenuine = true
      }
      return isGenuine ? id : undefined
    },
  }
}

export type SigningKey = string | Uint8Array

/** Of 32 bytes in base64url. */
const signatureLength = 43

/** Keeps signatures of session ids apart from whatever else the same key may sign. */
const purpose = 'corral session id\0'

function signatureOf(secret: Buffer, id: string): string {
  return createHmac('sha256', secret).update(purpose).update(id).digest('base64url')
}

/** Stands for any byte that is no text. */
const replacement = '\ufffd'

function secretOf(key: SigningKey): Buffer {
  const secret = typeof key === 'string' ? Buffer.from(key) : key instanceof Uint8Array ? Buffer.from(key) : undefined
  // Keys that differ in such bytes alone are the same then, and can be guessed.
  if (typeof key === 'string' && secret?.includes(replacement)) {
    throw new InvalidOptionError(
      'sign.keys',
      'secrets of text, or bytes as a Uint8Array',
      'bytes that were read as text',
    )
  }
  if (secret !== undefined && secret.length >= 16) return secret
  // Never the key itself.
  const got = secret === undefined ? typeof key : `one of ${secret.length} bytes`
  throw new InvalidOptionError('sign.keys', 'secrets of at least 16 bytes', got)
}

function isList(keys: SigningKey | readonly SigningKey[]): keys is readonly SigningKey[] {
  return Array.isArray(keys)
}
