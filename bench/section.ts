import type { Findings } from './report.ts'
import type { Run } from './run.ts'

export interface Section {
  /** Its heading, and its name on the command line. */
  readonly name: string
  /** What is measured and how, in a sentence or two. */
  readonly note: string
  measure(run: Run): Promise<Findings>
}
