import { readFileSync } from 'node:fs'
import { stripVTControlCharacters } from 'node:util'
import { type ArgDef, type ArgsDef, type CommandDef, defineCommand, renderUsage } from 'citty'
import { type Flag, flags } from './flags.ts'
import { UsageError } from './given.ts'
import { parseRunOptions } from './options.ts'
import { OutputError, print, printFailure } from './print.ts'

/**
 * citty defines the commands and renders their help. It does not parse them: its parser takes unknown options without
 * a word, and knows none that repeat.
 */
const runCommand = defineCommand({
  meta: { name: 'run', description: 'Run a gateway that gives every session id a process of its own' },
  args: argsOf(flags),
})

const doctorArgs: ArgsDef = { json: { type: 'boolean', description: 'Print the results as JSON' } }

const doctorCommand = defineCommand({
  meta: { name: 'doctor', description: 'Try out every level of isolation and every limit on this machine' },
  args: doctorArgs,
})

const mainCommand = defineCommand({
  meta: { name: 'corral', version: versionOf(), description: 'Stateful processes behind a gateway: one per session' },
  subCommands: { run: runCommand, doctor: doctorCommand },
})

const EXAMPLES = `EXAMPLES

  corral run -- node server.js
  corral run --session cookie:sid --session path --max 50 -- python3 app.py --port {{port}}
  corral run --health tcp --ttl 30m --admin 8081 -- ./my-binary --listen 127.0.0.1:{{port}}
`

/** Runs the command line and resolves to the exit status: 0 as asked, 1 failed, 2 the command line is wrong. */
export async function cli(argv: readonly string[]): Promise<number> {
  const end = argv.indexOf('--')
  const own = end === -1 ? argv : argv.slice(0, end)
  const [name, ...rest] = argv
  try {
    if (own.includes('--help') || own.includes('-h')) {
      await print(await helpFor(name))
      return 0
    }
    if (own.includes('--version')) {
      await print(`${versionOf()}\n`)
      return 0
    }
    if (name === 'doctor') {
      const { doctor } = await import('./doctor.ts')
      return await doctor(rest)
    }
    if (name !== 'run') {
      throw new UsageError(name === undefined ? 'A command is missing' : `Unknown command ${JSON.stringify(name)}`)
    }
    const options = parseRunOptions(rest)
    // Loaded late: help and complaints need none of it.
    const { run } = await import('./run.ts')
    return await run(options)
  } catch (error) {
    if (error instanceof OutputError) {
      printFailure(error.message)
      return 1
    }
    if (!(error instanceof UsageError)) throw error
    printFailure(`${error.message}\nSee corral ${name === 'run' || name === 'doctor' ? `${name} ` : ''}--help`)
    return 2
  }
}

async function helpFor(name: string | undefined): Promise<string> {
  if (name === 'run') return `${await usageOf(runCommand, mainCommand)}\n${EXAMPLES}`
  return name === 'doctor' ? usageOf(doctorCommand, mainCommand) : usageOf(mainCommand)
}

function argsOf(table: readonly Flag[]): ArgsDef {
  return {
    command: {
      type: 'positional',
      description: 'What a worker runs; {{port}}, {{socket}}, {{id}} and {{dir}} are filled in',
    },
    ...Object.fromEntries(table.map((flag) => [flag.name, argOf(flag)])),
  }
}

function argOf(flag: Flag): ArgDef {
  const description = flag.repeatable ? `${flag.description}; repeatable` : flag.description
  if (flag.value === undefined) return { type: 'boolean', description }
  const standard = flag.default === undefined ? {} : { default: flag.default }
  return { type: 'string', valueHint: flag.value, description, ...standard }
}

async function usageOf(command: CommandDef, parent?: CommandDef): Promise<string> {
  const usage = await renderUsage(command, parent)
  const text = usage.replace('<COMMAND>', '-- <COMMAND> [ARGS…]')
  const plain = process.stdout.isTTY ? text : stripVTControlCharacters(text)
  return `${plain.replace(/ +$/gm, '')}\n`
}

function versionOf(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'))
  return typeof manifest === 'object' && manifest !== null && 'version' in manifest ? String(manifest.version) : ''
}
