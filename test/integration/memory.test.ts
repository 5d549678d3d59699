/** What applications have of memory: a capsule, and a program on a display that Torpor did not start. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { MemoryReport, Workload } from '../../api/types.ts';
import { TestDisplay } from '../support/display.ts';
import { TestEngine } from '../support/engine.ts';
import { end } from '../support/programs.ts';
import { makeUser } from '../support/users.ts';
import { canCheckpoint } from './criu-fixture.ts';

const started: ChildProcess[] = [];
afterEach(async () => {
  for (const child of started.splice(0)) await end(child);
});

async function pssOf(pids: readonly number[]): Promise<number> {
  const texts = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/smaps_rollup`, 'utf8')));
  return texts.reduce((sum, text) => sum + Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1]) * 1024, 0);
}

describe.runIf(canCheckpoint)('torpor memory', () => {
  it('tells of what it has started and of what it has not, and what was measured', async () => {
    await using display = await TestDisplay.start();
    await using engine = await TestEngine.create();
    const script =
      'hold = bytearray(b"x" * (64 << 20)); import time; print(len(hold), flush=True); time.sleep(1000)';
    const outside = spawn('/usr/bin/python3', ['-c', script], {
      env: { PATH: '/usr/bin:/bin', DISPLAY: display.name },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    started.push(outside);
    await new Promise((resolve) => outside.stdout?.once('data', resolve));
    const { id } = await engine.start(['xterm', '-e', 'cat']);
    const use = async (target: string) => {
      const { applications } = await engine.json<MemoryReport>('memory');
      return applications.find((each) => each.target === target);
    };

    const foreign = await use(String(outside.pid));
    expect(foreign).toMatchObject({
      kind: 'process',
      pids: [outside.pid],
      naps: false,
      swap: 0,
      measured: {},
    });
    expect(foreign?.pss).toBeGreaterThan(64 * 1024 ** 2);
    const own = await use(id);
    expect(own).toMatchObject({ kind: 'capsule', name: 'xterm', naps: false, measured: {} });
    const now = await pssOf(own?.pids ?? []);
    expect(Math.abs((own?.pss ?? 0) - now)).toBeLessThan(now / 5);

    await engine.json('suspend', id);
    expect(await use(id)).toBeUndefined();
    await engine.json('resume', id);
    await engine.json('nap', id);
    expect((await use(id))?.naps).toBe(true);
    await engine.json('wake', id);
    const measured = (await use(id))?.measured;
    expect(measured?.suspend?.gainBytes).toBeGreaterThan(1024 ** 2);
    expect(measured?.suspend?.diskBytes).toBeGreaterThan(1024);
    for (const what of ['resume', 'nap', 'wake'] as const) expect(measured?.[what]?.ms).toBeGreaterThan(0);

    const { totalBytes, availableBytes, applications } = await engine.json<MemoryReport>('memory');
    expect(availableBytes).toBeLessThan(totalBytes);
    const sums = applications.map(({ pss, swap }) => pss + swap);
    expect(sums).toEqual([...sums].sort((a, b) => b - a));
    const { stdout } = await engine.run(['memory']);
    expect(stdout).toMatch(new RegExp(`^${id} +xterm `, 'm'));

    // What naps is found, and what ends in the meantime is not.
    const { workload } = await engine.json<{ workload: Workload }>('nap', '--anyway', String(outside.pid));
    expect(await use(workload.id)).toMatchObject({ kind: 'job', naps: true });
    await engine.json('wake', workload.id);
    await end(outside);
    await vi.waitFor(async () => expect(await use(String(outside.pid))).toBeUndefined());
  });

  it('tells users of their own alone', async () => {
    await using user = await makeUser('torpor-memory', 21528);
    await using display = await TestDisplay.start();
    await using engine = await TestEngine.create();
    const env = { PATH: '/usr/bin:/bin', DISPLAY: display.name };
    const roots = spawn('sleep', ['1000'], { env, stdio: 'ignore' });
    const users = spawn('sleep', ['1000'], { env, stdio: 'ignore', uid: user.uid, gid: user.uid });
    started.push(roots, users);
    await engine.json('ps');
    const targets = async (options: { uid?: number }) => {
      const { code, stdout, stderr } = await engine.run(['memory', '--json'], options);
      expect(stderr).toBe('');
      expect(code).toBe(0);
      return (JSON.parse(stdout) as MemoryReport).applications.map(({ target }) => target);
    };
    expect(await targets({ uid: user.uid })).toEqual([String(users.pid)]);
    expect(await targets({})).toEqual(expect.arrayContaining([String(users.pid), String(roots.pid)]));
  });
});
