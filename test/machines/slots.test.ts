import { childOf, childrenOf, type Slots } from 'corral/machines'
import { describe, expect, test } from 'vitest'
import { occupy, vacate } from '../../src/machines/slots.ts'

const three: Slots = [1, 2, 3]

describe('the slots of a pool', () => {
  test('a worker takes the lowest slot that is free', () => {
    expect(occupy([], 'w1')).toEqual([1])
    expect(occupy(three, 'w4')).toEqual([1, 2, 3, 4])
    expect(occupy([1, 0, 3, 0, 5], 'w6')).toEqual([1, 6, 3, 0, 5])
  })

  test('a worker that leaves the last slot takes the empty ones before it along', () => {
    expect(vacate(three, 'w2')).toEqual([1, 0, 3])
    expect(vacate([1, 0, 3], 'w3')).toEqual([1])
    expect(vacate([1], 'w1')).toEqual([])
    expect(vacate([0, 2], 'w2')).toEqual([])
    expect(vacate([1, 0, 3], 'w1')).toEqual([0, 0, 3])
  })

  test('a worker that is in none leaves them as they are', () => {
    expect(vacate(three, 'w4')).toBe(three)
    expect(childOf(three, 'w4')).toBeUndefined()
    expect(childOf([0, 2], 'w')).toBeUndefined()
  })

  test('the child that a worker is has the number of its slot', () => {
    const slots = [0, 2, 7]
    expect(childOf(slots, 'w7')).toBe('slot3')
    expect([...childrenOf(slots)]).toEqual([
      ['w2', 'slot2'],
      ['w7', 'slot3'],
    ])
  })
})
