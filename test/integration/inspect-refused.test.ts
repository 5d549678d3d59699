/** Pids that cannot be inspected: what is refused by the number alone, and what ends meanwhile. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import type { TorporError } from '../../api/errors.ts';
import { readProcessLine, threadsOf, treeBelow } from '../../engine/inspect/proc.ts';
import { TestEngine } from '../support/engine.ts';
import { canInspect, makeInspector, root, Tie, until } from './inspect-fixture.ts';

const children: ChildProcess[] = [];
afterEach(() => {
  for (const { pid = 0 } of children.splice(0))
    for (const each of treeBelow(pid).reverse()) {
      try {
        process.kill(each, 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    }
});

function start(program: string, ...args: string[]): number {
  const child = spawn(program, args, { stdio: 'ignore', detached: true });
  children.push(child);
  return child.pid ?? 0;
}

const python = (script: string) => start('/usr/bin/python3', '-SEsc', script);

async function refusal(pid: number, uid = 0): Promise<TorporError> {
  const inspector = await makeInspector('/tmp');
  return inspector.inspectPid(pid, { uid }).then(
    () => Promise.reject(new Error('it was not refused')),
    (error: TorporError) => error,
  );
}

const readsSoFar = () => Number(/^syscr: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);

describe.skipIf(!canInspect)('a pid that is refused', () => {
  it('of a thread, with the process that it is of', async () => {
    const pid = python('import threading, time; threading.Thread(target=time.sleep, args=[1000]).start()');
    const thread = await until(() => threadsOf(pid).find((each) => each !== pid));
    expect(await refusal(thread)).toMatchObject({
      code: 'not-found',
      message: expect.stringMatching(new RegExp(`^There is no process ${thread}: .* process ${pid} \\(`)),
      hint: `Name the process: ${pid}.`,
    });
  });

  it('of a process that has ended and that nobody has waited for', async () => {
    const parent = python('import os, time\nif os.fork() == 0: os._exit(0)\ntime.sleep(1000)');
    const ended = await until(() => treeBelow(parent).find((pid) => readProcessLine(pid)?.state === 'Z'));
    const error = await refusal(ended);
    expect(error.code).toBe('not-found');
    expect(error.message).toContain('has ended');
    expect(error.message).toContain(`process ${parent}`);
  });

  it('of another user, before anything below it is read', async () => {
    await using crowd = await Tie.hold('Crowd');
    const inspector = await makeInspector('/tmp');
    const before = readsSoFar();
    await expect(inspector.inspectPid(crowd.insider, { uid: 1500 })).rejects.toMatchObject({
      code: 'not-permitted',
    });
    expect(readsSoFar() - before).toBeLessThan(60);
  });

  it("of the machine's init and of what the engine runs in, before anything below it is read", async () => {
    const inspector = await makeInspector('/tmp');
    for (const pid of [1, process.pid, process.ppid]) {
      const before = readsSoFar();
      await expect(inspector.inspectPid(pid, root)).rejects.toMatchObject({ code: 'blocked' });
      expect(readsSoFar() - before).toBeLessThan(60);
    }
  });
});

describe.skipIf(!canInspect)('a process that ends during the inspection', () => {
  it.each([
    ['in a network of its own', ['unshare', '--net', 'sleep']],
    ['with a child that goes on', ['sh', '-c', 'sleep 3 & exec sleep $0']],
  ] as const)('%s is not there', async (_what, [program, ...args]) => {
    const inspector = await makeInspector('/tmp');
    const codes = new Set<string>();
    for (let round = 0; round < 40; round++) {
      const pid = start(program, ...args, String(0.02 + (round % 20) * 0.004));
      await sleep(15);
      const outcome = await inspector.inspectPid(pid, root).then(
        ({ facts }) => (facts.processes[0]?.pid === pid ? 'inspected' : 'another tree'),
        ({ code }: TorporError) => code,
      );
      codes.add(outcome);
    }
    expect([...codes].sort()).toEqual(['inspected', 'not-found']);
  });
});

describe.skipIf(!canInspect)('torpor inspect', () => {
  it('says what is wrong with what is no pid', async () => {
    await using engine = await TestEngine.create();
    const error = async (...words: string[]) => {
      const { code, stdout } = await engine.run(['inspect', '--json', ...words]);
      return [code, (JSON.parse(stdout) as { error: TorporError }).error] as const;
    };
    expect(await error('0')).toMatchObject([4, { message: 'There is no process 0.' }]);
    expect(await error('4294967296')).toMatchObject([4, { message: 'There is no process 4294967296.' }]);
    expect(await error('99999999999')).toMatchObject([4, { code: 'not-found' }]);
    expect(await error('1.5')).toMatchObject([4, { message: 'There is no workload 1.5.' }]);
    expect(await error('0x1')).toMatchObject([4, { message: 'There is no workload 0x1.' }]);
    expect(await error('-1')).toMatchObject([2, { code: 'usage' }]);
    expect(await error('--', '-1')).toMatchObject([4, { code: 'not-found' }]);
    expect(await error('')).toMatchObject([4, { code: 'not-found' }]);
    expect(await error()).toMatchObject([2, { code: 'usage' }]);
    expect(await error('1', '2')).toMatchObject([2, { code: 'usage' }]);
    expect(await error('1')).toMatchObject([3, { code: 'blocked' }]);
    expect(await error(String(await engine.pid()))).toMatchObject([3, { code: 'blocked' }]);
  });

  it('means a process by a number that another user calls a workload', async () => {
    await using engine = await TestEngine.create();
    const child = spawn('sleep', ['1000'], { uid: 65534, gid: 65534, stdio: 'ignore', detached: true });
    children.push(child);
    await once(child, 'spawn');
    const { id } = await engine.start(['sleep', '1000'], '--name', String(child.pid));
    const outcome = await engine.run(['inspect', '--json', String(child.pid)], { uid: 65534 });
    expect(JSON.parse(outcome.stdout)).toMatchObject({ processes: [{ pid: child.pid }] });
    await engine.json('end', id);
  });
});
