const actions = new Set<() => void>()

/**
 * Runs `action` if this process exits, until the returned function is called. Best effort: nothing runs when the process
 * is ended by a signal that it does not handle. All actions share one listener, which is there only while there are any.
 */
export function atExit(action: () => void): () => void {
  if (actions.size === 0) process.on('exit', runAll)
  actions.add(action)
  return () => {
    actions.delete(action)
    if (actions.size === 0) process.off('exit', runAll)
  }
}

function runAll(): void {
  for (const action of actions) {
    try {
      action()
    } catch {
      // The others still have to run, and nobody is left to be told.
    }
  }
}
