/**
 * The process that starts workers: small, so that a fork is quick, whatever the size of its parent. It lives as long as
 * that, and when that is gone, however it ended, it ends every worker and removes what they hold.
 */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { closeStateDirectory } from '../state/state-directory.ts'
import { closeInherited } from './descriptors.ts'
import { outputHeader, type HelperCommand, type HelperFact, type HelperSetup } from './protocol.ts'
import { startChild, type SpawnRequest } from './spawned-process.ts'
import { SupervisedChild } from './supervised-child.ts'

// Node would open its inspector, by which others on this machine could run code in here.
process.on('SIGUSR1', () => {})
// Before anything is started: what the gateway was started with is for no worker.
closeInherited()

const setup = JSON.parse(process.argv[2] ?? '') as HelperSetup
const children = new Map<string, SupervisedChild>()
process.title = 'corral-spawn'

process.on('message', (command: HelperCommand) => {
  tell({ type: 'heard' })
  switch (command.type) {
    case 'start':
      return void start(command.id, command.request)
    case 'signal':
      return children.get(command.id)?.signal(command.target, command.signal)
    case 'close':
      return process.exit(0)
  }
})
process.once('disconnect', () => void abandon())
tell({ type: 'ready' })

async function start(id: string, request: SpawnRequest): Promise<void> {
  const outputs: Socket[] = []
  try {
    for (const stream of ['stdout', 'stderr'] as const) {
      const socket = connect(setup.output)
      outputs.push(socket)
      // The other end closes it at once where it has no descriptor left.
      socket.on('error', () => {})
      await once(socket, 'connect')
      await new Promise<void>((resolve, reject) => {
        socket.write(outputHeader(id, stream), (error) => (error ? reject(error) : resolve()))
      })
    }
    const [stdout, stderr] = outputs
    // Nobody would wait for it any more, and nobody end it.
    if (!process.connected || stdout === undefined || stderr === undefined) return
    const child = startChild(request, [stdout, stderr])
    if (child.pid === undefined) {
      const [error] = (await once(child, 'error')) as [Error]
      throw error
    }
    supervise(id, new SupervisedChild(child, child.pid, request))
  } catch (error) {
    const { message, code, errno, syscall } = error as NodeJS.ErrnoException
    tell({ type: 'failed', id, error: { message, code, errno, syscall } })
  } finally {
    // The child has its own copies.
    for (const socket of outputs) socket.destroy()
  }
}

function supervise(id: string, child: SupervisedChild): void {
  children.set(id, child)
  tell({ type: 'started', id, pid: child.pid })
  void child.exit.then((end) => tell({ type: 'exited', id, end }))
  void child.stuck.then(() => tell({ type: 'stuck', id }))
  void child.emptied.then((survivors) => {
    children.delete(id)
    tell({ type: 'emptied', id, survivors })
  })
}

/** Our parent is gone, whatever ended it. */
async function abandon(): Promise<void> {
  const ending = Array.from(children.values(), (child) => {
    child.signal('group', 'SIGKILL')
    return Promise.race([child.emptied, child.stuck])
  })
  await Promise.all(ending)
  await closeStateDirectory(setup.state).catch((error: unknown) => console.error(error))
  process.exit(0)
}

function tell(fact: HelperFact): void {
  // Errors: our parent is going, and 'disconnect' is about to come.
  if (process.connected) process.send?.(fact, undefined, {}, () => {})
}
