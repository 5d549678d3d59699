/** The sound server of a capsule without a capsule, and the relay that carries its streams to a user's own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { end } from './programs.ts';
import { until } from './sound.ts';

const built = (name: string) => new URL(`../../build/native/${name}`, import.meta.url).pathname;

export class SoundInside implements AsyncDisposable {
  readonly #folder: string;
  readonly process: ChildProcess;
  readonly #relays = new Set<ChildProcess>();

  private constructor(folder: string, process: ChildProcess) {
    this.#folder = folder;
    this.process = process;
  }

  static async create(): Promise<SoundInside> {
    const folder = await mkdtemp(join(tmpdir(), 'torpor-sound-'));
    const sockets = [join(folder, 'native'), join(folder, 'relay')];
    const child = spawn(built('torpor-sound'), sockets, { stdio: 'ignore' });
    const inside = new SoundInside(folder, child);
    await until(async () => (await readdir(folder)).includes('relay'), 'it listens');
    return inside;
  }

  /** Of programs. */
  get socket(): string {
    return join(this.#folder, 'native');
  }

  get relaySocket(): string {
    return join(this.#folder, 'relay');
  }

  /** Connects it with a user's sound server. */
  async relay(server: string): Promise<ChildProcess> {
    const args = [this.relaySocket, 'A test', ''];
    const env = { ...process.env, PULSE_SERVER: server };
    const child = spawn(built('torpor-sound-relay'), args, { env, stdio: ['pipe', 'pipe', 'inherit'] });
    this.#relays.add(child);
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk;
    });
    await until(async () => said.includes('"connected"'), 'the relay is connected');
    return child;
  }

  /** Whether it still runs: it is not to be brought down by anything. */
  get isThere(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  /** How long it has computed, in hundredths of a second. */
  async computed(): Promise<number> {
    const stat = await readFile(`/proc/${this.process.pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return Number(fields[11]) + Number(fields[12]);
  }

  /** Ends a program without a word. */
  async kill(child: ChildProcess): Promise<void> {
    this.#relays.delete(child);
    await end(child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const relay of this.#relays) await this.kill(relay);
    await this.kill(this.process);
    await rm(this.#folder, { recursive: true, force: true });
  }
}
