import { describe, expect, test } from 'vitest'
import { tenantOf } from '../../../src/adapters/h3/tenant.ts'
import { get, openScene } from './_scene.ts'

describe('the tenant of a client', () => {
  test.each([
    ['203.0.113.7', 'ip:203.0.113.7'],
    ['2001:db8:1:2:3:4:5:6', 'ip:2001:db8:1:2'],
    ['2001:0DB8:0001:0002::6', 'ip:2001:db8:1:2'],
    ['2001:db8::6', 'ip:2001:db8:0:0'],
    ['::6:7:8:9:a', 'ip:0:0:0:6'],
    ['fe80::1%eth0', 'ip:fe80:0:0:0'],
    ['127.0.0.1', undefined],
    ['127.8.9.1', undefined],
    ['::1', undefined],
    [undefined, undefined],
  ])('at %s is %s', (address, tenant) => {
    expect(tenantOf(undefined, address)).toBe(tenant)
  })

  test('is the principal, where there is one', () => {
    expect(tenantOf('alice', '203.0.113.7')).toBe('alice')
  })

  test.each([
    [false, '203.0.113.1, 203.0.113.2', undefined],
    [true, '203.0.113.1, 203.0.113.2', 'ip:203.0.113.2'],
    [2, '6.6.6.6, 203.0.113.1, 203.0.113.2', 'ip:203.0.113.1'],
    [3, '203.0.113.1', 'ip:203.0.113.1'],
    [true, '203.0.113.1:4711', 'ip:203.0.113.1'],
    [true, '[2001:db8:1:2::3]:4711', 'ip:2001:db8:1:2'],
    [true, '::ffff:203.0.113.1', 'ip:203.0.113.1'],
    [true, '[::ffff:203.0.113.1]:4711', 'ip:203.0.113.1'],
    [true, '::FFFF:203.0.113.1', 'ip:203.0.113.1'],
    [true, '::ffff:cb00:7101', 'ip:203.0.113.1'],
    [true, '0:0:0:0:0:ffff:203.0.113.1', 'ip:203.0.113.1'],
    [true, '::ffff:7f00:1', undefined],
    [true, '0:0:0:0:0:0:0:1', undefined],
    [true, '::ffff:0:cb00:7101', 'ip:0:0:0:0'],
    [true, '64:ff9b::203.0.113.1', 'ip:64:ff9b:0:0'],
    [true, ' ', undefined],
    [true, 'unknown', undefined],
    [true, '203.0.113.1 GET "/" 200', undefined],
    [true, '\u009b31m', undefined],
  ])('with trustForwarded %s and %j is %s', async (trustForwarded, listed, tenant) => {
    const { port, pool } = await openScene((_req, res) => res.end('ok'), { trustForwarded })
    await get(port, '/', { 'x-forwarded-for': listed })
    expect(pool.tenants).toEqual([tenant])
  })
})
