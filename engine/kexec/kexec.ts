/**
 * From one kernel to another with all that runs: what stands in the way is found before anything is touched, the other
 * kernel is loaded, a canary and the session are saved, and the machine jumps. Until then every failure leaves all as it
 * was. After the jump, or whatever came of it, the engine that starts next looks whether the canary comes back, and only
 * then restores the session.
 */
import { readFileSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import {
  type Arrival,
  type Finding,
  type Inspection,
  type KexecOptions,
  type KexecPlan,
  type KexecResult,
  kexecTimesSchema,
  type LeftOut,
  type Session,
  type SessionSaveOptions,
} from '../../api/types.ts';
import { writeDurable } from '../durable.ts';
import type { Logger } from '../log.ts';
import { bootId } from '../process.ts';
import type { SnapshotStore } from '../store/snapshot-store.ts';
import type { WorkloadRecord } from '../workload/record.ts';
import type { Caller, Registry } from '../workload/registry.ts';
import type { Canary } from './canary.ts';
import * as jumping from './jump.ts';
import type { Kernel, Kernels } from './kernels.ts';
import { finding, findingsAbout, type Needs } from './requirements.ts';
import { describeStateFolder, type StateFolder } from './state-folder.ts';

const departureSchema = z.object({
  version: z.literal(1),
  /** Of the boot that was left. */
  boot: z.string(),
  from: z.string(),
  to: z.string(),
  /** Its name; absent where nothing ran. */
  session: z.string().optional(),
  took: kexecTimesSchema,
});
type Departure = z.infer<typeof departureSchema>;

/** Images and lists beside the pages, and what grows until it is saved. */
const margin = 1.1;
const spareBytes = 64 * 1024 * 1024;
const sessionName = 'kexec';
const root: Caller = { uid: 0 };

export interface KexecParts {
  stateDir: string;
  registry: Registry;
  store: Pick<SnapshotStore, 'encryption'>;
  kernels: Kernels;
  canary: Pick<Canary, 'make' | 'try' | 'remove'>;
  inspect: (caller: Caller, target: string) => Promise<Inspection>;
  saveSession: (
    caller: Caller,
    name: string,
    targets: readonly string[],
    options: SessionSaveOptions,
  ) => Promise<{ session: Session; left: LeftOut[] }>;
  restoreSession: (caller: Caller, name: string) => Promise<{ left: LeftOut[] }>;
  log: Logger;
}

export class Kexec {
  readonly #parts: KexecParts;
  readonly #file: string;
  #arrival: Promise<Arrival> = Promise.resolve(noArrival());

  constructor(parts: KexecParts) {
    this.#parts = parts;
    this.#file = join(parts.stateDir, 'kexec.json');
  }

  /** @throws TorporError `not-found` of a kernel that is not installed, or where none is. */
  async plan(caller: Caller, options: KexecOptions): Promise<KexecPlan> {
    refuseUnlessRoot(caller);
    const { kernel, kernels, folder, needs } = await this.#choose(options);
    const running = this.#running();
    const inspected = await Promise.all(running.map((record) => this.#inspect(record)));
    const memory = inspected.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
    const bytesNeeded = running.length === 0 ? 0 : Math.ceil(memory * margin) + spareBytes;
    const surroundings = await jumping.lookAtSurroundings();
    const findings = [
      ...jumping.findingsAboutKexec(surroundings),
      ...(await this.#findingsAbout(kernel, needs)),
      ...findingsAboutInitrd(kernel, kernels),
      ...findingsAboutFolder(this.#parts.stateDir, folder, bytesNeeded),
      ...inspected.flatMap((each) => each.findings).map((each) => weighed(each, options.partial ?? false)),
    ];
    return {
      kernel: kernel.version,
      image: kernel.image,
      ...(kernel.initrd === undefined ? {} : { initrd: kernel.initrd }),
      commandLine: jumping.commandLineFor(await readFile('/proc/cmdline', 'utf8')),
      kernels: await Promise.all(
        kernels.map(async (each) => ({
          version: each.version,
          image: each.image,
          isRunning: each.version === release(),
          canRestore: !(await this.#findingsAbout(each, needs)).some(isBlocking),
        })),
      ),
      workloads: running.map(({ id, name }) => ({ id, name })),
      bytesNeeded,
      bytesFree: folder.freeBytes,
      findings,
    };
  }

  /**
   * @returns when the machine is about to jump; where it jumps at once, never.
   * @throws TorporError; all goes on as before then.
   */
  async go(caller: Caller, options: KexecOptions): Promise<KexecResult> {
    const startedAt = performance.now();
    const plan = await this.plan(caller, options);
    refuseIfBlocked(plan);
    const { canary, log } = this.#parts;
    await canary.make();
    const checkedAt = performance.now();
    const { kernel, image } = plan;
    await jumping.load(
      { version: kernel, image, initrd: plan.initrd },
      plan.commandLine,
      await jumping.lookAtSurroundings(),
    );
    const loadedAt = performance.now();
    let saved: { session?: Session; left: LeftOut[] } = { left: [] };
    try {
      if (plan.workloads.length > 0) saved = await this.#save(plan, options);
      const took = {
        checkMs: checkedAt - startedAt,
        loadMs: loadedAt - checkedAt,
        saveMs: performance.now() - loadedAt,
      };
      await this.#note({
        version: 1,
        boot: bootId,
        from: release(),
        to: kernel,
        ...(saved.session === undefined ? {} : { session: saved.session.name }),
        took,
      });
      log.info({ kernel, session: saved.session?.id, left: saved.left }, 'jumping to another kernel');
      await jumping.jump();
      return { plan, ...saved, ...took };
    } catch (error) {
      await this.#undo(saved.session);
      throw error;
    }
  }

  #save({ workloads }: KexecPlan, { partial = false }: KexecOptions) {
    const options = { leaveRunning: false, replace: true, partial, reason: 'kexec' } as const;
    const ids = workloads.map(({ id }) => id);
    return this.#parts.saveSession(root, sessionName, ids, options);
  }

  /** After a failure before the jump: what was saved goes on. */
  async #undo(session: Session | undefined): Promise<void> {
    const { canary, restoreSession, log } = this.#parts;
    await jumping.unload();
    await rm(this.#file, { force: true });
    await canary.remove();
    if (session === undefined) return;
    const { left } = await restoreSession(root, session.name);
    if (left.length > 0) log.warn({ left }, 'not all that was saved for the jump was brought back');
  }

  async #choose({ kernel: wanted }: KexecOptions) {
    const kernels = await this.#parts.kernels.list();
    const [newest] = kernels;
    const kernel = wanted === undefined ? newest : kernels.find(({ version }) => version === wanted);
    if (kernel === undefined) throw notInstalled(wanted, kernels);
    const folder = await describeStateFolder(this.#parts.stateDir);
    const needs: Needs = {
      fileSystem: folder.fileSystem,
      drivers: folder.drivers,
      hasLayers: this.#parts.registry
        .all()
        .some((record) => record.kind === 'capsule' && record.capsule.layer !== undefined),
      hasTimeNamespaces: (await readFile('/proc/self/timens_offsets').catch(() => undefined)) !== undefined,
    };
    return { kernel, kernels, folder, needs };
  }

  async #findingsAbout({ version }: Kernel, needs: Needs): Promise<Finding[]> {
    const { kernels } = this.#parts;
    return findingsAbout(version, await kernels.configOf(version), await kernels.modulesOf(version), needs);
  }

  #running(): WorkloadRecord[] {
    return this.#parts.registry.all().filter(({ status }) => status.kind === 'running');
  }

  async #inspect({ id, name }: WorkloadRecord): Promise<Pick<Inspection, 'memoryBytes' | 'findings'>> {
    const { memoryBytes, findings } = await this.#parts.inspect(root, id);
    return {
      memoryBytes,
      findings: findings
        .filter(isBlocking)
        .map((each) => ({ ...each, what: `${name} cannot be suspended: ${each.what}` })),
    };
  }

  async #note(departure: Departure): Promise<void> {
    await writeDurable(this.#file, JSON.stringify(departure, null, 1));
  }

  /** What became of the last jump; waits while that is being found out. */
  arrival(): Promise<Arrival> {
    return this.#arrival;
  }

  /** To be called once when the engine starts: after a jump, restores what was saved for it. */
  arrive(): void {
    this.#arrival = this.#arrive().catch((error: unknown) => {
      this.#parts.log.error({ err: error }, 'what became of the jump is not known');
      return noArrival();
    });
  }

  async #arrive(): Promise<Arrival> {
    const { canary, registry, store, restoreSession, log } = this.#parts;
    const departure = await this.#departure();
    if (departure === undefined) return noArrival();
    const { from, to, session, took } = departure;
    const common = { from, to, running: release(), left: [], took };
    // The jump is still to come: another engine was asked for it, and this one only took its place.
    if (departure.boot === bootId) return noArrival();
    if (store.encryption.state === 'locked')
      return {
        ...common,
        state: 'locked',
        what: 'The snapshots that were saved for the jump are encrypted.',
        hint: `Unlock them (\`torpor encryption unlock\`), and restore them: \`torpor session restore ${session}\`.`,
      };
    try {
      await canary.try();
    } catch (error) {
      log.error({ err: error, from, to }, 'this kernel does not restore');
      return {
        ...common,
        state: 'cannot-restore',
        what: `The kernel ${release()} does not restore what was saved under ${from}. ${sentenceOf(error)} Everything that was saved is kept.`,
        hint: `Go back to the kernel before: \`torpor kexec --kernel ${from}\`, or choose it as the machine starts.`,
      };
    }
    let firstMs: number | undefined;
    registry.onChange(({ status }) => {
      if (status.kind === 'running') firstMs ??= uptimeMs();
    });
    const left = session === undefined ? [] : (await restoreSession(root, session)).left;
    const allMs = uptimeMs();
    await rm(this.#file, { force: true });
    await canary.remove();
    log.info({ from, to, running: release(), left, firstMs, allMs }, 'arrived');
    return {
      ...common,
      state: 'restored',
      what: `The machine went from ${from} to ${release()}${session === undefined ? '' : ', and what ran was restored'}.`,
      hint: left.length === 0 ? '' : `Try again: \`torpor session restore ${session}\`.`,
      left,
      ...(firstMs === undefined ? {} : { firstMs, allMs }),
    };
  }

  async #departure(): Promise<Departure | undefined> {
    const text = await readFile(this.#file, 'utf8').catch(() => undefined);
    return text === undefined ? undefined : departureSchema.parse(JSON.parse(text));
  }
}

