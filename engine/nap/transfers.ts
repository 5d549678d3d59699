/**
 * Whether processes have a download or an upload under way: what the kernel has counted of their TCP connections, twice, with
 * half a second in between (native/transfers.c). What they only say to each other does not count.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Finding } from '../../api/types.ts';
import { runCommand } from '../command.ts';
import { readProcessLine } from '../inspect/proc.ts';
import type { Logger } from '../log.ts';

const lookMs = 500;
/** In that time: more than chats and keep-alives, less than the slowest line that anybody waits at. */
const tellingBytes = 16 * 1024;
const limitMs = 5000;

export interface Connection {
  inode: number;
  /** Both ends, as words that are compared. */
  own: string;
  other: string;
  received: number;
  sent: number;
}

export class Transfers {
  readonly #program: string;
  readonly #log: Logger;

  /** @param program native/transfers.c */
  constructor(program: string, log: Logger) {
    this.#program = program;
    this.#log = log;
  }

  /** Takes half a second where they have connections. */
  async findings(pids: readonly number[]): Promise<Finding[]> {
    const owners = socketsOf(pids);
    if (owners.size === 0) return [];
    const before = ownTransfers(await this.#read(), owners);
    if (before.length === 0) return [];
    await sleep(lookMs);
    return underWay(before, await this.#read()).flatMap(({ inode, does }) => {
      const pid = owners.get(inode);
      return pid === undefined ? [] : [findingAbout(pid, does)];
    });
  }

  async #read(): Promise<Connection[]> {
    const { status, stdout, stderr } = await runCommand(this.#program, [], { timeoutMs: limitMs });
    if (status !== 0) this.#log.warn({ status, stderr }, 'nobody could be asked for transfers');
    return parseConnections(stdout);
  }
}

/** Pure: lines of inode, own end, other end, bytes received, bytes sent. */
export function parseConnections(text: string): Connection[] {
  return text.split('\n').flatMap((line) => {
    const [inode, own, other, received, sent] = line.split(' ');
    if (own === undefined || other === undefined || sent === undefined) return [];
    return { inode: Number(inode), own, other, received: Number(received), sent: Number(sent) };
  });
}

/** Pure: those that one of them has, and not both ends. */
export function ownTransfers(all: readonly Connection[], owners: ReadonlyMap<number, number>): Connection[] {
  const own = all.filter(({ inode }) => owners.has(inode));
  const ends = new Set(own.map((each) => each.own));
  return own.filter(({ other }) => !ends.has(other));
}

/** Pure: of which more has come or gone than is said in passing. */
export function underWay(
  before: readonly Connection[],
  after: readonly Connection[],
): { inode: number; does: 'downloads' | 'uploads' }[] {
  const now = new Map(after.map((each) => [each.inode, each]));
  return before.flatMap(({ inode, received, sent }): { inode: number; does: 'downloads' | 'uploads' }[] => {
    const later = now.get(inode);
    if (later === undefined) return [];
    if (later.received - received >= tellingBytes) return [{ inode, does: 'downloads' }];
    return later.sent - sent >= tellingBytes ? [{ inode, does: 'uploads' }] : [];
  });
}

/** Inodes of their sockets, each with one who has it open. */
function socketsOf(pids: readonly number[]): Map<number, number> {
  const owners = new Map<number, number>();
  for (const pid of pids)
    for (const name of namesIn(`/proc/${pid}/fd`)) {
      const inode = /^socket:\[(\d+)\]$/.exec(linkAt(`/proc/${pid}/fd/${name}`))?.[1];
      if (inode !== undefined) owners.set(Number(inode), pid);
    }
  return owners;
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function linkAt(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

function findingAbout(pid: number, does: 'downloads' | 'uploads'): Finding {
  const name = readProcessLine(pid)?.name ?? '?';
  return {
    tie: 'transfer',
    verdict: 'blocking',
    by: '',
    pid,
    what: `${name} (process ${pid}) ${does} something just now, which would break off after a while.`,
    hint: 'Wait for its end, or say that it may wait: `--anyway`.',
  };
}
