/** A request target in the form that a worker gets it in. */
export interface Target {
  /** Origin-form (RFC 9112 §3.2.1): path and query, byte for byte as the client sent them. */
  readonly path: string
  /** Host and port of an absolute-form target, which take the place of `Host` (RFC 9112 §3.2.2). */
  readonly authority: string | undefined
}

/** A request target that lies under the gateway's base. */
export interface BasedTarget {
  readonly path: string
  readonly base: string
  /** Host and port of an absolute-form target. */
  readonly authority: string | undefined
}

const absolute = /^https?:\/\/([^/?#]*)/i

/**
 * Reads the raw target of a request. Absolute-form must be accepted from any client (RFC 9112 §3.2.2). Authority-form
 * (`CONNECT`) and asterisk-form (`OPTIONS *`) name no resource of a worker: `undefined`.
 */
export function parseTarget(url: string): Target | undefined {
  if (url.charCodeAt(0) === slash) return { path: url, authority: undefined }
  const authority = absolute.exec(url)
  if (authority === null || authority[1] === '') return undefined
  const rest = url.slice(authority[0].length)
  return { path: rest.startsWith('/') ? rest : `/${rest}`, authority: authority[1] }
}

/**
 * Takes `base` off the front of a raw path. `base` may be written differently in the raw path (`/%61pp` for `/app`), so as
 * many segments come off as `base` has, and only when they mean the same: what the router matched and what is cut must not
 * differ.
 *
 * @returns `undefined` when the path does not lie under the base.
 */
export function stripBase(path: string, base: string): { path: string; base: string } | undefined {
  if (base === '') return { path, base }
  const end = pathEnd(path)
  let cut = 0
  for (let segments = base.split('/').length - 1; segments > 0; segments--) {
    if (cut >= end) return undefined
    const next = path.indexOf('/', cut + 1)
    cut = next === -1 || next > end ? end : next
  }
  const raw = path.slice(0, cut)
  if (raw !== base && decode(raw) !== decode(base)) return undefined
  const rest = path.slice(cut)
  return { path: rest.startsWith('/') ? rest : `/${rest}`, base: raw }
}

/**
 * A `Location` that names the worker by its address, as workers make them that were sent its `Host`, becomes one that the
 * client can follow: a path. One that begins with two slashes would name a host in their place, as it would for browsers with a
 * backslash, or a tab between them; a dot in front keeps it a path (RFC 3986 §4.2). Any other stays as it is.
 */
export function rewriteLocation(location: string, workerHost: string, prefix: string): string {
  const authority = workers.exec(location)
  if (authority?.[1]?.toLowerCase() !== workerHost) return location
  const rest = location.slice(authority[0].length)
  const path = prefix + (rest.startsWith('/') ? rest : `/${rest}`)
  return seemsHost.test(path) ? `/.${path}` : path
}

/** A worker speaks plain HTTP, or leaves the scheme to the client. */
const workers = /^(?:http:)?\/\/([^/?#]*)/i
const seemsHost = /^\/\t*[/\\]/

/** Where the path of a target ends and its query, or what some clients send after a `#`, begins. */
export function pathEnd(path: string): number {
  const end = path.search(/[?#]/)
  return end === -1 ? path.length : end
}

/** Strict percent-decoding: `undefined` when it is malformed or not UTF-8. */
export function decode(text: string): string | undefined {
  if (!text.includes('%')) return text
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

const slash = 0x2f
