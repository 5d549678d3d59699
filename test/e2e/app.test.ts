/** The app as a window uses it, with the real engine and real applications, below what is drawn. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { decodePng } from '../../api/rfb/picture.ts';
import { TestApp, type TestWindow } from '../support/app.ts';
import { TestEngine } from '../support/engine.ts';

let engine: TestEngine;
let app: TestApp;
let window: TestWindow;

beforeAll(async () => {
  engine = await TestEngine.create();
  app = await TestApp.start(engine);
  window = await app.connect();
  await window.until(({ engine }) => engine.kind === 'ready');
});
afterAll(async () => {
  window[Symbol.dispose]();
  await app[Symbol.asyncDispose]();
  await engine[Symbol.asyncDispose]();
});

const card = (id: string) => window.until(({ workloads }) => workloads.find((each) => each.id === id));
const inState = (id: string, state: string) =>
  window.until(({ workloads }) => workloads.find((each) => each.id === id && each.state === state));

async function picture(path: string | undefined): Promise<{ width: number; height: number }> {
  const answer = await window.fetch(path ?? '/nothing');
  expect(answer.status).toBe(200);
  expect(answer.headers.get('content-type')).toBe('image/png');
  const { width, height } = decodePng(new Uint8Array(await answer.arrayBuffer()));
  return { width, height };
}

describe('an application', () => {
  it('is started, shown, suspended, resumed, taken back and copied', async () => {
    const id = await window.call('command.run', 'xterm -geometry 60x10', { terminal: false });
    const running = await window.until(({ workloads }) =>
      workloads.find((each) => each.id === id && each.thumbnail !== undefined),
    );
    expect(running).toMatchObject({ state: 'running', title: 'sh', snapshots: 0, freedBytes: 0 });
    expect(running.memoryBytes).toBeGreaterThan(1_000_000);
    expect(await picture(running.thumbnail)).toMatchObject({ width: 640, height: 400 });
    expect((await window.fetch(running.icon)).headers.get('content-type')).toMatch(/^image\//);

    const { freedBytes } = await window.call('workload.suspend', id, { keepRunning: false });
    expect(freedBytes).toBeGreaterThan(1_000_000);
    const suspended = await inState(id, 'suspended');
    expect(suspended).toMatchObject({ pids: [], snapshots: 1 });
    expect(suspended.freedBytes).toBeGreaterThan(1_000_000);
    expect(suspended.bytesOnDisk).toBeGreaterThan(100_000);
    expect(suspended.thumbnail).not.toBe(running.thumbnail);
    await picture(suspended.thumbnail);

    await window.call('workload.resume', id);
    await inState(id, 'running');
    await window.call('workload.suspend', id, { keepRunning: true });
    const [newer, older] = await window.call('snapshots.list', id);
    expect(newer).toMatchObject({ current: true });
    expect(older).toMatchObject({ current: false, workload: id });
    await window.call('snapshot.goTo', older?.id ?? '');
    await inState(id, 'running');
    const after = await window.call('snapshots.list', id);
    expect(after).toHaveLength(3);
    expect(after.find((each) => each.current)?.id).toBe(older?.id);

    expect(await picture(older?.picture)).toEqual({ width: 1280, height: 800 });
    await window.call('snapshot.keep', older?.id ?? '', true);
    const kept = await window.ask('snapshot.remove', [older?.id]);
    expect(kept).toMatchObject({ error: { message: expect.stringContaining('kept') } });
    await window.call('snapshot.keep', older?.id ?? '', false);

    const copy = await window.call('snapshot.resumeCopy', older?.id ?? '');
    expect(copy).not.toBe(id);
    await inState(copy, 'running');
    for (const each of [id, copy]) {
      await window.call('workload.end', each);
      await inState(each, 'ended');
    }
    await window.call('workload.forget', id);
    expect(await window.call('snapshots.list', id)).toEqual([]);
  });

  it('is started from its desktop entry, and its windows are known', async () => {
    const list = await window.call('applications.list');
    expect(list.map(({ id }) => id)).toContain('org.xfce.mousepad.desktop');
    const id = await window.call('applications.launch', 'org.xfce.mousepad.desktop', {});
    const running = await inState(id, 'running');
    expect(running).toMatchObject({ title: 'Mousepad', application: 'org.xfce.mousepad.desktop' });
    expect((await window.call('applications.list'))[0]?.id).toBe('org.xfce.mousepad.desktop');
    const icon = await window.fetch(running.icon);
    expect(icon.status).toBe(200);
    expect((await icon.arrayBuffer()).byteLength).toBeGreaterThan(300);
    const first = await vi.waitFor(
      async () => {
        const found = (await window.call('screen.windows', id)).find(({ title }) =>
          title.includes('Mousepad'),
        );
        if (found === undefined) throw new Error('no window of that title');
        return found;
      },
      { timeout: 20_000 },
    );
    await window.call('screen.activate', id, first.id);
    await window.call('workload.end', id);
  });

  it('begins with a snapshot from the second time on, where its user wants that', async () => {
    await window.call('settings.set', { startWarm: true });
    const warmOnes = async () => (await engine.snapshots()).filter(({ warm }) => warm).map(({ id }) => id);
    const first = await window.call('applications.launch', 'org.xfce.mousepad.desktop', {});
    const made = await warmOnes();
    expect(made).toHaveLength(1);
    const second = await window.call('applications.launch', 'org.xfce.mousepad.desktop', {});
    expect(await inState(second, 'running')).toMatchObject({ application: 'org.xfce.mousepad.desktop' });
    expect(await warmOnes()).toEqual(made);
    await window.call('settings.set', { startWarm: false });
    for (const id of [first, second]) await window.call('workload.end', id);
  });

  it('is told of when something else starts it, suspends it and ends it', async () => {
    const { id } = await engine.start(['xterm']);
    await inState(id, 'running');
    await engine.json('suspend', id);
    await inState(id, 'suspended');
    await engine.json('resume', id);
    await inState(id, 'running');
    await engine.json('end', id);
    await inState(id, 'ended');
    await engine.json('forget', id);
    await window.until(({ workloads }) => !workloads.some((each) => each.id === id));
  });

  it('is suspended and resumed with all others, as one session', async () => {
    const ids = [await engine.start(['xterm']), await engine.start(['xterm'])].map(({ id }) => id);
    for (const id of ids) await card(id);
    expect(await window.call('session.suspendAll')).toEqual({ suspended: 2, failed: [] });
    for (const id of ids) await inState(id, 'suspended');
    const last = await window.until(({ sessions }) => sessions.find(({ isLast }) => isLast));
    expect(last.members.map(({ workload }) => workload).sort()).toEqual([...ids].sort());
    const saved = (await engine.snapshots()).filter(({ id }) =>
      last.members.some((each) => each.snapshot === id),
    );
    expect(saved).toHaveLength(2);
    // What was suspended before, or after that, is not a part of it.
    const other = (await engine.start(['xterm'])).id;
    await engine.json('suspend', other);
    expect(await window.call('session.resumeLast')).toEqual({ resumed: 2, failed: [] });
    for (const id of ids) await inState(id, 'running');
    await inState(other, 'suspended');

    // One of them was suspended anew since, the other was not suspended: it comes back from where it is.
    expect(await window.call('session.suspendAll')).toEqual({ suspended: 2, failed: [] });
    for (const id of ids) await engine.json('resume', id);
    await engine.json('suspend', ids[0] ?? '');
    expect(await window.call('session.resumeLast')).toEqual({ resumed: 1, failed: [] });
    await inState(ids[0] ?? '', 'running');
    await inState(other, 'suspended');

    // Nothing is left of the session, so it is what is suspended.
    expect(await window.call('session.resumeLast')).toEqual({ resumed: 1, failed: [] });
    expect(await window.call('session.resumeLast')).toEqual({ resumed: 0, failed: [] });
    for (const id of [...ids, other]) {
      await inState(id, 'running');
      await engine.json('end', id);
    }
    await window.until(({ workloads }) => workloads.every(({ state }) => state === 'ended'));
    expect(await window.call('session.suspendAll')).toEqual({ suspended: 0, failed: [] });
  });

  it('runs on and is told of where it cannot be suspended with all others', async () => {
    const tied = await engine.start(['xterm'], '--name', 'tied');
    const free = await engine.start(['xterm'], '--name', 'free');
    const guest = engine.run(['exec', tied.id, '--', 'sleep', '1000']);
    await vi.waitFor(async () => {
      const found = await window.call('workload.inspect', tied.id);
      expect(found.some(({ verdict }) => verdict === 'blocking')).toBe(true);
    });
    const { suspended, failed } = await window.call('session.suspendAll');
    expect(suspended).toBe(1);
    expect(failed).toEqual([
      {
        level: 'error',
        message: expect.stringMatching(/^tied cannot be suspended/),
        hint: expect.anything(),
      },
    ]);
    await inState(free.id, 'suspended');
    await inState(tied.id, 'running');
    expect(await window.call('session.resumeLast')).toEqual({ resumed: 1, failed: [] });
    for (const { id } of [tied, free]) await engine.json('end', id);
    await guest;
  });

  it('is there again when the engine was killed', async () => {
    const { id } = await engine.start(['xterm']);
    await inState(id, 'running');
    await engine.kill();
    await window.until(({ engine }) => engine.kind !== 'ready');
    await window.until(({ engine }) => engine.kind === 'ready');
    await inState(id, 'running');
    await engine.json('end', id);
  });
});

it('what blocks a suspend is told, and a helper that does is ended at a press of a button', async () => {
  const { id } = await engine.start(['xterm']);
  const guest = engine.run(['exec', id, '--', 'sleep', '1000']);
  const blocking = async () =>
    (await window.call('workload.inspect', id)).filter(({ verdict }) => verdict === 'blocking');
  await vi.waitFor(async () => expect(await blocking()).toHaveLength(1), { timeout: 10_000 });
  const [finding] = await blocking();
  expect(finding).toMatchObject({ tie: 'exec', remedy: { id: 'end-process', label: 'End sleep' } });
  await expect(window.call('workload.suspend', id, { keepRunning: false })).rejects.toThrow(
    /sleep \(pid \d+\)/,
  );
  const wrong = await window.ask('workload.remedy', [id, { id: 'end-process', pid: process.pid }]);
  expect(wrong).toMatchObject({ error: { code: 'not-found' } });
  const left = await window.call('workload.remedy', id, finding?.remedy ?? { id: '' });
  expect(left.filter(({ verdict }) => verdict === 'blocking')).toEqual([]);
  await guest;
  await window.call('workload.suspend', id, { keepRunning: false });
  await inState(id, 'suspended');
  await window.call('workload.forget', id);
});

describe('a call', () => {
  it.each([
    ['nothing.like.this', [], 'usage', /no call nothing\.like\.this/],
    ['__proto__', [], 'usage', /no call __proto__/],
    ['workload.suspend', [], 'usage', /not understood/],
    ['workload.suspend', ['x'.repeat(300), { keepRunning: false }], 'usage', /not understood/],
    ['workload.suspend', ['12345678', { keepRunning: false }], 'not-found', /12345678/],
    ['snapshot.goTo', ['12345678'], 'not-found', /no snapshot 12345678/],
    ['external.open', ['file:///etc/passwd'], 'usage', /./],
    ['settings.set', [{ lowMemoryPercent: 900 }], 'usage', /not understood/],
    ['command.run', ['/nowhere/nothing', { terminal: false }], 'failed', /./],
  ])('%s with %j is refused in a sentence', async (name, args, code, sentence) => {
    const answer = await window.ask(name, args);
    expect(answer).toMatchObject({ error: { code, message: expect.stringMatching(sentence) } });
    expect(JSON.stringify(answer)).not.toMatch(/\n\s+at /);
  });
});
