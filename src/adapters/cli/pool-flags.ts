import type { PoolOptions } from '../../index.ts'
import { type Given, UsageError, count, duration, durationOrNever, invalid, oneOf, path, size } from './given.ts'

/** The pool's options that the command line sets; what it has no word for keeps its default. */
export type PoolFlags = Required<Pick<PoolOptions, 'size' | 'session' | 'recycle' | 'queue' | 'tenant' | 'pressure'>>

export function poolFlags(given: Given): PoolFlags {
  return {
    size: {
      min: count('min', given.one('min')),
      max: count('max', given.one('max')),
      warm: count('warm', given.one('warm')),
    },
    session: {
      ...idleness(given),
      maxAge: durationOrNever('max-age', given.one('max-age')),
      maxLifetime: durationOrNever('max-lifetime', given.one('max-lifetime')),
      grace: duration('grace', given.one('grace')),
      reuse: reuse(given),
      reuseLimit: reuseLimit(given),
    },
    recycle: {
      age: durationOrNever('recycle-age', given.one('recycle-age')),
      memory: sizeOrNone('recycle-memory', given.one('recycle-memory')),
    },
    queue: {
      limit: count('queue-limit', given.one('queue-limit')),
      timeout: duration('acquire-timeout', given.one('acquire-timeout')),
    },
    tenant: {
      sessions: given.has('tenant-sessions') ? limit('tenant-sessions', given.one('tenant-sessions')) : undefined,
      waiting: limit('tenant-waiting', given.one('tenant-waiting')),
    },
    pressure: {
      memory: mark('memory-mark', given.one('memory-mark')),
      cpu: mark('cpu-mark', given.one('cpu-mark')),
      action: pressure(given),
    },
  }
}

function idleness(given: Given): Pick<NonNullable<PoolOptions['session']>, 'idleTtl' | 'idle'> {
  const idleTtl = durationOrNever('ttl', given.one('ttl'))
  const idle = oneOf<'connections' | 'bytes'>('idle', given.one('idle'), ['connections', 'bytes'])
  if (idle === 'bytes' && (idleTtl === 0 || idleTtl === false)) {
    throw new UsageError(`--idle bytes needs a --ttl above 0 to count to, got ${given.one('ttl')}`)
  }
  return { idleTtl, idle }
}

function pressure(given: Given): 'wait' | 'refuse' {
  const action = oneOf<'wait' | 'refuse'>('pressure', given.one('pressure'), ['wait', 'refuse'])
  const isMarked = given.one('memory-mark') !== 'none' || given.one('cpu-mark') !== 'none'
  if (action === 'refuse' && !isMarked) {
    throw new UsageError('--pressure refuse has no effect without --memory-mark or --cpu-mark')
  }
  return action
}

function reuse(given: Given): NonNullable<PoolOptions['session']>['reuse'] {
  const mode = oneOf('reuse', given.one('reuse'), ['off', 'reset', 'dirty'])
  if (given.has('reset-path') !== (mode === 'reset')) {
    throw new UsageError(
      mode === 'reset' ? '--reuse reset needs --reset-path' : '--reset-path has no effect without --reuse reset',
    )
  }
  if (mode === 'reset') return { reset: path('reset-path', given.one('reset-path')) }
  return mode === 'dirty' && mode
}

function reuseLimit(given: Given): number | false {
  const sessions = limit('reuse-limit', given.one('reuse-limit'))
  if (sessions !== false && given.one('reuse') === 'off') {
    throw new UsageError('--reuse-limit has no effect without --reuse')
  }
  return sessions
}

function sizeOrNone(name: 'recycle-memory', text: string): number | false {
  return text === 'none' ? false : size(name, text)
}

function limit(name: 'reuse-limit' | 'tenant-sessions' | 'tenant-waiting', text: string): number | false {
  return text === 'none' ? false : count(name, text)
}

/** A share, written in percent. */
function mark(name: 'memory-mark' | 'cpu-mark', text: string): number | false {
  if (text === 'none') return false
  const percent = Number(/^(\d{1,3})%?$/.exec(text)?.[1])
  if (!(percent >= 1 && percent <= 100)) throw invalid(name, text, 'a percentage from 1% to 100%, or none')
  return percent / 100
}
