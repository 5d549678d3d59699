/**
 * `npm run bench`: the same applications suspended and resumed by Torpor and by plain `criu` with the same options, in
 * turn, in one run, beside what the disk itself takes for the same bytes. Only the ratios mean something on another
 * machine. Writes docs/benchmark.md and its chart; a short run (`--quick`) writes them to build/bench instead, as does
 * one of a part of the cases (`--only`). Beside a machine that has something else to do its figures are worth little.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { sentenceOf } from '../../api/errors.ts';
import { applicationsReport, measureApplications } from './applications.ts';
import { bundlesReport, measureBundles } from './bundles.ts';
import { mebibytes, mediansOf } from './figures.ts';
import { kexecReport, measureKexec } from './kexec.ts';
import { slowMedium, slowSpeeds } from './medium.ts';
import { memoryChart } from './memory-chart.ts';
import { buildMemoryProgram } from './memory-program.ts';
import { memoryReport } from './memory-report.ts';
import { measurePlain, type PlainFigures } from './plain-side.ts';
import type { Result } from './result.ts';
import {
  applicationSubjects,
  type MemoryKind,
  memorySubject,
  type Subject,
  smallMappingsMib,
} from './subjects.ts';
import { measureTorpor, type TorporFigures } from './torpor-side.ts';
import { measureWarm, warmReport } from './warm.ts';

const mebibyte = 1024 ** 2;

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    /** Cases whose names have this in them. */
    only: { type: 'string' },
    /** Of the applications with little memory. */
    rounds: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});

const quickKinds: MemoryKind[] = [
  { mib: 64, contents: 'mixed', mappings: 'private', rounds: 1 },
  { mib: 64, contents: 'text', mappings: 'shared', rounds: 1 },
  { mib: 64, contents: 'mixed', mappings: 'private', rounds: 1, isSlow: true },
];

const fullKinds: MemoryKind[] = [
  { mib: 64, contents: 'mixed', mappings: 'private', rounds: 3 },
  { mib: 512, contents: 'mixed', mappings: 'private', rounds: 3 },
  { mib: 512, contents: 'random', mappings: 'private', rounds: 2 },
  { mib: 512, contents: 'text', mappings: 'private', rounds: 2 },
  { mib: 512, contents: 'zero', mappings: 'private', rounds: 2 },
  { mib: 512, contents: 'mixed', mappings: 'shared', rounds: 2 },
  { mib: smallMappingsMib, contents: 'mixed', mappings: 'small', rounds: 2 },
  { mib: 2048, contents: 'mixed', mappings: 'private', rounds: 2 },
  { mib: 4096, contents: 'mixed', mappings: 'private', rounds: 1 },
  { mib: 512, contents: 'mixed', mappings: 'private', rounds: 1, isSlow: true },
];

/** Images of plain criu and an archive of them, or a store and what is being made of it; and a file as large for `dd`. */
const slowRoom = (mib: number) => (3 * mib + 512) * mebibyte;

/**
 * Torpor and plain criu in turn, each from its own start, the first of them another one in each round.
 * @param disk where stores and images are to be @param work for homes: a capsule sees the file system of `/` alone
 */
async function measure(subject: Subject, disk: string, work: string): Promise<Result> {
  const torpor: TorporFigures[] = [];
  const plain: PlainFigures[] = [];
  for (let round = 0; round < subject.rounds; round++) {
    process.stderr.write(`bench: ${subject.name}, round ${round + 1} of ${subject.rounds} ...\n`);
    const sides = [
      async (folder: string, home: string) => torpor.push(await measureTorpor(subject, folder, home)),
      async (folder: string, home: string) => plain.push(await measurePlain(subject, folder, home)),
    ];
    if (round % 2 === 1) sides.reverse();
    for (const side of sides) {
      if (interrupted) throw new Error('interrupted');
      const folder = await mkdtemp(join(disk, 's'));
      const home = await mkdtemp(join(work, 'h'));
      try {
        await side(folder, home);
      } finally {
        await rm(folder, { recursive: true, force: true });
        await rm(home, { recursive: true, force: true });
      }
    }
  }
  const { name, kind, mib, isSlow, rounds } = subject;
  return { name, kind, mib, isSlow, rounds, torpor: mediansOf(torpor), plain: mediansOf(plain) };
}

async function measureOne(subject: Subject, work: string): Promise<Result> {
  if (!subject.isSlow) return await measure(subject, work, work);
  const slow = await slowMedium(work, slowRoom(subject.mib ?? 0));
  if (typeof slow === 'string') throw new Error(slow);
  await using medium = slow;
  return await measure(subject, medium.folder, work);
}

