import { plan, type Census, type SizeLimits } from 'corral/machines'
import { expect, test } from 'vitest'

const limits: SizeLimits = { min: 2, max: 10, warm: 0, startConcurrency: 8 }
const none: Census = { slots: 0, idle: 0, spawning: 0, resetting: 0, restarting: 0, draining: 0, waiting: 0 }

test.each<[string, Partial<SizeLimits>, Partial<Census>, { start: number; surplus: number }]>([
  ['an empty pool starts its minimum', {}, {}, { start: 2, surplus: 0 }],
  ['and its warm spares', { warm: 3 }, {}, { start: 5, surplus: 0 }],
  ['not what is on its way already', {}, { slots: 2, spawning: 2 }, { start: 0, surplus: 0 }],
  ['one worker for each waiting session', {}, { slots: 2, waiting: 3 }, { start: 3, surplus: 0 }],
  ['no more than the bound at a time', { startConcurrency: 2 }, { waiting: 5 }, { start: 2, surplus: 0 }],
  ['no more than there is room for', {}, { slots: 9, waiting: 5 }, { start: 1, surplus: 0 }],
  ['draining processes take up room', {}, { slots: 10, draining: 10, waiting: 5 }, { start: 0, surplus: 0 }],
  ['draining processes are replaced', {}, { slots: 2, draining: 2 }, { start: 2, surplus: 0 }],
  ['a backoff is not sped up by a replacement', {}, { slots: 2, restarting: 2 }, { start: 0, surplus: 0 }],
  [
    'but nobody waits for it while there is room',
    {},
    { slots: 2, restarting: 2, waiting: 1 },
    { start: 1, surplus: 0 },
  ],
  ['spares stay beyond those in use', { min: 0, warm: 2 }, { slots: 3 }, { start: 2, surplus: 0 }],
  ['idle workers beyond the minimum are surplus', {}, { slots: 5, idle: 5 }, { start: 0, surplus: 3 }],
  ['leased ones count towards the minimum', {}, { slots: 5, idle: 3 }, { start: 0, surplus: 3 }],
  ['a worker that resets is on its way', { min: 0 }, { slots: 1, resetting: 1, waiting: 1 }, { start: 0, surplus: 0 }],
  ['spares stay beyond those that are waited for', { warm: 1 }, { slots: 3, waiting: 2 }, { start: 3, surplus: 0 }],
  [
    'an idle worker that somebody waits for is no surplus, however many are coming',
    { min: 0 },
    { slots: 4, idle: 2, spawning: 2, waiting: 1 },
    { start: 0, surplus: 1 },
  ],
  ['workers in their backoff are no surplus', {}, { slots: 5, idle: 1, restarting: 4 }, { start: 0, surplus: 1 }],
])('%s', (_, more, census, expected) => {
  expect(plan({ ...limits, ...more }, { ...none, ...census })).toEqual(expected)
})
