/** Plugins that crash, hang or come and go at a bad moment: what the next call, the next suspend and others see of it. */
import { spawn } from 'node:child_process';
import { readdirSync, readlinkSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Message } from '@jellybrick/dbus-next';
import { describe, expect, it } from 'vitest';
import { BusConnection } from '../../api/connection.ts';
import type { Finding, PluginReport } from '../../api/types.ts';
import { isThere, TestEngine } from '../support/engine.ts';
import { TestPlugins } from '../support/plugins.ts';
import { canCheckpoint } from './criu-fixture.ts';

type Told = { id: string; findings: Finding[]; state: string };
const a = 'org.example.A';
const b = 'org.example.B';

async function scene(limitMs = 4000) {
  const plugins = await TestPlugins.create();
  const engine = await TestEngine.create({
    env: { TORPOR_PLUGIN_LIMIT_MS: `${limitMs}`, ...plugins.env },
  });
  return {
    plugins,
    engine,
    start: async () => (await engine.start(['sleep', '100000'])).id,
    async [Symbol.asyncDispose]() {
      await engine[Symbol.asyncDispose]();
      await plugins[Symbol.asyncDispose]();
    },
  };
}

/** A service file with the words of a shell script. */
const script = (plugins: TestPlugins, name: string, text: string) =>
  writeFile(join(plugins.folder, `${name}.sh`), text).then(() =>
    plugins.write(name, `[D-BUS Service]\nName=${name}\nExec=/bin/sh ${plugins.folder}/${name}.sh`),
  );
const quoted = (words: string[]) => words.map((word) => `'${word}'`).join(' ');

