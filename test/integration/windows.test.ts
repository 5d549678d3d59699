/** The windows of an application in a capsule, as the app and `torpor windows` have them, also after a resume. */
import { copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decode } from 'fast-png';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { EngineClient } from '../../api/client.ts';
import type { CapsuleWindow, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { clientOf } from '../support/subscriber.ts';

const program = new URL('../fixtures/windows.py', import.meta.url).pathname;
const waiting = { timeout: 15_000, interval: 50 };

let engine: TestEngine;
let client: EngineClient;
let id: string;
let log: string;

const windows = () => engine.json<CapsuleWindow[]>('windows', id);
const asked = async () => (await readFile(log, 'utf8').catch(() => '')).split('\n').filter(Boolean).sort();

beforeAll(async () => {
  engine = await TestEngine.create();
  log = join(engine.paths.stateDir, 'asked');
  // A capsule has a /tmp of its own, and the checkout may lie there.
  const copy = join(engine.paths.stateDir, 'windows.py');
  await copyFile(program, copy);
  ({ id } = await engine.start(['/usr/bin/python3', copy, log]));
  client = await clientOf(engine);
  await vi.waitFor(async () => expect(await windows()).toHaveLength(2), waiting);
});
afterAll(() => engine[Symbol.asyncDispose]());
afterAll(() => client[Symbol.asyncDispose]());

async function expectBothAndActivateEach(): Promise<void> {
  const list = await windows();
  expect(list.map((window) => window.class).sort()).toEqual(['Toplevel', 'Windows']);
  const first = list.find((window) => window.title === 'First ✓ größer');
  const second = list.find((window) => window.title.startsWith('Second window xxx'));
  // A title is one line that can be shown, whatever the application made of it.
  expect(second?.title).toHaveLength(300);
  for (const { id: wanted = 0 } of [first, second, first].flatMap((window) => window ?? [])) {
    await engine.json('windows', id, '--activate', String(wanted));
    await vi.waitFor(async () => {
      expect((await windows()).filter((window) => window.active)).toMatchObject([{ id: wanted }]);
    }, waiting);
  }
}

it('are listed and brought to the front', expectBothAndActivateEach);

it('have an icon, the largest that is not absurd', async () => {
  const first = (await client.windows(id)).find((window) => window.class === 'Windows');
  const png = decode(await client.windowIcon(id, first?.id ?? 0));
  expect(png).toMatchObject({ width: 64, height: 64, channels: 4 });
  expect([...png.data.slice(0, 4)]).toEqual([0x10, 0x20, 0x30, 0xff]);
});

describe('what is wrong is said', () => {
  it.each([1, 0xffff_ffff])('of a window %i that is none of the application', async (window) => {
    await expect(client.activateWindow(id, window)).rejects.toMatchObject({
      code: 'not-found',
      message: expect.stringContaining(`no window ${window}`),
    });
    await expect(client.windowIcon(id, window)).rejects.toMatchObject({ code: 'not-found' });
  });
  it.each([
    ['windows', 'nobody', 4],
    ['windows', '--activate', 'first', 'nobody', 2],
    ['windows', '--activate', '-1', 'nobody', 2],
    ['windows', '--activate', '1', '--close', 'nobody', 2],
  ] as const)('of %j', async (...words) => {
    const code = words.at(-1) as number;
    const [command, ...rest] = words.slice(0, -1) as string[];
    const error = await engine.failure(code, command ?? '', ...rest);
    expect(error.message + error.hint).toMatch(/nobody|torpor windows|exclude each other|--activate/);
  });
  it('to another user', async () => {
    const outcome = await engine.run(['windows', id, '--close'], { uid: 5 });
    expect(outcome).toMatchObject({ code: 5, stderr: expect.stringContaining('another user') });
    expect(await asked()).toEqual([]);
  });
});

it('do not keep a suspend from working, however often they are asked for', async () => {
  let stop = false;
  const answers: (CapsuleWindow[] | Error)[] = [];
  const asking = Promise.all(
    [1, 2, 3].map(async () => {
      while (!stop) answers.push(await client.windows(id).catch((error: Error) => error));
    }),
  );
  await vi.waitFor(() => expect(answers.length).toBeGreaterThan(5), waiting);
  await engine.json('suspend', id);
  stop = true;
  await asking;
  expect(answers.filter((answer) => answer instanceof Error && !/suspended/.test(answer.message))).toEqual(
    [],
  );
  expect((await engine.failure(1, 'windows', id)).hint).toContain('torpor resume');
});

it('are the same after a resume', async () => {
  await engine.json('resume', id);
  await expectBothAndActivateEach();
});

it('are asked to close, and the application may go on', async () => {
  await engine.json('windows', id, '--close');
  await vi.waitFor(async () => expect(await asked()).toEqual(['First', 'Second']), waiting);
  expect(await windows()).toHaveLength(2);
  await engine.json('windows', id, '--close');
  await vi.waitFor(async () => {
    expect(await engine.workload(id)).toMatchObject({ state: 'ended', exit: { code: 0 } });
  }, waiting);
});

describe('a hostile application', () => {
  it('with many windows, names that are no text and an icon that lies gets a short answer', async () => {
    const { id: hostile } = await engine.start(['xterm']);
    const inside = (...command: string[]) => engine.run(['exec', hostile, '--', ...command]);
    const [window] = await client.windows(hostile);
    const number = String(window?.id);
    await inside('xprop', '-id', number, '-f', '_NET_WM_NAME', '8x', '-set', '_NET_WM_NAME', '255,254,7,65');
    // 60000 x 60000 pixels, of which two are there.
    const lie = '60000,60000,1,2';
    await inside('xprop', '-id', number, '-f', '_NET_WM_ICON', '32c', '-set', '_NET_WM_ICON', lie);
    // A list of windows that are none, and one that never ends.
    const none = Array.from({ length: 3000 }, (_, index) => index + 1).join(',');
    expect((await client.windows(hostile))[0]?.title).not.toMatch(/\p{Cc}/u);
    await expect(client.windowIcon(hostile, Number(number))).rejects.toMatchObject({ code: 'not-found' });
    await inside('xprop', '-root', '-f', '_NET_CLIENT_LIST', '32x', '-set', '_NET_CLIENT_LIST', none);
    const listed = await client.windows(hostile);
    expect(listed.length).toBeLessThanOrEqual(256);
    await engine.json('end', hostile);
  });

  it('whose X server does not answer holds up neither the engine nor its own end for long', async () => {
    const { id: silent, pids } = await engine.json<Workload>('run', '--', 'xterm');
    const names = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')));
    const server = pids[names.findIndex((name) => /^Xvnc|^Xtigervnc/.test(name))] ?? 0;
    process.kill(server, 'SIGSTOP');
    const startedAt = performance.now();
    await expect(client.windows(silent)).rejects.toMatchObject({
      code: 'failed',
      message: expect.stringContaining('does not answer'),
    });
    expect(performance.now() - startedAt).toBeLessThan(6000);
    process.kill(server, 'SIGCONT');
    expect(await client.windows(silent)).toHaveLength(1);
    await engine.json('end', silent);
  });
});
