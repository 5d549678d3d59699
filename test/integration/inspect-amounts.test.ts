/** What blocks is looked at twice where processes come and go; its amounts are others by then. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { canInspect, makeInspector, root } from './inspect-fixture.ts';

const run = promisify(execFile);

/** Its memory grows all the time, and then it begins again; its children end at once. */
const growing = `
import os
while True:
    held = []
    for _ in range(300):
        held.append(os.urandom(1 << 20))
        if os.fork() == 0:
            os._exit(0)
        os.wait()
`;

let folder: string;
let child: ChildProcess;
beforeEach(async () => {
  folder = await mkdtemp('/var/tmp/torpor-small-');
  await run('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'none', folder]);
  child = spawn('/usr/bin/python3', ['-c', growing], { stdio: 'ignore', detached: true });
});
afterEach(async () => {
  child.kill('SIGKILL');
  // It uses nothing of the folder, so that nothing has to be waited for, also where it has ended by itself.
  await run('umount', [folder]);
  await rm(folder, { recursive: true, force: true });
});

describe.skipIf(!canInspect)('a disk that is too small', () => {
  it('blocks whatever else changes meanwhile', async () => {
    const inspector = await makeInspector(folder);
    for (let round = 0; round < 20; round++) {
      const { findings } = await inspector.inspectPid(child.pid ?? 0, root);
      expect(findings).toContainEqual(expect.objectContaining({ tie: 'disk', verdict: 'blocking' }));
    }
  });
});
