/** The RFB client against a real Xvnc with a real xterm, and against servers that mean no good. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { TorporError } from '../../api/errors.ts';
import { connectRfb } from '../../api/rfb/client.ts';
import { comparePictures, cropPicture } from '../../api/rfb/picture.ts';
import { waitForChange, waitForStableScreen } from '../support/screen.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp('/tmp/torpor-rfb-');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 3000);
  await ended;
  clearTimeout(timer);
}

interface XServer {
  readonly path: string;
  readonly display: string;
  readonly child: ChildProcess;
}

const isSocket = (path: string) =>
  stat(path).then(
    (found) => found.isSocket(),
    () => false,
  );

/**
 * An X server on a free display. The number is tried, because with `-displayfd` servers ignore each other's lock files
 * and take each other's sockets.
 */
async function startXvnc(name: string, options: readonly string[] = []): Promise<XServer> {
  const path = join(folder, name);
  for (let attempt = 0; attempt < 10; attempt++) {
    const number = 200 + Math.floor(Math.random() * 700);
    const display = `:${number}`;
    if (existsSync(`/tmp/.X${number}-lock`) || existsSync(`/tmp/.X11-unix/X${number}`)) continue;
    const child = spawn(
      'Xtigervnc',
      [
        ...[display, '-nolisten', 'tcp', '-nolisten', 'local', '-rfbunixpath', path],
        ...['-rfbunixmode', '0600', '-SecurityTypes', 'None', '-rfbport', '-1', '-AlwaysShared', '-noreset'],
        ...['-geometry', '800x600', '-depth', '24', '-desktop', 'a screen — for tests', ...options],
      ],
      { stdio: 'ignore' },
    );
    const deadline = Date.now() + 10_000;
    while (child.exitCode === null && Date.now() < deadline) {
      if ((await isSocket(path)) && (await isSocket(`/tmp/.X11-unix/X${number}`)))
        return { path, display, child };
      await sleep(20);
    }
    await end(child);
  }
  throw new Error('no X server came up');
}

