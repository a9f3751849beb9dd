import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { beforeAll } from 'vitest'

/** The folder of the repository, with a slash at its end. */
export const root = fileURLToPath(new URL('../', import.meta.url))

/** Builds `dist` and `build` when they are out of date, for tests of what runs from there. Call it once, at the top. */
export function usesBuild(): void {
  beforeAll(() => {
    execFileSync(process.execPath, [`${root}scripts/prepare.js`, 'build'], { stdio: 'inherit' })
  }, 180_000)
}
