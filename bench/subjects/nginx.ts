import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Site } from '../proxy.ts'
import { serveProxy } from '../proxy.ts'

serveProxy(async (site) => {
  const folder = mkdtempSync(join(tmpdir(), 'corral-bench-'))
  const port = await freePort()
  const file = join(folder, 'nginx.conf')
  writeFileSync(file, configuration(site, folder, port))
  const nginx = spawn('nginx', ['-c', file, '-p', folder], { stdio: ['ignore', 'ignore', 'inherit'] })
  const gone = once(nginx, 'exit')
  const close = async () => {
    nginx.kill('SIGKILL')
    await gone
    rmSync(folder, { recursive: true, force: true })
  }
  process.once('exit', () => nginx.kill('SIGKILL'))
  try {
    await Promise.race([accepts(port), gone.then(() => Promise.reject(new Error('nginx has ended')))])
  } catch (error) {
    await close()
    throw error
  }
  return { port, pid: nginx.pid ?? 0, close }
})

function configuration({ ports }: Site, folder: string, port: number): string {
  const sessions = Object.entries(ports)
  return `
daemon off;
master_process off;
error_log stderr error;
pid ${folder}/pid;
events { worker_connections 8192; }
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  map $http_x_session_id $worker { ${sessions.map(([id]) => `${id} ${id};`).join(' ')} }
  map $http_upgrade $wanted { default Upgrade; '' ''; }
  ${sessions.map(([id, port]) => `upstream ${id} { server 127.0.0.1:${port}; keepalive 64; keepalive_requests 1000000000; }`).join('\n  ')}
  server {
    listen 127.0.0.1:${port} backlog=1024;
    location / {
      proxy_pass http://$worker;
      proxy_http_version 1.1;
      proxy_set_header Connection $wanted;
      proxy_set_header Upgrade $http_upgrade;
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
    }
  }
}
`
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** Resolves once something accepts connections. */
async function accepts(port: number): Promise<void> {
  for (;;) {
    const socket = connect(port, '127.0.0.1')
    try {
      await once(socket, 'connect')
      return
    } catch {
      await delay(10)
    } finally {
      socket.destroy()
    }
  }
}
