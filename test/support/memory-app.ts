/**
 * An application that holds memory of which every page tells whether it is right: random, at a size that is asked for,
 * with a hash of all that it made at its start. It answers each file `ask-N` in its folder by a file `answer-N`.
 */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';

/** Its own loop touches little of its memory. `change` rewrites every twentieth page; `fork` has a child answer. */
const program = `
import hashlib, mmap, os, sys, time
folder, megabytes, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
size = megabytes << 20
memory = mmap.mmap(-1, size, flags=mmap.MAP_ANONYMOUS | (mmap.MAP_SHARED if kind == 'shared' else mmap.MAP_PRIVATE))
for at in range(0, size, 1 << 20):
    memory[at:at + (1 << 20)] = os.urandom(1 << 19) + (b'torpor ' * ((1 << 19) // 7 + 1))[:1 << 19]
expected = hashlib.sha256(memory).hexdigest()
def answer(number, text):
    with open(f'{folder}/answer-{number}.new', 'w') as file: file.write(text)
    os.rename(f'{folder}/answer-{number}.new', f'{folder}/answer-{number}')
def look():
    return 'right' if hashlib.sha256(memory).hexdigest() == expected else 'wrong'
answer(0, 'ready')
number = 1
while True:
    try:
        with open(f'{folder}/ask-{number}') as file: question = file.read().strip()
    except FileNotFoundError:
        time.sleep(0.02)
        continue
    if question == 'fork':
        if os.fork() == 0:
            answer(number, look())
            os._exit(0)
        os.wait()
    elif question == 'change':
        for at in range(0, size, 20 * 4096): memory[at:at + 4096] = os.urandom(4096)
        expected = hashlib.sha256(memory).hexdigest()
        answer(number, 'changed')
    elif question == 'alive':
        answer(number, 'alive')
    else:
        answer(number, look())
    number += 1
`;

export type Question = 'memory' | 'fork' | 'change' | 'alive';

export class MemoryApp implements AsyncDisposable {
  readonly folder: string;
  readonly command: readonly string[];
  #asked = 0;

  private constructor(folder: string, command: readonly string[]) {
    this.folder = folder;
    this.command = command;
  }

  /** @param megabytes of memory, half of it random, half of it text. */
  static async create(megabytes: number, kind: 'private' | 'shared' = 'private'): Promise<MemoryApp> {
    const folder = await mkdtemp('/var/tmp/torpor-memory-');
    await mkdir(join(folder, 'home'));
    await writeFile(join(folder, 'program.py'), program);
    return new MemoryApp(folder, ['python3', join(folder, 'program.py'), folder, String(megabytes), kind]);
  }

  /** Waits until it has made its memory. */
  async ready(): Promise<void> {
    await this.#answer(0);
  }

  /** Whether it has answered all that it was asked. */
  get hasAnswered(): boolean {
    return existsSync(join(this.folder, `answer-${this.#asked}`));
  }

  async ask(question: Question): Promise<string> {
    await this.askOnly(question);
    return await this.#answer(this.#asked);
  }

  /** Asks and does not wait. */
  async askOnly(question: Question): Promise<void> {
    this.#asked++;
    const file = join(this.folder, `ask-${this.#asked}`);
    await writeFile(`${file}.new`, question);
    await rename(`${file}.new`, file);
  }

  /** The answer to what was asked last. */
  async answer(): Promise<string> {
    return await this.#answer(this.#asked);
  }

  async #answer(number: number): Promise<string> {
    const file = join(this.folder, `answer-${number}`);
    await expect.poll(() => existsSync(file), { timeout: 60_000 }).toBe(true);
    return await readFile(file, 'utf8');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}
