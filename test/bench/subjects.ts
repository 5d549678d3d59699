/** What is suspended and resumed: the memory program in all its kinds, and applications with a window. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectRfb, type RfbClient } from '../../api/rfb/client.ts';
import { comparePictures } from '../../api/rfb/picture.ts';
import { waitForStableScreen } from '../support/screen.ts';
import { runOrThrow } from './medium.ts';
import { ask, type Contents, type Mappings } from './memory-program.ts';
import { secondsIn } from './usage.ts';

/** One running instance, seen from outside. */
export interface Place {
  /** Its home folder. */
  home: string;
  /** Path of the RFB socket of its screen. */
  screen: string;
  /** Of all its processes. */
  cgroup: string;
}

export interface Subject {
  name: string;
  /** What the aims say something about. */
  kind: 'memory' | 'application';
  mib: number | undefined;
  rounds: number;
  isSlow: boolean;
  /** Makes what it needs. @returns its command */
  prepare(home: string): Promise<string[]>;
  /** The same program with hardly any memory, to suspend once before: its files are known then, and their hashes. */
  prepareSmall(home: string): Promise<string[]>;
  /** It has come to rest after its start. */
  ready(place: Place): Promise<void>;
  /** Resolves as soon as it answers; begun before it is resumed. @param signal gives that up */
  react(place: Place, signal?: AbortSignal): Promise<void>;
  /** Has it change about 5% of its memory, or be used a little. */
  change(place: Place): Promise<void>;
  /** Must be the same after a resume. */
  sum(place: Place): Promise<string>;
}

/** Brings it back. @returns also how long it took, from now, until it reacted for the first time */
export async function untilReaction<T>(
  subject: Subject,
  place: Place,
  resume: () => Promise<T>,
): Promise<{ result: T; reactMs: number }> {
  const giveUp = new AbortController();
  const startedAt = performance.now();
  const reacting = subject.react(place, giveUp.signal).then(() => performance.now());
  reacting.catch(() => {});
  try {
    return { result: await resume(), reactMs: (await reacting) - startedAt };
  } catch (error) {
    giveUp.abort();
    throw error;
  }
}

export interface MemoryKind {
  mib: number;
  contents: Contents;
  mappings: Mappings;
  rounds: number;
  isSlow?: boolean;
}

/** As many mappings of `small` as the issue asks for come to this, as they are 34 KiB on average. */
export const smallMappingsMib = 664;

export function memorySubject(program: string, kind: MemoryKind): Subject {
  const { mib, contents, mappings, rounds, isSlow = false } = kind;
  const socketOf = ({ home }: Place) => join(home, 'socket');
  const size = mib < 1024 ? `${mib} MiB` : `${mib / 1024} GiB`;
  const how = mappings === 'small' ? '20,000 mappings' : mappings;
  return {
    name: `${size} ${contents}, ${how}${isSlow ? ', slow disk' : ''}`,
    kind: 'memory',
    mib,
    rounds,
    isSlow,
    prepare: async (home) => [program, join(home, 'socket'), String(mib), contents, mappings],
    prepareSmall: async (home) => [program, join(home, 'socket'), '1', 'zero', 'private'],
    ready: async (place) => {
      await ask(socketOf(place), 'react');
    },
    react: async (place, signal) => {
      await ask(socketOf(place), 'react', signal);
    },
    change: async (place) => {
      await ask(socketOf(place), 'change 5');
    },
    sum: (place) => ask(socketOf(place), 'sum'),
  };
}

const startLimitMs = 180_000;
const idleLookMs = 3000;
const idleShare = 0.02;

/** An application that loads something shows nothing of it, at times for seconds, but it computes. */
async function untilIdle(cgroup: string): Promise<void> {
  for (const end = performance.now() + startLimitMs; performance.now() < end; ) {
    const before = secondsIn(cgroup);
    await sleep(idleLookMs);
    if (secondsIn(cgroup) - before < (idleShare * idleLookMs) / 1000) return;
  }
  throw new Error(`it did not come to rest within ${startLimitMs / 1000} s`);
}

const reactionLimitMs = 60_000;

async function openScreen(path: string, signal?: AbortSignal): Promise<RfbClient> {
  for (const end = performance.now() + reactionLimitMs; ; await sleep(2)) {
    try {
      return await connectRfb(path, { timeoutMs: reactionLimitMs });
    } catch (error) {
      signal?.throwIfAborted();
      if (performance.now() > end) throw error;
    }
  }
}

/** More than a blinking cursor. */
const fewestChangedPixels = 1000;

