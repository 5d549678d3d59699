/**
 * Torpor's own plugins by the rules that hold for all, with applications that have work for them: one that keeps a real
 * screen and machine from sleeping, and one that plays to a real sound server.
 */
import { readdirSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { PluginReport } from '../../api/types.ts';
import { conformance } from '../plugin/conformance.ts';
import { findSubject } from '../plugin/subject.ts';
import type { Surroundings } from '../plugin/surroundings.ts';
import { Desktop, runLoginManager, runScreenSaver } from '../support/buses.ts';
import { TestEngine } from '../support/engine.ts';
import { soundTool, UserSound, until } from '../support/sound.ts';
import { canCheckpoint } from './criu-fixture.ts';

const client = new URL('../fixtures/desktop_client.py', import.meta.url).pathname;

/** A desktop with a screen saver and a log-in manager, both of which the application inhibits. */
async function inhibited(): Promise<Surroundings> {
  const desktop = await Desktop.create();
  const session = await desktop.startBus('session');
  const system = await desktop.startBus('system');
  const saver = await runScreenSaver(desktop, session.address);
  const login = await runLoginManager(system.address);
  const held = async () => {
    const screen = [...saver.inhibitions.values()].map(
      ({ application, reason }) => `screen ${application} ${reason}`,
    );
    return [...screen, ...login.inhibitions].join('\n');
  };
  const ask = (member: string) =>
    `dbus-send --session --print-reply --dest=org.example.Client /org/example/Client org.example.Client.${member}`;
  return {
    env: {
      DBUS_SESSION_BUS_ADDRESS: session.address,
      DBUS_SYSTEM_BUS_ADDRESS: system.address,
      XDG_CONFIG_HOME: desktop.folder,
    },
    // Until the services are there inside.
    application: `/usr/bin/python3 ${client} /dev/null &
for member in Inhibit Block; do until ${ask('$member')}; do sleep 0.2; done; done
wait`,
    prepare: () => until(async () => (await held()).split('\n').length === 2, 'the application holds both'),
    held,
    dispose: async () => {
      await login.stop();
      await desktop[Symbol.asyncDispose]();
    },
  };
}

/** A sound server, to which the application plays at a volume and in a muting that its user has chosen. */
async function playing(): Promise<Surroundings> {
  const user = await UserSound.create();
  await user.start();
  const held = async () => {
    const streams = await user.sinkInputs();
    return streams
      .map(({ properties, volume, mute, sample_specification, channel_map }) => {
        const percents = Object.values(volume).map((each) => each.value_percent);
        return `${properties['application.name']} ${percents} ${mute} ${sample_specification} ${channel_map}`;
      })
      .join('\n');
  };
  return {
    env: user.env,
    application: `exec ${soundTool('pacat')} --raw --format=s16le --rate=44100 --channels=2 --latency-msec=200 /dev/zero`,
    prepare: async () => {
      const { index } = await user.sinkInput();
      await user.pactl('set-sink-input-volume', String(index), '50%');
    },
    held,
    dispose: () => user[Symbol.asyncDispose](),
  };
}

const own: Readonly<Record<string, () => Promise<Surroundings>>> = {
  'io.github.torpor.Audio': playing,
  'io.github.torpor.Bridge': inhibited,
};

it('all that Torpor brings are put through the suite', () => {
  const there = readdirSync(join(import.meta.dirname, '../../build/plugins'));
  const names = there
    .filter((each) => each.endsWith('.service'))
    .map((each) => each.replace(/\.service$/, ''));
  expect(names.sort()).toEqual(Object.keys(own).sort());
});

describe.skipIf(!canCheckpoint)("a user's copy of the file of one of them", () => {
  it('makes it required: a suspend that it cannot do its part in is given up', async () => {
    const folder = await mkdtemp('/var/tmp/torpor-required-');
    try {
      const plugins = join(folder, '.local/share/torpor/plugins');
      await mkdir(plugins, { recursive: true });
      const users = (await readFile('/etc/passwd', 'utf8')).replace(
        /^(root:.*:)[^:]*(:[^:]*)$/m,
        `$1${folder}$2`,
      );
      await writeFile(join(folder, 'passwd'), users);
      const seesThese = 'mount --bind "$0" /etc/passwd && exec "$@"';
      await using engine = await TestEngine.create({
        env: { HOME: folder },
        prefix: ['unshare', '-m', 'sh', '-c', seesThese, join(folder, 'passwd')],
      });
      const name = 'io.github.torpor.Audio';
      const audio = async () =>
        (await engine.json<PluginReport>('plugins')).plugins.find((plugin) => plugin.name === name);
      expect(await audio()).toMatchObject({ policy: 'optional' });

      // As docs/plugins.md has it.
      const copy = join(plugins, `${name}.service`);
      const text = await readFile((await audio())?.file ?? '', 'utf8');
      await writeFile(copy, text.replace('X-Torpor-Policy=optional', 'X-Torpor-Policy=required'));
      expect(await audio()).toMatchObject({ file: copy, policy: 'required' });
      const { id } = await engine.start(['sleep', '100000']);
      await engine.json('suspend', id);
      expect(await engine.json('resume', id)).toMatchObject({ state: 'running' });

      await engine.json('end', id);
      await engine.kill();
      await writeFile(copy, text.replace('=optional', '=required').replace(/^Exec=.*$/m, 'Exec=/bin/false'));
      const other = await engine.start(['sleep', '100000']);
      const { message, findings = [] } = await engine.failure(3, 'suspend', other.id);
      expect([message, ...findings.map(({ what }) => what)].join(' ')).toContain(name);
      expect(await engine.workload(other.id)).toMatchObject({ state: 'running' });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

if (canCheckpoint)
  for (const [name, surroundings] of Object.entries(own))
    conformance(await findSubject(name, 'root'), surroundings);
