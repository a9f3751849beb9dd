import type { Session } from '../../../index.ts'
import { pathEnd } from '../target.ts'

interface Adopted {
  readonly session: Session
  /** Path that the session was opened at, without its query. */
  readonly path: string
}

/** The live sessions whose ids their workers chose, by those ids. */
export class Adoptions {
  readonly #live = new Map<string, Adopted>()

  find(id: string): Session | undefined {
    return this.#live.get(id)?.session
  }

  /**
   * Remembers the id that a worker gave to a session, until the session is over, or another one is given it while this one closes.
   *
   * @returns `false` when another session that takes requests has it: two workers that choose the same id must not lead to each
   * other's sessions.
   */
  add(id: string, session: Session, target: string): boolean {
    if (session.signal.aborted || this.find(id)?.isOpen === true) return false
    this.#live.set(id, { session, path: pathOf(target) })
    const forget = () => {
      if (this.find(id) === session) this.#live.delete(id)
    }
    session.signal.addEventListener('abort', forget, { once: true })
    return true
  }

  /** Whether a request asks for the end of its session, as those of MCP do: DELETE, where the session was opened. */
  isFarewell(id: string, method: string | undefined, target: string): boolean {
    return method === 'DELETE' && this.#live.get(id)?.path === pathOf(target)
  }
}

function pathOf(target: string): string {
  return target.slice(0, pathEnd(target))
}
