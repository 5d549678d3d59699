/**
 * What a bundle has of a real checkpoint, changed in ways that nobody would. Images: the checks of a stranger's bundle and
 * the mapping of identities refuse each by an error of theirs, or leave nothing in it that the importing user could not have
 * started. What the catalogue says: it is refused, or nothing of it leads out of the layer. Three seconds for each;
 * TORPOR_FUZZ_SECONDS makes it longer. What is ever found is kept in test/fuzz/images, by the image's name.
 */
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TorporError } from '../../api/errors.ts';
import { checkImages } from '../../engine/bundle/checks/check-images.ts';
import { limitsHere } from '../../engine/bundle/checks/limits.ts';
import { type IdentityChange, mapIdentity } from '../../engine/bundle/checks/map-identity.ts';
import { type Contents, parseContents } from '../../engine/bundle/contents.ts';
import { fillLayer, planLayer, refuseInOwnFolders } from '../../engine/bundle/over-machine.ts';
import type { User } from '../../engine/capsule/users.ts';
import { FileHashes } from '../../engine/files/hashes.ts';
import { type Manifest, specOf } from '../../proto/manifest.ts';
import { WireError } from '../../proto/wire.ts';
import { random } from '../support/disk-faults/disk.ts';
import { TestEngine } from '../support/engine.ts';
import { mutated } from '../support/mutated.ts';
import { makeUser } from '../support/users.ts';

const corpus = new URL('../fuzz/images', import.meta.url).pathname;
const seconds = Number(process.env.TORPOR_FUZZ_SECONDS ?? 3);
const seed = Number(process.env.TORPOR_FUZZ_SEED ?? Date.now() % 2 ** 32);
const longestMs = 5000;
const importer: User = { uid: 1777, gid: 1777, groups: [1777], name: 'guest', home: '/', shell: '/bin/sh' };

const hashes = new FileHashes();

let folder: string;
/** As they were dumped, and as they are for the importing user. */
let genuine: string;
let taken: string;
let manifest: Manifest;
let change: IdentityChange;
let manifestThere: Manifest;
let names: string[];

