/**
 * What a window can load: the renderer's files, and through the app icons and pictures. The loopback server and Electron's
 * own scheme answer with the same.
 */
import { createHash } from 'node:crypto';
import { type Dirent, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { extname, join, relative, sep } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import { securityHeaders } from './headers.ts';
import { refusal } from './refusal.ts';

const types: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.map': 'application/json',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.woff2': 'font/woff2',
};
const fromApp = /^\/(icons|thumbnails|pictures)\//;
/** A window's own address below this is the page as well: desktops tell windows apart by it. */
const windowPath = /^\/window\/[\w.-]*$/;

export class Pages {
  /** By address. What is not listed at the start is not there, so that no address leads out of the folder. */
  readonly #files: ReadonlyMap<string, string>;
  readonly #fromApp: (request: Request) => Promise<Response>;

  /**
   * @param folder of the renderer, as built
   * @throws TorporError where it is not built
   */
  constructor(folder: string, app: { fetch(request: Request): Promise<Response> }) {
    this.#files = listFiles(folder);
    this.#fromApp = (request) => app.fetch(request);
  }

  /** Never rejects; what there is not, and what fails, is answered with a page that says so. */
  async answer(request: Request): Promise<Response> {
    const languages = request.headers.get('accept-language') ?? '';
    const path = decodedPath(request.url);
    if (path === undefined) return refusal('not-found', languages);
    try {
      if (fromApp.test(path)) return await this.#appAnswer(request);
      const file = this.#files.get(path === '/' || windowPath.test(path) ? '/index.html' : path);
      if (file === undefined) return refusal('not-found', languages);
      const bytes = await readFile(file);
      return withTag(request, bytes, {
        ...securityHeaders(),
        'content-type': types[extname(file)] ?? 'application/octet-stream',
        // Asked for again each time: the app may be another one by then, and it is only as far away as this machine.
        'cache-control': 'no-cache',
      });
    } catch (error) {
      console.error(`torpor: ${path} could not be shown:`, error);
      return refusal('defect', languages);
    }
  }

  async #appAnswer(request: Request): Promise<Response> {
    const { status, headers, body } = await this.#fromApp(request);
    const bytes = new Uint8Array(await new Response(body).arrayBuffer());
    const type = headers.get('content-type') ?? 'application/octet-stream';
    const isIcon = new URL(request.url).pathname.startsWith('/icons/');
    return withTag(
      request,
      bytes,
      {
        ...securityHeaders(),
        'content-type': type,
        // What an application shows is private: it is not left in the browser's files.
        'cache-control': isIcon && status === 200 ? 'private, max-age=60' : 'no-store',
      },
      status,
    );
  }
}

function listFiles(folder: string): Map<string, string> {
  let entries: Dirent[];
  try {
    entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  } catch (error) {
    throw new TorporError(
      'failed',
      `The windows are not built: ${folder} cannot be read (${(error as Error).message}).`,
      'Run `npm start` or `npm run build`.',
      {},
      { cause: error },
    );
  }
  return new Map(
    entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .map((path) => [`/${relative(folder, path).split(sep).join('/')}`, path]),
  );
}

function decodedPath(address: string): string | undefined {
  try {
    const path = decodeURIComponent(new URL(address).pathname);
    return path.includes('\0') ? undefined : path;
  } catch {
    return undefined;
  }
}

function withTag(
  request: Request,
  bytes: Uint8Array,
  headers: Record<string, string>,
  status = 200,
): Response {
  const etag = `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 22)}"`;
  if (status === 200 && request.headers.get('if-none-match') === etag)
    return new Response(null, { status: 304, headers: { ...headers, etag } });
  return new Response(new Uint8Array(bytes), { status, headers: { ...headers, etag } });
}