describe('with Xvnc and xterm', () => {
  let server: XServer;
  let terminal: ChildProcess;
  const typedFile = () => join(folder, 'typed');

  // `tee` shows and keeps every line it is sent; without a window manager the pointer decides who gets the keys. It is
  // drawn into the picture, and xterm would hide it while something is typed.
  const startTerminal = () =>
    spawn(
      'xterm',
      [
        '-geometry',
        '80x24+0+0',
        '-bc',
        '-u8',
        '-xrm',
        '*cursorBlink: false',
        '-xrm',
        '*pointerMode: 0',
        '-bg',
        '#f0e0d0',
        '-e',
        'tee',
        typedFile(),
      ],
      {
        env: { ...process.env, DISPLAY: server.display, LC_ALL: 'C.UTF-8' },
        stdio: 'ignore',
      },
    );

  beforeEach(async () => {
    server = await startXvnc('xvnc');
    terminal = startTerminal();
    await using screen = await connectRfb(server.path);
    // The X server's own screen is black there, the terminal is not; both are drawn once and then left alone.
    const within = AbortSignal.timeout(10_000);
    while (cropPicture(await screen.capture(), { x: 100, y: 50, width: 1, height: 1 }).rgb[0] === 0) {
      await sleep(50, undefined, { signal: within });
    }
    await screen.pointer(200, 150);
    await waitForStableScreen(server.path);
  });

  afterEach(async () => {
    await end(terminal);
    await end(server.child);
  });

  it('tells name and size', async () => {
    await using screen = await connectRfb(server.path);
    expect([screen.name, screen.width, screen.height]).toEqual(['a screen — for tests', 800, 600]);
  });

  it('captures the same screen twice to the pixel, also over two connections', async () => {
    await using first = await connectRfb(server.path);
    await using second = await connectRfb(server.path);
    const pictures = [await first.capture(), await first.capture(), await second.capture()] as const;
    expect(pictures[0]).toMatchObject({ width: 800, height: 600 });
    expect(comparePictures(pictures[0], pictures[1])).toEqual({ equal: true, differentPixels: 0 });
    expect(comparePictures(pictures[0], pictures[2])).toEqual({ equal: true, differentPixels: 0 });
    expect([...cropPicture(pictures[0], { x: 100, y: 50, width: 1, height: 1 }).rgb]).toEqual([
      0xf0, 0xe0, 0xd0,
    ]);
  });

  it('types text, and the screen shows it in the place where it belongs', async () => {
    const before = await waitForStableScreen(server.path);
    await using screen = await connectRfb(server.path);
    await screen.type('Hello, World! {[|~@#]}');
    await waitForChange(server.path, before);
    const typed = await waitForStableScreen(server.path);
    const { differentPixels, box } = comparePictures(before, typed);
    expect(differentPixels).toBeGreaterThan(100);
    expect(box?.height).toBeLessThan(30);
    // Return makes `tee` repeat the line: the second line then shows the same pixels as the first.
    await screen.type('\n');
    await waitForChange(server.path, typed);
    const repeated = await waitForStableScreen(server.path);
    const row = { x: 2, width: 23 * 6 };
    const lines = [0, 1].map((line) => cropPicture(repeated, { ...row, y: 2 + line * 13, height: 13 }));
    expect(lines.map((line) => line.rgb.some((byte) => byte !== line.rgb[0]))).toEqual([true, true]);
    expect(comparePictures(...(lines as [(typeof lines)[0], (typeof lines)[0]])).differentPixels).toBe(0);
  });

  // "QUICK" made the server turn Caps Lock on, and the first character of all was lost.
  it.each(['λßλ', 'QUICK λß', 'The QUICK {[|~@#]} ÄäÖß€λЖ中 αβγδε ñ 😀 aλaλa'])(
    'types %s, and the application gets just that',
    async (text) => {
      await using screen = await connectRfb(server.path);
      await screen.type(`${text}\n`.repeat(3));
      await waitForStableScreen(server.path);
      expect(await readFile(typedFile(), 'utf8')).toBe(`${text}\n`.repeat(3));
    },
  );

  it('presses chords: ctrl+u takes the line away again', async () => {
    const before = await waitForStableScreen(server.path);
    await using screen = await connectRfb(server.path);
    await screen.type('äß€λ');
    await waitForChange(server.path, before);
    await screen.press('ctrl+u');
    await waitForStableScreen(server.path);
    expect(comparePictures(before, await screen.capture())).toEqual({ equal: true, differentPixels: 0 });
  });

  it('does with single keys what typing does', async () => {
    await using screen = await connectRfb(server.path);
    const before = await waitForStableScreen(server.path);
    await screen.key(0x78, true);
    await screen.key(0x78, false);
    await waitForChange(server.path, before);
    await screen.press('BackSpace');
    await waitForStableScreen(server.path);
    expect(comparePictures(before, await screen.capture()).equal).toBe(true);
  });

  it('clicks: a double click selects a word', async () => {
    await using screen = await connectRfb(server.path);
    await screen.type('word');
    const before = await waitForStableScreen(server.path);
    await screen.click(12, 8);
    await screen.click(12, 8);
    await screen.pointer(200, 150);
    await waitForStableScreen(server.path);
    const { differentPixels } = comparePictures(before, await screen.capture());
    expect(differentPixels).toBeGreaterThan(100);
  });

  it('follows a resize, its own and that of another', async () => {
    await using screen = await connectRfb(server.path);
    await using other = await connectRfb(server.path);
    await screen.setDesktopSize(1024, 700);
    expect([screen.width, screen.height]).toEqual([1024, 700]);
    expect(await screen.capture()).toMatchObject({ width: 1024, height: 700 });
    expect(await other.capture()).toMatchObject({ width: 1024, height: 700 });
    await screen.setDesktopSize(1024, 700);
    await screen.setDesktopSize(640, 480);
    await other.pointer(600, 400);
    expect([other.width, other.height]).toEqual([640, 480]);
    expect((await other.capture()).rgb.length).toBe(640 * 480 * 3);
  });

  it('survives being resized by another while it captures', async () => {
    await using screen = await connectRfb(server.path);
    await using other = await connectRfb(server.path);
    for (const size of [500, 900, 510, 910, 520]) {
      const [picture] = await Promise.all([screen.capture(), other.setDesktopSize(size, size)]);
      expect(picture.rgb.length).toBe(picture.width * picture.height * 3);
    }
    expect(await screen.capture()).toMatchObject({ width: 520, height: 520 });
  });

  it('takes calls made at once in their order', async () => {
    await using screen = await connectRfb(server.path);
    const before = await waitForStableScreen(server.path);
    const [typed, picture] = await Promise.all([screen.type('abc'), screen.capture(), screen.press('d')]);
    expect(typed).toBeUndefined();
    expect(picture.width).toBe(800);
    expect(comparePictures(before, await waitForChange(server.path, before)).equal).toBe(false);
  });

  it('refuses usage that makes no sense, and goes on', async () => {
    await using screen = await connectRfb(server.path);
    const before = await waitForStableScreen(server.path);
    await expect(screen.type('typed\u0000')).rejects.toMatchObject({ code: 'usage' });
    await expect(screen.press('nokey')).rejects.toMatchObject({ code: 'usage' });
    await expect(screen.pointer(800, 10)).rejects.toMatchObject({ code: 'usage' });
    await expect(screen.setDesktopSize(0, 10)).rejects.toMatchObject({ code: 'usage' });
    await expect(screen.setDesktopSize(16_384, 16_384)).rejects.toMatchObject({ code: 'usage' });
    expect(comparePictures(before, await screen.capture()).equal).toBe(true);
  });

  it('says so when the server dies under it, to this call and to later ones', async () => {
    await using screen = await connectRfb(server.path);
    const died = once(server.child, 'exit');
    server.child.kill('SIGKILL');
    await died;
    await expect(screen.capture()).rejects.toMatchObject({ code: 'failed' });
    await expect(screen.type('x')).rejects.toThrow(server.path);
  });

  it('rejects what waits when it is ended', async () => {
    const screen = await connectRfb(server.path);
    const waiting = expect(screen.capture()).rejects.toThrow('was ended');
    await screen[Symbol.asyncDispose]();
    await waiting;
    await screen[Symbol.asyncDispose]();
    await expect(screen.capture()).rejects.toThrow('was ended');
  });
});

