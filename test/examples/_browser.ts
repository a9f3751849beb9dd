import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { WebSocket } from 'ws'

const command = ['chromium', 'chromium-browser', 'google-chrome'].find(
  (name) => spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0,
)

/** Whether browser tests can run. In CI they must. */
export const hasBrowser = command !== undefined || process.env['CI'] === 'true'

/** One page of a headless Chromium, driven over its DevTools protocol. */
export interface Page {
  goto(url: string): Promise<void>
  /** What the expression, or the promise that it is, comes to in the page. */
  evaluate(expression: string): Promise<unknown>
  /** Resolves when the selected element has the text. */
  sees(selector: string, text: string): Promise<void>
}

export interface Browser {
  readonly page: Page
  close(): Promise<void>
}

export async function openBrowser(): Promise<Browser> {
  if (command === undefined) throw new Error('No Chromium: apt-get install chromium')
  const folder = mkdtempSync(join(tmpdir(), 'corral-browser-'))
  const options = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run']
  const child = spawn(command, [...options, '--remote-debugging-port=0', `--user-data-dir=${folder}`, 'about:blank'], {
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  })
  const socket = new WebSocket(await debuggerUrl(child))
  await once(socket, 'open')
  const send = commands(socket)
  const { targetId } = await send('Target.createTarget', { url: 'about:blank' })
  const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true })

  const evaluate = async (expression: string): Promise<unknown> => {
    const { result, exceptionDetails } = await send(
      'Runtime.evaluate',
      { expression, awaitPromise: true, returnByValue: true },
      sessionId,
    )
    if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails))
    return (result as { value?: unknown }).value
  }
  const page: Page = {
    evaluate,
    goto: async (url) => {
      await send('Page.enable', {}, sessionId)
      const loaded = new Promise<void>((resolve) => {
        socket.on('message', (data: Buffer) => {
          if (data.includes('Page.loadEventFired')) resolve()
        })
      })
      await send('Page.navigate', { url }, sessionId)
      await loaded
    },
    sees: async (selector, text) => {
      await evaluate(`new Promise((resolve) => {
        const look = () => {
          const found = [...document.querySelectorAll(${JSON.stringify(selector)})].some((it) => it.textContent === ${JSON.stringify(text)})
          if (found) resolve()
          return found
        }
        if (look()) return
        const observer = new MutationObserver(() => look() && observer.disconnect())
        observer.observe(document, { subtree: true, childList: true, characterData: true })
      })`)
    },
  }
  return {
    page,
    close: async () => {
      socket.terminate()
      const gone = once(child, 'exit')
      process.kill(-(child.pid ?? 0), 'SIGKILL')
      await gone
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

async function debuggerUrl(child: ChildProcess): Promise<string> {
  const lines: string[] = []
  for await (const line of createInterface(child.stderr ?? process.stdin)) {
    const [, url] = /^DevTools listening on (ws:\S+)/.exec(line) ?? []
    if (url !== undefined) return url
    lines.push(line)
  }
  throw new Error(`Chromium ended: ${lines.join('\n')}`)
}

type Reply = Record<string, unknown>

function commands(socket: WebSocket) {
  const waiting = new Map<number, (message: { result?: Reply; error?: unknown }) => void>()
  socket.on('message', (data: Buffer) => {
    const message = JSON.parse(data.toString()) as { id?: number; result?: Reply; error?: unknown }
    waiting.get(message.id ?? -1)?.(message)
    waiting.delete(message.id ?? -1)
  })
  let last = 0
  return (method: string, params: object, sessionId?: unknown): Promise<Reply> =>
    new Promise((resolve, reject) => {
      const id = ++last
      waiting.set(id, ({ result, error }) => {
        if (result === undefined) reject(new Error(`${method}: ${JSON.stringify(error)}`))
        else resolve(result)
      })
      socket.send(JSON.stringify({ id, method, params, ...(typeof sessionId === 'string' && { sessionId }) }))
    })
}
