/** What `torpor doctor` says of sound: where the caller's session has its server, and with the caller's rights. */
import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { DoctorCheck } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { UserSound } from '../support/sound.ts';

/** games, which every Debian has. */
const otherUser = 5;

it('finds the sound server where the session of whoever asks has it', async () => {
  await using user = await UserSound.create();
  const { PULSE_SERVER = '', ...session } = user.env;
  await using engine = await TestEngine.create({ env: session });
  const sound = async (options: Parameters<TestEngine['run']>[1]) => {
    const checks = JSON.parse((await engine.run(['doctor', '--json'], options)).stdout) as DoctorCheck[];
    return checks.find(({ name }) => name === 'sound');
  };
  const path = PULSE_SERVER.replace('unix:', '');
  const named = { env: { PULSE_SERVER } };
  const none = await sound(named);
  expect(none).toMatchObject({
    status: 'warning',
    found: `no PulseAudio, and no PipeWire in its place, for root at ${path}`,
  });
  expect(none?.fix).toMatch(/^PULSE_SERVER says so: /);

  await user.start();
  expect(await sound(named)).toMatchObject({ status: 'ok', found: `a sound server at ${path}` });
  const without = await sound({});
  expect(without).toMatchObject({
    status: 'warning',
    found: expect.stringContaining(`at ${user.folder}/pulse/native or /run/pulse/native`),
  });
  expect(without?.fix).toMatch(/^Start one in the session of root, or set PULSE_SERVER/);
  // The folder is root's.
  expect(await sound({ ...named, uid: otherUser })).toMatchObject({
    status: 'warning',
    found: `no PulseAudio, and no PipeWire in its place, for games at ${path}`,
  });
  expect(await sound({ env: { PULSE_SERVER: 'tcp:far' } })).toMatchObject({
    status: 'ok',
    found: 'a sound server is to be at tcp:far, which is not tried here',
  });

  await mkdir(join(user.folder, 'pulse'));
  const usual = createServer().listen(join(user.folder, 'pulse/native'));
  try {
    expect(await sound({})).toMatchObject({ found: `a sound server at ${user.folder}/pulse/native` });
  } finally {
    usual.close();
  }
});
