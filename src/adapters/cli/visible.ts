/**
 * What drives a terminal (C0 and C1 but for the tab), ends a line, or has text around it shown in another order than it has, so
 * that it reads as something else.
 */
// oxlint-disable-next-line no-control-regex
const INVISIBLE = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

/** The text as one line that shows all of it, as JSON would write it. */
export function visible(text: string): string {
  return text.replace(INVISIBLE, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
