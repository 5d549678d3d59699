/** The loopback server from outside: who is let in, what is answered, and how it behaves with those who misbehave. */
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { TorporError } from '../../api/errors.ts';
import type { EventName, EventValue } from '../../main/ipc/schema.ts';
import type { WindowHost } from '../../main/shells/shell.ts';
import { WebServer } from '../../main/web/server.ts';

type Send = <E extends EventName>(event: E, value: EventValue<E>) => void;
interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

let folder: string;
let screens: Server;
/** The latest connection to the screen, on the capsule's side. */
let screen: Socket;
let server: WebServer;
const windows = new Map<string, Send>();
const closed: string[] = [];

const host: WindowHost = {
  call: async (window, name, args) => ({ result: { window, name, args } }),
  screenSocket: async (id) => {
    if (id !== 'running') throw new TorporError('failed', `${id} does not run, so it has no screen.`);
    return join(folder, 'screen');
  },
  windowOpened: (window, send) => void windows.set(window, send),
  windowClosed: (window) => {
    windows.delete(window);
    closed.push(window);
  },
  fetch: async (request) => {
    const { pathname } = new URL(request.url);
    if (pathname === '/icons/defect') throw new Error('a defect with a secret');
    if (pathname === '/icons/none') return new Response('none', { status: 404 });
    return new Response(`picture of ${pathname}`, { headers: { 'content-type': 'image/png' } });
  },
};

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'torpor-web-'));
  mkdirSync(join(folder, 'pages/parts'), { recursive: true });
  writeFileSync(join(folder, 'pages/index.html'), '<!doctype html><title>Torpor</title>');
  writeFileSync(join(folder, 'pages/parts/app.js'), 'export {};');
  writeFileSync(join(folder, 'secret'), 'secret');
  screens = createServer((socket) => {
    screen = socket;
    socket.on('error', () => {});
  }).listen(join(folder, 'screen'));
  await once(screens, 'listening');
});
afterAll(() => {
  screens.close();
  rmSync(folder, { recursive: true });
});
beforeEach(async () => {
  windows.clear();
  closed.length = 0;
  server = await WebServer.start({ host, pages: join(folder, 'pages') });
});
afterEach(() => server[Symbol.asyncDispose]());

/** As it stands: without a browser's or fetch's own idea of what an address or a header may be. */
function ask(path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      { host: '127.0.0.1', port: server.port, path, method, headers, agent: false },
      async (response) => {
        let body = '';
        for await (const text of response.setEncoding('utf8')) body += text;
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body });
      },
    );
    request.once('error', reject).end();
  });
}

const cookie = () => `${server.cookieName}=${server.newSession()}`;
const pathOf = (address: string) => address.slice(server.origin.length);

/** Opens a WebSocket as a page of ours would, unless the headers say otherwise. */
function socketAt(path: string, headers: Record<string, string> = {}): WebSocket {
  return new WebSocket(`ws://127.0.0.1:${server.port}${path}`, {
    headers: { cookie: cookie(), origin: server.origin, ...headers },
  });
}

async function statusOf(socket: WebSocket): Promise<number> {
  const [, response] = (await once(socket, 'unexpected-response')) as [unknown, { statusCode: number }];
  socket.on('error', () => {});
  socket.terminate();
  return response.statusCode;
}

async function endOf(socket: WebSocket): Promise<{ code: number; reason: string }> {
  const [code, reason] = (await once(socket, 'close')) as [number, Buffer];
  return { code, reason: String(reason) };
}

/** A person can read it, and it tells nothing that is not theirs to know. */
function expectSentence({ body, headers }: Answer): void {
  expect(headers['content-type']).toBe('text/html; charset=utf-8');
  expect(headers['content-security-policy']).toContain("default-src 'none'");
  expect(body).toMatch(/<h1>[^<]{10,}<\/h1><p>[^<]{20,}\.<\/p><p>[^<]{10,}\.<\/p>/);
  expect(body).not.toMatch(/\n\s+at |Error|secret/);
}

