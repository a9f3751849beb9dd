import { createServer } from 'node:http'
import { serveProxy } from '../proxy.ts'
import { answerBody, listenOn } from '../server.ts'

/** No proxy at all: answers itself. What every proxy on Node pays in any case. */
serveProxy(async () => ({ port: await listenOn(createServer(answerBody)) }))
