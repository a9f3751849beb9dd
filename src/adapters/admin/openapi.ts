import * as z from 'zod'
import type { Operation } from './operation.ts'
import { type AdminProblemCode, adminProblems } from './problem.ts'
import { components, problem } from './schemas.ts'

/** Describes operations as an OpenAPI 3.1 document, from the schemas that validate their bodies. */
export function describe(operations: readonly Operation[]): object {
  const paths: Record<string, Record<string, object>> = {}
  for (const operation of operations) {
    const path = (paths[operation.path] ??= operation.path.includes('{id}')
      ? { parameters: [idParameter] as object }
      : {})
    path[operation.method.toLowerCase()] = describeOperation(operation)
  }
  return {
    openapi: '3.1.1',
    info: {
      title: 'Corral admin API',
      version: '1.0.0',
      description: 'What a pool and its gateway are doing, and what an operator can do about it.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: 'http://127.0.0.1:8081', description: 'Where it listens by default.' }],
    paths,
    components: {
      schemas: schemasOf(),
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer', description: 'The token that the server was configured with.' },
      },
    },
  }
}

const idParameter = {
  name: 'id',
  in: 'path',
  required: true,
  description: 'Percent-encoded.',
  schema: { type: 'string', minLength: 1 },
}

function describeOperation(operation: Operation): object {
  const { id, summary, description, access, body, answers, problems = [] } = operation
  // Where no token is configured, readers on the same machine need none.
  const security = { anyone: [], reader: [{ token: [] }, {}], writer: [{ token: [] }] }[access]
  return {
    operationId: id,
    summary,
    ...(description !== undefined && { description }),
    security,
    ...(body && { requestBody: { required: false, content: { 'application/json': { schema: reference(body) } } } }),
    responses: {
      ...Object.fromEntries(Object.entries(answers).map(([status, answer]) => [status, describeAnswer(answer)])),
      ...describeProblems([
        'REQUEST_MALFORMED',
        'REQUEST_INVALID',
        'HOST_REFUSED',
        'ORIGIN_REFUSED',
        ...(access === 'anyone' ? [] : (['TOKEN_REQUIRED', 'TOKEN_NOT_CONFIGURED'] as const)),
        ...(body ? (['BODY_INVALID', 'BODY_TOO_LARGE', 'BODY_TYPE_UNSUPPORTED'] as const) : []),
        ...problems,
        'CLIENT_TIMEOUT',
        'EXPECTATION_UNSUPPORTED',
        'HEADERS_TOO_LARGE',
        'INTERNAL_ERROR',
        'HTTP_VERSION_UNSUPPORTED',
      ]),
    },
  }
}

function describeAnswer({ description, schema, type }: Operation['answers'][number]): object {
  if (schema !== undefined) {
    return { description, content: { [type ?? 'application/json']: { schema: reference(schema) } } }
  }
  return type === undefined ? { description } : { description, content: { [type]: {} } }
}

/** One response per status, which names every code that it may carry. */
function describeProblems(codes: readonly AdminProblemCode[]): Record<string, object> {
  const responses: Record<string, object> = {}
  for (const { status } of codes.map((code) => adminProblems[code])) {
    const described = codes
      .filter((code) => adminProblems[code].status === status)
      .map((code) => `\`${code}\`: ${adminProblems[code].title}.`)
    responses[status] = {
      description: described.join(' '),
      content: { 'application/problem+json': { schema: reference(problem) } },
    }
  }
  return responses
}

function reference(schema: z.ZodType): object {
  const { id } = components.get(schema) ?? {}
  if (id === undefined) throw new Error('A schema of the API has no name: register it')
  return { $ref: pointer(id) }
}

function pointer(id: string): string {
  return `#/components/schemas/${id}`
}

function schemasOf(): Record<string, object> {
  const { schemas } = z.toJSONSchema(components, { uri: pointer, io: 'input' })
  return Object.fromEntries(
    Object.entries(schemas).map(([id, schema]) => {
      // What a document of its own would have.
      delete schema.$schema
      delete schema.$id
      return [id, schema]
    }),
  )
}
