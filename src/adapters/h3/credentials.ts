import { X509Certificate, createPrivateKey } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import { InvalidOptionError } from '../../index.ts'

/** A certificate, its key, and what the key is encrypted with. */
export interface Credentials {
  readonly cert: string
  readonly key: string
  readonly passphrase?: string
}

/**
 * The certificate and its key as PEM, read from their files where they are paths. They are tried out one by one, as OpenSSL's
 * errors do not tell which of them is meant.
 *
 * @throws `INVALID_OPTION` that names `tls.cert`, `tls.key` or `tls.passphrase`, and tells nothing of what is in them.
 */
export async function readCredentials({ cert, key, passphrase }: Credentials): Promise<Credentials> {
  const [certText, keyText] = [await readPem('tls.cert', cert), await readPem('tls.key', key)]
  const certificate = toCertificate(certText)
  if (!certificate.checkPrivateKey(toPrivateKey(keyText, passphrase))) {
    throw new InvalidOptionError('tls.key', 'the key that belongs to the certificate', 'another one')
  }
  const credentials = { cert: certText, key: keyText, ...(passphrase !== undefined && { passphrase }) }
  try {
    createSecureContext(credentials)
  } catch (error) {
    throw new InvalidOptionError('tls.cert', 'a certificate, and those in between, that TLS takes', messageOf(error))
  }
  return credentials
}

const begin = '-----BEGIN '

async function readPem(option: string, value: string): Promise<string> {
  const text = value.includes(begin)
    ? value
    : await readFile(value, 'utf8').catch((error: unknown) => unreadable(option, error))
  // What stands in front of the first block is for whoever reads the file.
  return text.slice(Math.max(0, text.indexOf(begin)))
}

function unreadable(option: string, error: unknown): never {
  throw new InvalidOptionError(option, 'PEM, or the path of a file that can be read', messageOf(error))
}

function toCertificate(text: string): X509Certificate {
  try {
    return new X509Certificate(text)
  } catch {
    throw new InvalidOptionError('tls.cert', 'a certificate, in PEM', text.trim() === '' ? 'nothing' : 'something else')
  }
}

function toPrivateKey(text: string, passphrase: string | undefined): KeyObject {
  try {
    return createPrivateKey({ key: text, passphrase })
  } catch (error) {
    if (!text.includes('ENCRYPTED')) {
      const got = text.trim() === '' ? 'nothing' : 'something else'
      throw new InvalidOptionError('tls.key', 'a private key, in PEM', got)
    }
    if (passphrase === undefined) {
      const expected = 'a key that is not encrypted, or tls.passphrase beside it'
      throw new InvalidOptionError('tls.key', expected, 'one that is')
    }
    throw new InvalidOptionError('tls.passphrase', 'what the key is encrypted with', messageOf(error))
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
