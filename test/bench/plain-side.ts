/** The same subject by plain `criu`: to disk, compressed after that, and with CRIU's own lazy restore. */
import { rm, stat } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { forgetCached, type MediumFigures, mediumFigures, runOrThrow } from './medium.ts';
import { PlainCapsule, type PlainDump } from './plain-criu.ts';
import { type Place, type Subject, untilReaction } from './subjects.ts';
import { Usage } from './usage.ts';

/** Milliseconds, bytes and seconds of processor time. */
export interface PlainFigures {
  dump: PlainDump;
  dumpCpuSeconds: number;
  /** The images compressed by `zstd -1 -T2`, and synced, after the dump; and what decompressing takes on all cores at least. */
  zstd: { compressMs: number; bytes: number; cpuSeconds: number; decompressMs: number };
  restoreMs: number;
  reactMs: number;
  restoreCpuSeconds: number;
  /** Undefined where CRIU's lazy restore fails. */
  lazy: { restoreMs: number; reactMs: number; residentMs: number; cpuSeconds: number } | undefined;
  /** The medium itself, for as many bytes as the images have. */
  medium: MediumFigures;
  isIntact: boolean;
}

/** @param folder where the images are to be @param home of the application */
export async function measurePlain(subject: Subject, folder: string, home: string): Promise<PlainFigures> {
  await using usage = await Usage.create('plain');
  const command = await subject.prepare(home);
  const env = { HOME: home, PATH: '/usr/bin:/bin', LANG: 'C.UTF-8' };
  await using capsule = await PlainCapsule.start(command, env, { folder, prefix: usage.prefix });
  const place: Place = { home, screen: capsule.screen, cgroup: capsule.cgroup };
  await subject.ready(place);
  const before = await subject.sum(place);

  const { result: dump, seconds: dumpCpuSeconds } = await usage.during(() => capsule.dump(false));
  const zstd = await compressed(capsule.images, folder, usage);
  const medium = await mediumFigures(folder, dump.bytes);

  await forgetCached(capsule.images);
  const { result: restored, seconds: restoreCpuSeconds } = await usage.during(
    () => untilReaction(subject, place, () => capsule.restore()),
    capsule.cgroup,
  );
  const isIntact = (await subject.sum(place)) === before;
  await capsule.end();
  return {
    dump,
    dumpCpuSeconds,
    zstd,
    restoreMs: restored.result,
    reactMs: restored.reactMs,
    restoreCpuSeconds,
    lazy: await lazily(subject, capsule, place, usage),
    medium,
    isIntact,
  };
}

async function lazily(
  subject: Subject,
  capsule: PlainCapsule,
  place: Place,
  usage: Usage,
): Promise<PlainFigures['lazy']> {
  await forgetCached(capsule.images);
  try {
    const { result, seconds } = await usage.during(async () => {
      const startedAt = performance.now();
      const { result: restored, reactMs } = await untilReaction(subject, place, () =>
        capsule.restoreLazily(),
      );
      const residentMs = (await restored.resident) - startedAt;
      return { restoreMs: restored.restoreMs, reactMs, residentMs };
    }, capsule.cgroup);
    return { ...result, cpuSeconds: seconds };
  } catch (error) {
    process.stderr.write(`bench: criu lazy-pages, ${subject.name}: ${(error as Error).message}\n`);
    return undefined;
  }
}

/** As a script would do it after the dump; its result is removed again, as the restores need the images as they are. */
async function compressed(images: string, folder: string, usage: Usage): Promise<PlainFigures['zstd']> {
  const archive = join(folder, 'images.zst');
  const [shell = '', ...counted] = [...usage.prefix, 'sh'];
  const script = 'cat "$0"/*.img | zstd -q -1 -T2 -o "$1" && sync "$1"';
  const compressingAt = performance.now();
  const { seconds } = await usage.during(() =>
    runOrThrow(shell, [...counted, '-c', script, images, archive]),
  );
  const compressMs = performance.now() - compressingAt;
  const { size } = await stat(archive);
  const decompressingAt = performance.now();
  await runOrThrow('zstd', ['-q', '-t', archive]);
  // It decompresses in one thread.
  const decompressMs = (performance.now() - decompressingAt) / cpus().length;
  await rm(archive);
  return { compressMs, bytes: size, cpuSeconds: seconds, decompressMs };
}
