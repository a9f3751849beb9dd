import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { removeTree } from '../../../src/runtime/process/removal.ts'

let base: string
let tree: string
let outside: string

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'removal-'))
  tree = join(base, 'tree')
  outside = join(base, 'outside')
  mkdirSync(join(tree, 'home'), { recursive: true })
  mkdirSync(join(outside, 'inner'), { recursive: true })
  writeFileSync(join(outside, 'letter'), 'dear')
  chmodSync(join(outside, 'inner'), 0o500)
})

afterEach(async () => {
  await removeTree(base)
})

/** Runs a program of Python in the tree: Node has no way down further than its longest path. */
function python(script: string): void {
  const { status, stderr } = spawnSync('python3', ['-c', script], { cwd: join(tree, 'home'), encoding: 'utf8' })
  expect(stderr).toBe('')
  expect(status).toBe(0)
}

describe.runIf(process.platform !== 'win32')('the removal of a tree', () => {
  test.each([
    ['deeper than the longest path', `for i in range(30): os.mkdir("d" * 200); os.chdir("d" * 200)`],
    ['of some thousand levels', `for i in range(5000): os.mkdir("d"); os.chdir("d")`],
    ['of a directory with many files', `for i in range(5000): open(str(i), "w").close()`],
    ['of a directory with many directories', `for i in range(1000): os.makedirs(f"{i}/{i}")`],
    [
      'with names that are no UTF-8',
      `os.mkdir(b"\\xff"); open(b"\\xff/\\xfe", "w").close(); open(b"\\xfd", "w").close()`,
    ],
    ['without rights', `os.makedirs("a/b/c"); [os.chmod(p, 0) for p in ("a/b/c", "a/b", "a", ".")]`],
  ])('leaves nothing: %s', { timeout: 60_000 }, async (_, script) => {
    python(`import os\n${script}`)
    await removeTree(tree)
    expect(existsSync(tree)).toBe(false)
  })

  test.each([
    ['below a file', () => join(outside, 'letter', 'w1')],
    ['below a link to itself', () => (symlinkSync('loop', join(base, 'loop')), join(base, 'loop', 'w1'))],
    ['with a name that is too long for one', () => join(base, 'w'.repeat(256))],
    ['below nothing', () => join(base, 'nothing', 'w1')],
  ])('is done where none can be: %s', async (_, rootOf) => {
    await expect(removeTree(rootOf())).resolves.toBeUndefined()
    expect(readdirSync(outside)).toEqual(['inner', 'letter'])
  })

  test('follows no link, at whatever level', async () => {
    mkdirSync(join(tree, 'home', 'a', 'b'), { recursive: true })
    for (const path of ['link', 'home/link', 'home/a/link', 'home/a/b/link']) symlinkSync(outside, join(tree, path))
    await removeTree(tree)
    expect(existsSync(tree)).toBe(false)
    symlinkSync(outside, tree)
    await removeTree(tree)
    expect(existsSync(tree)).toBe(false)
    expect(readdirSync(outside)).toEqual(['inner', 'letter'])
  })

  test('is done where there is none', async () => {
    await removeTree(join(base, 'nothing'))
  })

  test('by two at once is told by neither as a failure', async () => {
    for (let number = 0; number < 50; number++) mkdirSync(join(tree, 'home', `${number}/a/b`), { recursive: true })
    await Promise.all([removeTree(tree), removeTree(tree)])
    expect(existsSync(tree)).toBe(false)
  })

  test('ends at its limit, and says so: somebody may be filling the tree as fast as it is emptied', async () => {
    python(`for i in range(500): open(str(i), "w").close()`)
    await expect(removeTree(tree, 0)).rejects.toThrow(`"${tree}" could not be removed: not within 0 ms`)
    expect(readdirSync(base)).toContain('tree')
    await removeTree(tree)
    expect(existsSync(tree)).toBe(false)
  })

  test.runIf(process.platform === 'linux')('that the system refuses says what and why', async () => {
    const path = `/proc/${process.pid}/task`
    await expect(removeTree(path)).rejects.toThrow(`"${path}" could not be removed: "${path}" (EPERM)`)
  })
})
