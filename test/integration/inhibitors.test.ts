/** Inhibitors of the real log-in manager, which a job holds by a descriptor. */
import type { ChildProcess } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Finding, Inspection, Snapshot, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { hasOpen, type ListedInhibitor, SystemServices } from '../support/login-manager.ts';
import { TestPlugins } from '../support/plugins.ts';
import { canCheckpoint } from './criu-fixture.ts';

let services: SystemServices;
let engine: TestEngine;

beforeAll(async () => {
  services = await SystemServices.create();
  await services.startLogind();
  engine = await TestEngine.create({ prefix: services.prefix });
});
afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  await services?.[Symbol.asyncDispose]();
});

const soon = <T>(check: () => Promise<T>) => vi.waitFor(check, { timeout: 30_000, interval: 50 });

/** Words of which every character must come back as it was. */
const why = 'until "it" is burnt: 5 %, ü\tand \\so on';
const expected = { what: 'shutdown:sleep', who: 'Burner', why, mode: 'block' };
const words = ({ what, who, why, mode }: ListedInhibitor) => ({ what, who, why, mode });

async function hold(command: readonly string[] = ['sleep', '1000']): Promise<ChildProcess> {
  const options = ['--what=shutdown:sleep', '--who=Burner', `--why=${why}`, '--mode=block'];
  const child = await services.startJob(['systemd-inhibit', ...options, ...command]);
  await soon(async () => expect((await services.inhibitors()).map(words)).toEqual([expected]));
  return child;
}

const ofInhibitors = ({ findings }: { findings: Finding[] }) =>
  findings.filter(({ tie }) => tie === 'inhibitor' || tie === 'pipe');

const listed = () =>
  soon(async () => {
    const inhibitors = await services.inhibitors();
    expect(inhibitors).not.toEqual([]);
    return inhibitors;
  });
const none = () => soon(async () => expect(await services.inhibitors()).toEqual([]));

describe.runIf(canCheckpoint)('an inhibitor of the log-in manager', () => {
  it('is let go of by the suspend and asked for again by the resume, again and again', async () => {
    const client = await hold();
    const inspected = await engine.json<Inspection>('inspect', String(client.pid));
    expect(ofInhibitors(inspected)).toMatchObject([
      {
        verdict: 'handled',
        by: 'engine',
        what: expect.stringMatching(
          /^systemd-inhibit \(pid \d+\) keeps the machine from being shut down and going to sleep \("until/,
        ),
      },
    ]);
    let target = String(client.pid);
    try {
      for (const restart of [false, true]) {
        const done = await engine.json<Snapshot & { findings: Finding[] }>('suspend', target);
        target = done.workload;
        expect(ofInhibitors(done)).toMatchObject([{ tie: 'inhibitor', verdict: 'handled' }]);
        await none();
        if (restart) {
          await services.endLogind();
          await services.startLogind();
        }
        const resumed = await engine.json<Workload & { findings: Finding[] }>('resume', target);
        expect(ofInhibitors(resumed)).toMatchObject([
          { verdict: 'degraded', what: expect.stringContaining("in root's name") },
        ]);
        expect((await listed()).map(words)).toEqual([expected]);
        const [pid = 0] = resumed.pids;
        expect(await hasOpen(pid, /\/run\/systemd\/inhibit\/\d+\.ref/)).toBe(true);
      }
    } finally {
      await engine.run(['end', target]);
    }
    await none();
  });

  it('stays where the application runs on, and a copy asks for another one', async () => {
    const client = await hold();
    const [before] = await services.inhibitors();
    const { id } = await engine.json<Snapshot>('suspend', String(client.pid), '--leave-running');
    expect(await services.inhibitors()).toEqual([before]);
    // A copy, whose process numbers are taken, has one of its own.
    const copy = await engine.json<Workload>('resume', id, '--copy');
    try {
      expect((await services.inhibitors()).map(words)).toEqual([expected, expected]);
      await engine.json<Snapshot>('suspend', copy.id);
      expect(await services.inhibitors()).toEqual([before]);
      await engine.json<Workload>('resume', copy.id);
      client.kill('SIGKILL');
      await soon(async () => expect((await services.inhibitors()).map(words)).toEqual([expected]));
    } finally {
      await engine.run(['end', copy.id]);
    }
    await none();
  });

  it('that is taken between the inspection and the freeze is seen in the images, and the suspend tried again', async () => {
    await using plugins = await TestPlugins.create();
    // It takes all of its time, in which the inspection is over and the job not held still yet.
    await plugins.add('org.example.Slow', { bad: { PreSuspend: 'sleep' } });
    await writeFile(join(plugins.folder, 'org.example.Slow.calls'), '');
    await using own = await TestEngine.create({
      prefix: services.prefix,
      env: { TORPOR_PLUGIN_LIMIT_MS: '4000', ...plugins.env },
    });
    const waits = `until grep -q PreSuspend ${plugins.folder}/org.example.Slow.calls; do sleep 0.05; done`;
    const holds = 'exec systemd-inhibit --what=sleep --who=Late --why=late sleep 1000';
    const client = await services.startJob(['sh', '-c', `${waits}; ${holds}`]);
    const { workload, findings } = await own.json<Snapshot & { findings: Finding[] }>(
      'suspend',
      String(client.pid),
    );
    expect(ofInhibitors({ findings })).toMatchObject([
      { verdict: 'handled', what: expect.stringContaining('late') },
    ]);
    await none();
    await own.json<Workload>('resume', workload);
    expect((await listed()).map(({ who }) => who)).toEqual(['Late']);
    await own.run(['end', workload]);
    await none();
  });

  it('that is not to be had again is told, and the application runs without', async () => {
    const client = await hold();
    const { workload } = await engine.json<Snapshot>('suspend', String(client.pid));
    await services.endLogind();
    try {
      const resumed = await engine.json<Workload & { findings: Finding[] }>('resume', workload);
      expect(ofInhibitors(resumed)).toMatchObject([
        { tie: 'inhibitor', verdict: 'degraded', what: expect.stringContaining('systemd-inhibit') },
      ]);
      await services.startLogind();
      // It is a job as any other now.
      const again = await engine.json<Snapshot & { findings: Finding[] }>('suspend', workload);
      expect(ofInhibitors(again)).toEqual([]);
      await engine.json<Workload>('resume', workload);
      expect(await services.inhibitors()).toEqual([]);
    } finally {
      await engine.run(['end', workload]);
    }
  });
});