beforeAll(async () => {
  folder = mkdtempSync('/dev/shm/torpor-images-');
  genuine = join(folder, 'genuine');
  taken = join(folder, 'taken');
  await using engine = await TestEngine.create();
  await using user = await makeUser('torpor-frank', 21506);
  const options = ['--name', 'it', '--user', user.name, '--env', `HOME=${user.home}`];
  const inside = 'trap : USR1; exec 3>>"$HOME/log" 9>"$HOME/lock"; flock 9; sleep 1000 | cat';
  await engine.start(['xterm', '-e', 'sh', '-c', inside], ...options);
  await engine.json('suspend', 'it');
  const [snapshot] = await engine.snapshots();
  const contents = join(engine.paths.stateDir, 'snapshots', snapshot?.id ?? '');
  cpSync(join(contents, 'images'), genuine, { recursive: true });
  manifest = JSON.parse(readFileSync(join(contents, 'manifest.json'), 'utf8')) as Manifest;
  manifestThere = structuredClone(manifest);
  Object.assign(specOf(manifestThere).user, importer);
  // Lists of pages are the store's, and checked by its reader.
  names = readdirSync(genuine).filter((name) => !name.startsWith('pagemap'));
  cpSync(genuine, taken, { recursive: true });
  await checkImages(genuine, manifest);
  change = { from: specOf(manifest).user, to: importer, limits: await limitsHere() };
  await mapIdentity(taken, change);
  await checkImages(taken, manifestThere);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The name of an image without the numbers of processes and namespaces, which are others in each run. */
const shapeOf = (name: string) => name.replaceAll(/\d+/g, '0');

const isAnswer = (error: unknown) => error instanceof TorporError || error instanceof WireError;

/** @returns what was said of it. @throws Error for what should never be said, or should have been refused. */
async function attempt(name: string, input: Buffer): Promise<string> {
  const before = readFileSync(join(genuine, name));
  try {
    writeFileSync(join(genuine, name), input);
    await checkImages(genuine, manifest);
  } catch (error) {
    if (!isAnswer(error)) throw error;
    return (error as Error).message;
  } finally {
    writeFileSync(join(genuine, name), before);
  }
  const alone = join(folder, 'alone');
  rmSync(alone, { recursive: true, force: true });
  mkdirSync(alone);
  writeFileSync(join(alone, name), input);
  try {
    await mapIdentity(alone, change);
  } catch (error) {
    if (!isAnswer(error)) throw error;
    return (error as Error).message;
  }
  const mapped = readFileSync(join(taken, name));
  try {
    writeFileSync(join(taken, name), readFileSync(join(alone, name)));
    await checkImages(taken, manifestThere);
    return 'right';
  } finally {
    writeFileSync(join(taken, name), mapped);
  }
}

/** As an export would say it, of the images that there are and a few files. */
function contentsOf(): Contents {
  const { user } = specOf(manifest);
  const sha256 = 'ab'.repeat(32);
  const common = { list: 1, bytes: 5, sha256, mode: 0o644, mtimeNs: '1700000000000000000' };
  const origin = {
    machine: 'cd'.repeat(16),
    workload: manifest.workload,
    user,
    root: '/',
    hostMounts: [],
    hostname: 'h',
  };
  const layer: Contents['workloads'][number]['layer'] = [
    { kind: 'folder', path: '/home/frank', mode: 0o755, owner: 'user' },
    { kind: 'file', path: '/home/frank/letter', role: 'document', owner: 'user', ...common },
    { kind: 'file', path: '/usr/lib/libx.so.1.2', role: 'library', owner: 'root', ...common },
    { kind: 'link', path: '/usr/lib/libx.so.1', target: 'libx.so.1.2', owner: 'root' },
  ];
  const files = names.map((name, list) => ({ path: `images/${name}`, list }));
  const workload = {
    manifest,
    files,
    memory: 0,
    layer,
    origin,
    base: [{ path: '/home/frank/letter', sha256 }],
  };
  return { version: 1, writtenAt: manifest.takenAt, engine: '0', workloads: [workload] } as Contents;
}

/** @returns what was said of it. @throws Error where something of it leads out of the folder that it is for */
async function attemptContents(input: Buffer, root: string): Promise<string> {
  let json: unknown;
  try {
    json = JSON.parse(input.toString('utf8'));
  } catch {
    return 'no JSON';
  }
  try {
    const { workloads } = parseContents(json, '/media/key/session');
    for (const bundled of workloads) {
      refuseInOwnFolders(bundled.layer);
      const plan = await planLayer(bundled.manifest, bundled, false, importer, hashes);
      for (const task of await fillLayer(bundled.layer, plan, root)) {
        const path = String(task.path);
        if (path.startsWith('/') || path.split('/').includes('..')) throw new Error(`it leads to ${path}`);
        if (Number(task.mode ?? 0) > 0o777) throw new Error(`it has the mode ${task.mode}`);
      }
      for (const { path } of bundled.files)
        if (path.startsWith('/') || path.split('/').includes('..')) throw new Error(`it leads to ${path}`);
    }
  } catch (error) {
    if (!(error instanceof TorporError)) throw error;
    return error.message;
  }
  return 'right';
}

it(
  'what the catalogue says is refused, or leads nowhere else',
  async () => {
    const root = join(folder, 'root');
    mkdirSync(root);
    const next = random(seed + 1);
    const whole = Buffer.from(JSON.stringify(contentsOf()));
    expect(await attemptContents(whole, root)).toBe('right');
    const beginnings: Buffer[] = [whole];
    const answers = new Set<string>();
    let tries = 0;
    for (const end = Date.now() + seconds * 1000; Date.now() < end; tries++) {
      const input = mutated(beginnings[Math.floor(next() * beginnings.length)] ?? whole, next, whole);
      const said = await attemptContents(input, root).catch((error: unknown) => {
        throw new Error(`seed ${seed + 1}: ${input.toString('base64').slice(0, 200)}`, { cause: error });
      });
      const answer = said.replaceAll(/\d+/g, '0');
      if (answers.has(answer) || said === 'no JSON' || answers.size > 2000) continue;
      answers.add(answer);
      beginnings.push(input);
    }
    if (seconds > 3) console.log(`contents: ${tries} tries, ${answers.size} answers, seed ${seed + 1}`);
    expect(answers.size).toBeGreaterThan(5);
  },
  seconds * 1000 + 30_000,
);

describe('images', () => {
  it('stand what was found before', async () => {
    const found = existsSync(corpus) ? readdirSync(corpus) : [];
    for (const file of found) {
      const [name = ''] = file.split('~');
      const alike = names.find((each) => shapeOf(each) === shapeOf(name));
      if (alike !== undefined) await attempt(alike, readFileSync(join(corpus, file)));
    }
  });

  it(
    'are refused, or harmless, whatever becomes of them',
    async () => {
      const next = random(seed);
      const any = <T>(of: readonly T[]): T => of[Math.floor(next() * of.length)] as T;
      const beginnings = new Map(
        names.map((name): [string, Buffer[]] => [name, [readFileSync(join(genuine, name))]]),
      );
      const answers = new Set<string>();
      const end = Date.now() + seconds * 1000;
      let tries = 0;
      for (; Date.now() < end; tries++) {
        const name = any(names);
        const known = beginnings.get(name) ?? [];
        const input = mutated(any(known), next, readFileSync(join(genuine, any(names))));
        let said: string;
        try {
          const startedAt = performance.now();
          said = await attempt(name, input);
          if (performance.now() - startedAt > longestMs) throw new Error('it took too long');
        } catch (error) {
          const file = `${name}~${createHash('sha256').update(input).digest('hex').slice(0, 16)}`;
          mkdirSync(corpus, { recursive: true });
          writeFileSync(join(corpus, file), input);
          throw new Error(`seed ${seed}: ${file}`, { cause: error });
        }
        const answer = `${shapeOf(name)} ${said.replaceAll(/\d+/g, '0').slice(0, 80)}`;
        if (answers.has(answer) || answers.size > 2000) continue;
        answers.add(answer);
        known.push(input);
      }
      if (seconds > 3) console.log(`images: ${tries} tries, ${answers.size} answers, seed ${seed}`);
      expect(tries).toBeGreaterThan(20);
      expect(answers.size).toBeGreaterThan(5);
    },
    seconds * 1000 + 30_000,
  );
});
