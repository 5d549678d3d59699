/**
 * From one kernel to another with all that runs: what stands in the way is found before anything is touched, the other
 * kernel is loaded, a canary and the session are saved, and the machine jumps. Until then every failure leaves all as it
 * was. What comes after is `arrival.ts`.
 */
import { readFile } from 'node:fs/promises';
import { release } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import type {
  Arrival,
  Finding,
  Inspection,
  KexecOptions,
  KexecPlan,
  KexecResult,
  KexecTimes,
  LeftOut,
  Session,
  SessionSaveOptions,
} from '../../api/types.ts';
import { bootId } from '../process.ts';
import type { WorkloadRecord } from '../workload/record.ts';
import type { Caller } from '../workload/registry.ts';
import { type ArrivalParts, Arrivals, none } from './arrival.ts';
import type { Canary } from './canary.ts';
import { type Departure, Departures, sessionsOf } from './departure.ts';
import * as jumping from './jump.ts';
import type { Kernel, Kernels } from './kernels.ts';
import { finding, findingsAbout, type Needs } from './requirements.ts';
import { describeStateFolder, type StateFolder } from './state-folder.ts';

/** Images and lists beside the pages, and what grows until it is saved. */
const margin = 1.1;
const spareBytes = 64 * 1024 * 1024;
/** How long what is just being suspended, resumed or started may take until it is clear what becomes of it. */
const calmLimitMs = 120_000;
const root: Caller = { uid: 0 };

export interface KexecParts extends Omit<ArrivalParts, 'departures'> {
  stateDir: string;
  kernels: Kernels;
  canary: Pick<Canary, 'make' | 'try' | 'remove'>;
  inspect: (caller: Caller, target: string) => Promise<Inspection>;
  saveSession: (
    caller: Caller,
    name: string,
    targets: readonly string[],
    options: SessionSaveOptions,
  ) => Promise<{ session: Session; left: LeftOut[] }>;
}

/** A plan, and what it would leave behind. */
interface Look {
  plan: KexecPlan;
  left: LeftOut[];
}

export class Kexec {
  readonly #parts: KexecParts;
  readonly #departures: Departures;
  readonly #arrivals: Arrivals;
  #arrival: Promise<Arrival> = Promise.resolve(none());
  #isGoing = false;

  constructor(parts: KexecParts) {
    this.#parts = parts;
    this.#departures = new Departures(parts.stateDir);
    this.#arrivals = new Arrivals({ ...parts, departures: this.#departures });
  }

  /** To be called once when the engine starts: after a jump, restores what was saved for it. */
  arrive(): void {
    this.#arrival = this.#arrivals.arrive();
  }

  /** What became of the last jump; waits while that is being found out. */
  arrival(): Promise<Arrival> {
    return this.#arrival;
  }

