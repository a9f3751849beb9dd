import type { Wrapping } from './levels.ts'

/** Exit status of the entry into cgroup and limits when that fails. */
export const ENTRY_FAILED = 125

type Entry = Pick<Wrapping, 'cgroupEntries' | 'limits' | 'env'>

/** Enters the cgroup before anything of the worker runs, so that there is no moment in which it could fork out of it. */
export function enter(entry: Entry): string[] {
  const steps = stepsOf(entry)
  if (steps.length === 0) return []
  const { cgroupEntries, env = {} } = entry
  const script = `${steps.join(' && ')} || exit ${ENTRY_FAILED}; shift ${cgroupEntries.length}; exec "$@"`
  const late = lateVariables(env)
  return [
    '/bin/sh',
    '-c',
    script,
    'corral',
    ...cgroupEntries,
    ...(late.length === 0 ? [] : ['/usr/bin/env', '--', ...late]),
  ]
}

/** The variables to start with what {@link enter} gives: the others come behind it. */
export function environmentOf(entry: Entry): Readonly<Record<string, string>> {
  const { env = {} } = entry
  if (stepsOf(entry).length === 0) return env
  return Object.fromEntries(Object.entries(env).filter(([name]) => !isLostIn(name)))
}

/** The variable for which `env` behind {@link enter} would take a command, as that has a "=" in its path; `undefined`: for none. */
export function variableBefore(command: string, wrapper: readonly string[], { env = {} }: Entry): string | undefined {
  const last = lateVariables(env).at(-1)
  return last !== undefined && last === wrapper.at(-1) && command.includes('=') ? last : undefined
}

function lateVariables(env: Readonly<Record<string, string>>): string[] {
  return Object.entries(env).flatMap(([name, value]) => (isLostIn(name) ? `${name}=${value}` : []))
}

function stepsOf({ cgroupEntries, limits }: Entry): string[] {
  const steps = cgroupEntries.map((_, index) => `echo 0 > "$${index + 1}"`)
  if (limits.files !== undefined) steps.push(`ulimit -n ${limits.files}`)
  return steps
}

/**
 * Whether a shell does not hand a variable on as it is: POSIX leaves it free to drop what is no name of a variable of its own (XCU 2.5.3),
 * as dash does, and has it set some itself. `PWD` is one that the sandbox sets, too.
 */
function isLostIn(name: string): boolean {
  return !/^[A-Za-z_]\w*$/.test(name) || /^(?:BASH|COMP_)/.test(name) || ofShells.has(name)
}

const ofShells = new Set([
  '_',
  'DIRSTACK',
  'ENV',
  'EPOCHREALTIME',
  'EPOCHSECONDS',
  'EUID',
  'FUNCNAME',
  'GROUPS',
  'HISTCMD',
  'IFS',
  'LINENO',
  'MAIL',
  'MAILPATH',
  'OLDPWD',
  'OPTARG',
  'OPTERR',
  'OPTIND',
  'PIPESTATUS',
  'POSIXLY_CORRECT',
  'PPID',
  'PS1',
  'PS2',
  'PS4',
  'RANDOM',
  'SECONDS',
  'SHELLOPTS',
  'SHLVL',
  'SRANDOM',
  'UID',
])
