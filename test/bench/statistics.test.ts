import { describe, expect, test } from 'vitest'
import { median, medianRatio, percentile } from '../../bench/statistics.ts'

describe('medians and percentiles', () => {
  test('the median is the middle one, or between the two in the middle, in whatever order they come', () => {
    expect(median([3, 1, 100])).toBe(3)
    expect(median([4, 1, 100, 2])).toBe(3)
    expect(median([])).toBeNaN()
  })

  test('a percentile is a value that was measured', () => {
    const values = [5, 1, 4, 2, 3]
    expect([0, 50, 90, 99, 100].map((percent) => percentile(values, percent))).toEqual([1, 3, 5, 5, 5])
    expect(percentile([], 50)).toBeNaN()
  })

  test('a round that was slow for both does not change the ratio of the two', () => {
    expect(medianRatio([1, 2, 30], [2, 4, 60])).toBe(0.5)
    expect(medianRatio([1, 2], [])).toBeNaN()
  })
})
