import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import type { Pool } from 'corral'
import { type AdminListener, type AdminOptions, createAdmin } from 'corral/admin'
import { expect, onTestFinished } from 'vitest'
import type * as z from 'zod'
import * as schemas from '../../../src/adapters/admin/schemas.ts'
import { type Scene, type SceneOptions, openPool } from '../../support/scene.ts'

export const token = 'correct-horse-battery-staple'
export const bearer = { authorization: `Bearer ${token}` }

export interface Answer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly text: string
  /** The body, if it is JSON. */
  readonly json: Record<string, unknown>
}

export interface CallOptions {
  readonly headers?: Readonly<Record<string, string>>
  /** Sent as it is when it is text, else as JSON. */
  readonly body?: unknown
}

export type Call = (method: string, path: string, options?: CallOptions) => Promise<Answer>

export interface AdminScene extends Scene {
  readonly listener: AdminListener
  /** What went wrong inside. */
  readonly errors: unknown[]
  /** Calls as the operator, with the token. The answer is as the description says. */
  readonly call: Call
  /** Calls without it. */
  readonly stranger: Call
}

/** The admin API of a pool on fake workers, on a real socket. */
export async function openAdmin(options: AdminOptions = {}, pool: SceneOptions = {}): Promise<AdminScene> {
  const scene = await openPool({ size: { min: 1, max: 4 }, ...pool })
  return { ...scene, ...(await serveAdmin(scene.pool, options)) }
}

export async function serveAdmin(
  pool: Pool | (() => Pool | undefined),
  options: AdminOptions,
): Promise<Omit<AdminScene, keyof Scene>> {
  const errors: unknown[] = []
  const admin = createAdmin(pool, { token, onError: (error) => errors.push(error), ...options })
  const listener = await admin.listen({ port: 0 })
  onTestFinished(() => listener.close())
  const stranger: Call = async (method, path, callOptions) => {
    const answer = await send(listener.port, method, path, callOptions)
    expectDescribed(admin.description as Description, method, path, answer)
    return answer
  }
  const call: Call = (method, path, { headers, body } = {}) =>
    stranger(method, path, { headers: { ...bearer, ...headers }, body })
  return { listener, errors, call, stranger }
}

export async function send(
  port: number,
  method: string,
  path: string,
  { headers = {}, body }: CallOptions = {},
): Promise<Answer> {
  const outgoing = request({ port, host: '127.0.0.1', method, path, agent: false, headers })
  if (body !== undefined && typeof body !== 'string') outgoing.setHeader('content-type', 'application/json')
  outgoing.end(typeof body === 'string' || body === undefined ? body : JSON.stringify(body))
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
  let text = ''
  for await (const chunk of response.setEncoding('utf8')) text += chunk as string
  const isJson = /json/.test(response.headers['content-type'] ?? '') && text !== ''
  const json = (isJson ? JSON.parse(text) : {}) as Record<string, unknown>
  return { status: response.statusCode ?? 0, headers: response.headers, text, json }
}

interface Description {
  readonly paths: Record<string, Record<string, Described>>
}

interface Described {
  readonly responses: Record<
    number,
    { readonly content?: Record<string, { readonly schema?: { readonly $ref: string } }> }
  >
}

const byName = new Map<string, z.ZodType>(
  Object.values(schemas).flatMap((schema) => {
    const name = 'safeParse' in schema ? schemas.components.get(schema)?.id : undefined
    return name === undefined ? [] : [[`#/components/schemas/${name}`, schema as z.ZodType]]
  }),
)

/** Whether the description knows of such an answer, and the body is what its schema says, with nothing besides. */
function expectDescribed({ paths }: Description, method: string, target: string, answer: Answer): void {
  const path = target.replace(/\?.*/, '').replace(/^\/(sessions|workers)\/[^/]+/, '/$1/{id}')
  const operation = paths[path]?.[method === 'HEAD' ? 'get' : method.toLowerCase()]
  // Of what the API does not have, nothing but the problem is described.
  const response = operation?.responses[answer.status]
  if (operation) expect(response, `${method} ${path} answers ${answer.status}`).toBeDefined()
  const type = answer.headers['content-type']?.replace(/;.*/, '') ?? ''
  const content = response?.content?.[type]
  if (operation && type !== '') expect(content, `${method} ${path} answers ${answer.status} as ${type}`).toBeDefined()
  const reference = content?.schema?.$ref ?? (operation ? undefined : '#/components/schemas/Problem')
  if (reference === undefined || method === 'HEAD') return
  const schema = byName.get(reference)
  expect(schema, reference).toBeDefined()
  expect(schema?.safeParse(answer.json).error?.issues ?? []).toEqual([])
}
