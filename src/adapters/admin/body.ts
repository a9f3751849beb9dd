import type * as z from 'zod'
import { AdminProblem } from './problem.ts'

/** No body of the API is near this. */
const maxBytes = 4 * 1024

/**
 * The body of a request as `schema` reads it; an absent one is an empty object.
 *
 * @throws `BODY_TOO_LARGE`, `BODY_TYPE_UNSUPPORTED`, `BODY_INVALID`
 */
export async function readBody<T>(req: Request, schema: z.ZodType<T>): Promise<T> {
  const text = await textOf(req)
  // Forms are what other pages can send without asking first.
  if (text !== '' && !/^application\/json\s*(?:;|$)/i.test(req.headers.get('content-type') ?? '')) {
    throw new AdminProblem('BODY_TYPE_UNSUPPORTED')
  }
  const result = schema.safeParse(text === '' ? {} : parse(text))
  if (result.success) return result.data
  const [issue] = result.error.issues
  throw new AdminProblem('BODY_INVALID', { detail: [...(issue?.path ?? []), issue?.message].join(': ') })
}

async function textOf(req: Request): Promise<string> {
  if (Number(req.headers.get('content-length') ?? 0) > maxBytes) throw new AdminProblem('BODY_TOO_LARGE')
  const decoder = new TextDecoder()
  let text = ''
  let bytes = 0
  // Not iterated: leaving the loop would cancel the stream, and with it the connection that the answer needs.
  const reader = req.body?.getReader()
  for (;;) {
    const chunk = await reader?.read().catch((cause: unknown) => {
      // The client has left: nobody reads this, and it is no fault of ours.
      throw new AdminProblem('BODY_INVALID', { detail: 'cut short', cause })
    })
    if (chunk?.value === undefined) return text + decoder.decode()
    bytes += chunk.value.byteLength
    if (bytes > maxBytes) throw new AdminProblem('BODY_TOO_LARGE')
    text += decoder.decode(chunk.value, { stream: true })
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new AdminProblem('BODY_INVALID', { detail: 'not JSON' })
  }
}
