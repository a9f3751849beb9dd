import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { cpSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import { root } from '../../../_build.ts'
import { fixtureMark } from '../../../_processes.ts'
import { inCgroups } from '../_cgroups.ts'

/** Somebody who is nobody on this machine: an id that no account has. */
export const USER = 64_321

/**
 * Puts the built package where a user can go to whom the repository may be closed, for the tests of a file. Call it once,
 * at the top.
 *
 * @returns the directory, which belongs to the user.
 */
export function usesInstallation(): string {
  const directory = join(tmpdir(), `user-${process.pid}-${randomBytes(4).toString('hex')}`)
  beforeAll(() => {
    const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { dependencies: object }
    const packages = Object.keys(dependencies).map((name) => join('node_modules', name))
    for (const path of ['dist', 'package.json', 'test/fixtures', ...packages]) {
      cpSync(join(root, path), join(directory, path), { recursive: true })
    }
    execFileSync('chown', ['-R', `${USER}:${USER}`, directory])
  }, 60_000)
  afterAll(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

export interface Surroundings {
  /** Directories of cgroups to be in. */
  readonly cgroups?: readonly string[]
  /** Shell commands that root runs first, in a mount namespace for this alone. */
  readonly mounts?: string | undefined
}

/**
 * Runs a module as that user.
 *
 * @returns what it printed, as JSON.
 * @throws when it ends otherwise than by an exit with status 0, with that end.
 */
export function runAsUser(directory: string, script: string, { cgroups = [], mounts }: Surroundings = {}): unknown {
  const user = ['setpriv', '--reuid', `${USER}`, '--regid', `${USER}`, '--clear-groups', '--']
  const mounting = mounts === undefined ? [] : ['unshare', '--mount', 'sh', '-ec', `${mounts}; exec "$@"`, 'sh']
  const command = [...mounting, ...user, process.execPath, '--input-type=module', '-e', script]
  const env = { PATH: process.env['PATH'], HOME: directory, TMPDIR: directory, ...fixtureMark }
  return JSON.parse(execFileSync(...inCgroups(cgroups, command), { cwd: directory, env, encoding: 'utf8' }))
}
