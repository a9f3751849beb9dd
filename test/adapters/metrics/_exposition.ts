/** One sample of the text exposition format. */
export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

export interface Family {
  readonly name: string
  readonly type: string
  readonly help: string
  readonly samples: readonly Sample[]
}

const labelPattern = /([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(?:,(?=.)|$)/gy

/** Reads the text format of Prometheus, version 0.0.4, and throws at whatever is not that. */
export function parseExposition(text: string): Map<string, Family> {
  if (!text.endsWith('\n')) throw new Error('The last line has no end')
  const families = new Map<string, Family>()
  let help: [string, string] | undefined
  let family: (Family & { samples: Sample[] }) | undefined
  for (const line of text.slice(0, -1).split('\n')) {
    if (line === '') continue
    const [, keyword, subject = '', rest = ''] = /^# (HELP|TYPE) ([a-zA-Z_:][\w:]*) (.+)$/.exec(line) ?? []
    if (keyword === 'HELP') {
      help = [subject, rest]
    } else if (keyword === 'TYPE') {
      if (families.has(subject)) throw new Error(`${subject} comes twice`)
      family = { name: subject, type: rest, help: help?.[0] === subject ? help[1] : '', samples: [] }
      families.set(subject, family)
    } else {
      const sample = parseSample(line)
      const base = family?.type === 'histogram' ? sample.name.replace(/_(bucket|sum|count)$/, '') : sample.name
      if (base !== family?.name) throw new Error(`${sample.name} does not belong to ${family?.name}`)
      family.samples.push(sample)
    }
  }
  return families
}

/** The value of the one sample with these labels. */
export function valueOf(text: string, name: string, labels: Readonly<Record<string, string>> = {}): number | undefined {
  const found = [...parseExposition(text).values()]
    .flatMap(({ samples }) => samples)
    .filter((sample) => sample.name === name)
    .filter((sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value))
  if (found.length > 1) throw new Error(`${found.length} samples of ${name} have the labels ${JSON.stringify(labels)}`)
  return found[0]?.value
}

function parseSample(line: string): Sample {
  const [, name = '', , inner = '', value = ''] = /^([a-zA-Z_:][\w:]*)(\{(.*)\})? (\S+)$/.exec(line) ?? []
  if (name === '') throw new Error(`No sample: ${line}`)
  const labels: Record<string, string> = {}
  labelPattern.lastIndex = 0
  while (labelPattern.lastIndex < inner.length) {
    const [, key = '', text = ''] = labelPattern.exec(inner) ?? []
    if (key === '' || key in labels) throw new Error(`Malformed labels: ${line}`)
    labels[key] = text
  }
  const number = value === '+Inf' ? Infinity : Number(value)
  if (Number.isNaN(number)) throw new Error(`No number: ${line}`)
  return { name, labels, value: number }
}