describe('with an Xvnc that does not let itself be resized', () => {
  it('tells the refusal and goes on', async () => {
    const server = await startXvnc('fixed', ['-AcceptSetDesktopSize=0']);
    try {
      await using screen = await connectRfb(server.path);
      await expect(screen.setDesktopSize(640, 480)).rejects.toThrow(
        'was not resized to 640x480: resizing is not allowed',
      );
      expect(await screen.capture()).toMatchObject({ width: 800, height: 600 });
    } finally {
      await end(server.child);
    }
  });
});

describe('where no screen answers', () => {
  it('names a socket that is not there, and one that nobody listens on', async () => {
    await expect(connectRfb(join(folder, 'nothing'))).rejects.toThrow('nothing listens there');
    await expect(connectRfb(folder)).rejects.toBeInstanceOf(TorporError);
    await expect(connectRfb(join(folder, 'x'.repeat(300)))).rejects.toBeInstanceOf(TorporError);
  });

  it.runIf(process.getuid?.() === 0)('is not permitted on the socket of another user', async () => {
    const path = join(folder, 'private');
    const server = createServer().listen(path);
    await once(server, 'listening');
    await chmod(path, 0o600);
    await chown(folder, 65_534, 65_534);
    process.seteuid?.(65_534);
    try {
      await expect(connectRfb(path)).rejects.toMatchObject({ code: 'not-permitted' });
    } finally {
      process.seteuid?.(0);
      server.close();
    }
  });
});

