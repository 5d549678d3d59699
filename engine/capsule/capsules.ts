/**
 * Capsules as processes: starting one. What watches and ends it is in `workload/`, what suspends and resumes it in
 * `transaction/`; all keep to the same run folder, which the capsule sees at /run/torpor.
 */
import { existsSync } from 'node:fs';
import { access, chmod, chown, mkdir, readFile, stat, unlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import { capsuleBus } from '../../api/paths.ts';
import { type Exit, exitSchema, type RunSpec, type Text } from '../../api/types.ts';
import type { CapsuleSpec } from '../../proto/manifest.ts';
import { runCommand } from '../command.ts';
import type { Installation } from '../installation.ts';
import type { Logger } from '../log.ts';
import { readMounts, userFileSystems } from '../mounts.ts';
import { identify, isAlive, type ProcessIdentity } from '../process.ts';
import { sentencesOf } from '../profiles/folders.ts';
import type { Applied, Profiles, Start } from '../profiles/profiles.ts';
import type { EngineSettings } from '../settings.ts';
import type { Cgroups } from '../workload/cgroup.ts';
import type { CapsuleRecord } from '../workload/record.ts';
import { type Caller, mayUse, type Registry } from '../workload/registry.ts';
import { readJson, type Workloads } from '../workload/workloads.ts';
import { baselineEnvironment } from './cpu-baseline.ts';
import { chooseDisplay } from './display.ts';
import { applicationEnvironment } from './environment.ts';
import { trimmingEnvironment } from './heaps.ts';
import { applicationOf, geometryOf } from './run-options.ts';
import { refusal, servicesFromOutside, sessionBusConfig } from './session-bus.ts';
import { encodeSpec } from './spec-file.ts';
import { findUser } from './users.ts';
import { windowManagerConfig } from './window-manager.ts';

/** How long an application may take until the services it needs are up and it was started. */
const readyLimitMs = 60_000;
/** How long `run` watches for a first window or an early end before it reports success. */
const settleMs = 700;
/** Where a capsule has its copies of Torpor's libraries (native/root.c). */
const preloadFolder = '/run/torpor-lib';

/** What was started, and what there is to tell of it. */
export interface Started {
  record: CapsuleRecord;
  told: Text[];
}

type Startup =
  | { kind: 'ready' }
  | { kind: 'window' }
  | { kind: 'ended'; exit: Exit }
  | { kind: 'failed'; message: string };

export class Capsules {
  readonly #workloads: Workloads;
  readonly #installation: Installation;
  readonly #registry: Registry;
  readonly #cgroups: Cgroups;
  readonly #profiles: Profiles;
  readonly #settings: EngineSettings;
  readonly #log: Logger;

  constructor(
    workloads: Workloads,
    installation: Installation,
    registry: Registry,
    cgroups: Cgroups,
    profiles: Profiles,
    settings: EngineSettings,
    log: Logger,
  ) {
    this.#workloads = workloads;
    this.#installation = installation;
    this.#registry = registry;
    this.#cgroups = cgroups;
    this.#profiles = profiles;
    this.#settings = settings;
    this.#log = log;
  }

  /** The socket of a capsule's session bus. */
  busSocket(id: string): string {
    return capsuleBus(this.#workloads.runFolder(id));
  }

  /** The RFB socket of a capsule's screen. */
  screenSocket(id: string): string {
    return join(this.#workloads.runFolder(id), 'screen', 'rfb');
  }

  /**
   * Makes the run folder. The folders of screen, sound and session bus are their owner's alone, so that nobody else
   * reaches the sockets in them.
   */
  async makeRunFolder(id: string, capsule: CapsuleSpec): Promise<string> {
    const folder = this.#workloads.runFolder(id);
    await mkdir(join(folder, 'session'), { recursive: true, mode: 0o755 });
    await chmod(folder, 0o711);
    for (const name of ['screen', 'sound', 'bus']) {
      await mkdir(join(folder, name), { recursive: true, mode: 0o700 });
      await chmod(join(folder, name), 0o700);
      await chown(join(folder, name), capsule.user.uid, capsule.user.gid);
    }
    await writeFile(join(folder, 'session', 'openbox.xml'), windowManagerConfig, { mode: 0o644 });
    await writeFile(join(folder, 'session', 'bus.conf'), sessionBusConfig, { mode: 0o644 });
    await mkdir(join(folder, 'session', 'services'), { recursive: true, mode: 0o755 });
    for (const name of servicesFromOutside)
      await writeFile(join(folder, 'session', 'services', `${name}.service`), refusal(name), { mode: 0o644 });
    return folder;
  }

  /**
   * Starts an application in a capsule and waits until it runs.
   * @throws TorporError `failed` with the reason where it does not, `blocked` where its user must agree first; nothing is
   * left behind then.
   * @param how its id, and whether it is for a snapshot alone.
   */
  async run(
    spec: RunSpec,
    caller: Caller,
    { id = this.#workloads.newId(), preparing }: { id?: string; preparing?: true } = {},
  ): Promise<Started> {
    const { capsule, told } = await this.specify(spec, caller);
    const record: CapsuleRecord = {
      version: 1,
      id,
      kind: 'capsule',
      name: this.#nameFor(spec, capsule.user.uid),
      startedAt: new Date().toISOString(),
      capsule,
      status: { kind: 'starting' },
      ...(preparing ? { preparing } : {}),
    };
    try {
      await this.#registry.put(record);
      const init = await this.#launch(record);
      await this.#registry.setStatus(id, { kind: 'running', init });
      await this.#awaitStartup(record, init);
      this.#workloads.watch(id);
      this.#log.info(
        { workload: id, name: record.name, pid: init.pid, command: capsule.command },
        'capsule started',
      );
      const status = this.#registry.get(id)?.status ?? { kind: 'running', init };
      return { record: { ...record, status }, told };
    } catch (error) {
      this.#log.warn(
        { workload: id, command: capsule.command, reason: sentenceOf(error) },
        'capsule did not start',
      );
      await this.#cgroups.kill(id);
      await this.#workloads.cleanUp(id);
      await this.#registry.remove(id);
      throw error;
    }
  }

  /**
   * What a capsule is made of that is started so.
   * @throws TorporError `usage`, `not-permitted`, or `blocked` where its user must agree first.
   */
  async specify(spec: RunSpec, caller: Caller): Promise<{ capsule: CapsuleSpec; told: Text[] }> {
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
    const cwd = existsSync(join(root, spec.cwd)) ? spec.cwd : user.home;
    const own = applicationEnvironment(spec.callerEnv, spec.env, user, caller.uid === user.uid);
    const applied = await this.#profilesFor(spec, {
      command: spec.command,
      cwd,
      env: own,
      root,
      user,
      application,
    });
    const hostMounts = root === '/' ? userFileSystems(await readMounts()) : [];
    const env = {
      ...(this.#settings.now.trimHeaps === true ? trimmingEnvironment : {}),
      ...applied?.adjustments.environment,
      ...withPreloads(own, applied, this.#installation),
    };
    const capsule: CapsuleSpec = {
      command: applied?.adjustments.command ?? spec.command,
      cwd,
      ...(spec.cpuBaseline === true ? { env: baselineEnvironment(env), cpuBaseline: true } : { env }),
      root,
      user,
      hostMounts: hostMounts.map((path, index) => ({ key: `host${index}`, path })),
      hostname: (await readFile('/proc/sys/kernel/hostname', 'utf8')).trim(),
      geometry,
      display: chooseDisplay(await readFile('/proc/net/unix', 'utf8')),
      ...(application === undefined ? {} : { application }),
      ...(applied === undefined || applied.matches.length === 0 ? {} : { profiles: this.#recordOf(applied) }),
    };
    return { capsule, told: applied === undefined ? [] : toldOf(applied) };
  }

  /** A mistake in the looking up of profiles must not keep an application from being started. */
  async #profilesFor(spec: RunSpec, start: Start): Promise<Applied | undefined> {
    if (spec.withoutProfiles === true) return undefined;
    try {
      return await this.#profiles.forStart(start, spec.agree ?? []);
    } catch (error) {
      if (error instanceof TorporError) throw error;
      this.#log.error({ err: error, command: start.command }, 'profiles could not be looked up');
      return undefined;
    }
  }

  #recordOf({ adjustments }: Applied): NonNullable<CapsuleSpec['profiles']> {
    const { profiles, findings, preloads, lockFiles, waitNetwork } = adjustments;
    return {
      names: profiles,
      findings,
      preloads: preloads.map((name) => basename(this.#installation.preloads[name])),
      lockFiles,
      ...(waitNetwork === undefined ? {} : { waitNetwork }),
    };
  }

  /** @throws TorporError `usage` where a new workload of this user cannot have the name. */
  checkName(name: string, uid: number): void {
    if (name === '' || name.length > 200) {
      throw new TorporError('usage', 'A name has between 1 and 200 characters.', 'Choose another --name.');
    }
    if (this.#registry.isNameFree(name, uid)) return;
    throw new TorporError(
      'usage',
      `There is a workload named ${name} already.`,
      'Choose another --name; see `torpor ps`.',
    );
  }

  #nameFor(spec: RunSpec, uid: number): string {
    if (spec.name !== undefined) {
      this.checkName(spec.name, uid);
      return spec.name;
    }
    return this.#workloads.freeName(basename(spec.command[0] ?? 'application'), uid);
  }

  async #launch(record: CapsuleRecord): Promise<ProcessIdentity> {
    const folder = await this.makeRunFolder(record.id, record.capsule);
    const cgroup = await this.#cgroups.make(record.id);
    const specFile = join(folder, 'spec');
    await writeFile(specFile, encodeSpec(record, folder, cgroup, this.#installation), {
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

  async #awaitStartup(record: CapsuleRecord, init: ProcessIdentity): Promise<void> {
    const folder = this.#workloads.runFolder(record.id);
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
    // First, because what it tells last it tells in the moment before it ends.
    const isThere = await isAlive(init);
    const failed = await readJson(join(folder, 'failed'));
    if (failed !== undefined) return { kind: 'failed', message: `${failed.step}: ${failed.message}` };
    const exit = exitSchema.safeParse(await readJson(join(folder, 'exit')));
    if (exit.success) return { kind: 'ended', exit: exit.data };
    if (!isThere) return { kind: 'failed', message: 'its processes were ended' };
    if (existsSync(join(folder, 'window'))) return { kind: 'window' };
    return existsSync(join(folder, 'ready')) ? { kind: 'ready' } : undefined;
  }

  async #startFailure(
    record: CapsuleRecord,
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
    const output = await readFile(join(this.#workloads.runFolder(record.id), 'output'), 'utf8').catch(
      () => '',
    );
    const said = output.trim() === '' ? '' : ` It said: ${output.trim().split('\n').slice(-3).join(' / ')}`;
    return new TorporError(
      'failed',
      `${command} ended at once, ${how}, before it showed a window.${said}`,
      'Try the same command in a terminal to see why.',
      { exit: state.exit },
    );
  }
}

/** With the capsule's copies of the libraries in front of those that the user has loaded themselves. */
function withPreloads(
  own: Readonly<Record<string, string>>,
  applied: Applied | undefined,
  { preloads }: Installation,
): Record<string, string> {
  const names = applied?.adjustments.preloads ?? [];
  if (names.length === 0) return { ...own };
  const libraries = names.map((name) => join(preloadFolder, basename(preloads[name])));
  return { ...own, LD_PRELOAD: [...libraries, own.LD_PRELOAD ?? ''].filter(Boolean).join(':') };
}

/** The profiles' own sentences, and what is wrong with profiles that were left out. */
function toldOf({ adjustments, problems }: Applied): Text[] {
  const broken = sentencesOf(problems).map((sentence) => ({
    en: `A profile has a mistake and is left out: ${sentence}`,
    de: `Ein Profil hat einen Fehler und bleibt außer Betracht: ${sentence}`,
  }));
  return [...adjustments.notes.map(({ text }) => text), ...broken];
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

function parseAnswer(stdout: string): { pid?: number; error?: string } {
  try {
    return JSON.parse(stdout) as { pid?: number; error?: string };
  } catch {
    return {};
  }
}
