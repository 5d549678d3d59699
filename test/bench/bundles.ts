/**
 * The same session on a medium: how large its bundle is beside the memory that it has, and how fast it is written and
 * taken in beside the medium itself. Written, synced and read back, as an export always is; read from a cold page cache.
 */
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExportResult, ImportResult } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { makeUser, type TestUser } from '../support/users.ts';
import { markdownTable, mebibytes, mediansOf, milliseconds, ratio } from './figures.ts';
import { forgetCached, mediumFigures } from './medium.ts';
import { ask, buildMemoryProgram } from './memory-program.ts';

const passphrase = 'correct horse battery staple';
const mebibyte = 1024 ** 2;

interface Round {
  memoryBytes: number;
  bytes: number;
  exportMs: number;
  updateMs: number;
  updateBytes: number;
  importMs: number;
  writeMs: number;
  readMs: number;
}

export interface BundleResult {
  name: string;
  medians: Round;
}

interface Session {
  name: string;
  command: (home: string) => string[];
  ready: (home: string) => Promise<unknown>;
}

async function oneRound(session: Session, work: string, user: TestUser): Promise<Round> {
  const folder = await mkdtemp(join(work, 'bundle-'));
  try {
    for (const name of ['home', 'away']) await mkdir(join(folder, name));
    await using home = await TestEngine.create({ stateDir: join(folder, 'home') });
    await using away = await TestEngine.create({ stateDir: join(folder, 'away') });
    const tell = async <T>(engine: TestEngine, command: string, ...args: string[]): Promise<T> => {
      const outcome = await engine.run([command, '--json', ...args], { input: `${passphrase}\n` });
      if (outcome.code !== 0) throw new Error(outcome.stdout + outcome.stderr);
      return JSON.parse(outcome.stdout) as T;
    };
    const options = ['--name', 'it', '--user', user.name, '--env', `HOME=${user.home}`];
    await home.start(session.command(user.home), ...options);
    await session.ready(user.home);
    await home.json('suspend', 'it');
    const path = join(folder, 'session');
    const first = await tell<ExportResult>(home, 'export', 'it', path);
    const again = await tell<ExportResult>(home, 'export', 'it', path);
    const medium = await mediumFigures(folder, first.bytes);
    await forgetCached(path);
    const imported = await tell<ImportResult>(away, 'import', '--user', user.name, path);
    return {
      memoryBytes: first.memoryBytes,
      bytes: first.bytes,
      exportMs: first.tookMs,
      updateMs: again.tookMs,
      updateBytes: again.bytesWritten,
      importMs: imported.tookMs,
      ...medium,
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** @param work a folder on the disk that is measured @param mib of the process with much memory */
export async function measureBundles(work: string, mib: number, rounds: number): Promise<BundleResult[]> {
  const programs = await mkdtemp(join(work, 'programs-'));
  for (const folder of [work, programs]) await chmod(folder, 0o755);
  const program = await buildMemoryProgram(programs);
  await using user = await makeUser('torpor-bench', 21510);
  const sessions: Session[] = [
    { name: 'xterm', command: () => ['xterm', '-e', 'sleep', '100000'], ready: async () => {} },
    {
      name: `a process of ${mib} MiB, mixed`,
      command: (home) => [program, join(home, 'socket'), String(mib), 'mixed', 'private'],
      ready: (home) => ask(join(home, 'socket'), 'react'),
    },
  ];
  const results: BundleResult[] = [];
  for (const session of sessions) {
    process.stderr.write(`bench: a bundle of ${session.name} ...\n`);
    const measured: Round[] = [];
    for (let round = 0; round < rounds; round++) measured.push(await oneRound(session, work, user));
    results.push({ name: session.name, medians: mediansOf(measured) });
  }
  return results;
}

const rate = (bytes: number, ms: number) => `${(bytes / mebibyte / (ms / 1000)).toFixed(0)} MiB/s`;

export function bundlesReport(results: readonly BundleResult[], rounds: number): string {
  const rows = results.map(({ name, medians: m }) => [
    name,
    mebibytes(m.memoryBytes),
    mebibytes(m.bytes),
    ratio(m.bytes / m.memoryBytes),
    milliseconds(m.exportMs),
    rate(m.bytes, m.exportMs),
    rate(m.bytes, m.writeMs),
    ratio(m.writeMs / m.exportMs),
    milliseconds(m.importMs),
    rate(m.bytes, m.importMs),
    rate(m.bytes, m.readMs),
    ratio(m.readMs / m.importMs),
    `${milliseconds(m.updateMs)}, ${mebibytes(m.updateBytes)}`,
  ]);
  const head = [
    ...['', 'resident', 'bundle', 'of resident'],
    ...['export', 'its rate', "medium's write", 'share of it'],
    ...['import', 'its rate', "medium's read", 'share of it', 'export again'],
  ];
  return [
    '## Bundles',
    '',
    `A suspended session exported to a folder and taken in by another engine; medians of ${rounds} rounds. The bundle has the programs and libraries too, which is most of it where the memory is little. An export ends when everything is synced and read back, and both begin with a second of Argon2id.`,
    '',
    markdownTable(head, rows),
  ].join('\n');
}
