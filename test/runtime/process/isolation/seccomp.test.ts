import { describe, expect, test } from 'vitest'
import { seccompFilter } from '../../../../src/runtime/process/isolation/seccomp.ts'

const EPERM = 1
const ENOSYS = 38
const EAFNOSUPPORT = 97

/** What the kernel does with a call: runs the filter over `struct seccomp_data`. */
function verdict(filter: Buffer, audit: number, number: number, argument = 0): 'allowed' | 'killed' | number {
  const data = Buffer.alloc(64)
  data.writeUInt32LE(number, 0)
  data.writeUInt32LE(audit, 4)
  data.writeUInt32LE(argument >>> 0, 16)
  let value = 0
  for (let at = 0; ; at++) {
    const offset = at * 8
    const operand = filter.readUInt32LE(offset + 4)
    const jump = (holds: boolean) => filter.readUInt8(offset + (holds ? 2 : 3))
    const code = filter.readUInt16LE(offset)
    if (code === 0x20) value = data.readUInt32LE(operand)
    else if (code === 0x15) at += jump(value === operand)
    else if (code === 0x35) at += jump(value >= operand)
    else if (code === 0x45) at += jump((value & operand) !== 0)
    else if (code === 0x06) {
      if (operand === 0x7fff0000) return 'allowed'
      return operand === 0x80000000 ? 'killed' : operand & 0xffff
    } else throw new Error(`opcode ${code} at ${at}`)
  }
}

describe.each([
  ['x64', { audit: 0xc000003e, read: 0, socket: 41, socketpair: 53, clone: 56, mount: 165 }],
  ['arm64', { audit: 0xc00000b7, read: 63, socket: 198, socketpair: 199, clone: 220, mount: 40 }],
] as const)('the filter of %s', (architecture, { audit, read, socket, socketpair, clone, mount }) => {
  const filter = seccompFilter(architecture)!
  const ask = (number: number, argument?: number) => verdict(filter, audit, number, argument)

  test('lets through what a program is made of', () => {
    expect([ask(read), ask(clone, 0x11), ask(clone, 0x3d0f00)]).toEqual(['allowed', 'allowed', 'allowed'])
  })

  test('refuses what escapes start from', () => {
    expect(ask(mount)).toBe(EPERM)
    expect(ask(clone, 0x10000000)).toBe(EPERM)
    expect(ask(435)).toBe(ENOSYS)
    expect(ask(0x40000000 | socket, 40)).toBe(ENOSYS)
    expect(verdict(filter, 0x40000003, socket)).toBe('killed')
  })

  test.each([
    ['socket', socket],
    ['socketpair', socketpair],
  ])('lets %s make AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK, and no others', (_, number) => {
    const allowed = Array.from({ length: 64 }, (_, family) => family).filter(
      (family) => ask(number, family) === 'allowed',
    )
    expect(allowed).toEqual([1, 2, 10, 16])
    expect(ask(number, 40)).toBe(EAFNOSUPPORT)
    expect(ask(number, -1)).toBe(EAFNOSUPPORT)
  })
})

test('there is none for an architecture whose calls are not known', () => {
  expect(seccompFilter('mips')).toBeUndefined()
})
