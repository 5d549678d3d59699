/** For development, until the shells are there: the app in a browser, with a server that checks nothing but a cookie. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { extname, join } from 'node:path';
import { WebSocketServer } from 'ws';
import { App } from './app.ts';
import { openDesktop } from './desktop/index.ts';
import type { ToApp } from './ipc/schema.ts';
import type { Shell } from './shells/shell.ts';

const build = new URL('../build/renderer/', import.meta.url).pathname;
const types: Record<string, string> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
};
const app = new App(await openDesktop());
const token = randomBytes(16).toString('hex');
const server = createServer(async (request, response) => {
  const url = new URL(request.url ?? '/', 'http://127.0.0.1');
  if (url.searchParams.get('token') === token) {
    response.writeHead(303, {
      location: '/',
      'set-cookie': `torpor=${token}; HttpOnly; SameSite=Strict; Path=/`,
    });
    response.end();
    return;
  }
  if (!request.headers.cookie?.includes(token)) {
    response
      .writeHead(403, { 'content-type': 'text/plain' })
      .end('This address has been used or is not valid.');
    return;
  }
  if (/^\/(icons|thumbnails|pictures)\//.test(url.pathname)) {
    const answer = await app.fetch(new Request(url));
    response.writeHead(answer.status, Object.fromEntries(answer.headers));
    response.end(Buffer.from(await answer.arrayBuffer()));
    return;
  }
  const path = join(build, url.pathname === '/' ? 'index.html' : url.pathname);
  if (!path.startsWith(build) || !existsSync(path)) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, {
    'content-type': types[extname(path)] ?? 'application/octet-stream',
    'content-security-policy':
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; font-src 'self'",
  });
  response.end(await readFile(path));
});
const sockets = new WebSocketServer({ noServer: true });
let count = 0;
server.on('upgrade', (request, socket, head) => {
  if (!request.headers.cookie?.includes(token)) {
    socket.destroy();
    return;
  }
  sockets.handleUpgrade(request, socket, head, async (web) => {
    const [, kind, id = ''] = (request.url ?? '').split('/');
    if (kind === 'screen') {
      try {
        const screen = connect(await app.screenSocket(id));
        screen.on('data', (bytes) => web.send(bytes));
        screen.on('close', () => web.close());
        screen.on('error', () => web.close(4404));
        web.on('message', (bytes) => screen.write(bytes as Buffer));
        web.on('close', () => screen.destroy());
      } catch {
        web.close(4404, 'It does not run.');
      }
      return;
    }
    const window = `window${++count}`;
    web.on('message', async (data) => {
      const { id, call, args } = JSON.parse(String(data)) as ToApp;
      web.send(JSON.stringify({ id, ...(await app.call(window, call, args)) }));
    });
    web.on('close', () => app.windowClosed(window));
    app.windowOpened(window, (event, value) => web.send(JSON.stringify({ event, value })));
  });
});
const shell: Shell = {
  kind: 'browser',
  canGlobalShortcut: false,
  open: async () => {},
  close: async () => {},
  setTray: async () => false,
  notify: async () => {},
  openExternal: async () => {},
  setShortcut: async () => false,
  [Symbol.asyncDispose]: async () => {},
};
await app.start(shell);
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  if (address !== null && typeof address === 'object')
    console.log(`http://127.0.0.1:${address.port}/?token=${token}`);
});
