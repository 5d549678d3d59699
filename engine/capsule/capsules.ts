/**
 * Capsules as processes: starting one, watching it until its application ends, ending it. What suspends and resumes
 * it is in `transaction/`; both keep to the same run folder, which the capsule sees at /run/torpor.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { access, chmod, chown, mkdir, readFile, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import type { EnginePaths } from '../../api/paths.ts';
import { type Exit, exitSchema, type RunSpec } from '../../api/types.ts';
import type { CapsuleSpec } from '../../proto/manifest.ts';
import { runCommand } from '../command.ts';
import type { Installation } from '../installation.ts';
import type { Logger } from '../log.ts';
import { readMounts, userFileSystems } from '../mounts.ts';
import { identify, isAlive, type ProcessIdentity, signalProcess, waitGone } from '../process.ts';
import type { Cgroups } from './cgroup.ts';
import { chooseDisplay } from './display.ts';
import { applicationEnvironment } from './environment.ts';
import type { WorkloadRecord } from './record.ts';
import { type Caller, mayUse, type Registry } from './registry.ts';
import { applicationOf, geometryOf } from './run-options.ts';
import { encodeSpec } from './spec-file.ts';
import { findUser } from './users.ts';
import { windowManagerConfig } from './window-manager.ts';

/** How long an application may take until the services it needs are up and it was started. */
const readyLimitMs = 60_000;
/** How long `run` watches for a first window or an early end before it reports success. */
const settleMs = 700;
const watchIntervalMs = 250;
const endLimitMs = 8000;

type Startup =
  | { kind: 'ready' }
  | { kind: 'window' }
  | { kind: 'ended'; exit: Exit }
  | { kind: 'failed'; message: string };

export class Capsules {
  readonly #paths: EnginePaths;
  readonly #installation: Installation;
  readonly #registry: Registry;
  readonly #cgroups: Cgroups;
  readonly #log: Logger;
  readonly #watched = new Set<string>();
  #stopped = false;

  constructor(
    paths: EnginePaths,
    installation: Installation,
    registry: Registry,
    cgroups: Cgroups,
    log: Logger,
  ) {
    this.#paths = paths;
    this.#installation = installation;
    this.#registry = registry;
    this.#cgroups = cgroups;
    this.#log = log;
  }

  /** What the capsule sees at /run/torpor. */
  runFolder(id: string): string {
    return join(this.#paths.runDir, 'capsules', id);
  }

  /** The RFB socket of a capsule's screen. */
  screenSocket(id: string): string {
    return join(this.runFolder(id), 'screen', 'rfb');
  }

  /** Where a resume keeps what it needs while it lasts: mount point, rewritten images, CRIU's log. */
  scratchFolder(id: string): string {
    return join(this.#paths.runDir, 'resume', id);
  }

  newId(): string {
    return randomBytes(4).toString('hex');
  }

  /**
   * Makes the run folder. The screen's own folder is its owner's alone, so that nobody else reaches the RFB socket.
   */
  async makeRunFolder(id: string, capsule: CapsuleSpec): Promise<string> {
    const folder = this.runFolder(id);
    await mkdir(join(folder, 'session'), { recursive: true, mode: 0o755 });
    await mkdir(join(folder, 'screen'), { recursive: true, mode: 0o700 });
    await chmod(folder, 0o711);
    await chmod(join(folder, 'screen'), 0o700);
    await chown(join(folder, 'screen'), capsule.user.uid, capsule.user.gid);
    await writeFile(join(folder, 'session', 'openbox.xml'), windowManagerConfig, { mode: 0o644 });
    return folder;
  }

  /** Removes what a capsule leaves outside: run folder and cgroup, and what a resume of it may have left. */
  async cleanUp(id: string): Promise<void> {
    await this.#cgroups.remove(id);
    await rm(this.runFolder(id), { recursive: true, force: true });
    await rm(this.scratchFolder(id), { recursive: true, force: true });
  }

  /**
   * Starts an application in a capsule and waits until it runs.
   * @throws TorporError `failed` with the reason where it does not; nothing is left behind then.
   */
  async run(spec: RunSpec, caller: Caller): Promise<WorkloadRecord> {
    const capsule = await this.#specify(spec, caller);
    const id = this.newId();
    const record: WorkloadRecord = {
      version: 1,
      id,
      name: this.#nameFor(spec, capsule.user.uid),
      startedAt: new Date().toISOString(),
      capsule,
      status: { kind: 'starting' },
    };
    try {
      await this.#registry.put(record);
      const init = await this.#launch(record);
      const running = await this.#registry.setStatus(id, { kind: 'running', init });
      await this.#awaitStartup(running, init);
      this.watch(id);
      this.#log.info(
        { workload: id, name: record.name, pid: init.pid, command: capsule.command },
        'capsule started',
      );
      return this.#registry.get(id) ?? running;
    } catch (error) {
      this.#log.warn(
        { workload: id, command: capsule.command, reason: sentenceOf(error) },
        'capsule did not start',
      );
      await this.#cgroups.kill(id);
      await this.cleanUp(id);
      await this.#registry.remove(id);
      throw error;
    }
  }

