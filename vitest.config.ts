import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const source = (path: string) => fileURLToPath(new URL(`./src/${path}`, import.meta.url))

export default defineConfig({
  resolve: {
    alias: [
      { find: /^corral$/, replacement: source('index.ts') },
      { find: /^corral\/machines$/, replacement: source('machines/index.ts') },
      { find: /^corral\/h3$/, replacement: source('adapters/h3/index.ts') },
      { find: /^corral\/admin$/, replacement: source('adapters/admin/index.ts') },
      { find: /^corral\/metrics$/, replacement: source('adapters/metrics/index.ts') },
      { find: /^corral\/otel$/, replacement: source('adapters/otel/index.ts') },
    ],
  },
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 20_000,
    hookTimeout: 20_000,
    pool: 'forks',
  },
})
