/** FNV-1a, scaled to [0, 1): variation that is the same each time, for charts that stay pure. */
export function hash(text: string): number {
  let value = 0x811c9dc5
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193)
  return (value >>> 0) / 2 ** 32
}
