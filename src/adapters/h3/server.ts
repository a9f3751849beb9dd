import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createServer, isIPv6 } from 'node:net'
import { promisify } from 'node:util'
import { listen as listhen } from 'listhen'
import { ListenError, UNSAFE_PORT } from '../listen-error.ts'
import { readCredentials } from './credentials.ts'
import type { ListenSettings } from './settings.ts'

/**
 * A server that listens, with the limits that hold before there is a request.
 *
 * @throws `INVALID_OPTION` when the certificate or its key is of no use; {@link ListenError}
 */
export async function openServer(settings: ListenSettings): Promise<Server> {
  const { port, hostname, tls, headersTimeout, headersSize, keepAliveTimeout } = settings
  await assertFree(settings)
  const listener = await listhen(() => {}, {
    port: port === 0 ? { port, random: true } : port,
    hostname,
    https: typeof tls === 'boolean' ? tls && selfSigned(hostname) : await readCredentials(tls),
    // A busy port is an error, not a reason to take another one.
    isProd: true,
    // Nothing is printed, opened or copied.
    isTest: true,
    showURL: false,
    // Else it exits on a signal, before anyone could clean up.
    autoClose: false,
  })
  const server = listener.server as Server
  const bound = (server.address() as AddressInfo).port
  if (port !== 0 && bound !== port) {
    server.close()
    throw new ListenError({ hostname, port }, unsafePort())
  }
  // listhen's bookkeeping for a close of its own goes with its listeners; it would cost every request and connection, and count those
  // again whose upgrade is ignored. The first is Node's.
  server.removeAllListeners('request')
  for (const event of ['connection', 'secureConnection']) {
    for (const listener of server.listeners(event).slice(1)) server.removeListener(event, listener as () => void)
  }
  // An upload takes as long as the client and the worker need.
  server.requestTimeout = 0
  server.headersTimeout = headersTimeout
  server.keepAliveTimeout = keepAliveTimeout
  // listhen has no place for these. Node reads the one with every connection, and the other when it begins to listen.
  const interval = Math.min(maxCheckInterval, Math.max(minCheckInterval, Math.ceil(headersTimeout / 4)))
  Object.assign(server, {
    maxHeaderSize: headersSize,
    connectionsCheckingInterval: interval,
    // A request without a host is refused as all others are, and not by Node.
    requireHostHeader: false,
  })
  server.emit('listening')
  return server
}

/** @throws as {@link openServer} */
export async function assertListenable(settings: ListenSettings): Promise<void> {
  // A certificate of our own can be made for every hostname that can be listened on, and takes its time.
  const server = await openServer({ ...settings, tls: settings.tls !== true && settings.tls })
  server.close()
  server.closeAllConnections()
}

/** How often Node looks for heads that are late, in milliseconds. */
const minCheckInterval = 50
const maxCheckInterval = 5_000

function selfSigned(hostname: string) {
  const domains = new Set(['localhost', '127.0.0.1', '::1', isIPv6(hostname) ? hexadecimal(hostname) : hostname])
  // Without them listhen's name a company in Michigan.
  const subject = { commonName: 'localhost', organization: 'Corral', organizationalUnit: 'self-signed' }
  const nowhere = { countryCode: '', state: '', locality: '' }
  return { domains: [...domains], validityDays: 365, ...subject, ...nowhere }
}

/** The same address without dots: listhen makes no certificate for `::ffff:127.0.0.1`, but does for `::ffff:7f00:1`. */
function hexadecimal(address: string): string {
  return new URL(`http://[${address}]`).hostname.slice(1, -1)
}

/** listhen tells that a port cannot be had, but not why; and what it cannot tell in advance, it throws at the process. */
async function assertFree({ port, hostname }: ListenSettings): Promise<void> {
  const probe = createServer()
  try {
    await new Promise<void>((resolve, reject) => {
      probe.once('error', reject)
      probe.listen({ port, host: hostname, exclusive: true }, resolve)
    })
  } catch (cause) {
    throw new ListenError({ hostname, port }, cause)
  }
  await promisify(probe.close.bind(probe))()
}

function unsafePort(): Error {
  const message = 'browsers refuse this port, and so does the gateway; take another one'
  return Object.assign(new Error(message), { code: UNSAFE_PORT })
}
