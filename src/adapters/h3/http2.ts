import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Http2ServerResponse } from 'node:http2'
import { Http2ServerRequest, constants } from 'node:http2'

/*
 * Node hands requests of HTTP/2 to the same handlers as those of HTTP/1, with objects that are nearly the same: srvx, and so
 * h3, serves HTTPS that way. This is where they differ.
 */

/** A request that came by HTTP/2; `undefined` when it did not. A request of HTTP/1 can say that it is one. */
export function http2Request(req: IncomingMessage): Http2ServerRequest | undefined {
  if (req.httpVersionMajor !== 2) return undefined
  const request: unknown = req
  return request instanceof Http2ServerRequest ? request : undefined
}

/**
 * Has the client stop sending a body of which nobody wants the rest, as the response is complete (RFC 9113 §8.1). @returns
 * `false`: it is no request of HTTP/2
 */
export function stopUpload(req: IncomingMessage): boolean {
  const request = http2Request(req)
  request?.stream.close(constants.NGHTTP2_NO_ERROR)
  return request !== undefined
}

/** Ends a stream in a way that no client takes for the end of the response. */
export function resetStream(res: ServerResponse): boolean {
  const { stream } = res as unknown as Partial<Http2ServerResponse>
  if (stream === undefined) return false
  // What either side has closed with NO_ERROR waits for the rest of the response.
  if (stream.closed) stream.destroy()
  else stream.close(constants.NGHTTP2_INTERNAL_ERROR)
  return true
}

/** All bytes that the connection of a request has sent; `undefined` where no other response shares it. */
export function sentByAll(req: IncomingMessage): number | undefined {
  const session = http2Request(req)?.stream.session
  return session === undefined || session.destroyed ? undefined : session.socket.bytesWritten
}

/** Calls when a response is over. By HTTP/2 the rest of its request may still come. The listener may be called twice. */
export function onceOver(req: IncomingMessage, res: ServerResponse, listener: () => void): void {
  http2Request(req)?.stream.once('finish', listener)
  res.once('close', listener)
}

/**
 * Has a stream that its client gave up be over. Node.js waits for what cannot be sent any more, and then neither the stream nor its
 * connection ever closes, when the client says `NO_ERROR`, or nothing.
 */
export function noticeAbort({ stream }: Http2ServerRequest): void {
  // Node is about to end it.
  stream.once('aborted', () => process.nextTick(() => stream.destroy()))
}
