/** Which workload a reference means, and which means a process instead. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { WorkloadRecord } from '../../engine/workload/record.ts';
import { Registry } from '../../engine/workload/registry.ts';

const root = { uid: 0 };
let folder: string;
let registry: Registry;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'torpor-registry-'));
  registry = await Registry.open(folder, pino({ level: 'silent' }));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const job = (id: string, name: string): WorkloadRecord => ({
  version: 1,
  id,
  name,
  startedAt: '2026-11-21T12:00:00Z',
  kind: 'job',
  job: {
    command: [name],
    cwd: '/',
    user: { uid: 0, gid: 0, name: 'root', home: '/root', groups: [], shell: '/bin/sh' },
    root: 100,
    session: 100,
  },
  status: { kind: 'ended', at: '2026-11-21T12:00:00Z' },
});

it('is an id, a name, or the beginning of an id', async () => {
  await registry.put(job('ab12cd34', 'first'));
  for (const reference of ['ab12cd34', 'first', 'ab1', 'ab12']) {
    expect(registry.find(reference, root).id).toBe('ab12cd34');
  }
});

it('is never the beginning of an id where it may be a pid', async () => {
  await registry.put(job('1234abcd', 'first'));
  expect(registry.find('1234a', root).id).toBe('1234abcd');
  for (const pid of ['1', '12', '1234']) {
    expect(() => registry.find(pid, root)).toThrow(expect.objectContaining({ code: 'not-found' }));
  }
});

it('is a name of digits only where somebody has chosen one', async () => {
  await registry.put(job('1234abcd', '12'));
  expect(registry.find('12', root).id).toBe('1234abcd');
  await registry.put(job('12345678', 'digits'));
  expect(registry.find('12345678', root).id).toBe('12345678');
});
