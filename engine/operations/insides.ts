/** The inside of a running capsule: its windows, and commands that are run in it. */
import { TorporError } from '../../api/errors.ts';
import type { CapsuleWindow, ExecSpec } from '../../api/types.ts';
import type { RunningRecord } from '../screen/windows.ts';
import type { CapsuleRecord } from '../workload/record.ts';
import type { Caller } from '../workload/registry.ts';
import { notRunning } from './descriptions.ts';
import type { OperationParts } from './parts.ts';

export class Insides {
  readonly #parts: OperationParts;

  constructor(parts: OperationParts) {
    this.#parts = parts;
  }

  async exec(caller: Caller, reference: string, spec: ExecSpec): Promise<string> {
    const record = this.#capsule(reference, caller);
    if (record.status.kind !== 'running') throw notRunning(record);
    await this.#parts.naps.wake(record.id);
    return this.#parts.exec.prepare({ ...record, status: record.status }, spec, caller);
  }

  async windows(caller: Caller, workload: string): Promise<CapsuleWindow[]> {
    return this.#parts.windows.list(this.#undisturbed(workload, caller));
  }

  async windowIcon(caller: Caller, workload: string, window: number): Promise<Uint8Array> {
    return this.#parts.windows.icon(this.#undisturbed(workload, caller), window);
  }

  async activateWindow(caller: Caller, workload: string, window: number): Promise<void> {
    await this.#parts.naps.wake(this.#capsule(workload, caller).id);
    await this.#parts.windows.activate(this.#undisturbed(workload, caller), window);
  }

  async closeWindows(caller: Caller, workload: string): Promise<void> {
    await this.#parts.naps.wake(this.#capsule(workload, caller).id);
    const record = this.#undisturbed(workload, caller);
    await this.#parts.windows.close(record);
    this.#parts.log.info({ workload: record.id }, 'its windows were asked to close');
  }

  /** @throws TorporError `failed` for a job, which has no screen and no inside. */
  #capsule(reference: string, caller: Caller): CapsuleRecord {
    const record = this.#parts.registry.find(reference, caller);
    if (record.kind === 'capsule') return record;
    throw new TorporError(
      'failed',
      `${record.name} is a job: it has a terminal, and no screen and no session of its own.`,
      `See it with \`torpor attach ${record.name}\`.`,
    );
  }

  /** A running workload that nothing is under way on: a connection to its X server would be in the way of a suspend. */
  #undisturbed(reference: string, caller: Caller): RunningRecord {
    const record = this.#capsule(reference, caller);
    if (record.status.kind !== 'running') throw notRunning(record);
    if (record.status.nap !== undefined)
      throw new TorporError(
        'failed',
        `${record.name} naps, and does not answer.`,
        `Wake it: \`torpor wake ${record.name}\`.`,
      );
    this.#parts.locks.refuseIfHeld(record.id, record.name);
    return { ...record, status: record.status };
  }
}
