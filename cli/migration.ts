/**
 * Moving workloads to another machine over ssh: `torpor export W ssh://user@host`. Bundles go there one after the other
 * while the application runs on, each with what has changed since the one before; then it is suspended, the last bit
 * follows, and it is resumed there. Here it is given up when it runs there, and not before.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import type { EngineClient } from '../api/client.ts';
import { sentenceOf, TorporError } from '../api/errors.ts';
import { type ExportResult, type Finding, intervalLimits, isAlive, type Workload } from '../api/types.ts';
import type { Context } from './context.ts';
import { printable } from './format.ts';

/** When so little has changed, or not much less than the last time, it is time for the last bit. */
const smallBytes = 8 * 1024 * 1024;
const mostRounds = 5;
const worthwhile = 0.7;

/** Where a bundle is put there, below the home of the user there. */
const remoteFolder = '.cache/torpor';

export interface Migrated {
  workloads: Workload[];
  findings: Finding[];
  /** From the freeze here until it ran there, in milliseconds. */
  stoodStillMs: number;
  /** Bundles that were sent while it ran. */
  rounds: number;
  bytesSent: number;
}

export interface Destination {
  /** As ssh takes it. */
  host: string;
  port: string | undefined;
  /** What runs `torpor` there, as a shell there reads it. */
  command: string;
  /** Whose it becomes; who comes by ssh where it is not given. */
  user: string | undefined;
  /** Further options for ssh. */
  options: readonly string[];
}

/** @throws TorporError `usage`. */
export function parseDestination(
  address: string,
  { torpor: command, user }: { torpor: string; user: string | undefined },
  options: readonly string[],
): Destination {
  const usage = new TorporError(
    'usage',
    `"${address}" is no address of a machine.`,
    'Give ssh://user@host, or ssh://user@host:port.',
  );
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    throw usage;
  }
  const host = decodeURIComponent(url.username ? `${url.username}@${url.hostname}` : url.hostname);
  // What begins with a dash would be an option of ssh.
  if (url.hostname === '' || host.startsWith('-') || (url.pathname !== '' && url.pathname !== '/'))
    throw usage;
  return { host, port: url.port || undefined, command, user, options };
}

/** @throws TorporError that says where the workloads are now. */
export async function migrate(
  context: Context,
  client: EngineClient,
  targets: readonly string[],
  destination: Destination,
  withFiles: readonly string[],
): Promise<Migrated> {
  const migration = new Migration(context, client, targets, destination, withFiles);
  return migration.run();
}

class Migration {
  readonly #context: Context;
  readonly #client: EngineClient;
  readonly #targets: readonly string[];
  readonly #remote: Remote;
  readonly #files: readonly string[];
  readonly #passphrase = randomBytes(32).toString('base64url');
  readonly #sent = new Set<string>();
  /** Snapshots that were only taken for this. */
  readonly #passing: string[] = [];
  #bytesSent = 0;

  constructor(
    context: Context,
    client: EngineClient,
    targets: readonly string[],
    destination: Destination,
    files: readonly string[],
  ) {
    this.#context = context;
    this.#client = client;
    this.#targets = targets;
    this.#remote = new Remote(destination);
    this.#files = files;
  }

  async run(): Promise<Migrated> {
    const before = await Promise.all(this.#targets.map((target) => this.#client.get(target)));
    await this.#remote.check();
    const folder = await mkdtemp(join(tmpdir(), 'torpor-migration-'));
    const bundle = join(folder, 'bundle');
    const there = await this.#remote.makeFolder();
    try {
      const running = before.filter(isAlive);
      const rounds = running.length === 0 ? 0 : await this.#sendWhileRunning(running, bundle, there);
      return { rounds, ...(await this.#sendAndResume(before, bundle, there)) };
    } finally {
      await rm(folder, { recursive: true, force: true });
      await this.#remote.removeFolder(there);
      for (const id of this.#passing) await this.#client.remove(id).catch(() => {});
    }
  }

  /** @returns how often. */
  async #sendWhileRunning(running: readonly Workload[], bundle: string, there: string): Promise<number> {
    const watched: string[] = [];
    // While snapshots are to be taken of it the kernel notes which memory is written, where it can.
    for (const { id, interval } of running.filter((each) => each.interval === undefined)) {
      const asked = { everySeconds: intervalLimits.longest, keepLast: 1 };
      if (interval === undefined)
        await this.#client.setInterval(id, asked).then(
          () => watched.push(id),
          () => {},
        );
    }
    try {
      let last = Number.POSITIVE_INFINITY;
      for (let round = 1; ; round++) {
        const { bytesWritten } = await this.#export(bundle, true);
        await this.#send(bundle, there);
        if (bytesWritten < smallBytes || bytesWritten > last * worthwhile || round === mostRounds)
          return round;
        last = bytesWritten;
      }
    } finally {
      for (const id of watched) await this.#client.endInterval(id).catch(() => {});
    }
  }

  async #export(path: string, leaveRunning: boolean): Promise<ExportResult> {
    const result = await this.#client.export([...this.#targets], {
      ...{ path, leaveRunning, form: 'folder' as const },
      ...{ passphrases: [this.#passphrase], isRandom: true, data: [...this.#files] },
    });
    if (leaveRunning)
      this.#passing.push(
        ...result.workloads.flatMap(({ snapshot }) => (snapshot === undefined ? [] : [snapshot])),
      );
    return result;
  }

