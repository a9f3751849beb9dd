/** Variable of the environment with the passphrase of `--tls-key`: everyone on the machine can read command lines. */
export const passphraseVariable = 'CORRAL_TLS_PASSPHRASE'

/** One option of `corral run`. The parser, `--help` and the README's table are all made from these. */
export interface Flag {
  readonly name: string
  /** Name of the value in the help; absent for a switch. */
  readonly value?: string
  readonly description: string
  /** What applies when it is not given, as it would be typed. */
  readonly default?: string
  readonly repeatable?: true
  /** The option of the library that it sets, under which errors name it. */
  readonly sets?: string
}

const table = [
  { name: 'host', value: 'address', default: '127.0.0.1', sets: 'hostname', description: 'Address to listen on' },
  {
    name: 'port',
    value: 'number',
    default: '8080',
    description: 'Port to listen on; 0 takes a free one and prints it; none that browsers refuse, such as 6000',
  },
  {
    name: 'session',
    value: 'source',
    default: 'header:x-session-id',
    sets: 'sessionId',
    repeatable: true,
    description:
      'Where the session id is: header:NAME, cookie:NAME, query:NAME, path (/s/<id>/…) or path:/PREFIX; the first that has one counts',
  },
  { name: 'issue', sets: 'issue', description: 'Give clients that name no session one, by cookie or header' },
  {
    name: 'keys-file',
    value: 'file',
    sets: 'sign.keys',
    description:
      'Take only signed session ids: file with secrets, one a line, the first of which signs; else those in CORRAL_KEYS, with commas between',
  },
  {
    name: 'forged',
    value: 'refuse|issue',
    default: 'refuse',
    sets: 'sign.forged',
    description: 'What becomes of a request whose id is not signed: 401, or with --issue a new session',
  },
  {
    name: 'adopt',
    sets: 'adopt',
    description: 'Let workers choose the ids of their sessions, by the response header of --session (MCP)',
  },
  {
    name: 'tokens-file',
    value: 'file',
    description: 'Take only requests with one of these bearer tokens: file with a principal and a token a line',
  },
  {
    name: 'user-header',
    value: 'name',
    description: 'Take only requests with this header, which names the principal, from a proxy on this machine',
  },
  {
    name: 'user-proxy',
    value: 'address',
    repeatable: true,
    description: 'Address or network of a proxy that may set --user-header, instead of this machine',
  },
  {
    name: 'proxies',
    value: 'number',
    default: '0',
    sets: 'trustForwarded',
    description: 'Proxies in front whose X-Forwarded-* tell the client, its address, and whether it came by TLS',
  },
  {
    name: 'tls',
    description: 'Serve HTTPS with a self-signed certificate for localhost and --host, made anew at each start',
  },
  { name: 'tls-cert', value: 'file', sets: 'tls.cert', description: 'Serve HTTPS with this certificate (PEM)' },
  {
    name: 'tls-key',
    value: 'file',
    sets: 'tls.key',
    description: `Key of --tls-cert (PEM); ${passphraseVariable} of the environment, unless empty, decrypts it`,
  },
  {
    name: 'headers-timeout',
    value: 'duration',
    default: '15s',
    sets: 'headersTimeout',
    description: 'Longest time for the head of a request, then 408; 0 without limit',
  },
  {
    name: 'keep-alive',
    value: 'duration',
    default: '5s',
    sets: 'keepAliveTimeout',
    description:
      "Time an idle connection is kept, longer than the proxy's in front keeps it, if there is one; 0 for ever",
  },
  {
    name: 'response-timeout',
    value: 'duration',
    default: '5m',
    sets: 'upstream.headersTimeout',
    description: 'Longest time to the head of a response, or of the answer to a handshake, then 504; 0 without limit',
  },
  {
    name: 'send-timeout',
    value: 'duration',
    default: '1m',
    sets: 'client.sendTimeout',
    description: 'Longest time that bytes wait for a client that takes none, which is then cut; 0 without limit',
  },
  {
    name: 'ping-interval',
    value: 'duration',
    default: '0',
    sets: 'pingInterval',
    description: 'Silence of a WebSocket after which its client is pinged, and after as much again cut; 0 never',
  },
  {
    name: 'requests-per-session',
    value: 'number',
    default: '256',
    sets: 'client.requestsPerSession',
    description: 'Requests and WebSockets of one session at the same time; more get 429',
  },
  {
    name: 'min',
    value: 'number',
    default: '1',
    sets: 'size.min',
    description: 'Workers kept even when nobody needs them',
  },
  { name: 'max', value: 'number', default: '10', sets: 'size.max', description: 'Most workers at any time' },
  {
    name: 'warm',
    value: 'number',
    default: '0',
    sets: 'size.warm',
    description: 'Spare workers kept ready beyond those in use',
  },
  {
    name: 'ttl',
    value: 'duration',
    default: '5m',
    sets: 'session.idleTtl',
    description: 'Life of a session without an open connection: 0 ends it with its last one, "never" keeps it',
  },
  {
    name: 'idle',
    value: 'connections|bytes',
    default: 'connections',
    sets: 'session.idle',
    description: 'What --ttl counts: time without an open connection, or also time in which open ones move no byte',
  },
  {
    name: 'max-age',
    value: 'duration',
    default: 'never',
    sets: 'session.maxAge',
    description: 'Age at which a session ends once it has no open connection; 0 ends it with its last one',
  },
  {
    name: 'max-lifetime',
    value: 'duration',
    default: 'never',
    sets: 'session.maxLifetime',
    description: 'Age at which a session ends whether or not it has open connections, which get --grace',
  },
  {
    name: 'reuse',
    value: 'off|reset|dirty',
    default: 'off',
    sets: 'session.reuse',
    description: 'What becomes of a worker whose session ended: replaced, reset by --reset-path, or reused as it is',
  },
  {
    name: 'reset-path',
    value: 'path',
    sets: 'session.reuse.reset',
    description: 'Path that gets a POST to reset a worker, with --reuse reset',
  },
  {
    name: 'reuse-limit',
    value: 'number|none',
    default: 'none',
    sets: 'session.reuseLimit',
    description: 'Sessions that one process may serve, with --reuse, before it is replaced',
  },
  {
    name: 'recycle-age',
    value: 'duration',
    default: 'never',
    sets: 'recycle.age',
    description: 'Age at which a worker is replaced, if it has no session, or after that',
  },
  {
    name: 'recycle-memory',
    value: 'size|none',
    default: 'none',
    sets: 'recycle.memory',
    description: 'Memory above which a worker is replaced, if it has no session, or after that',
  },
  { name: 'health', value: 'http|tcp', default: 'http', description: 'How to see that a worker is ready and alive' },
  {
    name: 'health-path',
    value: 'path',
    default: '/health',
    sets: 'health.path',
    description: 'Path that a healthy worker answers with 200 to 399, with --health http',
  },
  {
    name: 'start-timeout',
    value: 'duration',
    default: '30s',
    sets: 'health.startTimeout',
    description: 'Time a worker gets to become ready',
  },
  {
    name: 'env',
    value: 'KEY=VALUE',
    repeatable: true,
    sets: 'env',
    description: "Environment variable for the workers; KEY alone passes Corral's own",
  },
  {
    name: 'isolation',
    value: 'none|group|namespaces|full',
    default: 'group',
    sets: 'isolation',
    description: 'How far workers are kept from the machine and from each other; see docs/isolation.md',
  },
  {
    name: 'network',
    value: 'host|none',
    default: 'host',
    sets: 'isolation.network',
    description: 'Network of the workers, with --isolation full; without one they serve on {{socket}}',
  },
  {
    name: 'bind',
    value: 'path[:rw]',
    repeatable: true,
    sets: 'isolation.binds',
    description: 'Path that workers may read, or with :rw write, too, with --isolation full',
  },
  {
    name: 'memory',
    value: 'size',
    sets: 'limits.memory',
    description: 'Memory of a worker, such as 512MiB; beyond it, it is killed',
  },
  {
    name: 'cpu',
    value: 'number',
    sets: 'limits.cpu',
    description: "Processors' worth of time of a worker, such as 0.5",
  },
  { name: 'pids', value: 'number', sets: 'limits.pids', description: 'Processes and threads of a worker' },
  { name: 'files', value: 'number', sets: 'limits.files', description: 'Open files of each process of a worker' },
  {
    name: 'disk',
    value: 'size',
    sets: 'limits.disk',
    description: 'Room in the private directory of a worker, with --isolation full',
  },
  {
    name: 'state-dir',
    value: 'path',
    sets: 'stateDirectory',
    description: 'Where it is written down what workers hold, for the start after a crash; absent: a private one',
  },
  {
    name: 'degrade',
    sets: 'onUnavailable "degrade"',
    description: 'Go on without what this machine lacks of isolation and limits, instead of refusing to start',
  },
  {
    name: 'queue-limit',
    value: 'number',
    default: '1000',
    sets: 'queue.limit',
    description: 'Sessions that may wait for a worker; more get 503',
  },
  {
    name: 'tenant-sessions',
    value: 'number|none',
    sets: 'tenant.sessions',
    description: 'Sessions of one principal, or of one address elsewhere; more get 429; half of --max unless given',
  },
  {
    name: 'tenant-waiting',
    value: 'number|none',
    default: '100',
    sets: 'tenant.waiting',
    description: 'Sessions of one principal or address that may wait for a worker; more get 429',
  },
  {
    name: 'memory-mark',
    value: 'percent|none',
    default: 'none',
    sets: 'pressure.memory',
    description: "Use of the host's memory, or of the cgroup's, above which new sessions get no worker",
  },
  {
    name: 'cpu-mark',
    value: 'percent|none',
    default: 'none',
    sets: 'pressure.cpu',
    description: 'The same of the CPUs',
  },
  {
    name: 'pressure',
    value: 'wait|refuse',
    default: 'wait',
    sets: 'pressure.action',
    description: 'What becomes of new sessions above a mark: they wait in the queue, or get 503',
  },
  {
    name: 'acquire-timeout',
    value: 'duration',
    default: '30s',
    sets: 'queue.timeout',
    description: 'Longest wait for a worker, then 503; 0 waits for none',
  },
  {
    name: 'grace',
    value: 'duration',
    default: '5s',
    sets: 'session.grace',
    description: 'Time open connections get when their session or Corral ends, and workers to stop; then they are cut',
  },
  {
    name: 'drain-delay',
    value: 'duration',
    default: '0',
    description:
      'Time that /readyz fails, when Corral is to end, before new sessions are refused; for load balancers to notice',
  },
  {
    name: 'admin',
    value: '[host:]port',
    description: 'Serve the admin API there; the host defaults to 127.0.0.1',
  },
  {
    name: 'admin-token-file',
    value: 'file',
    sets: 'token',
    description:
      'File with the token of the admin API; else CORRAL_ADMIN_TOKEN of the environment is the token, if it is set',
  },
  {
    name: 'admin-host',
    value: 'name',
    repeatable: true,
    sets: 'hosts',
    description: 'Name under which the admin API may be reached, besides localhost and IP addresses',
  },
  {
    name: 'metrics',
    description: 'Serve metrics for Prometheus at /metrics of the admin API; needs the package prom-client',
  },
  {
    name: 'otel',
    description:
      'Trace requests with OpenTelemetry; needs the package @opentelemetry/api, and an SDK that Node is told to --import',
  },
  {
    name: 'access-log',
    description: 'Print a line for each request and each WebSocket when it is over, without the query',
  },
  { name: 'access-log-query', description: 'Print queries in the access log, too' },
  { name: 'json', description: 'Print events as JSON, one object a line' },
  { name: 'verbose', description: 'Print what the workers write, too' },
  { name: 'help', description: 'Print this help' },
  { name: 'version', description: 'Print the version' },
] as const satisfies readonly Flag[]

export type FlagName = (typeof table)[number]['name']

export const flags: readonly Flag[] = table

/** A message of the library, which names its own options, for whoever gave them as flags. */
export function inFlags(message: string): string {
  let text = message.replace('tls.passphrase', passphraseVariable)
  for (const { name, sets } of flags) {
    if (sets !== undefined) text = text.replace(new RegExp(`(?<![\\w.-])${sets}(?![\\w-]|\\.\\w)`, 'g'), `--${name}`)
  }
  return text
}
