/** A store in a folder of its own, a process that works on it and is recorded, and what must be true of it afterwards. */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Tree, writeTree } from '../../support/disk-faults/disk.ts';
import { Recorder } from '../../support/disk-faults/recorder.ts';
import { type Answer, type Done, type Expected, memoryDigest, type Step } from './steps.ts';
import { reopenStore, sweep } from './work.ts';

/** In memory: there are thousands of stores to write and read. */
const place = '/dev/shm';

export class Scene implements AsyncDisposable {
  readonly #parent: string;
  /** The store's. */
  readonly folder: string;
  /** For what is left of it in some case. */
  readonly other: string;
  readonly recorder: Recorder;
  #driver: ChildProcess | undefined;

  constructor() {
    this.#parent = mkdtempSync(join(place, 'torpor-store-'));
    this.folder = join(this.#parent, 'store');
    this.other = join(this.#parent, 'other');
    mkdirSync(this.folder);
    this.recorder = new Recorder(this.#parent);
  }

  async #running(): Promise<ChildProcess> {
    if (this.#driver?.connected) return this.#driver;
    const program = new URL('driver.ts', import.meta.url).pathname;
    this.#driver = fork(program, [this.folder], {
      execArgv: ['--import', 'tsx'],
      env: { ...process.env, ...this.recorder.env },
    });
    await once(this.#driver, 'message');
    return this.#driver;
  }

  /** Has the other process do something. */
  async perform(step: Step): Promise<Answer> {
    const driver = await this.#running();
    driver.send(step);
    return await new Promise((resolve, reject) => {
      const ended = () => reject(new Error(`what works on the store has ended in ${step.kind}`));
      driver.once('exit', ended);
      driver.once('message', (answer: Answer) => {
        driver.off('exit', ended);
        resolve(answer);
      });
    });
  }

  /** As {@link Scene.perform}, which must succeed, with where it stands among the operations. */
  async record(step: Step): Promise<Done> {
    const from = this.recorder.count;
    const answer = await this.perform(step);
    if (!answer.ok) throw new Error(`${step.kind}: ${answer.error}`);
    return { step, id: answer.id ?? '', from, to: this.recorder.count };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#driver?.connected) {
      const ended = once(this.#driver, 'exit');
      this.#driver.disconnect();
      await ended;
    }
    this.recorder[Symbol.dispose]();
    rmSync(this.#parent, { recursive: true, force: true });
  }
}

/** Makes a folder hold just this. */
export function fill(folder: string, tree: Tree): void {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  writeTree(tree, folder);
}

/** Reads stores as a resume does, all in one process. */
export class Reader implements AsyncDisposable {
  readonly #child = spawn(new URL('../../../build/native/test/memory-digest', import.meta.url).pathname, {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  readonly #answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();

  /** SHA-256 of all memory of a snapshot. @throws Error naming what is wrong. */
  async digest(store: string, snapshot: string): Promise<string> {
    this.#child.stdin.write(`${store}\t${snapshot}\n`);
    const { value } = await this.#answers.next();
    const [, verdict, rest = ''] = /^(\w+) (.*)$/.exec(value ?? '') ?? [];
    if (verdict !== 'ok') throw new Error(rest || 'what reads snapshots has ended');
    return rest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.stdin.end();
    await ended;
  }
}

/**
 * Opens a store as an engine does that starts, and reads everything.
 * @returns what is wrong, in words; empty where all is as it must be.
 */
export async function examine(folder: string, reader: Reader, { there, maybe }: Expected): Promise<string[]> {
  const store = await reopenStore(folder);
  const found = await store.list();
  const wrong: string[] = [];
  for (const item of found) {
    if (item.kind === 'damaged') {
      wrong.push(item.problem);
      continue;
    }
    const { name, files } = item.manifest;
    const wanted = there.get(name) ?? maybe.get(name);
    if (wanted === undefined) {
      wrong.push(`${name} is there, which was removed`);
      continue;
    }
    try {
      await Promise.all(files.map((file) => store.contentsOf(item.manifest, file)));
      const digest =
        item.manifest.version === 1
          ? digestOfImages(store.folderOf(item.id))
          : await reader.digest(folder, store.folderOf(item.id));
      if (digest !== memoryDigest(wanted)) wrong.push(`${name} has another memory`);
    } catch (error) {
      wrong.push(`${name}: ${error}`);
    }
  }
  const names = found.map((item) => (item.kind === 'complete' ? item.manifest.name : ''));
  for (const name of there.keys()) if (!names.includes(name)) wrong.push(`${name} is lost`);
  return wrong;
}

/** Of a snapshot of the first version, whose memory is in files. */
function digestOfImages(folder: string): string {
  const hash = createHash('sha256');
  const images = join(folder, 'images');
  for (const name of readdirSync(images).sort())
    if (name.startsWith('pages-')) hash.update(readFileSync(join(images, name)));
  return hash.digest('hex');
}

/** As {@link examine}, by the programs that an engine has for it, and of all packs. */
export async function verify(folder: string, { there }: Expected): Promise<string[]> {
  const store = await reopenStore(folder);
  const wrong: string[] = [];
  for (const item of await store.list())
    await store.verify(item.id, 'all').catch((error) => wrong.push(String(error)));
  if (wrong.length === 0) await sweep(store).catch((error) => wrong.push(`sweep: ${error}`));
  for (const { name } of there.values())
    if (!(await store.list()).some((item) => item.kind === 'complete' && item.manifest.name === name))
      wrong.push(`${name} is lost`);
  return wrong;
}
