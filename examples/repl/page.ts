/** The page of the REPL. Its URLs are relative, so that it works under any path prefix. */
export function page(pid: number): string {
  return html.replace('{{pid}}', String(pid))
}

const html = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>REPL</title>
<style>
  :root { color-scheme: light dark; font: 15px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
  body { max-width: 52rem; margin: 0 auto; padding: 1.5rem 1rem; display: flex; flex-direction: column; gap: 1rem; min-height: calc(100vh - 3rem) }
  header { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; align-items: baseline }
  h1 { font-size: 1.1rem; margin: 0 auto 0 0 }
  b { font-weight: 600 }
  #log { flex: 1; white-space: pre-wrap; overflow-wrap: anywhere }
  #log .in::before { content: "> "; opacity: .5 }
  #log .error { color: #d33 }
  #log .note { opacity: .6; font-style: italic }
  form { display: flex; gap: .5rem }
  input { flex: 1; min-width: 0 }
  input, button { font: inherit; padding: .4rem .6rem }
</style>
<header>
  <h1>A JavaScript REPL in a process of its own</h1>
  <span>session <b id="session"></b></span>
  <span>pid <b id="pid">{{pid}}</b></span>
  <span id="state" role="status">connecting</span>
</header>
<div id="log" role="log" aria-live="polite"><div class="note">Try: let n = 1 — then n + 1, here or in another tab of this session.</div></div>
<form>
  <input id="code" aria-label="JavaScript" autocomplete="off" autocapitalize="off" spellcheck="false" autofocus>
  <button>Run</button>
</form>
<script type="module">
  const at = (id) => document.getElementById(id)
  const base = new URL(location.href)
  // Served at a prefix without a trailing slash, relative URLs would leave the prefix.
  if (!base.pathname.endsWith('/')) base.pathname += '/'
  const names = base.pathname.split('/').filter(Boolean)
  at('session').textContent = names.length > 0 ? decodeURIComponent(names.at(-1)) : base.search.slice(1) || '–'

  const history = []
  let position = 0
  let socket

  function connect() {
    const url = new URL('ws' + base.search, base)
    url.protocol = url.protocol.replace('http', 'ws')
    url.hash = ''
    socket = new WebSocket(url)
    socket.onopen = () => { at('state').textContent = 'connected' }
    socket.onmessage = ({ data }) => {
      const reply = JSON.parse(data)
      if (String(reply.pid) !== at('pid').textContent) {
        write('note', 'A new process answers: what the old one held is gone.')
        at('pid').textContent = reply.pid
      }
      write('error' in reply ? 'error' : 'out', reply.error ?? reply.value)
    }
    socket.onclose = () => {
      at('state').textContent = 'disconnected'
      setTimeout(connect, 1000)
    }
  }

  function write(kind, text) {
    const line = document.createElement('div')
    line.className = kind
    line.textContent = text
    at('log').append(line)
    line.scrollIntoView({ block: 'nearest' })
  }

  document.querySelector('form').addEventListener('submit', (event) => {
    event.preventDefault()
    const code = at('code').value
    if (code.trim() === '' || socket.readyState !== WebSocket.OPEN) return
    history.push(code)
    position = history.length
    write('in', code)
    socket.send(code)
    at('code').value = ''
  })

  at('code').addEventListener('keydown', (event) => {
    const step = event.key === 'ArrowUp' ? -1 : event.key === 'ArrowDown' ? 1 : 0
    if (step === 0) return
    event.preventDefault()
    position = Math.min(Math.max(position + step, 0), history.length)
    at('code').value = history[position] ?? ''
  })

  connect()
</script>
</html>
`