/** One that cannot be measured is named in `notes`, and takes nothing from the others. */
async function measureAll(subjects: readonly Subject[], work: string, notes: string[]): Promise<Result[]> {
  const results: Result[] = [];
  for (const subject of subjects) {
    try {
      results.push(await measureOne(subject, work));
    } catch (error) {
      if (interrupted) throw error;
      const note = `${subject.name} is left out: ${sentenceOf(error).replace(/\.?$/, '.')}`;
      process.stderr.write(`bench: ${note}\n`);
      notes.push(note);
    }
  }
  return results;
}

/** A measurement is brought to its end, so that nothing of it is left behind. */
let interrupted = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.on(signal, () => {
    interrupted = true;
    process.stderr.write('bench: ends after this measurement ...\n');
  });

const work = await mkdtemp('/var/tmp/torpor-bench-');
const startedAt = performance.now();
const loadBefore = loadavg();
try {
  const isWhole = !options.quick && options.only === undefined;
  const { subjects: windows, missing } = applicationSubjects(options.quick ? 1 : 3);
  const program = await buildMemoryProgram(work);
  const kinds = options.quick ? quickKinds : fullKinds;
  const subjects = [...kinds.map((kind) => memorySubject(program, kind)), ...windows].filter(
    ({ name }) => options.only === undefined || name.includes(options.only),
  );
  const notes = [...missing];
  const results = await measureAll(subjects, work, notes);
  const rounds = Number(options.rounds ?? (options.quick ? 1 : 5));
  const applications = await measureApplications(
    rounds,
    options.only === undefined ? (options.quick ? ['xterm'] : ['xterm', 'mousepad', 'gimp']) : [],
  );

  const bundleRounds = options.quick ? 1 : 3;
  const bundles =
    options.only === undefined || 'bundles'.includes(options.only)
      ? await measureBundles(work, options.quick ? 64 : 512, bundleRounds)
      : [];

  const warmRounds = options.quick ? 1 : 3;
  const warm =
    options.only === undefined || 'warm'.includes(options.only)
      ? await measureWarm(work, warmRounds, notes)
      : [];

  const kexecRounds = options.quick ? 1 : 3;
  const kexec =
    options.only === undefined || 'kexec'.includes(options.only)
      ? await measureKexec(kexecRounds)
      : undefined;

  const minutes = ((performance.now() - startedAt) / 60_000).toFixed(0);
  const rate = (value: number) => `${value / 1_000_000} MB/s`;
  const text = [
    '# Benchmark',
    '',
    `Made by \`npm run bench\` on ${new Date().toISOString().slice(0, 10)} in ${minutes} minutes: kernel ${release()}, ${cpus().length} cores (${cpus()[0]?.model ?? 'unknown'}), ${mebibytes(totalmem())} of memory; load ${loadBefore.map((load) => load.toFixed(1)).join(', ')} over 1, 5 and 15 minutes when it began. Medians of ${[...new Set(results.map((each) => each.rounds))].toSorted().join(', ')} rounds, Torpor and plain criu in turn, each time with an empty store of its own and an engine that has suspended the program once before, with hardly any memory.`,
    '',
    `Cases are processes that have this much memory of this kind (test/bench/memory-program.c), in a capsule as any application; "mixed" is a quarter random, half text and a quarter zeros. The slow disk is a loop device that the kernel holds to ${rate(slowSpeeds.write)} of writes and ${rate(slowSpeeds.read)} of reads. "Reacts": until a process has answered a request that reads 64 pages all over its memory, or a window has opened a menu. "Medium": \`dd\` of as many bytes, direct, with fsync. CPU is that of the engine, its helpers and CRIU, and with a resume that of the workload until it is fully resident. "5% changed": pages chosen as by chance; applications had three menus opened. GIMP has five images of 1600 by 1200 pixels like photographs and five like drawings.`,
    '',
    memoryReport(results, notes, 'benchmark-memory.svg'),
    '',
    ...(applications.length === 0 ? [] : [applicationsReport(applications, rounds), '']),
    ...(bundles.length === 0 ? [] : [bundlesReport(bundles, bundleRounds), '']),
    ...(warm.length === 0 ? [] : [warmReport(warm, warmRounds), '']),
    ...(kexec === undefined ? [] : [kexecReport(kexec, kexecRounds), '']),
  ].join('\n');
  const folder = new URL(isWhole ? '../../docs' : '../../build/bench', import.meta.url).pathname;
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'benchmark.md'), text);
  await writeFile(join(folder, 'benchmark-memory.svg'), memoryChart(results));
  process.stdout.write(
    options.json ? `${JSON.stringify({ results, applications, bundles, warm, kexec }, null, 2)}\n` : text,
  );
} finally {
  await rm(work, { recursive: true, force: true });
}