describe('the first address', () => {
  it('is exchanged once for a session and loses its token', async () => {
    const address = pathOf(server.newAddress({ lasting: true }));
    expect(address).toMatch(/^\/\?token=[\w-]{43}$/);
    const first = await ask(address);
    expect(first).toMatchObject({ status: 303, headers: { location: '/', 'cache-control': 'no-store' } });
    const [set = ''] = first.headers['set-cookie'] ?? [];
    expect(set).toMatch(new RegExp(`^torpor-${server.port}=[\\w-]{43}; HttpOnly; SameSite=Strict; Path=/$`));
    const session = set.split(';')[0] ?? '';
    expect((await ask('/', { cookie: session })).body).toContain('<title>Torpor</title>');

    const second = await ask(address);
    expect(second.status).toBe(403);
    expect(second.headers['set-cookie']).toBeUndefined();
    expectSentence(second);
    // Somebody who goes back in the browser.
    expect(await ask(address, { cookie: session })).toMatchObject({ status: 303 });
  });

  it('keeps what else it says', async () => {
    const address = pathOf(server.newAddress({ lasting: false }));
    expect((await ask(`/window/home${address.slice(1)}&window=w1`)).headers.location).toBe(
      '/window/home?window=w1',
    );
  });

  it('goes on by a page of ours where another page leads to it, as its redirect would bring no cookie', async () => {
    const answer = await ask(pathOf(server.newAddress({ lasting: true })), {
      'sec-fetch-site': 'cross-site',
    });
    expect(answer.status).toBe(200);
    expect(answer.headers['set-cookie']).toHaveLength(1);
    expect(answer.body).toContain('http-equiv="refresh" content="0;url=/"');
  });

  it('is not used up by a question for its headers', async () => {
    const address = pathOf(server.newAddress({ lasting: true }));
    expect((await ask(address, {}, 'HEAD')).status).toBe(403);
    expect((await ask(address)).status).toBe(303);
  });

  it.each(['', 'x', 'A'.repeat(43), 'A'.repeat(5000), '%00', '../../x'])(
    'with the token %j opens nothing',
    async (token) => {
      server.newAddress({ lasting: true });
      const answer = await ask(`/?token=${token}`);
      expect(answer.status).toBe(403);
      expectSentence(answer);
    },
  );

  it('is refused in German to who reads German', async () => {
    const answer = await ask('/?token=x', { 'accept-language': 'fr-FR, de-DE;q=0.9, en;q=0.8' });
    expectSentence(answer);
    expect(answer.body).toContain('<html lang="de">');
    expect(answer.body).toContain('Diese Adresse öffnet Torpor nicht mehr');
  });
});

