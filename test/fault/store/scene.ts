/** A store in a folder of its own, a process that works on it and is recorded, and what must be true of it afterwards. */
import { type ChildProcess, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Tree, writeTree } from '../../support/disk-faults/disk.ts';
import { Recorder } from '../../support/disk-faults/recorder.ts';
import { type Answer, type Done, type Expected, memoryDigest, type Step } from './steps.ts';
import { openStore } from './work.ts';

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

/**
 * Opens a store as an engine does that starts, and reads everything.
 * @returns what is wrong, in words; empty where all is as it must be.
 */
export async function examine(folder: string, { there, maybe }: Expected): Promise<string[]> {
  const wrong: string[] = [];
  const store = await openStore(folder);
  const found = await store.list();
  for (const item of found) {
    const wanted = there.get(item.id) ?? maybe.get(item.id);
    if (item.kind === 'damaged') wrong.push(`${wanted?.name ?? 'one that was removed'}: ${item.problem}`);
    else if (wanted === undefined) wrong.push(`${item.manifest.name} is there, which was removed`);
    else {
      try {
        await store.verify(item.id, true);
        const memory = readFileSync(join(store.folderOf(item.id), 'images/pages-1.img'));
        const digest = createHash('sha256').update(memory).digest('hex');
        if (digest !== memoryDigest(wanted)) wrong.push(`${wanted.name} has another memory`);
      } catch (error) {
        wrong.push(`${wanted.name}: ${error}`);
      }
    }
  }
  for (const [id, { name }] of there)
    if (!found.some((item) => item.id === id)) wrong.push(`${name} is lost`);
  return wrong;
}