describe.skipIf(!canCheckpoint)('a plugin', () => {
  it('that crashes once is asked again, in a new program', async () => {
    await using s = await scene();
    const { engine, plugins } = s;
    const flag = join(plugins.folder, 'flag');
    await script(
      plugins,
      a,
      `if [ -e ${flag} ]; then exec ${quoted(plugins.command(a))}; fi
touch ${flag}; exec ${quoted(plugins.command(a, { bad: { PreSuspend: 'exit' } }))}`,
    );
    const { findings } = await engine.json<Told>('suspend', await s.start());
    expect(findings.filter(({ by }) => by === a)).toEqual([]);
  });

  it('that comes after an optional one that fails is called all the same', async () => {
    await using s = await scene();
    const { engine, plugins } = s;
    await plugins.add(a, { bad: { start: 'exit' } });
    await plugins.add(b, { description: { after: [a], policy: 'required' } });
    const { findings } = await engine.json<Told>('suspend', await s.start());
    expect(findings.filter(({ by }) => by === b)).toEqual([]);
  });

  it('that comes after one that fails is called at the resume', async () => {
    await using s = await scene();
    const { engine, plugins } = s;
    await plugins.add(a);
    await plugins.add(b, { description: { after: [a] } });
    const id = await s.start();
    await engine.json<Told>('suspend', id);
    await engine.kill('SIGTERM');
    await plugins.add(a, { bad: { start: 'exit' } });
    const { findings } = await engine.json<Told>('resume', id);
    expect(findings.filter(({ by }) => by === b)).toEqual([]);
    expect(await plugins.methods(b)).toContain('PostResume');
  });

  it('that the snapshot does not have is not asked at its resume', async () => {
    await using s = await scene();
    const { engine, plugins } = s;
    await plugins.add(a);
    const id = await s.start();
    await engine.json<Told>('suspend', id);
    await plugins.add(b);
    await engine.json<Told>('resume', id);
    expect(await plugins.calls(b)).toEqual([]);
  });

  it('that is required before it runs, and does not start, keeps it from running', async () => {
    await using s = await scene();
    const { engine, plugins } = s;
    const behaviour = { description: { beforeItRuns: true, policy: 'required' } };
    await plugins.add(a, behaviour, 'X-Torpor-Policy=required');
    const id = await s.start();
    await engine.json<Told>('suspend', id);
    await engine.kill('SIGTERM');
    await plugins.add(a, { ...behaviour, bad: { start: 'exit' } }, 'X-Torpor-Policy=required');
    const { code } = await engine.run(['resume', id]);
    expect(code).toBe(1);
    expect((await engine.workload(id)).state).toBe('suspended');
  });

  it('whose Abort fails is named to whoever took a snapshot only', async () => {
    await using s = await scene();
    const { engine, plugins } = s;
    await plugins.add(a, { bad: { Abort: 'error' } });
    const { findings } = await engine.json<Told>('suspend', '--leave-running', await s.start());
    expect(findings.filter(({ by }) => by === a)).toHaveLength(1);
  });

  it('is told of the snapshot by an engine that makes up for a dead one', async () => {
    await using s = await scene(60_000);
    const { engine, plugins } = s;
    await plugins.add(a);
    const id = await s.start();
    const snapshot = await engine.json<Told>('suspend', id);
    await engine.kill('SIGTERM');
    await plugins.add(a, { bad: { PostResume: 'sleep' } });
    const resuming = engine.run(['resume', id]);
    const called = async () =>
      (await plugins.calls(a)).filter(({ method }) => method === 'PostResume').length;
    await expect.poll(called, { timeout: 30_000 }).toBe(1);
    await engine.kill();
    await resuming;
    await plugins.add(a);
    await engine.json('ps');
    await expect.poll(called, { timeout: 30_000 }).toBe(2);
    expect((await plugins.calls(a)).at(-1)?.workload).toMatchObject({ snapshot: snapshot.id });
  });

  it('that registers and is gone at once leaves its name free', async () => {
    await using s = await scene();
    const { engine } = s;
    await engine.json('ps');
    const engineAt = {
      destination: 'io.github.torpor.Engine1',
      path: '/io/github/torpor/Engine1',
      interface: 'io.github.torpor.Engine1',
    };
    for (let round = 0; round < 30; round++) {
      const connection = await BusConnection.open(`unix:path=${engine.paths.busSocket}`);
      // The engine knows it from now on.
      await connection.call(new Message({ ...engineAt, member: 'List' }));
      connection.bus.send(
        new Message({ ...engineAt, member: 'RegisterPlugin', signature: 's', body: [`${a}${round}`] }),
      );
      connection.bus.disconnect();
    }
    const { plugins: all } = JSON.parse((await engine.run(['plugins', '--json'])).stdout) as PluginReport;
    expect(all.filter(({ name }) => name.startsWith(a))).toEqual([]);
  });

  it('that hangs is started anew', async () => {
    await using s = await scene();
    const { engine, plugins } = s;
    await plugins.add(a);
    const id = await s.start();
    await engine.json('plugins');
    const log = (await engine.logTail(50)).split('\n');
    const pid = JSON.parse(
      log.findLast((line) => line.includes(a) && line.includes('plugin registered')) ?? '{}',
    ).pid as number;
    expect(isThere(pid)).toBe(true);
    spawn('kill', ['-STOP', `${pid}`]);
    // It has been asked what it is: the first calls that it does not answer are those of this suspend and its end.
    await engine.json<Told>('suspend', '--leave-running', id);
    const next = async () => {
      const { findings } = await engine.json<Told>('suspend', '--leave-running', id);
      return findings.filter(({ by }) => by === a);
    };
    await expect.poll(next, { timeout: 60_000 }).toEqual([]);
  });

  it('gets nothing of what whoever started the engine had open', async () => {
    await using plugins = await TestPlugins.create();
    const secret = join(plugins.folder, 'secret');
    await writeFile(secret, '');
    await plugins.add(a);
    await using engine = await TestEngine.create({
      env: plugins.env,
      prefix: ['bash', '-c', `exec 200<${secret}; exec "$@"`, 'bash'],
    });
    await engine.json('plugins');
    const log = (await engine.logTail(50)).split('\n');
    const pid = JSON.parse(
      log.findLast((line) => line.includes(a) && line.includes('plugin registered')) ?? '{}',
    ).pid as number;
    const open = readdirSync(`/proc/${pid}/fd`).map((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`);
      } catch {
        return '';
      }
    });
    expect(open).not.toContain(secret);
  });
});