describe('a request', () => {
  it.each(['/', '/parts/app.js', '/icons/app/x', '/thumbnails/live/x', '/nothing'])(
    'for %s without a session, with a made-up one, or with that of another port is refused',
    async (path) => {
      const [, session = ''] = cookie().split('=');
      for (const headers of [
        {},
        { cookie: `${server.cookieName}=` },
        { cookie: `${server.cookieName}=${'A'.repeat(43)}` },
        { cookie: `torpor-1=${session}` },
        { cookie: `${server.cookieName}x=${session}` },
      ]) {
        const answer = await ask(path, headers as Record<string, string>);
        expect(answer.status).toBe(403);
        expectSentence(answer);
      }
    },
  );

  it.each([
    'evil.example',
    'evil.example:PORT',
    '127.0.0.1',
    '127.0.0.1:1',
    'localhost',
    '127.0.0.1.evil:PORT',
  ])(
    'to the host %s is refused, with a session too, as a name may be made to mean this machine',
    async (name) => {
      const answer = await ask('/', { cookie: cookie(), host: name.replace('PORT', String(server.port)) });
      expect(answer.status).toBe(403);
      expectSentence(answer);
    },
  );

  it('to localhost is answered', async () => {
    expect((await ask('/', { cookie: cookie(), host: `localhost:${server.port}` })).status).toBe(200);
  });

  it.each([
    'http://evil.example',
    'null',
    'http://127.0.0.1:1',
    'https://127.0.0.1:PORT',
    'http://localhost:PORT',
  ])('from the page %s is refused', async (origin) => {
    const given = origin.replace('PORT', String(server.port));
    expect((await ask('/', { cookie: cookie(), origin: given })).status).toBe(403);
    expect((await ask('/', { cookie: cookie(), origin: given }, 'POST')).status).toBe(403);
  });

  it.each(['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH'])('by %s is refused', async (method) => {
    expect((await ask('/', { cookie: cookie() }, method)).status).toBe(403);
    const answer = await ask('/', { cookie: cookie(), origin: server.origin }, method);
    expect(answer).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD' } });
    expectSentence(answer);
  });

  it.each([
    '/../secret',
    '/parts/../../secret',
    '/%2e%2e/secret',
    '/..%2fsecret',
    '/parts/%2e%2e%2f%2e%2e%2fsecret',
    '//etc/passwd',
    '/parts',
    '/parts/',
    '/index.html%00.js',
    '/%ff',
    '/window/..%2f..%2fsecret',
    '/__proto__',
    'http://evil.example/',
    '*',
  ])('for %s finds nothing', async (path) => {
    const answer = await ask(path, { cookie: cookie() });
    expect(answer.status).toBe(404);
    expectSentence(answer);
  });

  it('that is no HTTP is cut off, and the next one is answered', async () => {
    const { connect } = await import('node:net');
    const socket = connect(server.port, '127.0.0.1').on('error', () => {});
    socket.end('nothing that is known\r\n\r\n');
    await once(socket.resume(), 'close');
    expect((await ask('/', { cookie: cookie() })).status).toBe(200);
  });
});

describe('a page', () => {
  it('comes with everything that keeps other pages out', async () => {
    const { headers } = await ask('/', { cookie: cookie() });
    expect(headers).toMatchObject({
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy':
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-embedder-policy': 'require-corp',
      'cross-origin-resource-policy': 'same-origin',
      'cache-control': 'no-cache',
    });
  });

  it('is not sent again to who has it', async () => {
    const { headers, body } = await ask('/parts/app.js', { cookie: cookie() });
    expect({ type: headers['content-type'], body }).toEqual({
      type: 'text/javascript; charset=utf-8',
      body: 'export {};',
    });
    const again = await ask('/parts/app.js', { cookie: cookie(), 'if-none-match': headers.etag ?? '' });
    expect(again).toMatchObject({ status: 304, body: '' });
  });

  it('is the same at the addresses by which a desktop tells windows apart', async () => {
    const [first, second] = [
      await ask('/', { cookie: cookie() }),
      await ask('/window/gimp', { cookie: cookie() }),
    ];
    expect(second.body).toBe(first.body);
  });

  it('is described without its content to who asks for that', async () => {
    const answer = await ask('/', { cookie: cookie() }, 'HEAD');
    expect(answer).toMatchObject({ status: 200, body: '' });
    expect(Number(answer.headers['content-length'])).toBeGreaterThan(10);
  });

  it('of the app is passed on, and what an application shows is kept nowhere', async () => {
    const icon = await ask('/icons/app/x', { cookie: cookie() });
    expect(icon).toMatchObject({ status: 200, body: 'picture of /icons/app/x' });
    expect(icon.headers['content-type']).toBe('image/png');
    expect((await ask('/thumbnails/live/x', { cookie: cookie() })).headers['cache-control']).toBe('no-store');
    expect((await ask('/icons/none', { cookie: cookie() })).status).toBe(404);
    const defect = await ask('/icons/defect', { cookie: cookie() });
    expect(defect.status).toBe(500);
    expectSentence(defect);
  });
});

