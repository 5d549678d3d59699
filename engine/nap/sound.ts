/**
 * Who of some processes plays sound or records, by the sound server of their user, which is asked as that user, and by the
 * kernel for those that use a sound card without one. What runs in capsules has a sound server of its own there.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Finding } from '../../api/types.ts';
import { runCommand } from '../command.ts';
import { textOf } from '../inspect/kernel-files.ts';
import { readProcessLine } from '../inspect/proc.ts';
import type { Logger } from '../log.ts';

export interface Sounding {
  pid: number;
  does: 'plays' | 'records';
}

const cards = '/proc/asound';
const noServer = 4;
/** The program itself gives up after two seconds. */
const limitMs = 5000;
const variables = ['PULSE_SERVER', 'XDG_RUNTIME_DIR', 'HOME', 'PULSE_COOKIE'];

export class SoundUse {
  readonly #program: string;
  readonly #log: Logger;

  /** @param program native/playing.c */
  constructor(program: string, log: Logger) {
    this.#program = program;
    this.#log = log;
  }

  /** What stands in the way of their nap. A server that does not answer is taken for none. */
  async findings(pids: readonly number[]): Promise<Finding[]> {
    const all = [...(await this.#onServers(pids)), ...(await onCards())];
    return all.flatMap(({ pid, does }) => (pids.includes(pid) ? [findingAbout(pid, does)] : []));
  }

  async #onServers(pids: readonly number[]): Promise<Sounding[]> {
    const servers = new Map<string, { uid: number; gid: number; env: Record<string, string> }>();
    for (const pid of pids) {
      const server = serverOf(pid);
      if (server !== undefined) servers.set(JSON.stringify(server), server);
    }
    const found = await Promise.all([...servers.values()].map((server) => this.#ask(server)));
    return found.flat();
  }

  async #ask({ uid, gid, env }: { uid: number; gid: number; env: Record<string, string> }) {
    const as = ['--reuid', String(uid), '--regid', String(gid), '--clear-groups', '--', this.#program];
    const { status, stdout, stderr } = await runCommand('setpriv', as, { env, timeoutMs: limitMs });
    if (status !== 0 && status !== noServer)
      this.#log.warn({ uid, status, stderr }, 'nobody could be asked who plays sound');
    return parseSounding(stdout);
  }
}

/** By which variables a process finds its sound server; undefined where it has gone. */
function serverOf(pid: number) {
  const status = textOf(`/proc/${pid}/status`);
  if (status === undefined) return undefined;
  const id = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
  const env = Object.fromEntries(
    (textOf(`/proc/${pid}/environ`) ?? '').split('\0').flatMap((line) => {
      const at = line.indexOf('=');
      const name = line.slice(0, at);
      return variables.includes(name) ? [[name, line.slice(at + 1)]] : [];
    }),
  );
  const uid = id('Uid');
  return { uid, gid: id('Gid'), env: { XDG_RUNTIME_DIR: `/run/user/${uid}`, ...env } };
}

/** Pure: lines such as `plays 4711`. */
export function parseSounding(text: string): Sounding[] {
  return [...text.matchAll(/^(plays|records) (\d+)$/gm)].map(([, does, pid]) => ({
    pid: Number(pid),
    does: does as Sounding['does'],
  }));
}

/** Pure: a status of ALSA's, below /proc/asound (Linux, Documentation/sound/designs/procfile.rst). */
export function ownerOf(status: string): number | undefined {
  const owner = /^owner_pid\s*:\s*(\d+)$/m.exec(status)?.[1];
  return /^state: RUNNING$/m.test(status) && owner !== undefined ? Number(owner) : undefined;
}

async function onCards(): Promise<Sounding[]> {
  const found: Sounding[] = [];
  const names = await readdir(cards, { recursive: true }).catch(() => []);
  for (const name of names) {
    const [, kind] = /^card\d+\/pcm\d+([pc])\/sub\d+\/status$/.exec(name) ?? [];
    if (kind === undefined) continue;
    const pid = ownerOf(await readFile(join(cards, name), 'utf8').catch(() => ''));
    if (pid !== undefined) found.push({ pid, does: kind === 'c' ? 'records' : 'plays' });
  }
  return found;
}

function findingAbout(pid: number, does: Sounding['does']): Finding {
  const name = readProcessLine(pid)?.name ?? '?';
  return {
    tie: does === 'plays' ? 'sound' : 'recording',
    verdict: 'blocking',
    by: '',
    pid,
    what: `${name} (process ${pid}) ${does === 'plays' ? 'is playing sound' : 'is recording sound'}.`,
    hint: 'Pause that first, or say that it may stop: `--anyway`.',
  };
}
