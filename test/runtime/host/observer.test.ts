import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { usesBuild } from '../../_build.ts'
import { HostSampler, type HostUsage } from '../../../src/runtime/host/observer.ts'
import { makeRoot, meminfo, stat, write } from './_tree.ts'

usesBuild()

/** Resolves with the next sample, and stops looking. */
function next(sampler: HostSampler): Promise<HostUsage> {
  return new Promise((resolve) => {
    const stop = sampler.observe((usage) => {
      stop()
      resolve(usage)
    })
  })
}

describe('the sampler', () => {
  test('tells of the memory at once, and of the CPU when there was something to compare with', async () => {
    const root = makeRoot({ 'proc/meminfo': meminfo(1_000, 250), 'proc/stat': stat([0, 0]) })
    const sampler = new HostSampler({ root, interval: 1 })
    const samples: HostUsage[] = []
    await new Promise<void>((resolve) => {
      const stop = sampler.observe((usage) => {
        samples.push(usage)
        if (samples.length === 1) write(root, { 'proc/stat': stat([30, 70]) })
        if (usage.cpu === null) return
        stop()
        resolve()
      })
    })
    expect(samples[0]).toEqual({ cpu: null, cpus: 1, memory: { used: 750 * 1024, total: 1_000 * 1024 } })
    expect(samples.at(-1)?.cpu).toBe(0.3)
  })

  test('tells everybody who listens, and nobody who has stopped', async () => {
    const sampler = new HostSampler({ root: makeRoot({}), interval: 1 })
    let stopped = 0
    sampler.observe(() => stopped++)()
    const seen = await Promise.all([next(sampler), next(sampler)])
    expect(seen[0]).toEqual(seen[1])
    expect(stopped).toBe(0)
  })

  test('can be looked at again after a rest', async () => {
    const sampler = new HostSampler({ root: makeRoot({}), interval: 1 })
    await next(sampler)
    expect((await next(sampler)).cpu).toBeNull()
  })

  test('sees this machine', async () => {
    const { cpus, memory } = await next(new HostSampler())
    expect(cpus).toBeGreaterThan(0)
    expect(memory.total).toBeGreaterThan(2 ** 20)
    expect(memory.used).toBeGreaterThan(0)
    expect(memory.used).toBeLessThanOrEqual(memory.total)
  })

  test('keeps no process alive', () => {
    const observer = new URL('../../../dist/runtime/host/observer.js', import.meta.url)
    const script = `const { hostSampler } = await import(${JSON.stringify(observer.href)}); hostSampler.observe(() => console.log('seen'))`
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      timeout: 30_000,
      cwd: fileURLToPath(new URL('../../..', import.meta.url)),
    })
    expect(output).toBe('seen\n')
  })
})
