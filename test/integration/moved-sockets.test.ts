/** Sockets that are not where they were bound, as servers of Qt make them: after a resume they are where they had come to. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestEngine } from '../support/engine.ts';

/** Binds a socket in a folder made for it, then moves or removes it as told, and answers who connects. */
const server = `
import os, socket, sys
base, what = sys.argv[1:]
folder = base + '/.made-for-it'
os.mkdir(folder, 0o700)
s = socket.socket(socket.AF_UNIX)
s.bind(folder + '/s')
s.listen(5)
if what == 'rename-within': os.rename(folder + '/s', folder + '/final')
if what == 'rename-out': os.rename(folder + '/s', base + '/final')
if what == 'remove': os.unlink(folder + '/s')
if what != 'rename-within': os.rmdir(folder)
open(base + '/ready', 'w').close()
while True:
    connection, _ = s.accept()
    connection.sendall(b'answered')
    connection.close()
`;
const client = `
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
print(s.recv(100).decode(), end='')
`;

let engine: TestEngine;
let home: string;
beforeAll(async () => {
  engine = await TestEngine.create();
  home = await mkdtemp('/var/tmp/torpor-moved-');
  await writeFile(join(home, 'server.py'), server);
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  await rm(home, { recursive: true, force: true });
});

const ask = async (id: string, path: string) =>
  (await engine.run(['exec', id, '--', 'python3', '-c', client, path])).stdout;

describe.each([
  ['on the disk', () => join(home, 'places')],
  ['on the capsule’s own /tmp', () => '/tmp/places'],
])('a socket %s', (_where, base) => {
  async function start(what: string): Promise<string> {
    await rm(base(), { recursive: true, force: true });
    if (!base().startsWith('/tmp/')) await mkdir(base());
    const line = `mkdir -p ${base()}; exec python3 ${home}/server.py ${base()} ${what}`;
    const { id } = await engine.start(['sh', '-c', line]);
    await expect
      .poll(async () => (await engine.run(['exec', id, '--', 'ls', base()])).stdout)
      .toContain('ready');
    return id;
  }

  it.each([
    ['rename-out', 'final'],
    ['rename-within', '.made-for-it/final'],
  ])('answers where it was moved to (%s), twice in a row', async (what, name) => {
    const id = await start(what);
    for (let round = 0; round < 2; round++) {
      await engine.json('suspend', id);
      await engine.json('resume', id);
      expect(await ask(id, join(base(), name))).toBe('answered');
      const { stdout } = await engine.run(['exec', id, '--', 'ls', '-A', base()]);
      expect(stdout.split('\n').filter(Boolean).sort()).toEqual([name.split('/')[0], 'ready'].sort());
    }
    await engine.run(['end', id]);
  });

  it('that has no name any more does not keep its application from being resumed, and leaves nothing', async () => {
    const id = await start('remove');
    await engine.json('suspend', id);
    await engine.json('resume', id);
    const { stdout } = await engine.run(['exec', id, '--', 'ls', '-A', base()]);
    expect(stdout.trim()).toBe('ready');
    await engine.run(['end', id]);
  });
});

it('nothing is left beside them on the disk', async () => {
  expect(existsSync(join(home, 'places', '.made-for-it'))).toBe(false);
  expect((await readdir(home)).sort()).toEqual(['places', 'server.py']);
});
