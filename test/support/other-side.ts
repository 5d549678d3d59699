/** A server outside that a program under test is connected to. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { promisify } from 'node:util';
import { expect, vi } from 'vitest';

const run = promisify(execFile);
const soon = { timeout: 20_000, interval: 50 };

/** The other side of a connection, outside. */
export class OtherSide implements AsyncDisposable {
  readonly #server: Server;
  socket: Socket | undefined;
  heard = '';
  closed = false;

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket) => {
      this.socket = socket;
      socket.setEncoding('utf8').on('data', (text: string) => {
        this.heard += text;
      });
      socket.on('error', () => {});
      socket.on('close', () => {
        this.closed = true;
      });
    });
  }

  static async listen(host = '127.0.0.1'): Promise<OtherSide> {
    const server = createServer({ allowHalfOpen: true });
    server.listen({ host, port: 0 });
    await once(server, 'listening');
    return new OtherSide(server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  say(line: string): void {
    this.socket?.write(`${line}\n`);
  }

  hears(text: string): Promise<void> {
    return vi.waitFor(() => expect(this.heard).toBe(text), soon);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.socket?.destroy();
    this.#server.close();
  }
}

/** The tables of nftables by which CRIU keeps packets of connections away. */
export async function locks(): Promise<string[]> {
  return (await run('nft', ['list', 'tables'])).stdout.match(/CRIU-\S+/g) ?? [];
}
