import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { usesIsolation } from './_isolated.ts'
import { runAsUser, usesInstallation } from './_user.ts'

usesIsolation()

describe.runIf(process.platform === 'linux' && process.geteuid?.() === 0)('what is mounted a second time', () => {
  const directory = usesInstallation()
  const at = (path: string) => join(directory, path)
  const readOnly = (source: string, target = source) => ({ source, target, access: 'read-only' })
  const readWrite = (source: string, target = source) => ({ source, target, access: 'read-write' })

  /** What workers of a user see, once root has mounted something: what is hidden of it below that user's directory, or the refusal. */
  function see(mounts: string, ...binds: { source: string; target: string; access: string }[]): unknown {
    const request = { binds, supervisor: at('par/st'), temporary: '/nowhere' }
    const script = `
      import { Sight } from '${directory}/dist/runtime/process/isolation/sight.js'
      let seen
      try {
        const { mounts } = new Sight(${JSON.stringify(request)}).open()
        seen = mounts.flatMap(({ type, target }) => type === 'empty' && target.startsWith('${directory}/') ? target : [])
      } catch (error) {
        seen = error.message
      }
      console.log(JSON.stringify(seen))`
    const places = 'mkdir -p par/st/w data/deep/lib data/sub/lib data/vol other again'
    return runAsUser(directory, script, { mounts: `cd ${directory}; ${places}; ${mounts}` })
  }

  const holds = (area: string) =>
    expect.stringMatching(
      new RegExp(`paths that do not hold the state directory ${at('par/st')}, .*, got ${area}`),
    ) as string
  const steers = (area: string) => expect.stringContaining(`a path that does not lead through ${area},`) as string
  const isOutside = expect.stringContaining(`paths outside of the state directory ${at('par/st')}`) as string

  test.each<[string, string, unknown, () => Parameters<typeof see>[1][]]>([
    [
      'what holds the state directory',
      'mount --bind par again',
      [at('par/st'), at('again/st')],
      () => [readOnly(directory)],
    ],
    ['the state directory', 'mount --bind par/st again', [at('par/st'), at('again')], () => [readOnly(directory)]],
    [
      'a part of the state directory',
      'mount --bind par/st/w again',
      [at('par/st'), at('again')],
      () => [readOnly(directory)],
    ],
    [
      'what is mounted in the state directory',
      'mount -t tmpfs none par/st/w; mount --bind par/st/w again',
      [at('par/st'), at('again')],
      () => [readOnly(directory)],
    ],
    [
      'and covered by something else',
      'mount --bind par/st again; mount -t tmpfs none again',
      [at('par/st')],
      () => [readOnly(directory)],
    ],
  ])('is hidden, where it is %s', (_what, mounts, hidden, binds) => {
    expect(see(mounts, ...binds())).toEqual(hidden)
  })

  test.each<[string, string, () => unknown, () => Parameters<typeof see>[1][]]>([
    [
      'holds the state directory, in what workers may write to',
      'mount --bind par data/deep/lib',
      () => holds(`${at('par')} \\(part of ${at('data')}\\)`),
      () => [readWrite(at('data'))],
    ],
    [
      'is a part of the state directory, in what workers may write to',
      'mount --bind par/st/w data/deep/lib',
      () => holds(at('data')),
      () => [readWrite(at('data'))],
    ],
    [
      'is a part of the state directory, and bound',
      'mount --bind par/st/w again',
      () => isOutside,
      () => [readOnly(at('again'), '/srv')],
    ],
    [
      'is a part of what workers may write to, and leads to another bind',
      'mount --bind data/sub other',
      () => steers(`${at('other')} (part of ${at('data')})`),
      () => [readWrite(at('data'), '/srv'), readOnly(at('other/lib'), '/opt')],
    ],
    [
      'is mounted in what workers may write to, and leads to another bind',
      'mount -t tmpfs none data/vol; mkdir data/vol/lib; mount --bind data/vol other',
      () => steers(`${at('other')} (part of ${at('data')})`),
      () => [readWrite(at('data'), '/srv'), readOnly(at('other/lib'), '/opt')],
    ],
  ])('is refused where it %s', (_what, mounts, refusal, binds) => {
    expect(see(mounts, ...binds())).toEqual(refusal())
  })
})
