import { childOf, childrenOf, type Slots } from 'corral/machines'
import { describe, expect, test } from 'vitest'
import { occupy, vacate } from '../../src/machines/slots.ts'

const three: Slots = ['w1', 'w2', 'w3']

describe('the slots of a pool', () => {
  test('a worker takes the lowest slot that is free', () => {
    expect(occupy([], 'w1')).toEqual(['w1'])
    expect(occupy(three, 'w4')).toEqual(['w1', 'w2', 'w3', 'w4'])
    expect(occupy(['w1', null, 'w3', null, 'w5'], 'w6')).toEqual(['w1', 'w6', 'w3', null, 'w5'])
  })

  test('a worker that leaves the last slot takes the empty ones before it along', () => {
    expect(vacate(three, 'w2')).toEqual(['w1', null, 'w3'])
    expect(vacate(['w1', null, 'w3'], 'w3')).toEqual(['w1'])
    expect(vacate(['w1'], 'w1')).toEqual([])
    expect(vacate([null, 'w2'], 'w2')).toEqual([])
    expect(vacate(['w1', null, 'w3'], 'w1')).toEqual([null, null, 'w3'])
  })

  test('a worker that is in none leaves them as they are', () => {
    expect(vacate(three, 'w4')).toBe(three)
    expect(childOf(three, 'w4')).toBeUndefined()
  })

  test('the child that a worker is has the number of its slot', () => {
    const slots = [null, 'w2', 'w7']
    expect(childOf(slots, 'w7')).toBe('slot3')
    expect([...childrenOf(slots)]).toEqual([
      ['w2', 'slot2'],
      ['w7', 'slot3'],
    ])
  })
})