  async #specify(spec: RunSpec, caller: Caller): Promise<CapsuleSpec> {
    const geometry = geometryOf(spec.geometry);
    const application = applicationOf(spec.application);
    const user = await findUser(spec.user ?? caller.uid);
    if (!mayUse(caller, user.uid)) {
      throw new TorporError(
        'not-permitted',
        `You may not start applications as ${user.name}.`,
        'Use sudo, or leave out --user.',
      );
    }
    const root = spec.root ?? '/';
    if (root !== '/') {
      // A folder its user controls could make root's own set-up work follow links they chose.
      if (caller.uid !== 0) {
        throw new TorporError(
          'not-permitted',
          'Only root may choose another root folder.',
          'Use sudo, or leave out --root.',
        );
      }
      await checkRoot(root);
    }
    const env = applicationEnvironment(spec.callerEnv, spec.env, user, caller.uid === user.uid);
    const hostMounts = root === '/' ? userFileSystems(await readMounts()) : [];
    return {
      command: spec.command,
      cwd: existsSync(join(root, spec.cwd)) ? spec.cwd : user.home,
      env,
      root,
      user,
      hostMounts: hostMounts.map((path, index) => ({ key: `host${index}`, path })),
      hostname: (await readFile('/proc/sys/kernel/hostname', 'utf8')).trim(),
      geometry,
      display: chooseDisplay(await readFile('/proc/net/unix', 'utf8')),
      ...(application === undefined ? {} : { application }),
    };
  }

  #nameFor(spec: RunSpec, uid: number): string {
    if (spec.name !== undefined) {
      if (spec.name === '' || spec.name.length > 200) {
        throw new TorporError('usage', 'A name has between 1 and 200 characters.', 'Choose another --name.');
      }
      if (!this.#registry.isNameFree(spec.name, uid)) {
        throw new TorporError(
          'usage',
          `There is a workload named ${spec.name} already.`,
          'Choose another --name; see `torpor ps`.',
        );
      }
      return spec.name;
    }
    return this.freeName(basename(spec.command[0] ?? 'application'), uid);
  }

  /** The name itself, or with the first number that makes it free. */
  freeName(wanted: string, uid: number): string {
    for (let number = 1; ; number++) {
      const name = number === 1 ? wanted : `${wanted}-${number}`;
      if (this.#registry.isNameFree(name, uid)) return name;
    }
  }

  async #launch(record: WorkloadRecord): Promise<ProcessIdentity> {
    const folder = await this.makeRunFolder(record.id, record.capsule);
    const cgroup = await this.#cgroups.make(record.id);
    const specFile = join(folder, 'spec');
    await writeFile(specFile, encodeSpec(record, folder, cgroup, this.#installation.capsuleInit), {
      mode: 0o600,
    });
    const result = await runCommand(this.#installation.capsuleTool, ['start', specFile]).catch(
      (error: Error) => {
        throw new TorporError(
          'failed',
          `The capsule could not be started: ${error.message}.`,
          'Run the set-up again (`npm start`).',
        );
      },
    );
    await unlink(specFile);
    const answer = parseAnswer(result.stdout);
    if (result.status !== 0 || answer.pid === undefined) {
      throw new TorporError(
        'failed',
        `The capsule could not be made: ${answer.error ?? (result.stderr.trim() || `status ${result.status}`)}.`,
        'See `torpor doctor` for what this machine lacks.',
      );
    }
    const init = await identify(answer.pid);
    if (init === undefined)
      throw await this.#startFailure(record, { kind: 'failed', message: 'its first process ended at once' });
    return init;
  }

  async #awaitStartup(record: WorkloadRecord, init: ProcessIdentity): Promise<void> {
    const folder = this.runFolder(record.id);
    const end = Date.now() + readyLimitMs;
    let settled: number | undefined;
    for (;;) {
      const state = await this.#startup(folder, init);
      if (state?.kind === 'ended' || state?.kind === 'failed') throw await this.#startFailure(record, state);
      if (state?.kind === 'window') return;
      if (state?.kind === 'ready') settled ??= Date.now() + settleMs;
      if (settled !== undefined && Date.now() > settled) return;
      if (Date.now() > end)
        throw await this.#startFailure(record, { kind: 'failed', message: 'it took too long' });
      await sleep(10);
    }
  }

  async #startup(folder: string, init: ProcessIdentity): Promise<Startup | undefined> {
    const failed = await readJson(join(folder, 'failed'));
    if (failed !== undefined) return { kind: 'failed', message: `${failed.step}: ${failed.message}` };
    const exit = exitSchema.safeParse(await readJson(join(folder, 'exit')));
    if (exit.success) return { kind: 'ended', exit: exit.data };
    if (!(await isAlive(init))) return { kind: 'failed', message: 'its processes were ended' };
    if (existsSync(join(folder, 'window'))) return { kind: 'window' };
    return existsSync(join(folder, 'ready')) ? { kind: 'ready' } : undefined;
  }

  async #startFailure(
    record: WorkloadRecord,
    state: Extract<Startup, { kind: 'ended' | 'failed' }>,
  ): Promise<TorporError> {
    const command = record.capsule.command[0] ?? '';
    if (state.kind === 'failed') {
      return new TorporError(
        'failed',
        `${command} could not be started: ${state.message}.`,
        'Check the command and its arguments; `torpor doctor` says what this machine lacks.',
      );
    }
    const how = 'code' in state.exit ? `with status ${state.exit.code}` : `by signal ${state.exit.signal}`;
    const output = await readFile(join(this.runFolder(record.id), 'output'), 'utf8').catch(() => '');
    const said = output.trim() === '' ? '' : ` It said: ${output.trim().split('\n').slice(-3).join(' / ')}`;
    return new TorporError(
      'failed',
      `${command} ended at once, ${how}, before it showed a window.${said}`,
      'Try the same command in a terminal to see why.',
      { exit: state.exit },
    );
  }

  /** Follows a running capsule until its application ends, and records how. */
  watch(id: string): void {
    if (this.#watched.has(id)) return;
    this.#watched.add(id);
    void this.#watchUntilEnd(id)
      .catch((error: unknown) => this.#log.error({ err: error, workload: id }, 'watching a capsule failed'))
      .finally(() => this.#watched.delete(id));
  }

  async #watchUntilEnd(id: string): Promise<void> {
    while (!this.#stopped) {
      const record = this.#registry.get(id);
      if (record === undefined) return;
      if (record.status.kind === 'suspended' || record.status.kind === 'ended') return;
      if (record.status.kind === 'running' && !(await isAlive(record.status.init))) {
        // A suspend may have ended it between the two looks.
        const now = this.#registry.get(id)?.status;
        if (now?.kind === 'running' && now.init.pid === record.status.init.pid) {
          await waitGone(now.init, endLimitMs);
          await this.recordEnd(id);
        }
        continue;
      }
      await sleep(watchIntervalMs, undefined, { ref: false });
    }
  }

  /** Records the end of a capsule whose processes have gone, and cleans up after it. */
  async recordEnd(id: string, note?: string): Promise<void> {
    const folder = this.runFolder(id);
    const exit = exitSchema.safeParse(await readJson(join(folder, 'exit')));
    const failed = await readJson(join(folder, 'failed'));
    const reason = note ?? (failed === undefined ? undefined : `${failed.step}: ${failed.message}`);
    await this.#cgroups.kill(id);
    await this.cleanUp(id);
    await this.#registry.setStatus(id, {
      kind: 'ended',
      at: new Date().toISOString(),
      ...(exit.success ? { exit: exit.data } : {}),
      ...(reason === undefined ? {} : { note: reason }),
    });
    this.#log.info({ workload: id, exit: exit.data, note: reason }, 'capsule ended');
  }

  /** Ends a running capsule in order; what does not end is killed. */
  async end(id: string, init: ProcessIdentity): Promise<void> {
    await signalProcess(init, 'SIGTERM');
    if (!(await waitGone(init, endLimitMs))) await this.#cgroups.kill(id);
    await this.recordEnd(id);
  }

  /** Stops watching; the capsules run on. */
  stop(): void {
    this.#stopped = true;
  }
}

async function checkRoot(root: string): Promise<void> {
  const found = await stat(root).catch(() => undefined);
  if (!found?.isDirectory()) {
    throw new TorporError(
      'usage',
      `The root folder ${root} is not there or is not a folder.`,
      'Give --root a folder that holds a Linux system.',
    );
  }
  for (const program of ['Xvnc', 'dbus-daemon', 'openbox']) {
    await access(join(root, 'usr/bin', program)).catch(() => {
      throw new TorporError(
        'failed',
        `The root folder ${root} has no /usr/bin/${program}, which a capsule needs.`,
        `Install it there: \`chroot ${root} apt-get install tigervnc-standalone-server dbus openbox\`.`,
      );
    });
  }
}

async function readJson(path: string): Promise<Record<string, unknown> | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
  } catch {
    // Not there, or not yet written to its end.
    return undefined;
  }
}

function parseAnswer(stdout: string): { pid?: number; error?: string } {
  try {
    return JSON.parse(stdout) as { pid?: number; error?: string };
  } catch {
    return {};
  }
}
