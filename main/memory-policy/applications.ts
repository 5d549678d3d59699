/**
 * The applications that the policy is about: what runs in capsules, and what has windows on the user's desktop, whoever
 * started it. Which of them the user is in, and since when not.
 */
import { readFile } from 'node:fs/promises';
import { nameOfCommand } from '../../api/command-name.ts';
import type { Workload } from '../../api/types.ts';
import type { Applications, OpenWindow } from '../desktop-parts.ts';
import { iconPath } from '../state/view.ts';

export interface Candidate {
  /** The same for as long as it runs. */
  key: string;
  /** As the engine takes it: a workload, or a process. */
  target: string;
  /** As rules name it. */
  application: string;
  title: string;
  icon: string;
  isCapsule: boolean;
  isInFront: boolean;
  isNapping: boolean;
  /** All of its windows are. */
  isMinimised: boolean;
}

export interface Seen {
  workloads: readonly Workload[];
  windows: readonly OpenWindow[];
  active: OpenWindow | undefined;
  /** The workload in whose screen the user is. */
  screen: string | undefined;
}

interface Named {
  application: string;
  title: string;
  icon: string;
}

/** What a service manager starts an application in. */
const ownUnit = /\/app-[^/]*\.(?:scope|service)$/;

export class CandidateFinder {
  readonly #applications: Pick<Applications, 'of'>;
  /** By process, for as long as it has a window. */
  readonly #known = new Map<number, { leader: number; named: Named }>();

  constructor(applications: Pick<Applications, 'of'>) {
    this.#applications = applications;
  }

  async find({ workloads, windows, active, screen }: Seen): Promise<Candidate[]> {
    const capsules = workloads.filter(({ kind, state }) => kind === 'capsule' && isRunning(state));
    const own = await Promise.all(
      capsules.map(async (workload): Promise<Candidate> => {
        const { id, state } = workload;
        const named = await this.#nameOf(workload.command, workload.application, workload.name);
        const isInFront = screen === id;
        return {
          ...{ key: id, target: id, isCapsule: true, isInFront, isMinimised: false },
          ...named,
          isNapping: state === 'napping',
        };
      }),
    );
    const jobs = workloads.filter(({ kind, state }) => kind === 'job' && isRunning(state));
    return [...own, ...(await this.#onDesktop(windows, active, jobs))];
  }

  async #onDesktop(
    windows: readonly OpenWindow[],
    active: OpenWindow | undefined,
    jobs: readonly Workload[],
  ): Promise<Candidate[]> {
    const groups = new Map<number, { named: Named; windows: OpenWindow[] }>();
    for (const window of windows) {
      const known = window.pid === undefined ? undefined : await this.#look(window.pid);
      if (known === undefined) continue;
      const group = groups.get(known.leader) ?? { named: known.named, windows: [] };
      group.windows.push(window);
      groups.set(known.leader, group);
    }
    const pids = new Set(windows.map(({ pid }) => pid));
    for (const pid of this.#known.keys()) if (!pids.has(pid)) this.#known.delete(pid);
    return [...groups].map(([leader, group]): Candidate => {
      const job = jobs.find((each) => each.pids.includes(leader));
      return {
        key: `process ${leader}`,
        target: job?.id ?? String(leader),
        ...group.named,
        isCapsule: false,
        isInFront: group.windows.some(({ id }) => id === active?.id),
        isNapping: job?.state === 'napping',
        isMinimised: group.windows.every(({ isMinimised }) => isMinimised),
      };
    });
  }

  /** Undefined for what is not the user's to put aside: windows of Torpor's own, and of processes that have gone. */
  async #look(pid: number): Promise<{ leader: number; named: Named } | undefined> {
    const known = this.#known.get(pid);
    if (known !== undefined) return known;
    if (await isOwn(pid)) return undefined;
    const leader = await leaderOf(pid);
    const command = await commandOf(leader);
    if (command.length === 0) return undefined;
    const found = { leader, named: await this.#nameOf(command) };
    this.#known.set(pid, found);
    return found;
  }

  async #nameOf(
    command: readonly string[],
    application?: string,
    name = nameOfCommand(command),
  ): Promise<Named> {
    const entry = await this.#applications.of({ application, command });
    return {
      application: entry?.id ?? nameOfCommand(command),
      title: entry?.name ?? name,
      icon: iconPath({ name }, entry),
    };
  }
}

const isRunning = (state: Workload['state']) => state === 'running' || state === 'napping';

async function commandOf(pid: number): Promise<string[]> {
  const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return text.split('\0').filter((word, index, words) => word !== '' || index < words.length - 1);
}

async function parentOf(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[1] ?? 0);
}

/** The app's own windows are of a browser that it has started, or of itself. */
async function isOwn(pid: number): Promise<boolean> {
  for (let at = pid; at > 1; at = await parentOf(at)) if (at === process.pid) return true;
  return false;
}

/** Where the desktop has put an application into a unit of its own, the first process in that. */
async function leaderOf(pid: number): Promise<number> {
  const unitOf = async (of: number) => {
    const text = await readFile(`/proc/${of}/cgroup`, 'utf8').catch(() => '');
    const path = /^0::(.*)$/m.exec(text)?.[1] ?? '';
    return ownUnit.test(path) ? path : undefined;
  };
  const unit = await unitOf(pid);
  if (unit === undefined) return pid;
  let leader = pid;
  for (let at = await parentOf(pid); at > 1; at = await parentOf(at))
    if ((await unitOf(at)) === unit) leader = at;
    else break;
  return leader;
}
