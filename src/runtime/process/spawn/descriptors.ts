import { closeSync, existsSync, readdirSync, readFileSync } from 'node:fs'

const FOLDER = '/proc/self/fd'
/** Above those that every process has. */
const FIRST = 3
/** `O_CLOEXEC`, as the kernel tells it. */
const CLOSE_ON_EXEC = 0o2000000

let known: readonly number[] | undefined

/**
 * Descriptors that a child of this process would get unasked, as this process got them from who started it: Node opens none
 * of that kind, and marks of what it inherits only the first 16 and what follows on them without a gap. They are looked for
 * once. Empty where there is no /proc: on macOS libuv passes on what it was told to, and nothing else.
 */
export function inheritedDescriptors(): number[] {
  known ??= listDescriptors()
  return known.filter(isInheritable)
}

/** Closes them, in a process of our own. Nothing of Node's may depend on one. */
export function closeInherited(): void {
  for (const fd of inheritedDescriptors()) closeSync(fd)
}

function listDescriptors(): number[] {
  if (!existsSync(FOLDER)) return []
  return readdirSync(FOLDER)
    .map(Number)
    .filter((fd) => fd >= FIRST && isInheritable(fd))
}

function isInheritable(fd: number): boolean {
  try {
    const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1]
    return flags !== undefined && (Number.parseInt(flags, 8) & CLOSE_ON_EXEC) === 0
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // Closed since, as the one has been that the list was read from.
    if (code === 'ENOENT') return false
    // Of a program with file capabilities Linux before 5.14 does not tell, itself neither.
    if (code === 'EACCES') return false
    throw error
  }
}
