import { execFile, execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import getPort from 'get-port'
import { poolEventTypes } from '../src/runtime/events.ts'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type Flag, flags } from '../src/adapters/cli/flags.ts'
import { problems } from '../src/adapters/h3/problem.ts'
import { root } from './_build.ts'
import { fixtureMark, fixturePath, leavesNoProcess } from './_processes.ts'
import { corral, urlOf, usesCli } from './adapters/cli/_cli.ts'

usesCli()
leavesNoProcess()

const readme = readFileSync(`${root}README.md`, 'utf8')
const operating = readFileSync(`${root}docs/operating.md`, 'utf8')
const source = (path: string) => readFileSync(`${root}src/${path}`, 'utf8')

describe('the README', () => {
  test('shows what the quick start prints', async () => {
    const { scripts } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { scripts: { start: string } }
    const [, , , ...args] = scripts.start.replace('--admin 127.0.0.1:8081', '--admin 0 --port 0 --json').split(' ')
    const cli = corral(args)
    const [url, admin] = await Promise.all([urlOf(cli), cli.line('admin.listening')])
    const block = blockAfter('quick-start')
    const script = block
      .replaceAll('http://127.0.0.1:8080', url)
      .replaceAll('http://127.0.0.1:8081', String(admin['url']))
    const { stdout } = await promisify(execFile)('bash', ['-c', script])
    const shown = block.split('\n').filter((line) => /^# [{"]/.test(line))
    expect(withoutPids(stdout.trimEnd())).toBe(withoutPids(shown.map((line) => line.slice(2)).join('\n')))
    cli.kill('SIGTERM')
    expect(await cli.exit).toMatchObject({ code: 0, stderr: '' })
  })

  test('lists every option of the command as the parser has it', () => {
    const rows = flags.map((flag) => row(spelling(flag), flag.default ? code(flag.default) : '', describeFlag(flag)))
    expect(tableAfter('flags')).toEqual([row('option', 'default', 'what'), row('---', '---', '---'), ...rows])
  })

  test('lists every option of createPool with its default', () => {
    expect(cells('pool-options').map(([name, value]) => `${name} ${value}`.trim())).toEqual(poolOptions())
  })

  test('lists every event', () => {
    const names = [...poolEventTypes]
    expect(cells('events').map(([name]) => name)).toEqual(names)
  })

  test('lists every error code with its HTTP status', () => {
    const [, union = ''] = /type ErrorCode =((?:\s*\| '\w+')+)/.exec(source('runtime/errors.ts')) ?? []
    const statuses: Readonly<Record<string, { status: number } | undefined>> = problems
    const rows = [...union.matchAll(/'(\w+)'/g)].map(([, name = '']) => [name, String(statuses[name]?.status ?? '')])
    expect(cells('errors').map(([name, , status]) => [name, status])).toEqual(rows)
  })

  test('links to files that are there', () => {
    const links = [...readme.matchAll(/\]\(([^)#:]+)\)/g)].map(([, path = '']) => path)
    expect(links.filter((path) => !existsSync(root + path))).toEqual([])
  })

  test('and docs/operating.md have TypeScript that compiles', () => {
    const folder = `${root}build/readme`
    rmSync(folder, { recursive: true, force: true })
    mkdirSync(folder, { recursive: true })
    const blocks = [...(readme + operating).matchAll(/^```ts\n([\s\S]*?)^```$/gm)]
    for (const [index, [, block = '']] of blocks.entries()) writeFileSync(`${folder}/${index}.ts`, block)
    const config = { extends: '../../tsconfig.json', compilerOptions: { noUnusedLocals: false }, include: ['*.ts'] }
    writeFileSync(`${folder}/tsconfig.json`, JSON.stringify(config))
    const tsc = `${root}node_modules/typescript/bin/tsc`
    expect(() => execFileSync(process.execPath, [tsc, '--project', folder], { stdio: 'inherit' })).not.toThrow()
  }, 120_000)
})

test('docs/operating.md shows how sessions are listed and ended, and a worker drained, from a shell', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'corral-docs-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const program = (name: string, ...command: string[]) =>
    writeFileSync(`${folder}/${name}`, `#!/bin/sh\nexec ${command.join(' ')}\n`, { mode: 0o755 })
  const marks = Object.entries(fixtureMark).map(([key, value]) => `${key}=${value}`)
  program('corral', process.execPath, `${root}dist/adapters/cli/main.js`, '"$@"')
  program('my-binary', 'env', ...marks, process.execPath, fixturePath('echo-server'))
  const [port, admin] = [await getPort(), await getPort()]
  const [, block = ''] = /^```sh\n([^`]*--admin-token-file[^`]*)^```$/m.exec(operating) ?? []
  const script = block
    .replaceAll('127.0.0.1:8080', `127.0.0.1:${port}`)
    .replaceAll('127.0.0.1:8081', `127.0.0.1:${admin}`)
    .replace('--admin 8081', `--admin ${admin} --port ${port} --json`)
  const { stdout, stderr } = await promisify(execFile)(
    'bash',
    ['-ec', `trap 'kill %1 2>&- || :' EXIT\n${script}\nwait`],
    {
      cwd: folder,
      env: { ...process.env, PATH: `${folder}:${process.env['PATH']}` },
    },
  )
  expect(stderr).toBe('')
  expect(stdout).toContain('{"status":"ready"}')
  expect(stdout).toMatch(/\{"sessions":\[\{"id":"red",[^\]]*"workerId":"w1"/)
  expect(stdout).toMatch(/"session.ended","workerId":"w1".*"reason":"released"/)
  expect(stdout).toMatch(/\{"id":"w2","state":"draining"/)
  expect(stdout).toContain('"gateway.stopped"')
  expect(stdout).not.toContain('urn:corral:problem')
})

function after(name: string): string {
  const mark = `<!-- ${name} -->\n`
  expect(readme).toContain(mark)
  return readme.slice(readme.indexOf(mark) + mark.length).trimStart()
}

function blockAfter(name: string): string {
  return /^```sh\n([\s\S]*?)^```$/m.exec(after(name))?.[1] ?? ''
}

/** The formatter pads the columns of tables: what is compared is their text. */
function tableAfter(name: string): string[] {
  const [table = ''] = after(name).split('\n\n')
  return table.split('\n').map((line) => line.replace(/ +\|/g, ' |').replace(/-{4,}/g, '---').trim())
}

/** The rows of a table, without code marks. */
function cells(name: string): string[][] {
  return tableAfter(name)
    .slice(2)
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.replaceAll('`', '').trim()),
    )
}

function row(...columns: string[]): string {
  return `| ${columns.join(' | ')} |`.replace(/ {2,}/g, ' ')
}

function code(text: string): string {
  return `\`${text.replaceAll('|', '\\|')}\``
}

function spelling({ name, value }: Flag): string {
  return code(value === undefined ? `--${name}` : `--${name} ${value}`)
}

function describeFlag({ description, repeatable }: Flag): string {
  const text = repeatable ? `${description}; repeatable` : description
  return text.replaceAll('|', '\\|').replaceAll('<', '\\<')
}

/** `path default` of every option that an interface of options.ts documents. */
function poolOptions(): string[] {
  const documented = (name: string, prefix: string): string[] => {
    const [, body = ''] =
      new RegExp(`interface ${name} \\{\\n([\\s\\S]*?)\\n\\}`).exec(source('runtime/options.ts')) ?? []
    return [...body.matchAll(/(?:\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*)?readonly (\w+)\??: (.*)/g)].flatMap(
      ([, comment = '', option = '', type = '']) => {
        const [, group] = /^(\w+Options) \| undefined/.exec(type) ?? []
        if (group !== undefined) return documented(group, `${option}.`)
        const [, value = ''] = /@default `?(.+?)`?\s*\*?\s*$/m.exec(comment) ?? []
        return [`${prefix}${option} ${value}`.trim()]
      },
    )
  }
  return documented('PoolOptions', '')
}

/** Process ids by the order in which they first appear. */
function withoutPids(text: string): string {
  const seen: string[] = []
  return text.replace(/(?<="pid":)\d+/g, (pid) => {
    if (!seen.includes(pid)) seen.push(pid)
    return `#${seen.indexOf(pid)}`
  })
}
