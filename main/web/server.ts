/**
 * The windows over HTTP, on this machine's loopback address only, for the Chromium shell and for a browser that the user
 * opens. Every user of the machine can connect here, and so can every web page in the user's browser, so each request must
 * show a session: a token in the first address is exchanged for one, once, and moves into a cookie. Host (against
 * rebinding of names) and Origin (against other pages) are looked at first. A cookie is sent to every port of a host; a
 * server of another user's at 127.0.0.1 that the user visits could see it, which is why it is a session of this run only.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import type { Place } from '../ipc/view.ts';
import type { WindowHost } from '../shells/shell.ts';
import { type Channel, closeCodes, serveWindow } from './ipc-channel.ts';
import { Pages } from './pages.ts';
import { type Refusal, refusal } from './refusal.ts';
import { serveScreen } from './screen-channel.ts';
import { Keys } from './tokens.ts';

/** Larger than any call, smaller than what would hurt. */
const mostMessageBytes = 1 << 20;

export interface WebServerOptions {
  host: WindowHost;
  /** The renderer, as built. */
  pages: string;
  /** 0, the default, for one that is free. */
  port?: number;
}

export class WebServer implements AsyncDisposable {
  readonly #host: WindowHost;
  readonly #pages: Pages;
  readonly #server: Server;
  readonly #keys = new Keys();
  readonly #sockets = new WebSocketServer({
    noServer: true,
    maxPayload: mostMessageBytes,
    perMessageDeflate: false,
    clientTracking: true,
  });
  /** Ids that windows of a shell of ours may have; each is one connection's at a time. */
  readonly #expected = new Set<string>();
  readonly #connected = new Map<string, WebSocket>();
  /** The window that the user has last done something in. */
  #latest: { web: WebSocket; tell: Channel['tell'] } | undefined;
  #port = 0;

  private constructor({ host, pages }: WebServerOptions) {
    this.#host = host;
    this.#pages = new Pages(pages, host);
    this.#server = createServer({ headersTimeout: 10_000, requestTimeout: 20_000 }, (request, response) => {
      void this.#answer(request, response);
    });
    this.#server.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
    this.#server.on('clientError', (_error, socket) => socket.destroy());
  }

  /** Listens from now on. @throws TorporError where the windows are not built */
  static async start(options: WebServerOptions): Promise<WebServer> {
    const server = new WebServer(options);
    server.#server.listen(options.port ?? 0, '127.0.0.1');
    await once(server.#server, 'listening');
    server.#port = (server.#server.address() as AddressInfo).port;
    return server;
  }

  get port(): number {
    return this.#port;
  }

  get origin(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Cookies know no ports, so their name does. */
  get cookieName(): string {
    return `torpor-${this.#port}`;
  }

  /** A new session, for a browser of ours that takes its cookie without an address. */
  newSession(): string {
    return this.#keys.newSession();
  }

  /** An address that opens the windows once. @param lasting it is shown to the user; otherwise it is good for a minute */
  newAddress({ lasting }: { lasting: boolean }): string {
    return `${this.origin}/?token=${this.#keys.newToken({ lasting })}`;
  }

  /** Lets a window connect under this id, which it gives as `/ipc?window=ID`. */
  expectWindow(window: string): void {
    this.#expected.add(window);
  }

  forgetWindow(window: string): void {
    this.#expected.delete(window);
  }

  /** Takes the window that was used last to a place. @returns whether there is one */
  go(place: Place): boolean {
    const latest = this.#latest;
    if (latest === undefined || latest.web.readyState !== latest.web.OPEN) return false;
    latest.tell('go', place);
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#server.closeAllConnections();
    await closed;
  }

  // ---- pages ----

  async #answer(message: IncomingMessage, response: ServerResponse): Promise<void> {
    message.resume();
    const languages = message.headers['accept-language'] ?? '';
    const refuse = (kind: Refusal) => write(message, response, refusal(kind, languages));
    const refused = this.#refusedBefore(message);
    if (refused !== undefined) return refuse(refused);
    const address = this.#addressOf(message);
    if (address === undefined) return refuse('not-found');
    const token = address.searchParams.get('token');
    if (token !== null) return this.#exchange(message, response, address, token);
    if (!this.#hasSession(message)) return refuse('no-session');
    if (message.method !== 'GET' && message.method !== 'HEAD') return refuse('method');
    const headers = new Headers();
    for (const name of ['accept-language', 'if-none-match'] as const) {
      const value = message.headers[name];
      if (value !== undefined) headers.set(name, value);
    }
    return write(message, response, await this.#pages.answer(new Request(address, { headers })));
  }

  #exchange(message: IncomingMessage, response: ServerResponse, address: URL, token: string): Promise<void> {
    // Only a visit uses a token up; not what a chat program does to show a link's title.
    const session = message.method === 'GET' ? this.#keys.exchange(token) : undefined;
    // Who has a session already and goes back to the first address is let in with it.
    if (session === undefined && !this.#hasSession(message))
      return write(message, response, refusal('used-token', message.headers['accept-language']));
    address.searchParams.delete('token');
    const target = `${address.pathname}${address.search}`;
    const headers = new Headers({ 'cache-control': 'no-store', 'referrer-policy': 'no-referrer' });
    if (session !== undefined)
      headers.set('set-cookie', `${this.cookieName}=${session}; HttpOnly; SameSite=Strict; Path=/`);
    // Followed from another page or a file, a redirect would not carry the cookie yet; a page of ours that goes on does.
    if (message.headers['sec-fetch-site'] === 'cross-site') {
      headers.set('content-type', 'text/html; charset=utf-8');
      return write(message, response, new Response(goingOn(target), { headers }));
    }
    headers.set('location', target);
    return write(message, response, new Response(null, { status: 303, headers }));
  }

  /** What is wrong with a request whoever it comes from. */
  #refusedBefore({ headers, method }: IncomingMessage): 'wrong-host' | 'wrong-origin' | undefined {
    if (!this.#ourHosts().includes(headers.host ?? '')) return 'wrong-host';
    const isReading = method === 'GET' || method === 'HEAD';
    if (headers.origin !== undefined || !isReading) {
      if (headers.origin !== `http://${headers.host}`) return 'wrong-origin';
    }
    return undefined;
  }

  #ourHosts(): string[] {
    return [`127.0.0.1:${this.#port}`, `localhost:${this.#port}`];
  }

  #addressOf({ url = '' }: IncomingMessage): URL | undefined {
    if (!url.startsWith('/') || url.startsWith('//')) return undefined;
    return URL.canParse(url, this.origin) ? new URL(url, this.origin) : undefined;
  }

  #hasSession({ headers }: IncomingMessage): boolean {
    const cookies = (headers.cookie ?? '').split(';').map((cookie) => cookie.trim());
    return cookies
      .filter((cookie) => cookie.startsWith(`${this.cookieName}=`))
      .map((cookie) => cookie.slice(this.cookieName.length + 1))
      .some((session) => this.#keys.isSession(session));
  }

  // ---- WebSockets ----

  #upgrade(message: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => {});
    const address = this.#addressOf(message);
    const { host, origin } = message.headers;
    if (!this.#ourHosts().includes(host ?? '') || origin !== `http://${host}` || address === undefined) {
      // A browser's script cannot read this; a person who tries by hand can.
      socket.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
      return;
    }
    const screen = /^\/screen\/([\w-]{1,100})$/.exec(address.pathname)?.[1];
    if (screen === undefined && address.pathname !== '/ipc') {
      socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
      return;
    }
    (socket as Socket).setNoDelay(true);
    const isLetIn = this.#hasSession(message);
    this.#sockets.handleUpgrade(message, socket, head, (web) => {
      if (!isLetIn) web.close(closeCodes.noSession, 'This page belongs to an earlier run of Torpor.');
      else if (screen !== undefined) void serveScreen(web, this.#host.screenSocket(screen));
      else this.#serveWindow(web, address.searchParams.get('window'));
    });
  }

  #serveWindow(web: WebSocket, asked: string | null): void {
    const isExpected = asked !== null && this.#expected.has(asked);
    const window = isExpected ? asked : `browser-${randomBytes(6).toString('hex')}`;
    const before = this.#connected.get(window);
    this.#connected.set(window, web);
    web.once('close', () => {
      if (this.#connected.get(window) === web) this.#connected.delete(window);
    });
    if (before === undefined) {
      this.#serve(web, window);
      return;
    }
    // A page that was loaded again connects before its old connection is known to have ended.
    web.pause();
    before.once('close', () => {
      web.resume();
      this.#serve(web, window);
    });
    before.terminate();
  }

  #serve(web: WebSocket, window: string): void {
    serveWindow(web, window, this.#host, (tell) => {
      this.#latest = { web, tell };
    });
  }
}

/** @param target a path of ours as URL has encoded it, without quotes or angle brackets */
const goingOn = (target: string) =>
  `<!doctype html><meta charset="utf-8"><title>Torpor</title><meta http-equiv="refresh" content="0;url=${target.replaceAll('&', '&amp;')}">\n`;

async function write(message: IncomingMessage, response: ServerResponse, answer: Response): Promise<void> {
  const bytes = Buffer.from(await answer.arrayBuffer());
  for (const [name, value] of answer.headers) response.setHeader(name, value);
  response.writeHead(answer.status, answer.status === 304 ? {} : { 'content-length': bytes.length });
  response.end(message.method === 'HEAD' || answer.status === 304 ? undefined : bytes);
}