/** A greeting up to and with ServerInit, for a screen of this size. */
function greeting(width: number, height: number): Buffer {
  const init = Buffer.alloc(24);
  init.writeUInt16BE(width, 0);
  init.writeUInt16BE(height, 2);
  return Buffer.concat([Buffer.from('RFB 003.008\n'), Buffer.from([1, 1, 0, 0, 0, 0]), init]);
}

function rectangle(x: number, y: number, width: number, height: number, encoding: number): Buffer {
  const bytes = Buffer.alloc(12);
  [x, y, width, height].forEach((value, index) => {
    bytes.writeUInt16BE(value, index * 2);
  });
  bytes.writeInt32BE(encoding, 8);
  return bytes;
}

const update = (count: number, ...parts: Buffer[]) =>
  Buffer.concat([Buffer.from([0, 0, 0, count]), ...parts]);

describe('with a server that means no good', () => {
  let server: Server;
  const sockets = new Set<Socket>();
  const path = () => join(folder, 'hostile');

  async function serve(answer: (socket: Socket) => void): Promise<void> {
    server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('data', () => {});
      answer(socket);
    }).listen(path());
    await once(server, 'listening');
  }

  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
    await new Promise((resolve) => server.close(resolve));
  });

  /** What connecting, or then capturing, is rejected with; well within two seconds. */
  async function failure(timeoutMs = 5000): Promise<TorporError> {
    const startedAt = performance.now();
    const error = await (async () => {
      await using screen = await connectRfb(path(), { timeoutMs });
      return await screen.capture();
    })().catch((thrown: unknown) => thrown);
    expect(performance.now() - startedAt).toBeLessThan(2000);
    expect(error).toBeInstanceOf(TorporError);
    expect((error as TorporError).message).toContain(path());
    return error as TorporError;
  }

  it.each([
    ['rubbish', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'), 'another protocol'],
    ['an old version', Buffer.from('RFB 003.003\n'), 'old version, 003.003'],
    ['only password security', Buffer.from('RFB 003.008\n\x01\x02', 'latin1'), 'without a password'],
    [
      'a refusal with control characters',
      Buffer.from('RFB 003.008\n\0\0\0\0\x08too\x1b\nbad', 'latin1'),
      'refused the connection: too bad.',
    ],
    [
      'a failed handshake',
      Buffer.from('RFB 003.008\n\x01\x01\0\0\0\x01\0\0\0\x04full', 'latin1'),
      'refused the connection: full.',
    ],
    [
      'an endless reason',
      Buffer.from('RFB 003.008\n\0\xff\xff\xff\xff', 'latin1'),
      'a reason of 4294967295 bytes',
    ],
    ['a screen of 65535x65535', greeting(65_535, 65_535), 'a size of 65535x65535'],
    ['a screen beyond 512 MiB', greeting(16_384, 16_384), 'a size of 16384x16384'],
    ['an empty screen', greeting(0, 600), 'a size of 0x600'],
    ['an unknown message', Buffer.concat([greeting(10, 10), Buffer.from([99])]), 'a message of type 99'],
    [
      'a rectangle outside',
      Buffer.concat([greeting(10, 10), update(1, rectangle(9, 9, 2, 1, 0))]),
      'a rectangle outside of it',
    ],
    [
      'a later size of 65535x65535',
      Buffer.concat([greeting(10, 10), update(1, rectangle(0, 0, 65_535, 65_535, -223))]),
      'a size of 65535x65535',
    ],
    [
      'an encoding that nobody asked for',
      Buffer.concat([greeting(10, 10), update(1, rectangle(0, 0, 10, 10, 16))]),
      'encoding 16',
    ],
    [
      'a clipboard of 4 GiB',
      Buffer.concat([greeting(10, 10), Buffer.from([3, 0, 0, 0, 255, 255, 255, 255])]),
      'a clipboard of 4294967295 bytes',
    ],
  ])('names %s', async (_, bytes, reason) => {
    await serve((socket) => socket.write(bytes));
    expect((await failure()).message).toContain(reason);
  });

  it.each([0, 5, 12, 14, 30, greeting(9, 9).length, greeting(9, 9).length + 7, greeting(9, 9).length + 100])(
    'says that it closed after %i bytes',
    async (length) => {
      const whole = Buffer.concat([
        greeting(9, 9),
        update(1, rectangle(0, 0, 9, 9, 0)),
        Buffer.alloc(9 * 9 * 4),
      ]);
      await serve((socket) => socket.end(whole.subarray(0, length)));
      expect((await failure()).message).toMatch(/closed the connection|connection to the screen/);
    },
  );

  it.each([0, 13, greeting(9, 9).length, greeting(9, 9).length + 100])(
    'does not wait for ever after %i bytes',
    async (length) => {
      const whole = Buffer.concat([
        greeting(9, 9),
        update(1, rectangle(0, 0, 9, 9, 0)),
        Buffer.alloc(9 * 9 * 4),
      ]);
      await serve((socket) => socket.write(whole.subarray(0, length)));
      expect((await failure(300)).message).toContain('did not answer within 0.3 s');
    },
  );

  it('does not listen for ever to one that never comes to the point, nor stops the event loop', async () => {
    const bells = Buffer.alloc(64 * 1024, 2);
    await serve((socket) => {
      const ring = () => {
        while (!socket.destroyed && socket.write(bells));
      };
      socket.on('drain', ring);
      socket.write(greeting(10, 10));
      ring();
    });
    let longest = 0;
    let last = performance.now();
    const timer = setInterval(() => {
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
    }, 10);
    expect((await failure(500)).message).toContain('did not answer');
    clearInterval(timer);
    expect(longest).toBeLessThan(300);
  });

  it('does not go round for ever with sizes that change with every update', async () => {
    await serve((socket) => {
      let size = 10;
      socket.write(greeting(size, size));
      socket.on('data', () => {
        size = 30 - size;
        socket.write(update(1, rectangle(0, 0, size, size, -223)));
      });
    });
    expect((await failure(300)).message).toContain('did not answer');
  });

  it('takes an update that brings a new size and pixels together', async () => {
    await serve((socket) => {
      socket.write(greeting(4, 4));
      const pixels = Buffer.alloc(2 * 3 * 4, 7);
      socket.on('data', (bytes: Buffer) => {
        if (bytes.at(-10) !== 3) return;
        socket.write(update(2, rectangle(0, 0, 2, 3, -223), rectangle(0, 0, 2, 3, 0), pixels));
      });
    });
    await using screen = await connectRfb(path(), { timeoutMs: 1000 });
    const picture = await screen.capture();
    expect([picture.width, picture.height, new Set(picture.rgb)]).toEqual([2, 3, new Set([7])]);
  });

  it('skips bells, colours and copied text before the picture, however it is cut up', async () => {
    const noise = Buffer.concat([
      Buffer.from([2]),
      Buffer.from([1, 0, 0, 0, 0, 2]),
      Buffer.alloc(12),
      Buffer.from([3, 0, 0, 0, 0, 0, 0, 5]),
      Buffer.from('hello'),
    ]);
    const picture = update(1, rectangle(0, 0, 1, 2, 0), Buffer.from([1, 2, 3, 0, 4, 5, 6, 0]));
    const bytes = Buffer.concat([greeting(1, 2), noise, picture]);
    await serve(async (socket) => {
      for (const byte of bytes) {
        socket.write(Uint8Array.of(byte));
        await sleep(1);
      }
    });
    await using screen = await connectRfb(path(), { timeoutMs: 3000 });
    expect([...(await screen.capture()).rgb]).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('says that a screen without a layout has a fixed size', async () => {
    await serve((socket) => {
      socket.write(greeting(4, 4));
      socket.on('data', () => socket.write(update(1, rectangle(0, 0, 1, 1, 0), Buffer.alloc(4))));
    });
    await using screen = await connectRfb(path(), { timeoutMs: 1000 });
    await expect(screen.setDesktopSize(5, 5)).rejects.toThrow('it has a fixed size');
  });
});