/** Presses a key that opens a menu, and waits until that is seen. */
async function openMenu({ screen: path }: Place, signal?: AbortSignal): Promise<void> {
  await using screen = await openScreen(path, signal);
  const before = await screen.capture();
  await screen.press('F10');
  for (const end = performance.now() + reactionLimitMs; performance.now() < end; ) {
    const now = await screen.capture();
    if (comparePictures(before, now).differentPixels >= fewestChangedPixels) return;
    await sleep(2);
  }
  throw new Error('its window did not react to F10');
}

async function closeMenu({ screen: path }: Place): Promise<void> {
  await using screen = await connectRfb(path);
  await screen.press('Escape');
  await screen.press('Escape');
  await sleep(300);
}

function application(
  name: string,
  rounds: number,
  prepare: (home: string) => Promise<string[]>,
  prepareSmall = prepare,
): Subject {
  return {
    name,
    kind: 'application',
    mib: undefined,
    rounds,
    isSlow: false,
    prepare,
    prepareSmall,
    ready: async ({ screen, cgroup }) => {
      // The X server may be on its way yet.
      await (await openScreen(screen))[Symbol.asyncDispose]();
      await waitForStableScreen(screen, { timeoutMs: startLimitMs });
      await untilIdle(cgroup);
      await waitForStableScreen(screen, { timeoutMs: startLimitMs });
    },
    react: openMenu,
    change: async (place) => {
      await closeMenu(place);
      for (let turn = 0; turn < 3; turn++) {
        await openMenu(place);
        await closeMenu(place);
      }
    },
    // What it shows was compared by eye and by tests already; its memory changes by itself.
    sum: async () => '',
  };
}

const gimpImages = 10;

/** Half of them as photographs are, with something new in every pixel, and half as drawings are. */
async function makeImages(folder: string): Promise<string[]> {
  await mkdir(folder);
  const size = ['-size', '1600x1200'];
  const images: string[] = [];
  for (let index = 0; index < gimpImages; index++) {
    const photograph = [
      ...['-seed', `${index}`, 'plasma:fractal'],
      ...['-blur', '0x2'],
      ...['-quality', '92'],
    ];
    const shapes = `roundrectangle 100,100 ${700 + 20 * index},500 20,20 circle 1100,600 1300,${700 + 10 * index}`;
    const drawing = ['gradient:lightblue-white', '-fill', 'steelblue', '-draw', shapes];
    const isPhotograph = index % 2 === 0;
    const image = join(folder, `picture-${index}.${isPhotograph ? 'jpg' : 'png'}`);
    await runOrThrow('convert', [...size, ...(isPhotograph ? photograph : drawing), '-depth', '8', image]);
    images.push(image);
  }
  return images;
}

const gimp = (rounds: number) => {
  const command = ['gimp', '--no-splash'];
  return application(
    `GIMP, ${gimpImages} images`,
    rounds,
    async (home) => [...command, ...(await makeImages(join(home, 'images')))],
    async () => command,
  );
};

const firefox = (rounds: number) =>
  application('Firefox', rounds, async (home) => {
    const profile = await mkdtemp(join(home, 'profile-'));
    return ['firefox-esr', '--no-remote', '--profile', profile, 'about:license'];
  });

/** Its first start would show a tip in front of its window. */
const withoutTips = `<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry">
<item oor:path="/org.openoffice.Office.Common/Misc"><prop oor:name="ShowTipOfTheDay" oor:op="fuse"><value>false</value></prop></item>
<item oor:path="/org.openoffice.Office.Common/Misc"><prop oor:name="FirstRun" oor:op="fuse"><value>false</value></prop></item>
</oor:items>
`;

const libreOffice = (rounds: number) =>
  application('LibreOffice', rounds, async (home) => {
    const profile = await mkdtemp(join(home, 'office-'));
    await mkdir(join(profile, 'user'));
    await writeFile(join(profile, 'user', 'registrymodifications.xcu'), withoutTips);
    return ['libreoffice', `-env:UserInstallation=file://${profile}`, '--norestore', '--writer'];
  });

/** The applications of the issue, with the package that each comes in where it is not installed. */
export function applicationSubjects(rounds: number): { subjects: Subject[]; missing: string[] } {
  const all = [
    { program: 'gimp', name: 'GIMP', package: 'gimp', subject: gimp(rounds) },
    { program: 'firefox-esr', name: 'Firefox', package: 'firefox-esr', subject: firefox(rounds) },
    {
      program: 'libreoffice',
      name: 'LibreOffice',
      package: 'libreoffice-writer',
      subject: libreOffice(rounds),
    },
  ];
  const isThere = ({ program }: { program: string }) => existsSync(`/usr/bin/${program}`);
  return {
    subjects: all.filter(isThere).map(({ subject }) => subject),
    missing: all
      .filter((each) => !isThere(each))
      .map((each) => `${each.name} is not installed (package ${each.package}): left out.`),
  };
}