/** Since the kernel started. */
const uptimeMs = () => Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1000;

const isBlocking = ({ verdict }: Finding) => verdict === 'blocking';

function noArrival(): Arrival {
  return {
    state: 'none',
    from: '',
    to: '',
    running: release(),
    what: 'The machine has not jumped to this kernel.',
    hint: '',
    left: [],
  };
}

/** What cannot be saved is left behind where that is wanted. */
const weighed = (each: Finding, partial: boolean): Finding =>
  partial ? { ...each, verdict: 'degraded', hint: 'It ends with the machine.' } : each;

function refuseUnlessRoot({ uid }: Caller): void {
  if (uid !== 0)
    throw new TorporError('not-permitted', 'Starting another kernel is for root alone.', 'Use sudo.');
}

function refuseIfBlocked({ kernel, findings }: KexecPlan): void {
  const blocking = findings.filter(isBlocking);
  const [first] = blocking;
  if (first === undefined) return;
  const more = blocking.length > 1 ? ` (and ${blocking.length - 1} more: \`torpor kexec --dry-run\`)` : '';
  throw new TorporError(
    'blocked',
    `The machine cannot go to the kernel ${kernel}: ${first.what}${more} Nothing was touched.`,
    first.hint,
    { findings },
  );
}

function notInstalled(wanted: string | undefined, kernels: readonly Kernel[]): TorporError {
  if (kernels.length === 0)
    return new TorporError(
      'not-found',
      'No kernel is installed here: there is none in /boot and in /lib/modules.',
      'Install one: `apt-get install linux-image-amd64`.',
    );
  return new TorporError(
    'not-found',
    `The kernel ${wanted} is not installed.`,
    `There ${kernels.length === 1 ? 'is' : 'are'}: ${kernels.map(({ version }) => version).join(', ')}.`,
  );
}