describe("a window's WebSocket", () => {
  async function opened(path = '/ipc'): Promise<WebSocket> {
    const socket = socketAt(path);
    await once(socket, 'open');
    return socket;
  }

  it('carries calls and events', async () => {
    const socket = await opened();
    socket.send(JSON.stringify({ id: 7, call: 'state.get', args: [1] }));
    const [answer] = await once(socket, 'message');
    const [window = ''] = windows.keys();
    expect(JSON.parse(String(answer))).toEqual({ id: 7, result: { window, name: 'state.get', args: [1] } });
    windows.get(window)?.('go', { kind: 'settings' });
    const [event] = await once(socket, 'message');
    expect(JSON.parse(String(event))).toEqual({ event: 'go', value: { kind: 'settings' } });
    socket.close();
    await once(socket, 'close');
    await expect.poll(() => closed).toEqual([window]);
  });

  it('has the id of the window only where a window is expected', async () => {
    server.expectWindow('w1');
    const [known, unknown] = [await opened('/ipc?window=w1'), await opened('/ipc?window=w2')];
    await expect.poll(() => [...windows.keys()].sort()).toEqual([expect.stringMatching(/^browser-/), 'w1']);
    known.terminate();
    unknown.terminate();
  });

  it('takes the place of an earlier one of the same window', async () => {
    server.expectWindow('w1');
    const first = await opened('/ipc?window=w1');
    const second = await opened('/ipc?window=w1');
    await once(first, 'close');
    await expect.poll(() => closed).toContain('w1');
    second.send(JSON.stringify({ id: 1, call: 'x', args: [] }));
    const [answer] = await once(second, 'message');
    expect(JSON.parse(String(answer)).result.window).toBe('w1');
    expect([...windows.keys()]).toEqual(['w1']);
    second.terminate();
  });

  it.each([
    ['another page', { origin: 'http://evil.example' }],
    ['no page', { origin: '' }],
    ['another port', { origin: 'http://127.0.0.1:1' }],
    ['a rebound name', { host: 'evil.example' }],
  ])('from %s is refused', async (_what, headers) => {
    expect(await statusOf(socketAt('/ipc', headers as Record<string, string>))).toBe(403);
    expect(await statusOf(socketAt('/screen/running', headers as Record<string, string>))).toBe(403);
    expect(windows.size).toBe(0);
  });

  it('without a session is told so', async () => {
    for (const path of ['/ipc', '/screen/running']) {
      const end = await endOf(socketAt(path, { cookie: '' }));
      expect(end).toEqual({ code: 4401, reason: 'This page belongs to an earlier run of Torpor.' });
    }
    expect(windows.size).toBe(0);
  });

  it.each(['/', '/other', '/screen/', '/screen/..%2f..%2fsecret', '/screen/a/b'])(
    'at %s is not there',
    async (path) => {
      expect(await statusOf(socketAt(path))).toBe(404);
    },
  );

  it.each(['not JSON', '[]', 'null', '{"id":1}', '{"id":"1","call":"x","args":[]}', Buffer.from([1, 2])])(
    'is closed by the message %j, and the others live on',
    async (message) => {
      const other = await opened();
      const socket = await opened();
      socket.send(message);
      expect(await endOf(socket)).toMatchObject({ code: 4400 });
      other.send(JSON.stringify({ id: 1, call: 'x', args: [] }));
      await once(other, 'message');
      other.terminate();
    },
  );

  it('is closed by a message that is too large', async () => {
    const socket = await opened();
    socket.send(JSON.stringify({ id: 1, call: 'x', args: ['x'.repeat(2 << 20)] }));
    expect(await endOf(socket)).toMatchObject({ code: 1009 });
  });

  it('that reads slowly is told the last state, and not all between', async () => {
    const socket = await opened();
    const [send] = windows.values();
    socket.pause();
    const filler = 'x'.repeat(4 << 20);
    for (let count = 1; count <= 40; count++) send?.('state', { count, filler } as never);
    await sleep(100);
    const counts: number[] = [];
    socket.on('message', (data) => counts.push(JSON.parse(String(data)).value.count));
    socket.resume();
    await expect.poll(() => counts.at(-1)).toBe(40);
    expect(counts.length).toBeLessThan(10);
    socket.terminate();
  });
});

