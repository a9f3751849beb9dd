/** A short frame as a server sends it, or with a mask of zeros as a client does. */
export function frame(opcode: number, content = '', { masked = false, final = true } = {}): string {
  const head = [(final ? 0x80 : 0) | opcode, (masked ? 0x80 : 0) | content.length]
  return String.fromCharCode(...head, ...(masked ? [0, 0, 0, 0] : [])) + content
}

/** The close frame that `bytes` are, and nothing besides. */
export function readClose(bytes: string): { code: number; reason: string } {
  const data = Buffer.from(bytes, 'latin1')
  if (data[0] !== 0x88 || data[1] !== data.length - 2) throw new Error(`Not a close frame: ${JSON.stringify(bytes)}`)
  return { code: data.readUInt16BE(2), reason: data.subarray(4).toString() }
}
