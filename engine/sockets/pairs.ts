/**
 * Unix sockets between members of a session that are resumed together. A pair of connected sockets is made for each two
 * ends, with what each end had not read yet in its queue, and each CRIU gets its end. A program of ours makes them, as
 * the users they belong to, since that is what each end is told of the other (SO_PEERCRED).
 */
import { spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import { takeDescriptor } from '../../native/take-descriptor.ts';
import { type Manifest, specOf } from '../../proto/manifest.ts';
import type { ExternalSocket } from './external.ts';
import { encodeRestorePlan } from './plan.ts';

/** How a socket between two members comes back. */
export type Connection =
  | { kind: 'given'; fd: number }
  /** To a datagram socket that takes from anybody: by its name, as soon as the other member has that. */
  | { kind: 'by-name' };

/** Waits until all members of a set know their sockets. @returns how those to other members come back, by inode. */
export type ConnectEnds = (sockets: readonly ExternalSocket[]) => Promise<ReadonlyMap<number, Connection>>;

interface End {
  manifest: Manifest;
  socket: ExternalSocket;
}

type Offer = Pick<Manifest, 'id' | 'workload' | 'session' | 'externalSockets'>;

/** Ends that belong together, and those that find their other end by its name. Pure. */
export function matchEnds(offers: readonly { manifest: Offer; sockets: readonly ExternalSocket[] }[]): {
  pairs: [End, End][];
  byName: End[];
} {
  const pairs: [End, End][] = [];
  const byName: End[] = [];
  for (const offer of offers) {
    for (const decided of offer.manifest.externalSockets ?? []) {
      if (decided.decision !== 'session') continue;
      const socket = offer.sockets.find(({ inode }) => inode === decided.inode);
      const other = offers.find(
        ({ manifest }) =>
          manifest.workload === decided.workload &&
          manifest.id !== offer.manifest.id &&
          manifest.session?.id === offer.manifest.session?.id,
      );
      if (socket === undefined || other === undefined) continue;
      const end = { manifest: offer.manifest as Manifest, socket };
      const peer = other.sockets.find(({ inode }) => inode === decided.peer);
      if (peer?.peer !== socket.inode) {
        if (socket.type === 'datagram' && socket.address.length > 0) byName.push(end);
      } else if (!pairs.some(([, second]) => isSame(second, end))) {
        pairs.push([end, { manifest: other.manifest as Manifest, socket: peer }]);
      }
    }
  }
  return { pairs, byName };
}

const isSame = (one: End, other: End) =>
  one.manifest.id === other.manifest.id && one.socket.inode === other.socket.inode;

export class ConnectedSockets implements AsyncDisposable {
  readonly #program: string;
  readonly #scratch: string;
  readonly #offers: { manifest: Manifest; sockets: readonly ExternalSocket[] }[] = [];
  readonly #connections = new Map<string, Map<number, Connection>>();
  readonly #descriptors: number[] = [];

  /** @param scratch a folder of root's own, for the length of the resume. */
  constructor(program: string, scratch: string) {
    this.#program = program;
    this.#scratch = scratch;
  }

  /** The sockets of one member whose other end was outside of it. */
  add(manifest: Manifest, sockets: readonly ExternalSocket[]): void {
    this.#offers.push({ manifest, sockets });
  }

  /** Connects those of all members. @throws TorporError `failed` where they cannot be made. */
  async connect(): Promise<void> {
    const { pairs, byName } = matchEnds(this.#offers);
    for (const { manifest, socket } of byName) this.#note(manifest, socket, { kind: 'by-name' });
    if (pairs.length === 0) return;
    const descriptors = await this.#make(pairs);
    pairs.flat().forEach(({ manifest, socket }, index) => {
      const fd = descriptors[index];
      if (fd !== undefined) this.#note(manifest, socket, { kind: 'given', fd });
    });
  }

  /** Of one member, by inode. */
  of({ id }: Manifest): ReadonlyMap<number, Connection> {
    return this.#connections.get(id) ?? new Map();
  }

  #note({ id }: Manifest, { inode }: ExternalSocket, connection: Connection): void {
    const known = this.#connections.get(id) ?? new Map();
    this.#connections.set(id, known.set(inode, connection));
  }

  async #make(pairs: readonly [End, End][]): Promise<number[]> {
    const plan = pairs.flat().map(({ manifest, socket }) => {
      const { inode, type, unread, owner } = socket;
      const user = owner?.user ?? specOf(manifest).user;
      return { action: 'hang-up', inode, type, user, own: undefined, unread } as const;
    });
    await mkdir(this.#scratch, { recursive: true, mode: 0o700 });
    const path = join(this.#scratch, 'pairs');
    await writeFile(path, encodeRestorePlan(plan), { mode: 0o600 });
    const child = spawn(this.#program, [path], { stdio: ['pipe', 'pipe', 'pipe'] });
    const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
    try {
      const numbers = await numbersFrom(child);
      for (const number of numbers) this.#descriptors.push(takeDescriptor(child.pid ?? 0, number));
      if (numbers.length === plan.length) return this.#descriptors;
      throw cannotMake('some are missing');
    } finally {
      // It waits for that, holding them open.
      child.stdin.end();
      await ended;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const descriptor of this.#descriptors.splice(0)) closeSync(descriptor);
    await rm(this.#scratch, { recursive: true, force: true });
  }
}

/** One line of descriptors in the program's process, or its reason on standard error. */
async function numbersFrom(child: ReturnType<typeof spawn>): Promise<number[]> {
  return await new Promise((resolve, reject) => {
    let said = '';
    let complaint = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      if (said.endsWith('\n')) resolve(said.trim().split(' ').map(Number));
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      complaint += text;
    });
    child.once('error', (error) => reject(cannotMake(error.message)));
    child.once('close', () => reject(cannotMake(complaint.trim() || 'it ended')));
  });
}

const cannotMake = (why: string) =>
  new TorporError(
    'failed',
    `The sockets between the workloads cannot be connected again: ${why}.`,
    'Resume them one by one; each then finds the connection closed.',
  );
