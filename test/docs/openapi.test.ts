import { readFileSync, writeFileSync } from 'node:fs'
import { Validator } from '@seriousme/openapi-schema-validator'
import { createAdmin } from 'corral/admin'
import { expect, test } from 'vitest'
import { root } from '../_build.ts'

const { description } = createAdmin(() => undefined)
const file = `${root}docs/openapi.json`

test('docs/openapi.json is what the admin API serves', () => {
  const text = `${JSON.stringify(description, null, 2)}\n`
  // `npm run openapi` writes it anew.
  if (process.env['UPDATE_DOCS']) writeFileSync(file, text)
  else expect(readFileSync(file, 'utf8')).toBe(text)
})

test('the description is valid OpenAPI 3.1', async () => {
  const validator = new Validator()
  const { valid, errors } = await validator.validate(structuredClone(description) as Record<string, unknown>)
  expect(errors ?? []).toEqual([])
  expect({ valid, version: validator.version }).toEqual({ valid: true, version: '3.1' })
  // Every reference leads somewhere.
  expect(() => validator.resolveRefs()).not.toThrow()
})

test('the validator would notice', async () => {
  const broken = structuredClone(description) as { paths: Record<string, { get?: { responses?: unknown } }> }
  delete broken.paths['/stats']?.get?.responses
  const { get } = broken.paths['/healthz'] ?? {}
  if (get) get.responses = { 200: {} }
  expect((await new Validator().validate(broken)).valid).toBe(false)
})
