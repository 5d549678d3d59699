/** Memory that a program has freed is not saved with it, where a setting has its allocator give it back. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Snapshot } from '../../api/types.ts';
import { expectTidy, removeSnapshots } from '../fault/scene.ts';
import { TestEngine } from '../support/engine.ts';
import { canCheckpoint } from './criu-fixture.ts';

const mib = 1024 ** 2;
/** Less than what the GNU C library keeps at most, twice the block that was freed before. */
const freedMib = 52;
/** It frees a larger block first, by which the limits of the GNU C library rise. */
const program = `import ctypes, os, sys, time
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes = [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
library.free(library.malloc(30 << 20))
noise = os.urandom(1 << 20)
kept = ctypes.create_string_buffer(noise)
blocks = [library.malloc(1 << 20) for _ in range(${freedMib})]
for block in blocks: ctypes.memmove(block, os.urandom(1 << 20), 1 << 20)
for block in blocks: library.free(block)
while True:
    with open("/proc/self/status") as file: own = [line.split()[1] for line in file if line.startswith("RssAnon")][0]
    with open(sys.argv[1] + ".new", "w") as file: file.write("%s %s" % (kept.raw[:-1] == noise, own))
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    time.sleep(0.05)
`;
const allocators = [
  { name: 'the GNU C library', library: '' },
  { name: 'jemalloc', library: 'libjemalloc.so.2' },
  { name: 'tcmalloc', library: 'libtcmalloc_minimal.so.4' },
  { name: 'mimalloc', library: 'libmimalloc.so' },
];

let engine: TestEngine;
let folder: string;
beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-heaps-');
  await writeFile(join(folder, 'program.py'), program);
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

const answerFile = () => join(folder, 'answer');

/** @returns the id, and how much memory of its own it has once it has freed what it needs no more. */
async function start(...given: string[]): Promise<{ id: string; ownMib: number }> {
  await rm(answerFile(), { force: true });
  const command = ['/usr/bin/python3', join(folder, 'program.py'), answerFile()];
  const { id } = await engine.start(command, ...given);
  return { id, ...(await nextAnswer()) };
}

async function nextAnswer(): Promise<{ ownMib: number }> {
  const { isRight, ownMib } = await vi.waitFor(answer, { timeout: 60_000 });
  expect(isRight).toBe(true);
  return { ownMib };
}

async function answer(): Promise<{ isRight: boolean; ownMib: number }> {
  const [isRight, kibibytes] = (await readFile(answerFile(), 'utf8')).split(' ');
  return { isRight: isRight === 'True', ownMib: Number(kibibytes) / 1024 };
}

describe.runIf(canCheckpoint)('memory that has been freed', () => {
  it.each(allocators)('of $name is given back where the setting says so', async ({ library }) => {
    await engine.json('settings', 'trimHeaps', 'yes');
    const { id, ownMib } = await start('--env', `LD_PRELOAD=${library}`);
    expect(ownMib).toBeLessThan(freedMib / 2);
    const { bytesOnDisk } = await engine.json<Snapshot>('suspend', id);
    expect(bytesOnDisk).toBeLessThan(freedMib * mib);
    await rm(answerFile());
    await engine.json('resume', id);
    await nextAnswer();
    await engine.json('end', id);
    await removeSnapshots(engine);
    await expectTidy(engine);
  });

  it.each([
    ['none', []],
    ['no', []],
    ['yes', ['--env', 'MALLOC_TRIM_THRESHOLD_=1000000000', '--env', 'MALLOC_MMAP_THRESHOLD_=33554432']],
  ])('stays where the setting is %s and the user gives %j', async (word, given) => {
    await engine.json('settings', 'trimHeaps', word);
    const { id, ownMib } = await start(...given);
    expect(ownMib).toBeGreaterThan(freedMib);
    await engine.json('end', id);
  });
});