/** A machine that starts by an initrd does not start without. */
function findingsAboutInitrd(kernel: Kernel, kernels: readonly Kernel[]): Finding[] {
  const running = kernels.find(({ version }) => version === release());
  if (kernel.initrd !== undefined || running?.initrd === undefined) return [];
  return [
    finding(
      'blocking',
      `The kernel ${kernel.version} has no initrd, by which this machine starts.`,
      `Make it: \`update-initramfs -c -k ${kernel.version}\`.`,
    ),
  ];
}

function findingsAboutFolder(
  stateDir: string,
  { fileSystem, isVolatile, freeBytes }: StateFolder,
  bytesNeeded: number,
): Finding[] {
  if (isVolatile)
    return [
      finding(
        'blocking',
        `The state folder ${stateDir} lies in memory only (${fileSystem}), and would be lost with the kernel.`,
        'Move it to a disk: TORPOR_STATE_DIR names it.',
        'state-folder',
      ),
    ];
  if (freeBytes >= bytesNeeded) return [];
  const mib = (bytes: number) => `${Math.ceil(bytes / 1024 ** 2)} MiB`;
  return [
    finding(
      'blocking',
      `Saving what runs needs up to ${mib(bytesNeeded)} of disk, and ${mib(freeBytes)} are free.`,
      'Free some space, or remove snapshots (`torpor snapshots`, `torpor rm`).',
      'disk',
    ),
  ];
}
