/**
 * What reads something that changes, made to be asked by many at once: those who ask while it is being read share the next
 * reading, so that what they get was read after they asked. `read` must not reject.
 */
export function shared<T>(read: () => Promise<T>): () => Promise<T> {
  let running: Promise<unknown> = Promise.resolve()
  let next: Promise<T> | undefined
  return () => {
    next ??= running.then(() => {
      next = undefined
      const reading = read()
      running = reading.then(() => {}) // What was read is for those who asked.
      return reading
    })
    return next
  }
}
