/** What a program needs to find its tools, its home and its language. No secrets live in these. */
const ALLOWED = new Set([
  'PATH',
  'HOME',
  'USER',
  'LOGNAME',
  'SHELL',
  'LANG',
  'LANGUAGE',
  'TZ',
  'TMPDIR',
  'TEMP',
  'TMP',
  // Windows programs do not start without most of these.
  'SYSTEMROOT',
  'SYSTEMDRIVE',
  'WINDIR',
  'COMSPEC',
  'PATHEXT',
  'USERNAME',
  'USERPROFILE',
  'HOMEDRIVE',
  'HOMEPATH',
  'APPDATA',
  'LOCALAPPDATA',
  'PROGRAMDATA',
  'PROGRAMFILES',
])

type Variables = Readonly<Record<string, string | undefined>>

/**
 * The environment of a worker: the allowed part of the parent's, then `given`, in which `undefined` removes a variable.
 * The rest of the parent's stays with the parent: it is where tokens and passwords of the gateway are.
 */
export function createEnvironment(given: Variables, parent: Variables = process.env): Record<string, string> {
  const inherited = Object.entries(parent).filter(([name]) => isAllowed(name))
  const merged = { ...Object.fromEntries(inherited), ...given }
  return Object.fromEntries(Object.entries(merged).filter((entry): entry is [string, string] => entry[1] !== undefined))
}

function isAllowed(name: string): boolean {
  // Windows does not tell `Path` from `PATH`; elsewhere `path` is another variable.
  const key = process.platform === 'win32' ? name.toUpperCase() : name
  return ALLOWED.has(key) || key.startsWith('LC_')
}
