import { describe, expect, test } from 'vitest'
import { parseTemplate } from '../../../src/runtime/process/template.ts'

const values = { id: 'w7', port: 4321, socket: '/tmp/corral-x/s' }

describe('placeholders', () => {
  test.each([
    ['--port={{port}}', '--port=4321'],
    ['{{.Port}}', '4321'],
    ['{{ port }}:{{port}}', '4321:4321'],
    ['unix:{{socket}}', 'unix:/tmp/corral-x/s'],
    ['name-{{id}}-{{port}}', 'name-w7-4321'],
    ['plain', 'plain'],
  ])('%s becomes %s', (text, filled) => {
    const template = parseTemplate([text], { KEY: text })
    expect(template.render(values)).toEqual({ args: [filled], env: { KEY: filled } })
  })

  test('say what the worker needs', () => {
    expect([...parseTemplate(['{{.Port}}'], {}).uses]).toEqual(['port'])
    expect([...parseTemplate([], { A: '{{socket}}', B: '{{id}}' }).uses]).toEqual(['socket', 'id'])
    expect([...parseTemplate(['a'], { A: undefined }).uses]).toEqual([])
  })

  test('a removed variable stays removed', () => {
    expect(parseTemplate([], { A: undefined }).render(values).env).toEqual({ A: undefined })
  })

  test('values are inserted as they are', () => {
    expect(parseTemplate(['{{socket}}'], {}).render({ id: 'w1', socket: "$&$'{{id}}" }).args).toEqual(["$&$'{{id}}"])
  })
})

describe('braces that are not ours', () => {
  test.each(['{{.ID}}', '{{json .}}', '{{}}', '{port}', '{{ a b }}', '${{', '{"a":{"b":1}}'])(
    '%s is left alone',
    (text) => {
      expect(parseTemplate([text], { KEY: text }).render(values)).toEqual({ args: [text], env: { KEY: text } })
    },
  )

  test('an unknown simple word is an error that names the known ones', () => {
    const expected = 'expected only the placeholders {{port}}, {{socket}}, {{id}} and {{dir}}, got "{{prot}}"'
    expect(() => parseTemplate(['a', '--port={{prot}}'], {})).toThrow(`Invalid option "args.1": ${expected}`)
    expect(() => parseTemplate([], { KEY: '{{prot}}' })).toThrow(`Invalid option "env.KEY": ${expected}`)
  })
})
