/** Windows of a real X server with a real window manager: where they are, and putting them there again. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { WindowPlacement } from '../../main/shells/placement.ts';
import { placementOnX, placeOnX } from '../../main/shells/x11/windows.ts';
import { parseDisplay, XConnection } from '../../main/x11/connection.ts';
import { TestDisplay } from '../support/display.ts';
import { end } from '../support/programs.ts';

const program = new URL('../fixtures/windows.py', import.meta.url).pathname;
const patience = { timeout: 15_000, interval: 50 };
const isMeant = ({ group }: { group: string }) => group === 'Windows';

describe('a window', () => {
  let display: TestDisplay;
  let child: ChildProcess;
  let id: string;
  const before = process.env.DISPLAY;

  beforeAll(async () => {
    display = await TestDisplay.start();
    process.env.DISPLAY = display.name;
  });
  afterAll(async () => {
    if (before === undefined) delete process.env.DISPLAY;
    else process.env.DISPLAY = before;
    await display[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    child = spawn('python3', [program, '/dev/null'], { stdio: 'ignore' });
    const first = async () => (await display.windows('Windows'))[0]?.id;
    await expect.poll(first, patience).toBeDefined();
    id = (await first()) ?? '';
  });
  afterEach(async () => {
    await end(child, 'SIGKILL');
    await expect.poll(() => display.windows('Windows'), patience).toEqual([]);
  });

  /** As others see it. */
  const there = () => display.place(id);

  it('is found where it is', async () => {
    await display.move(id, { x: 120, y: 80, width: 500, height: 300 });
    await display.toWorkspace(id, 2);
    await expect.poll(there, patience).toMatchObject({ width: 500, height: 300, workspace: 2 });
    const { x, y } = await there();
    // Its frame is around that.
    expect(y).toBeGreaterThan(80);
    const isId = (window: { id: number }) => window.id === Number(id);
    await expect
      .poll(() => placementOnX(isId), patience)
      .toEqual({
        position: { x, y },
        size: { width: 500, height: 300 },
        state: 'normal',
        workspace: 2,
      });
    await display.toWorkspace(id, 0);
    await display.toggleMaximised(id);
    await expect.poll(() => placementOnX(isId), patience).toMatchObject({ state: 'maximised', workspace: 0 });
    expect((await there()).states).toContain('_NET_WM_STATE_MAXIMIZED_VERT');
  });

  const wanted: WindowPlacement = {
    position: { x: 200, y: 150 },
    size: { width: 640, height: 400 },
    state: 'normal',
    workspace: 3,
  };
  const isId = (window: { id: number }) => window.id === Number(id);

  it('is put where it was, from wherever it is', async () => {
    await display.toggleMaximised(id);
    await expect.poll(async () => (await there()).states.length, patience).toBeGreaterThan(1);
    expect(await placeOnX(isId, wanted)).toBe(true);
    expect(await there()).toEqual({ x: 200, y: 150, width: 640, height: 400, workspace: 3, states: [] });
    expect(await placementOnX(isId)).toEqual(wanted);
  });

  it.each([
    ['maximised', '_NET_WM_STATE_MAXIMIZED_HORZ'],
    ['full-screen', '_NET_WM_STATE_FULLSCREEN'],
  ] as const)('is %s again', async (state, atom) => {
    await placeOnX(isId, { ...wanted, state, workspace: 1 });
    const { states, workspace, width } = await there();
    expect({ states, workspace }).toMatchObject({ states: expect.arrayContaining([atom]), workspace: 1 });
    expect(width).toBeGreaterThan(1200);
    expect(await placementOnX(isId)).toMatchObject({ state, workspace: 1 });
  });

  it('is on all workspaces again', async () => {
    await placeOnX(isId, { ...wanted, workspace: 'all' });
    expect((await there()).workspace).toBe(0xffffffff);
    expect(await placementOnX(isId)).toEqual({ ...wanted, workspace: 'all' });
  });

  it('may be on a workspace that there is no more', async () => {
    expect(await placeOnX(isId, { ...wanted, workspace: 77 })).toBe(true);
    expect(await there()).toMatchObject({ x: 200, y: 150, workspace: 0 });
  });

  it('is waited for, and given up where it does not come', async () => {
    expect(await placementOnX(({ group }) => group === 'Nothing')).toBeUndefined();
    expect(await placeOnX(({ group }) => group === 'Nothing', wanted)).toBe(false);
    const placed = placeOnX(({ group }) => group === 'XTerm', { ...wanted, workspace: 2 });
    const terminal = spawn('xterm', [], { stdio: 'ignore' });
    try {
      expect(await placed).toBe(true);
      expect(await placementOnX(({ group }) => group === 'XTerm')).toMatchObject({ workspace: 2 });
    } finally {
      await end(terminal, 'SIGKILL');
    }
  });

  it('may go while it is asked for', async () => {
    using connection = await XConnection.open();
    await end(child, 'SIGKILL');
    await expect.poll(() => display.windows('Windows'), patience).toEqual([]);
    await expect(connection.rectangle(Number(id))).rejects.toThrow(/error 9/);
    expect(await placementOnX(isMeant)).toBeUndefined();
  });
});

describe('an X server', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'torpor-x11-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('lets in who has its cookie', async () => {
    const [key, authority] = [join(folder, 'server'), join(folder, 'client')];
    const [cookie, wrong] = ['0123456789abcdef0123456789abcdef', 'f'.repeat(32)];
    const xauth = (file: string, ...words: string[]) => execFileSync('xauth', ['-q', '-f', file, ...words]);
    xauth(key, 'add', ':0', '.', cookie);
    const server = spawn('Xvfb', ['-displayfd', '3', '-auth', key, '-nolisten', 'tcp', '-noreset'], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    });
    try {
      const [number] = (await once(server.stdio[3] as Readable, 'data')) as [Buffer];
      const DISPLAY = `:${String(number).trim()}`;
      xauth(authority, 'add', ':77', '.', wrong);
      await expect(XConnection.open({ DISPLAY, XAUTHORITY: authority })).rejects.toThrow(/refuses/);
      xauth(authority, 'add', DISPLAY, '.', cookie);
      using connection = await XConnection.open({ DISPLAY, XAUTHORITY: authority });
      expect((await connection.rectangle(connection.root)).width).toBe(1280);
      // What was asked for last is answered as the first was.
      for (let round = 0; round < 70_000; round += 1000)
        await Promise.all(Array.from({ length: 1000 }, () => connection.numbers(connection.root, 'NOTHING')));
      expect(await connection.numbers(connection.root, 'NOTHING')).toEqual([]);
    } finally {
      await end(server, 'SIGTERM');
    }
  });

  it('is not waited for where it does not answer, or is none', async () => {
    await expect(XConnection.open({})).rejects.toThrow('"" is no display');
    await expect(XConnection.open({ DISPLAY: ':9876' })).rejects.toThrow(/ENOENT|ECONNREFUSED/);
    const silent = createServer().listen('/tmp/.X11-unix/X9877');
    await once(silent, 'listening');
    try {
      await expect(XConnection.open({ DISPLAY: ':9877' })).rejects.toThrow(/does not answer|hung up/);
    } finally {
      silent.close();
    }
  });

  it.each([
    [':0', { host: '', number: 0 }],
    [':12.1', { host: '', number: 12 }],
    ['unix:3', { host: '', number: 3 }],
    ['localhost:10.0', { host: 'localhost', number: 10 }],
  ])('is named by %j', (text, expected) => {
    expect(parseDisplay(text)).toEqual(expected);
  });
});