  /** What is not there yet; files of a bundle never change but for its header. */
  async #send(bundle: string, there: string): Promise<void> {
    const all = (await readdir(bundle, { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(bundle.length + 1));
    const fresh = all.filter((path) => !this.#sent.has(path));
    this.#bytesSent += await this.#remote.send(bundle, fresh, there);
    for (const path of fresh) this.#sent.add(path);
  }

  async #sendAndResume(
    before: readonly Workload[],
    bundle: string,
    there: string,
  ): Promise<Omit<Migrated, 'rounds'>> {
    let frozenAt = performance.now();
    await this.#client.subscribe();
    const ids = new Set(before.map(({ id }) => id));
    const stop = this.#client.on('progress', ({ workload, phase }) => {
      if (ids.has(workload) && phase === 'freeze') frozenAt = performance.now();
    });
    try {
      const { findings } = await this.#export(bundle, false).finally(stop);
      await this.#send(bundle, there);
      const imported = await this.#remote.resume(there, this.#passphrase);
      const stoodStillMs = performance.now() - frozenAt;
      await this.#giveUp(before);
      return {
        workloads: imported.workloads,
        findings: [...findings, ...imported.findings],
        stoodStillMs,
        bytesSent: this.#bytesSent,
      };
    } catch (error) {
      throw await this.#stayHere(before, error);
    }
  }

  /** It runs there. */
  async #giveUp(before: readonly Workload[]): Promise<void> {
    for (const { id, name } of before)
      await this.#client
        .forget(id)
        .catch((error: unknown) =>
          this.#context.note(
            `${printable(name)} runs there; its snapshots are still here: ${sentenceOf(error)}`,
          ),
        );
  }

  /** Lets what ran run on here, unless it may run there. @returns the error that says so. */
  async #stayHere(before: readonly Workload[], error: unknown): Promise<TorporError> {
    const why = sentenceOf(error).replace(/\.?$/, '.');
    const names = before.map(({ name }) => printable(name)).join(', ');
    if (error instanceof UnknownOutcome)
      return new TorporError(
        'failed',
        `${why} Whether ${names} runs there nobody knows; here it is suspended, with all of its state.`,
        `Look there (\`torpor ps\`). If it does not run there: \`torpor resume ${before[0]?.name}\`.`,
      );
    const stayed = await Promise.allSettled(before.filter(isAlive).map(({ id }) => this.#resumeHere(id)));
    const isBack = stayed.every(({ status }) => status === 'fulfilled');
    const known = error instanceof TorporError ? error : undefined;
    return new TorporError(
      known?.code ?? 'failed',
      `${why} ${isBack ? `${names} is here as before.` : `${names} is suspended here, with all of its state: \`torpor resume\`.`}`,
      known?.hint ?? '',
    );
  }

  async #resumeHere(id: string): Promise<void> {
    const { state } = await this.#client.get(id);
    if (state === 'suspended') await this.#client.resume(id, { copy: false });
  }
}

/** The connection was lost when it may already have run there. */
class UnknownOutcome extends TorporError {}

const importedSchema = z.object({
  workloads: z.array(z.custom<Workload>()),
  findings: z.array(z.custom<Finding>()),
});
const failureSchema = z.object({ error: z.object({ message: z.string(), hint: z.string().default('') }) });

/** Of ssh itself, whatever the command there does. */
const sshFailed = 255;

const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

/** The other machine, by the user's own ssh. */
class Remote {
  readonly #destination: Destination;

  constructor(destination: Destination) {
    this.#destination = destination;
  }

  #spawn(script: string): ChildProcess {
    const { host, port, options } = this.#destination;
    const words = [...options, ...(port === undefined ? [] : ['-p', port]), '--', host, script];
    // ssh asks for passwords on the terminal itself.
    return spawn('ssh', words, { stdio: ['pipe', 'pipe', 'pipe'] });
  }

  async #run(script: string, input = ''): Promise<{ status: number | null; stdout: string; stderr: string }> {
    const child = this.#spawn(script);
    child.stdin?.on('error', () => {}).end(input);
    return outcomeOf(child);
  }

  /** @throws TorporError where it cannot be reached, or has no torpor. */
  async check(): Promise<void> {
    const { status, stderr } = await this.#run(`${this.#destination.command} ps --json > /dev/null`);
    if (status === 0) return;
    throw status === sshFailed
      ? this.#unreachable(stderr)
      : new TorporError(
          'failed',
          `${this.#destination.host} has no Torpor that answers: ${lastLine(stderr)}. Nothing was touched.`,
          'Install it there; or name how it is run there by --remote-torpor, such as "sudo torpor".',
        );
  }

  #unreachable(stderr: string): TorporError {
    return new TorporError(
      'failed',
      `${this.#destination.host} cannot be reached by ssh: ${lastLine(stderr)}. Nothing was touched.`,
      `Try \`ssh ${this.#destination.host}\`.`,
    );
  }

  async makeFolder(): Promise<string> {
    const script = `umask 077; mkdir -p ${remoteFolder} && mktemp -d "$PWD"/${remoteFolder}/migration-XXXXXX`;
    const { status, stdout, stderr } = await this.#run(script);
    if (status === 0) return stdout.trim();
    throw status === sshFailed
      ? this.#unreachable(stderr)
      : new TorporError(
          'failed',
          `${this.#destination.host} has no place for the bundle: ${lastLine(stderr)}. Nothing was touched.`,
          `Make room in the home folder there.`,
        );
  }

  async removeFolder(folder: string): Promise<void> {
    await this.#run(`rm -rf -- ${quoted(folder)}`).catch(() => {});
  }

  /** @returns how many bytes went there. */
  async send(folder: string, paths: readonly string[], there: string): Promise<number> {
    const packer = spawn('tar', ['-C', folder, '--null', '-cf', '-', '-T', '-'], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    packer.stdin.on('error', () => {}).end(paths.map((path) => `${path}\0`).join(''));
    const child = this.#spawn(`tar -C ${quoted(there)} -xf - && sync -f ${quoted(there)}`);
    let bytes = 0;
    packer.stdout.on('data', (part: Buffer) => {
      bytes += part.length;
    });
    if (child.stdin !== null) packer.stdout.pipe(child.stdin.on('error', () => {}));
    const [packed, unpacked] = await Promise.all([once(packer, 'close'), outcomeOf(child)]);
    if (packed[0] === 0 && unpacked.status === 0) return bytes;
    throw new TorporError(
      'failed',
      `The bundle did not get to ${this.#destination.host}: ${lastLine(unpacked.stderr)}.`,
      'Look whether there is room, and whether the connection holds.',
    );
  }

  /** @throws UnknownOutcome where nobody said how it went. */
  async resume(folder: string, passphrase: string): Promise<z.infer<typeof importedSchema>> {
    const { command, user } = this.#destination;
    const whose = user === undefined ? '' : `--user ${quoted(user)} `;
    const script = `${command} import --json --resume ${whose}${quoted(folder)}`;
    const { status, stdout, stderr } = await this.#run(script, `${passphrase}\n`);
    const answer = parsed(stdout);
    const imported = importedSchema.safeParse(answer);
    if (status === 0 && imported.success) return imported.data;
    const failed = failureSchema.safeParse(answer);
    if (!failed.success)
      throw new UnknownOutcome('failed', `${this.#destination.host} gave no answer: ${lastLine(stderr)}.`);
    const { message, hint } = failed.data.error;
    throw new TorporError('failed', `On ${this.#destination.host}: ${message}`, hint);
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const lastLine = (text: string) => text.trim().split('\n').at(-1)?.replace(/\.$/, '') || 'it said nothing';

async function outcomeOf(child: ChildProcess) {
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name]?.setEncoding('utf8').on('data', (text: string) => {
      output[name] += text;
    });
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, ...output };
}