describe('a screen', () => {
  async function opened(): Promise<WebSocket> {
    const connected = once(screens, 'connection');
    const socket = socketAt('/screen/running');
    await Promise.all([once(socket, 'open'), connected]);
    return socket;
  }

  it('is the bytes of its socket, both ways, also those that are sent at once', async () => {
    const connected = once(screens, 'connection');
    const socket = socketAt('/screen/running');
    await once(socket, 'open');
    socket.send(Buffer.from([1, 2, 3]));
    await connected;
    const [fromWindow] = await once(screen, 'data');
    expect([...fromWindow]).toEqual([1, 2, 3]);
    screen.write(Buffer.from([0, 255, 10]));
    const [toWindow, isBinary] = await once(socket, 'message');
    expect([...toWindow, isBinary]).toEqual([0, 255, 10, true]);
    socket.terminate();
    await once(screen, 'close');
  });

  it('that does not run is told so in a sentence', async () => {
    expect(await endOf(socketAt('/screen/other'))).toEqual({
      code: 4404,
      reason: 'other does not run, so it has no screen.',
    });
  });

  it('that ends is told so', async () => {
    const socket = await opened();
    screen.destroy();
    expect(await endOf(socket)).toEqual({ code: 4404, reason: 'The screen has ended.' });
  });

  it('waits for a window that reads slowly, and goes on when it reads', { timeout: 60_000 }, async () => {
    const socket = await opened();
    socket.pause();
    const chunk = Buffer.alloc(64 << 10, 7);
    let written = 0;
    const total = 64 << 20;
    const pump = () => {
      while (written < total) {
        written += chunk.length;
        if (!screen.write(chunk)) return;
      }
    };
    screen.on('drain', pump);
    pump();
    await sleep(500);
    const stalled = written;
    expect(stalled).toBeLessThan(32 << 20);
    await sleep(300);
    expect(written).toBe(stalled);

    let received = 0;
    socket.on('message', (data) => {
      received += (data as Buffer).length;
    });
    socket.resume();
    await expect.poll(() => received, { timeout: 30_000 }).toBe(total);
    socket.terminate();
  });

  it('makes a window wait that sends faster than it reads', { timeout: 60_000 }, async () => {
    const socket = await opened();
    screen.pause();
    const chunk = Buffer.alloc(512 << 10, 7);
    const total = 64 << 20;
    for (let sent = 0; sent < total; sent += chunk.length) socket.send(chunk);
    await sleep(500);
    const waiting = socket.bufferedAmount;
    expect(waiting).toBeGreaterThan(16 << 20);
    let received = 0;
    screen.on('data', (bytes) => {
      received += bytes.length;
    });
    screen.resume();
    await expect.poll(() => received, { timeout: 30_000 }).toBe(total);
    socket.terminate();
  });

  it('takes no text', async () => {
    const socket = await opened();
    socket.send('text');
    expect(await endOf(socket)).toMatchObject({ code: 4400 });
  });

  it('passes a key press on within a few milliseconds', async () => {
    const socket = await opened();
    screen.on('data', (bytes) => screen.write(bytes));
    const times: number[] = [];
    for (let round = 0; round < 200; round++) {
      const start = performance.now();
      socket.send(Buffer.from([round]));
      await once(socket, 'message');
      times.push(performance.now() - start);
    }
    const median = times.sort((a, b) => a - b)[100] ?? 0;
    console.log(`there and back through the server: ${median.toFixed(2)} ms (median of 200)`);
    expect(median).toBeLessThan(10);
    socket.terminate();
  });
});
