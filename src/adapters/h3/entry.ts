import type { IncomingMessage, ServerResponse } from 'node:http'
import { inTurn, isPipelined } from '../clients/pipeline.ts'
import { noticeReset } from '../clients/reset.ts'
import { discard } from './body.ts'
import type { Core } from './core.ts'
import { Forward } from './forward.ts'
import { assertVersion, expectsUnknown, requestHeaders } from './headers.ts'
import { forward } from './http.ts'
import { http2Request, noticeAbort, onceOver } from './http2.ts'
import type { Identity } from './identity/identify.ts'
import { observationOf, observe } from './observe.ts'
import { joinPieces } from './pieces.ts'
import { Refusal } from './problem.ts'
import { limitSending, refuse } from './response.ts'
import type { BasedTarget } from './target.ts'
import { parseTarget, stripBase } from './target.ts'
import { stalled } from './upstream.ts'
import type { UpgradeClient } from './upgrade-client.ts'
import { isVanished } from './vanished.ts'
import { assertHandshake, forwardUpgrade } from './websocket.ts'

/** Takes a request that lies under `base`. `undefined`: it lies outside. `mustContinue`: it expects something before its body. */
export function handle(
  core: Core,
  req: IncomingMessage,
  res: ServerResponse,
  base: string | undefined,
  mustContinue: boolean,
): void {
  joinPieces(req, core.turnBudget)
  if (isPipelined(res)) {
    const { sendTimeout: stallTimeout } = core.settings.upstream
    const onStalled = () => core.report(req, stalled(), { cut: true })
    inTurn(req, res, { stallTimeout, onStalled }, () => handle(core, req, res, base, mustContinue))
    return
  }
  const seen = observe('http', req, core.settings)
  // Behind the exchange's own listener, which knows the last of its figures.
  if (seen !== undefined) onceOver(req, res, () => queueMicrotask(() => seen.end()))
  const { turnBudget } = core
  if (turnBudget.mayBegin()) begin(core, req, res, base, mustContinue)
  else turnBudget.defer(() => begin(core, req, res, base, mustContinue))
}

function begin(
  core: Core,
  req: IncomingMessage,
  res: ServerResponse,
  base: string | undefined,
  mustContinue: boolean,
): void {
  try {
    if (res.destroyed || isVanished(req.socket)) {
      res.destroy()
      return
    }
    const http2 = http2Request(req)
    if (http2 === undefined) noticeReset(req.socket)
    else {
      noticeAbort(http2)
      if (http2.stream.session !== undefined) core.sessionWatch.add(http2.stream.session)
    }
    // RFC 9110 §10.1.1: there is nothing but `100-continue`. Node looks for the word, and finds it in others, too.
    if (mustContinue && expectsUnknown(req)) throw new Refusal('EXPECTATION_UNSUPPORTED')
    if (req.url === '*' && req.method === 'OPTIONS') {
      assertVersion(req)
      // It is forwarded nowhere, and must be fit to be all the same.
      requestHeaders(req, core.settings, { authority: undefined, prefix: '' })
      answerPing(res)
      limitSending(core, req, res)
      if (!req.complete) discard(req, res)
      const seen = observationOf(req)
      if (seen !== undefined) seen.status = res.statusCode
      seen?.answered()
      return
    }
    const target = readTarget(core, req, base)
    const identity = core.identifier.identify(req, target)
    const start = (found: Identity) => {
      // The client may have left while somebody was asked.
      if (!res.destroyed) forward(core, req, res, new Forward(found, target, mustContinue))
    }
    if (identity instanceof Promise) identity.then(start).catch((error: unknown) => refuse(core, req, res, error))
    else start(identity)
  } catch (error) {
    refuse(core, req, res, error)
  }
}

/** Takes an upgrade that lies under `base`. */
export async function handleUpgrade(core: Core, client: UpgradeClient, base: string | undefined): Promise<void> {
  const seen = observe('websocket', client.req, core.settings)
  // Behind the upgrade's own listener, which knows the last of its figures.
  if (seen !== undefined) client.whenOver(() => queueMicrotask(() => seen.end()))
  if (isVanished(client.socket)) {
    client.socket.destroy()
    return
  }
  try {
    assertHandshake(client.req)
    const target = readTarget(core, client.req, base)
    const identity = await core.identifier.identify(client.req, target)
    // The answer to a handshake has no place for an id that must be known before anything else is sent.
    if (identity.adoption?.step === 'adopt') throw new Refusal('SESSION_ID_MISSING')
    await forwardUpgrade(core, client, new Forward(identity, target, false))
  } catch (error) {
    client.refuse(core, error)
  }
}

function readTarget(core: Core, req: IncomingMessage, base: string | undefined): BasedTarget {
  assertVersion(req)
  const url = req.url ?? ''
  if (url.length > core.settings.client.targetLength) throw new Refusal('TARGET_TOO_LONG')
  const target = parseTarget(url)
  if (target === undefined || base === undefined) throw new Refusal('REQUEST_INVALID')
  const stripped = stripBase(target.path, base)
  if (stripped === undefined) throw new Refusal('REQUEST_INVALID')
  return { ...stripped, authority: target.authority ?? http2Request(req)?.authority }
}

/** RFC 9110 §9.3.7: `OPTIONS *` asks the server as a whole whether it is there, and names no session. */
function answerPing(res: ServerResponse): void {
  res.writeHead(204)
  res.end()
}
