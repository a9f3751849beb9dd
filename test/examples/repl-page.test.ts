import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Cli, corral, urlOf, usesCli } from '../adapters/cli/_cli.ts'
import { type Browser, type Page, hasBrowser, openBrowser } from './_browser.ts'

usesCli()

describe.skipIf(!hasBrowser)('the page of the REPL, in a browser behind the gateway', () => {
  let browser: Browser
  let page: Page

  beforeAll(async () => {
    browser = await openBrowser()
    page = browser.page
  }, 60_000)

  afterAll(async () => {
    await browser.close()
  })

  test.each(['s/red/', 's/red'])('runs what is typed in the session of /%s', async (path) => {
    const cli = repl()
    const url = await urlOf(cli)
    const first = await type(page, `${url}/${path}`, 'let n = 41; n + 1', '42')
    expect(await page.evaluate(`document.querySelector('#session').textContent`)).toBe('red')
    const response = await fetch(`${url}/s/red/eval`, { method: 'POST', body: 'n' })
    expect(await response.json()).toEqual({ value: '41', pid: Number(first) })
    await stop(cli)
  })

  test('says so when a new process answers', async () => {
    const cli = repl()
    const first = await type(page, `${await urlOf(cli)}/s/red/`, 'let n = 1', 'undefined')
    process.kill(Number(first), 'SIGKILL')
    await page.sees('#state', 'disconnected')
    await page.sees('#state', 'connected')
    await submit(page, 'typeof n')
    await page.sees('#log .note', 'A new process answers: what the old one held is gone.')
    await page.sees('#log .out', `'undefined'`)
    expect(await page.evaluate(`document.querySelector('#pid').textContent`)).not.toBe(first)
    await stop(cli)
  })
})

function repl(): Cli {
  const worker = ['--', process.execPath, 'build/examples/repl/server.js']
  return corral(['run', '--port', '0', '--session', 'path', '--grace', '0', '--json', ...worker])
}

/** Opens the page, runs the code, waits for the value, and resolves to the pid that is shown. */
async function type(page: Page, url: string, code: string, value: string): Promise<unknown> {
  await page.goto(url)
  await page.sees('#state', 'connected')
  await submit(page, code)
  await page.sees('#log .out', value)
  return page.evaluate(`document.querySelector('#pid').textContent`)
}

async function submit(page: Page, code: string): Promise<void> {
  await page.evaluate(`document.querySelector('#code').value = ${JSON.stringify(code)}`)
  await page.evaluate(`document.querySelector('button').click()`)
}

async function stop(cli: Cli): Promise<void> {
  cli.kill('SIGTERM')
  expect(await cli.exit).toMatchObject({ code: 0, stderr: '' })
}
