/**
 * A key with Torpor itself on it, at a machine with a kernel and a CPU of its own: a virtual one, whose CPU lacks much of
 * what this one has. And home again.
 */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { ExportResult, ImportResult, Workload } from '../../api/types.ts';
import { makeBareMachine } from '../support/bare-machine.ts';
import { type Outcome, TestEngine } from '../support/engine.ts';
import { ExfatKey } from '../support/exfat-key.ts';
import { makeUser, type TestUser } from '../support/users.ts';
import { noVirtualMachine, type VirtualMachine } from '../support/virtual-machine.ts';

const passphrase = 'correct horse battery staple';
const waiting = { timeout: 15_000, interval: 50 };
/** Software emulation is a hundred times slower than the CPU itself. */
const patient = { timeout: 60_000, interval: 1000 };
const slow = 900_000;
const counting = 'i=0; while :; do i=$((i+1)); echo $i > $HOME/count; sleep 0.1; done';
const torpor = '/var/lib/torpor-engine/torpor';

let grace: TestUser;
let home: TestEngine;
let folder: string;
let mountPoint: string;
let key: ExfatKey;
let machine: VirtualMachine | undefined;

function expectDone(outcome: Outcome): string {
  expect(outcome, outcome.stdout + outcome.stderr).toMatchObject({ code: 0 });
  return outcome.stdout;
}

const atHome = async <T>(command: string, ...args: string[]): Promise<T> =>
  JSON.parse(expectDone(await home.run([command, '--json', ...args], { input: `${passphrase}\n` }))) as T;
const there = async (script: string) =>
  expectDone(await (machine as VirtualMachine).run(`echo '${passphrase}' | ${script}`));

describe.skipIf(noVirtualMachine)(
  `a virtual machine${noVirtualMachine ? ` (${noVirtualMachine})` : ''}`,
  () => {
    beforeAll(async () => {
      grace = await makeUser('torpor-grace', 21505);
      home = await TestEngine.create();
      folder = await mkdtemp('/var/tmp/torpor-key-');
      mountPoint = join(folder, 'key');
      await mkdir(mountPoint);
      key = ExfatKey.make(join(folder, 'image'), { bytes: 512 * 1024 * 1024, mountPoint });
      await key.plugIn();
    });
    afterAll(async () => {
      for (const each of [machine, home, grace]) await each?.[Symbol.asyncDispose]();
      await key?.pullOut('torn');
      if (folder !== undefined) await rm(folder, { recursive: true, force: true });
    });

    let left: number;

    it('is gone to with a key', async () => {
      const env = ['--env', 'SHELL=/bin/sh', '--env', `HOME=${grace.home}`];
      const words = ['--', 'xterm', '-e', 'sh', '-c', counting];
      for (const [name, ...options] of [['counter', '--cpu-baseline'], ['other']] as const)
        await atHome<Workload>('run', ...options, '--name', name, '--user', grace.name, ...env, ...words);
      const count = async () => Number(await readFile(join(grace.home, 'count'), 'utf8'));
      await vi.waitFor(async () => expect(await count()).toBeGreaterThan(3), waiting);
      await atHome<ExportResult>('export', '--with', grace.home, 'other', join(mountPoint, 'other'));
      await atHome<ExportResult>(
        'export',
        '--with-engine',
        '--with',
        grace.home,
        'counter',
        join(mountPoint, 'session'),
      );
      left = await count();
      await key.pullOut('ejected');
    });

    it('goes on there, under another kernel, and keeps out what needs more of the CPU', {
      timeout: slow,
    }, async () => {
      machine = await makeBareMachine(join(folder, 'image'));
      await machine.boot();
      await there('mount -t exfat -o ro /dev/nvme1n1 /media/key');
      expect((await there('uname -r')).trim()).not.toBe(release());
      const said = await there('sh /media/key/session/resume --user guest');
      expect(said).toMatch(/degraded: counter was started to do without/);
      // Some are too slow under software emulation; none may end by itself.
      const ended = await there(
        'grep -c "its program ended with status" /var/lib/torpor/log/torpord.log || true',
      );
      expect(Number(ended)).toBe(0);
      await vi.waitFor(
        async () =>
          expect(Number(await there(`${torpor} exec counter -- cat ${grace.home}/count`))).toBeGreaterThan(
            left,
          ),
        patient,
      );
      expect(await machine.run(`echo '${passphrase}' | ${torpor} import /media/key/other`)).toMatchObject({
        code: 3,
        stderr: expect.stringMatching(/avx/),
      });
      await there('mount -o remount,rw /media/key');
      const exported = JSON.parse(
        await there(`${torpor} export --json counter /media/key/session`),
      ) as ExportResult;
      expect(exported).toMatchObject({ generation: 2 });
      await there('umount /media/key');
      await machine[Symbol.asyncDispose]();
      machine = undefined;
    });

    it('is come home from', async () => {
      await key.plugIn();
      const imported = await atHome<ImportResult>('import', '--resume', join(mountPoint, 'session'));
      expect(imported).toMatchObject({ isHome: true });
      const count = async () =>
        Number(expectDone(await home.run(['exec', 'counter', '--', 'cat', join(grace.home, 'count')])));
      const brought = await count();
      expect(brought).toBeGreaterThan(left);
      await vi.waitFor(async () => expect(await count()).toBeGreaterThan(brought), waiting);
    });
  },
);
