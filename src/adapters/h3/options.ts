import type { IncomingMessage } from 'node:http'
import type { Reached } from './forwarded.ts'
import type { RequestRecord, RequestTrace } from './observe.ts'
import type { GatewayFailure } from './problem.ts'
import type { Authorizer } from './identity/authorize.ts'
import type { IssueOptions } from './identity/issue.ts'
import type { SessionIdSource } from './identity/session-id.ts'
import type { SigningKey } from './identity/signature.ts'

export interface GatewayOptions {
  /**
   * Where the session id of a request is: `fromHeader`, `fromCookie`, `fromQuery`, `fromPath`, or a function. Of several
   * the first that names a session decides; the others are not looked at.
   */
  readonly sessionId: SessionIdSource | readonly SessionIdSource[]
  /**
   * What a session id looks like. Anything else is answered with 400 before it costs anything.
   *
   * @default /^(?!\.{1,2}$)[A-Za-z0-9._~:@+=-]{1,128}$/
   */
  readonly idPattern?: RegExp | undefined
  /**
   * Gives a client that names no session a new one, with a random id. The id goes to the client in the response of its
   * worker, by the first of `sessionId` that is a cookie or a header: as `Set-Cookie`, or as a header of that name. Every
   * such request starts a session: clients that keep no cookies start many.
   *
   * @default false
   */
  readonly issue?: boolean | IssueOptions | undefined
  /**
   * Takes only session ids that are signed: issued by the gateway, or made with {@link createIdSigner} and the same keys.
   * The signature does not belong to the id: sessions go by the id in front of it.
   *
   * @default none
   */
  readonly sign?: SignOptions | undefined
  /**
   * Decides on whose behalf a request comes: {@link bearerToken}, {@link trustedHeader}, or a function. A session belongs
   * to the principal that opened it: the same id from another one is another session, whose id in the pool is {@link
   * sessionKey}.
   *
   * @default none: whoever has the id has the session
   */
  readonly authorize?: Authorizer | undefined
  /**
   * Lets workers choose the ids of their sessions, as MCP servers do (`Mcp-Session-Id`). A request without an id gets a
   * worker of its own; the id that its response carries is the session's from then on. A request with an id that is not
   * live is answered with 404, and DELETE where the session was opened ends it. A session whose worker chose no id ends
   * with its request.
   *
   * @default false
   */
  readonly adopt?: boolean | AdoptOptions | undefined
  /**
   * Path that the gateway is mounted under; taken off the target before anything else looks at it. Requests outside it are
   * answered with 400. Only needed for raw handlers: mounted in an h3 app, the gateway finds it out by itself.
   *
   * @default none
   */
  readonly base?: string | undefined
  /**
   * The `Host` that workers see. `'rewrite'`: the worker's own, such as `127.0.0.1:43567`, or `localhost` on a unix socket;
   * the client's is in `X-Forwarded-Host`. `'keep'`: the client's. Local servers often refuse a `Host` that they do not
   * know, as a defence against DNS rebinding (Ollama, Chromium's debugger, Vite); others compare it with `Origin`
   * (Jupyter): those want `'keep'`.
   *
   * @default 'rewrite'
   */
  readonly host?: 'rewrite' | 'keep' | undefined
  /**
   * Whether `X-Forwarded-*`, `Forwarded` and `X-Real-IP` of clients are kept and added to, and the client's address is
   * taken from them. Only behind a proxy that sets them: otherwise anyone can claim any address. A number says how many
   * proxies there are, each of which adds to `X-Forwarded-For` and adds to the others or sets them anew: what is in front of
   * theirs is not believed. `true` is 1. When `false` they are dropped, and set anew.
   *
   * @default false
   */
  readonly trustForwarded?: boolean | number | undefined
  /**
   * Name of this gateway in `Via` (RFC 9110 §7.6.3). `false` sends none: some servers stop compressing when they see one.
   *
   * @default false
   */
  readonly via?: string | false | undefined
  /** What `Retry-After` says, in milliseconds, rounded up to seconds. @default 1_000 */
  readonly retryAfter?: number | undefined
  readonly upstream?: UpstreamTimeouts | undefined
  readonly client?: ClientLimits | undefined
  /**
   * How long the client of a WebSocket may be silent before the gateway asks, with a ping, whether it is still there; one
   * that has not answered when as much time has passed again is cut. In milliseconds. `0`: it is not asked, and TCP's
   * keep-alive alone finds out.
   *
   * @default 0
   */
  readonly pingInterval?: number | undefined
  /**
   * Called for every request that is refused, fails or is cut, with the cause that the client is not shown. What
   * it throws is an uncaught exception, and does not disturb the request.
   *
   * @default none
   */
  readonly onError?: ((failure: GatewayFailure) => void) | undefined
  /**
   * Called once at the end of every request and every WebSocket, for access logs and metrics. What it throws is an uncaught
   * exception, and does not disturb the request.
   *
   * @default none
   */
  readonly onRequest?: ((record: RequestRecord) => void) | undefined
  /**
   * Called at the start of every request and every WebSocket, to follow it and to hand a context of its own to the worker;
   * returns nothing for those that are not followed. `reached` is where the client took the server to be.
   *
   * @default none
   */
  readonly trace?: ((req: IncomingMessage, reached: Reached) => RequestTrace | undefined) | undefined
}

