import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

const folder = new URL('../../src/machines/', import.meta.url)
const files = readdirSync(folder).filter((name) => name.endsWith('.ts'))

test.each(files)('%s imports nothing but xstate and its neighbours', (name) => {
  const source = readFileSync(new URL(name, folder), 'utf8')
  const imported = [...source.matchAll(/from '([^']+)'/gu)].map(([, path]) => path)
  expect(imported.filter((path) => path !== 'xstate' && !/^\.\/[\w-]+\.ts$/u.test(path ?? ''))).toEqual([])
})

test.each(files)('%s reads no clock and no chance', (name) => {
  const source = readFileSync(new URL(name, folder), 'utf8')
  expect(source).not.toMatch(/Date\.now|performance\.|Math\.random|setTimeout\(|crypto/u)
})
