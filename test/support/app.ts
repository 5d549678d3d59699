/** The app of a test's own, beside the engine of {@link TestEngine}: real, in a browser that the test opens. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { TestEngine } from './engine.ts';

const root = new URL('../..', import.meta.url).pathname;

export class TestApp implements AsyncDisposable {
  readonly #child: ChildProcess;
  /** With a token that opens it once. */
  readonly address: string;

  private constructor(child: ChildProcess, address: string) {
    this.#child = child;
    this.address = address;
  }

  /** @throws Error with what it said where it does not start. */
  static async start(engine: TestEngine, env: Record<string, string> = {}): Promise<TestApp> {
    const child = spawn(process.execPath, ['--import', 'tsx', 'main/browser.ts'], {
      cwd: root,
      env: { ...process.env, ...engine.env, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    for await (const line of createInterface({ input: child.stdout })) {
      const address = /http:\/\/127\.0\.0\.1:\d+\/\S+/.exec(line)?.[0];
      if (address !== undefined) return new TestApp(child, address);
    }
    throw new Error('the app ended before it said its address');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    await exited;
  }
}
