import { InvalidOptionError } from '../errors.ts'

/** `{{word}}`, and herd's `{{.Word}}`. Anything else in braces belongs to the program that is started. */
const PLACEHOLDER = /\{\{\s*(\.?[A-Za-z_]\w*)\s*\}\}/g

const NAMES: Readonly<Record<string, keyof TemplateValues>> = {
  port: 'port',
  socket: 'socket',
  id: 'id',
  dir: 'dir',
  '.Port': 'port',
}

export interface TemplateValues {
  readonly id: string
  readonly port?: number
  readonly socket?: string
  readonly dir?: string
}

/** Arguments and environment of a command, with placeholders. */
export interface Template {
  readonly uses: ReadonlySet<keyof TemplateValues>
  render(values: TemplateValues): { args: string[]; env: Record<string, string | undefined> }
}

/**
 * Reads the placeholders of a command once, so that a misspelt one fails before anything starts.
 *
 * @throws `INVALID_OPTION` for a `{{word}}` that is not one of ours.
 */
export function parseTemplate(args: readonly string[], env: Readonly<Record<string, string | undefined>>): Template {
  const entries = Object.entries(env)
  const uses = new Set([
    ...args.flatMap((text, index) => namesIn(text, `args.${index}`)),
    ...entries.flatMap(([key, text]) => (text === undefined ? [] : namesIn(text, `env.${key}`))),
  ])
  return {
    uses,
    render: (values) => ({
      args: args.map((text) => fill(text, values)),
      env: Object.fromEntries(entries.map(([key, text]) => [key, text === undefined ? text : fill(text, values)])),
    }),
  }
}

function namesIn(text: string, option: string): (keyof TemplateValues)[] {
  return [...text.matchAll(PLACEHOLDER)].flatMap(([placeholder, word = '']) => {
    const name = NAMES[word]
    if (name !== undefined) return [name]
    // Go templates, such as those of docker's --format, are none of our business.
    if (word.startsWith('.')) return []
    throw new InvalidOptionError(
      option,
      'only the placeholders {{port}}, {{socket}}, {{id}} and {{dir}}',
      JSON.stringify(placeholder),
    )
  })
}

function fill(text: string, values: TemplateValues): string {
  return text.replace(PLACEHOLDER, (placeholder, word: string) => {
    const name = NAMES[word]
    return name === undefined ? placeholder : String(values[name])
  })
}
