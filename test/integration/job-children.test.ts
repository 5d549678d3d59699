/** Jobs with children of unusual kinds. */
import { spawn } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Snapshot } from '../../api/types.ts';
import { readProcessLine, treeBelow } from '../../engine/inspect/proc.ts';
import { TestEngine } from '../support/engine.ts';
import { canCheckpoint } from './criu-fixture.ts';
import { until } from './inspect-fixture.ts';

let engine: TestEngine;
beforeAll(async () => {
  engine = await TestEngine.create();
});
afterAll(() => engine[Symbol.asyncDispose]());

const script = `
import os, time
os.closerange(3, 4096)
if os.fork() == 0: os._exit(7)
time.sleep(1000)
`;

describe.runIf(canCheckpoint)('a job', () => {
  it('with a child that has ended and nobody has waited for is suspended and resumed with it', async () => {
    const child = spawn('/usr/bin/python3', ['-SEsc', script], { stdio: 'ignore', detached: true, cwd: '/' });
    const pid = child.pid ?? 0;
    try {
      await until(() => treeBelow(pid).find((each) => readProcessLine(each)?.state === 'Z'));
      const { workload: id } = await engine.json<Snapshot>('suspend', String(pid));
      await until(() => (readProcessLine(pid) === undefined ? true : undefined));
      await engine.json('resume', id);
      const { pids } = await engine.workload(id);
      const states = pids.flatMap(treeBelow).map((each) => readProcessLine(each)?.state);
      expect(states).toContain('Z');
      await engine.json('end', id);
    } finally {
      child.kill('SIGKILL');
    }
  });
});
