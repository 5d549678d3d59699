/**
 * A small process (native/canary.c) that is checkpointed before a jump and restored after it: what becomes of it becomes of
 * applications. It is tried out on the spot first, so that what fails later is the other kernel's doing.
 */
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import { lastSentence, runCommand } from '../command.ts';
import type { CriuClient } from '../criu/client.ts';
import { privateFolder } from '../durable.ts';
import type { Installation } from '../installation.ts';
import { identify, type ProcessIdentity, signalProcess, waitGone } from '../process.ts';

/** On a machine that has just been started everything takes longer. */
const answerLimitMs = 20_000;
const answerEveryMs = 20;
const startLimitMs = 20_000;
const goneLimitMs = 10_000;

export interface CanaryParts {
  criu: CriuClient;
  installation: Pick<Installation, 'canary' | 'capsuleTool'>;
  /** Where it is kept. */
  folder: string;
}

export class Canary {
  readonly #parts: CanaryParts;

  constructor(parts: CanaryParts) {
    this.#parts = parts;
  }

  get #images(): string {
    return join(this.#parts.folder, 'images');
  }

  get #root(): string {
    return join(this.#parts.folder, 'root');
  }

  /**
   * Checkpoints one, in place of an earlier one, and restores it at once.
   * @throws TorporError `failed`, saying what cannot be done or came back wrong.
   */
  async make(): Promise<void> {
    await this.remove();
    await privateFolder(this.#parts.folder);
    for (const folder of [this.#images, this.#root]) await mkdir(folder, { mode: 0o700 });
    const { criu, installation } = this.#parts;
    const { status, stdout, stderr } = await runCommand(installation.canary, [this.#root], {
      timeoutMs: startLimitMs,
    });
    const process = status === 0 ? await identify(Number(stdout)) : undefined;
    if (process === undefined)
      throw cannot(`It could not be started: ${lastSentence(stderr) || `exit status ${status}`}.`);
    try {
      await criu.dump({ pid: process.pid, imagesDir: this.#images, logFile: 'dump.log' });
    } catch (error) {
      await signalProcess(process, 'SIGKILL');
      throw cannot(`It could not be checkpointed: ${sentenceOf(error)}`, error);
    }
    if (!(await waitGone(process, goneLimitMs))) throw cannot('It did not end.');
    await this.try();
  }

  /**
   * Restores the one that there is, and asks it; it can be tried again.
   * @throws TorporError `failed`, saying what went wrong.
   */
  async try(): Promise<void> {
    const { criu, installation } = this.#parts;
    // As a capsule's: the root is a mount of CRIU's own.
    const prefix = [installation.capsuleTool, 'with-root', '/', this.#root, '--'];
    let process: ProcessIdentity | undefined;
    try {
      const { pid } = await criu
        .withPrefix(prefix)
        .restore({ imagesDir: this.#images, logFile: 'restore.log', root: this.#root });
      process = await identify(pid);
    } catch (error) {
      throw cannot(`It could not be restored: ${sentenceOf(error)}`, error);
    }
    if (process === undefined) throw cannot('It ended as soon as it had been restored.');
    try {
      const answer = await this.#ask(process);
      if (answer === undefined) throw cannot('It was restored, and did not answer.');
      if (answer !== 'sound') throw cannot(`It was restored, and lacks ${answer}.`);
    } finally {
      await signalProcess(process, 'SIGKILL');
      await waitGone(process, goneLimitMs);
    }
  }

  async #ask(process: ProcessIdentity): Promise<string | undefined> {
    await signalProcess(process, 'SIGUSR1');
    for (const end = Date.now() + answerLimitMs; Date.now() < end; await sleep(answerEveryMs)) {
      const answer = await readFile(`/proc/${process.pid}/root/dev/answer`, 'utf8').catch(() => undefined);
      if (answer !== undefined) return answer.trim();
    }
    return undefined;
  }

  async remove(): Promise<void> {
    await rm(this.#parts.folder, { recursive: true, force: true });
  }
}

function cannot(sentence: string, cause?: unknown): TorporError {
  return new TorporError(
    'failed',
    `A small process that was put to the test did not come back. ${sentence}`,
    'See `torpor doctor`.',
    {},
    { cause },
  );
}
