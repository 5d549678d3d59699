/** Plugins for tests: files that start test/fixtures/plugins/plugin.mjs, and what that was asked. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const program = new URL('../fixtures/plugins/plugin.mjs', import.meta.url).pathname;

type Method = 'Describe' | 'Inspect' | 'PreSuspend' | 'PostResume' | 'Abort';
/** How a plugin goes wrong, see the fixture. */
export type Bad =
  | 'sleep'
  | 'exit'
  | 'leave'
  | 'huge'
  | 'large'
  | 'nonsense'
  | 'wrong-type'
  | 'error'
  | 'error-once';

export interface PluginBehaviour {
  description?: Record<string, unknown>;
  inspect?: Record<string, string>[];
  resumed?: Record<string, string>[];
  state?: string;
  listen?: string;
  fifo?: string;
  lies?: boolean;
  bad?: Partial<Record<Method | 'start', Bad>>;
}

export interface PluginCall {
  method: Method;
  workload: { id: string; name: string; kind: string; pids: number[]; leaveRunning: boolean };
  state?: string;
  at: number;
}

export class TestPlugins implements AsyncDisposable {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async create(): Promise<TestPlugins> {
    return new TestPlugins(await mkdtemp('/var/tmp/torpor-plugins-'));
  }

  /** For the engine. */
  get env(): Record<string, string> {
    return { TORPOR_PLUGINS: this.folder };
  }

  command(name: string, behaviour: PluginBehaviour = {}): string[] {
    return [process.execPath, program, name, this.folder, JSON.stringify(behaviour)];
  }

  /** Has the engine find it; `keys` are further lines of its file. */
  async add(name: string, behaviour: PluginBehaviour = {}, ...keys: string[]): Promise<void> {
    const exec = this.command(name, behaviour)
      .map((word) => `'${word}'`)
      .join(' ');
    await this.write(name, ['[D-BUS Service]', `Name=${name}`, `Exec=${exec}`, ...keys].join('\n'));
  }

  async write(name: string, text: string): Promise<void> {
    await writeFile(join(this.folder, `${name}.service`), text);
  }

  async calls(name: string): Promise<PluginCall[]> {
    const text = await readFile(join(this.folder, `${name}.calls`), 'utf8').catch(() => '');
    return text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as PluginCall);
  }

  /** Which methods were called, apart from Describe, and forgets them. */
  async methods(name: string): Promise<Method[]> {
    const calls = await this.calls(name);
    await rm(join(this.folder, `${name}.calls`), { force: true });
    return calls.map(({ method }) => method).filter((method) => method !== 'Describe');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}