export interface SignOptions {
  /** Secrets of at least 16 bytes. The first signs, all are accepted: see {@link createIdSigner}. */
  readonly keys: SigningKey | readonly SigningKey[]
  /**
   * What becomes of a request whose id is not signed, or badly: `'refuse'` answers with 401; `'issue'`, which needs
   * `issue`, gives it a new session, such as to browsers with a cookie from before the keys were changed.
   *
   * @default 'refuse'
   */
  readonly forged?: 'refuse' | 'issue' | undefined
}

export interface AdoptOptions {
  /** Response header that the worker's id is in. @default the one of `sessionId` that is a header */
  readonly header?: string | undefined
  /**
   * Told when a worker has named its session: events and lists of the pool go by another id. What it throws is an uncaught
   * exception, and does not disturb the request.
   *
   * @default none
   */
  readonly onAdopt?: ((adopted: AdoptedSession) => void) | undefined
}

/** A session whose worker has named it. */
export interface AdoptedSession {
  /** The pool's id of it, which was made up before there was a name. */
  readonly sessionId: string
  /** The id that its worker chose. */
  readonly id: string
  /** On whose behalf it was opened; `undefined` where nobody is authorised. */
  readonly principal: string | undefined
}

export interface UpstreamTimeouts {
  /** Longest time to connect to a worker, in milliseconds. `0`: no limit. @default 10_000 */
  readonly connectTimeout?: number | undefined
  /**
   * Longest time that bytes of a client wait for a worker that takes none and sends none, in milliseconds; of WebSockets,
   * too. Such a client is not read, so that nothing else tells when it leaves. `0`: no limit.
   *
   * @default 60_000
   */
  readonly sendTimeout?: number | undefined
  /**
   * Longest time from the end of a request (where the worker holds an upload back: from its beginning) to the head of its response, in
   * milliseconds; for WebSockets, of the handshake.
   * `0`: no limit.
   *
   * @default 300_000
   */
  readonly headersTimeout?: number | undefined
  /** Longest silence within a response, in milliseconds. `0`: no limit, as event streams want it. @default 0 */
  readonly bodyTimeout?: number | undefined
}

/** What a client may take and how long. */
export interface ClientLimits {
  /**
   * Longest silence of a client within a body that it sends, with no response on its way to it, in milliseconds: then 408, or a cut. `0`: no limit.
   *
   * @default 60_000
   */
  readonly bodyTimeout?: number | undefined
  /**
   * Longest time that bytes of a worker wait for a client that takes none, in milliseconds; of WebSockets, too. `0`: no
   * limit.
   *
   * @default 60_000
   */
  readonly sendTimeout?: number | undefined
  /** Longest request target, in characters: more is answered with 414. @default 8_192 */
  readonly targetLength?: number | undefined
  /** Requests and WebSockets of one session at the same time, waiting ones too: more are answered with 429. @default 256 */
  readonly requestsPerSession?: number | undefined
}

export interface ListenOptions {
  /**
   * `0`: any free one. A busy one is an error, and so is one that browsers refuse to connect to, such as 6000 or 6667
   * (`ERR_UNSAFE_PORT`).
   *
   * @default 8080
   */
  readonly port?: number | undefined
  /** Address or name to listen on; `0.0.0.0` or `::` for all. @default '127.0.0.1' */
  readonly hostname?: string | undefined
  /**
   * Serves TLS: with a certificate of one's own, or with `true` a self-signed one for `localhost`, `127.0.0.1`, `::1` and
   * `hostname`, which is made anew each time and holds for a year.
   *
   * @default false
   */
  readonly tls?: boolean | TlsOptions | undefined
  /** Longest time that a client may take for the head of a request, in milliseconds; `0`: no limit. @default 15_000 */
  readonly headersTimeout?: number | undefined
  /** Longest head of a request, target included, in bytes: more is answered with 431. @default 16_384 */
  readonly headersSize?: number | undefined
  /**
   * How long an idle connection of a client is kept, in milliseconds; `0`: for ever. Behind a proxy it has to be longer than
   * the proxy's own.
   *
   * @default 5_000
   */
  readonly keepAliveTimeout?: number | undefined
}

export interface TlsOptions {
  /** The certificate, with those in between: PEM, or the path of a file. */
  readonly cert: string
  /** Its key: PEM, or the path of a file. */
  readonly key: string
  /** Of the key, when it is encrypted. @default none */
  readonly passphrase?: string | undefined
}