  /** To be called when snapshots can be read that could not before: what waited for that comes back. */
  async unlocked(): Promise<void> {
    if ((await this.#arrival).state === 'locked') this.arrive();
  }

  /** @throws TorporError `not-found` of a kernel that is not installed, or where none is. */
  async plan(caller: Caller, options: KexecOptions): Promise<KexecPlan> {
    refuseUnlessRoot(caller);
    return (await this.#look(options)).plan;
  }

  async #look(options: KexecOptions): Promise<Look> {
    const { partial = false } = options;
    const { kernel, kernels, folder, needs } = await this.#choose(options);
    const alive = this.#alive();
    const inspected = await Promise.all(alive.map((record) => this.#inspect(record)));
    const left = partial ? inspected.flatMap((each) => each.leftOut ?? []) : [];
    const isSaved = ({ id }: WorkloadRecord) => !left.some(({ workload }) => workload === id);
    const saved = alive.filter(isSaved);
    const memory = inspected.reduce((sum, each, index) => {
      const record = alive[index];
      return record !== undefined && isSaved(record) ? sum + each.memoryBytes : sum;
    }, 0);
    const bytesNeeded = saved.length === 0 ? 0 : Math.ceil(memory * margin) + spareBytes;
    const surroundings = await jumping.lookAtSurroundings();
    const findings = [
      ...jumping.findingsAboutKexec(surroundings),
      ...(await this.#findingsAbout(kernel, needs)),
      ...findingsAboutInitrd(kernel, kernels),
      ...findingsAboutFolder(this.#parts.stateDir, folder, bytesNeeded),
      ...inspected.flatMap((each) => each.findings).map((each) => weighed(each, partial)),
    ];
    const plan = {
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
      workloads: saved.map(({ id, name }) => ({ id, name })),
      bytesNeeded,
      bytesFree: folder.freeBytes,
      findings,
    };
    return { plan, left };
  }

  /**
   * @returns when the machine is about to jump; where it jumps at once, never.
   * @throws TorporError; all goes on as before then.
   */
  async go(caller: Caller, options: KexecOptions): Promise<KexecResult> {
    refuseUnlessRoot(caller);
    if (this.#isGoing)
      throw new TorporError('failed', 'The machine is just going to another kernel.', 'Wait for that.');
    this.#isGoing = true;
    try {
      // What is being restored after the jump before is to be there first.
      await this.#arrival;
      await this.#untilCalm();
      return await this.#go(options);
    } finally {
      this.#isGoing = false;
    }
  }

  async #go(options: KexecOptions): Promise<KexecResult> {
    const startedAt = performance.now();
    const { plan, left } = await this.#look(options);
    refuseIfBlocked(plan);
    const { canary, saveSession, log } = this.#parts;
    const pending = await this.#departures.read().catch(() => undefined);
    // One that waits for a kernel under which it comes back is not given up for another one, nor is what was saved with it.
    if (pending === undefined) await canary.make();
    const checkedAt = performance.now();
    const { kernel, image } = plan;
    await jumping.load(
      { version: kernel, image, initrd: plan.initrd },
      plan.commandLine,
      await jumping.lookAtSurroundings(),
    );
    const loadedAt = performance.now();
    const took = { checkMs: checkedAt - startedAt, loadMs: loadedAt - checkedAt, saveMs: 0 };
    const departure = departureTo(kernel, plan.workloads.length > 0, pending, took);
    try {
      await this.#departures.write(departure);
      let session: Session | undefined;
      if (departure.session !== undefined) {
        const how = { leaveRunning: false, partial: false, reason: 'kexec' } as const;
        const ids = plan.workloads.map(({ id }) => id);
        ({ session } = await saveSession(root, departure.session, ids, how));
      }
      this.#refuseStragglers(left);
      took.saveMs = performance.now() - loadedAt;
      await this.#departures.write({ ...departure, phase: 'jumping', took });
      log.info({ kernel, session: session?.id, left, took }, 'jumping to another kernel');
      await jumping.jump();
      return { plan, ...(session === undefined ? {} : { session }), left, ...took };
    } catch (error) {
      throw await this.#undo(departure, pending, error);
    }
  }

  /** Until it is clear of all whether they run. @throws TorporError `failed`, naming what takes too long. */
  async #untilCalm(): Promise<void> {
    for (const end = Date.now() + calmLimitMs; ; await sleep(100)) {
      const restless = this.#alive().find(({ status }) => status.kind !== 'running');
      if (restless === undefined) return;
      if (Date.now() > end)
        throw new TorporError(
          'failed',
          `${restless.name} is still ${restless.status.kind}. Nothing was touched.`,
          'Wait until that is done; see `torpor ps`.',
        );
    }
  }

  /** What was started, or has come back, while the rest was saved would end with the machine. */
  #refuseStragglers(left: readonly LeftOut[]): void {
    const straggler = this.#alive().find(({ id }) => !left.some(({ workload }) => workload === id));
    if (straggler === undefined) return;
    throw new TorporError(
      'failed',
      `${straggler.name} was started while the others were being saved, and would be lost.`,
      'Try again.',
    );
  }

  /**
   * After a failure before the jump: what was saved goes on.
   * @returns what is to be thrown: the failure, and what of the rest did not succeed either.
   */
  async #undo(departure: Departure, pending: Departure | undefined, cause: unknown): Promise<unknown> {
    const { canary, restoreSession, forgetSession, log } = this.#parts;
    const problems: string[] = [];
    const attempt = async (what: () => Promise<unknown>) => {
      await what().catch((error: unknown) => {
        if (error instanceof TorporError && error.code === 'not-found') return;
        log.error({ err: error }, 'not undone');
        problems.push(sentenceOf(error));
      });
    };
    await attempt(jumping.unload);
    const { session } = departure;
    let left: LeftOut[] = [];
    if (session !== undefined)
      await attempt(async () => {
        ({ left } = await restoreSession(root, session));
        if (left.length === 0) await forgetSession(root, session);
      });
    await attempt(() =>
      pending === undefined ? this.#departures.remove() : this.#departures.write(pending),
    );
    if (pending === undefined) await attempt(() => canary.remove());
    problems.push(...left.map(({ name, what }) => `${name} did not come back: ${what}`));
    if (problems.length === 0 || !(cause instanceof TorporError)) return cause;
    return new TorporError(
      cause.code,
      `${cause.message} ${problems.join(' ')}`,
      session === undefined ? cause.hint : `What was saved is kept: \`torpor session restore "${session}"\`.`,
      cause.details,
      { cause },
    );
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

  /** All that would end with the machine, whatever is just being done with it. */
  #alive(): WorkloadRecord[] {
    const kept: readonly WorkloadRecord['status']['kind'][] = ['suspended', 'ended'];
    return this.#parts.registry.all().filter(({ status }) => !kept.includes(status.kind));
  }

  /** @returns `leftOut` of what cannot be suspended */
  async #inspect({
    id,
    name,
    status,
  }: WorkloadRecord): Promise<Pick<Inspection, 'memoryBytes' | 'findings'> & { leftOut?: LeftOut }> {
    // A jump waits until it is clear what becomes of it.
    if (status.kind !== 'running') return { memoryBytes: 0, findings: [] };
    const { memoryBytes, findings } = await this.#parts.inspect(root, id);
    const blocking = findings.filter(isBlocking);
    const [first] = blocking;
    return {
      memoryBytes,
      findings: blocking.map((each) => ({ ...each, what: `${name} cannot be suspended: ${each.what}` })),
      ...(first === undefined
        ? {}
        : { leftOut: { workload: id, name, what: first.what, hint: first.hint, findings: blocking } }),
    };
  }
}

/** @param pending one that is still to come to its end: what was saved for it comes back with this one. */
function departureTo(
  to: string,
  hasSession: boolean,
  pending: Departure | undefined,
  took: KexecTimes,
): Departure {
  const now = new Date().toISOString().replace('T', ' ').slice(0, 19);
  return {
    ...{ version: 1, boot: bootId, from: release(), to, phase: 'saving', took },
    // No other session is called so, and none takes its name.
    ...(hasSession ? { session: `kexec ${now}` } : {}),
    earlier: pending === undefined ? [] : sessionsOf(pending),
  };
}

const isBlocking = ({ verdict }: Finding) => verdict === 'blocking';

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
