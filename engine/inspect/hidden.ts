/**
 * What the kernel tells only who asks for it: `torpor-ties` (native/ties.c) answers all questions about a tree in one run.
 * Who outside has an end of something is found by it too: of all processes of the machine it reads what this program would
 * take ten times as long to read.
 */
import { posix } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import { runCommand } from '../command.ts';
import {
  type Apart,
  type Descriptor,
  descriptorKey,
  type FileSystem,
  type Hidden,
  type InFlight,
  type Outsider,
  type ProcessFacts,
  type Shared,
  type SocketSetting,
  type UnixSocket,
} from './facts.ts';
import { isFar } from './mounts.ts';
import { type Ends, type Holders, isBelow, outsiderOf } from './outsiders.ts';

type Answer =
  | { kind: 'shared'; what: Shared['what']; pid: number; other: number }
  | { kind: 'thread'; what: Apart['what']; pid: number; other: number }
  | { kind: 'words'; pid: number; fd: number }
  | { kind: 'setting'; pid: number; fd: number; what: SocketSetting }
  | {
      kind: 'flight';
      pid: number;
      target: string;
      type: 'character' | 'block' | 'other';
      major: number;
      minor: number;
    }
  | { kind: 'undo'; pid: number }
  | { kind: 'protocol'; pid: number; fd: number; name: string }
  | { kind: 'unread'; pid: number; fd: number; bytes: number }
  | { kind: 'handle'; id: number; error: number }
  | { kind: 'holder'; pid: number; fd: number }
  | { kind: 'same'; pid: number; fd: number; other: number }
  | { kind: 'mapper'; pid: number; key: string };

/** A file that is watched by its handle. */
interface Handle {
  descriptor: string;
  type: string;
  questions: string[];
}

interface About {
  root: number;
  processes: readonly ProcessFacts[];
  mounts: ReadonlyMap<number, FileSystem>;
  unixSockets: ReadonlyMap<number, UnixSocket>;
  /** Whether the kernel's tables say all of a socket. */
  isKnownSocket: (inode: number) => boolean;
  missing: Ends;
}

/**
 * Asks about a tree. The program starts at once, and has its questions when it is known what there is to ask.
 * @param program `torpor-ties`.
 * @returns also which descriptors outside may be the missing ends.
 * @throws TorporError `failed` where it does not answer: without it, no finding means nothing.
 */
export async function askHidden(
  program: string,
  about: Promise<About>,
): Promise<{ hidden: Hidden; holders: Holders }> {
  const prepared = about.then(prepare);
  const [{ root, inside, inodes, handles }, answers] = await Promise.all([
    prepared,
    ask(
      program,
      prepared.then(({ questions }) => questions),
    ),
  ]);
  // What has been started since the tree was read is not outside.
  const isForeign = memoize((pid: number) => inside.has(pid) || !isBelow(pid, root));
  const relevant = answers.filter(
    (answer) =>
      !('other' in answer && answer.kind !== 'thread' && !isForeign(answer.other)) &&
      !(answer.kind === 'mapper' && !isForeign(answer.pid)),
  );
  return { hidden: sort(relevant, inside, inodes, handles), holders: holdersIn(relevant) };
}

function prepare({ root, processes, mounts, unixSockets, isKnownSocket, missing }: About) {
  const running = processes.filter(({ state }) => state !== 'Z' && state !== 'X');
  const open = running.flatMap(({ pid, descriptors }) =>
    descriptors.map((descriptor) => ({ pid, descriptor })),
  );
  const unknown = open.flatMap(({ pid, descriptor }) =>
    descriptor.kind === 'socket' && !isKnownSocket(descriptor.inode)
      ? [{ pid, fd: descriptor.fd, inode: descriptor.inode }]
      : [],
  );
  const handles = running.flatMap((process) => handlesOf(process, mounts));
  const questions = [
    ...running.map(({ pid }) => `inside ${pid}`),
    ...unknown.map(({ pid, fd }) => `socket ${pid} ${fd}`),
    ...socketsOf(open, unixSockets),
    ...open
      .filter(({ descriptor }) => isWatch(descriptor))
      .map(({ pid, descriptor }) => `unread ${pid} ${descriptor.fd}`),
    ...handles.flatMap(({ questions: each }, id) => each.map((question) => `handle ${id} ${question}`)),
    ...open
      .filter(({ descriptor }) => descriptor.kind === 'file')
      .map(({ pid, descriptor }) => `open ${pid} ${descriptor.fd} ${descriptor.target}`),
    ...new Set(running.flatMap(mappedBy)),
    ...new Set([...missing.values()].map((target) => (target === '' ? 'terminals' : `held ${target}`))),
  ];
  const inodes = new Map(unknown.map(({ pid, fd, inode }) => [descriptorKey(pid, fd), inode]));
  return { root, inside: new Set(processes.map(({ pid }) => pid)), inodes, handles, questions };
}

async function ask(program: string, questions: Promise<readonly string[]>): Promise<Answer[]> {
  const input = questions.then((all) => all.map((each) => `${each}\0`).join(''));
  const { status, stdout, stderr } = await runCommand(program, [], { input });
  if (status === 0)
    return stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Answer);
  throw new TorporError(
    'failed',
    `What its processes have in common with others cannot be found out: ${stderr.trim() || `status ${status}`}.`,
    'Build the native programs again with `npm start`.',
  );
}

/** Each once, however many have it: of a unix socket what it has for its reader, of others what they are set to. */
function socketsOf(
  open: readonly { pid: number; descriptor: Descriptor }[],
  unixSockets: ReadonlyMap<number, UnixSocket>,
): string[] {
  const senders = new Set(
    [...unixSockets.values()].filter(({ unsent }) => unsent > 0).map(({ peer }) => peer),
  );
  const asked = new Set<number>();
  return open.flatMap(({ pid, descriptor }) => {
    if (descriptor.kind !== 'socket' || asked.has(descriptor.inode)) return [];
    asked.add(descriptor.inode);
    const socket = unixSockets.get(descriptor.inode);
    if (socket === undefined) return [`settings ${pid} ${descriptor.fd}`];
    // Who has sent to a datagram socket, or has closed since, is in no table.
    const mayHave = socket.type === 'dgram' || socket.peer === 0 || senders.has(socket.inode);
    return mayHave && socket.state !== 'listening' ? [`queue ${pid} ${descriptor.fd}`] : [];
  });
}

const isWatch = (descriptor: Descriptor) =>
  descriptor.kind === 'kernel-object' && (descriptor.type === 'inotify' || descriptor.type === 'fanotify');

/** CRIU finds what is watched by its handle on any mount of the file system; one that may not answer is not asked. */
function handlesOf({ pid, descriptors }: ProcessFacts, mounts: ReadonlyMap<number, FileSystem>): Handle[] {
  return descriptors.filter(isWatch).flatMap((descriptor) =>
    ('watched' in descriptor ? (descriptor.watched ?? []) : []).flatMap((watched): Handle[] => {
      if (watched.kind !== 'file') return [];
      const candidates = [...mounts.values()].filter(({ device }) => device === watched.device);
      if (candidates.some(isFar)) return [];
      const places = candidates.length === 0 ? ['/'] : candidates.map(({ path }) => path);
      return [
        {
          descriptor: descriptorKey(pid, descriptor.fd),
          type: candidates[0]?.type ?? 'unknown',
          questions: places.map(
            (place) => `${watched.type} ${watched.handle} ${posix.join(`/proc/${pid}/root`, place)}`,
          ),
        },
      ];
    }),
  );
}

/** Memory that comes back as its own, whoever else had it. That of System V is known by its namespace alone. */
function mappedBy({ mappings, descriptors }: ProcessFacts): string[] {
  const mapped = mappings.flatMap((mapping) => {
    if (mapping.kind === 'shared') return mapping.what === 'system-v' ? [] : [mapping.key];
    return mapping.kind === 'deleted' ? [mapping.key] : [];
  });
  const open = descriptors.flatMap((descriptor) =>
    descriptor.kind === 'memory-file' ? [descriptor.key] : [],
  );
  return [...mapped, ...open].map((key) => `mapped ${key.replaceAll(':', ' ')}`);
}

function holdersIn(answers: readonly Answer[]): Holders {
  const holders = new Map<number, number[]>();
  for (const answer of answers)
    if (answer.kind === 'holder') holders.set(answer.pid, [...(holders.get(answer.pid) ?? []), answer.fd]);
  return holders;
}

function memoize<T>(ask: (pid: number) => T): (pid: number) => T {
  const known = new Map<number, T>();
  return (pid) => {
    const answer = known.has(pid) ? (known.get(pid) as T) : ask(pid);
    known.set(pid, answer);
    return answer;
  };
}

function sort(
  answers: readonly Answer[],
  inside: ReadonlySet<number>,
  inodes: ReadonlyMap<string, number>,
  handles: readonly Handle[],
): Hidden {
  const outsider: (pid: number) => Outsider = memoize(outsiderOf);
  const shared: Shared[] = [];
  const threads: Apart[] = [];
  const inFlight: InFlight[] = [];
  const words = new Set<string>();
  const settings = new Map<string, Set<SocketSetting>>();
  const sameFile = new Map<string, Outsider>();
  const mappers = new Map<string, Outsider>();
  const undo = new Set<number>();
  const protocols = new Map<number, string>();
  const unread = new Map<string, number>();
  const lost = new Map<string, string[]>();
  const found = new Set<number>();
  for (const answer of answers) {
    switch (answer.kind) {
      case 'shared': {
        const { what, pid, other } = answer;
        shared.push({ what, pid, other: inside.has(other) ? other : outsider(other) });
        break;
      }
      case 'thread': {
        const { what, pid, other: tracer } = answer;
        threads.push(what === 'tracer' ? { what, pid, tracer, name: outsider(tracer).name } : { what, pid });
        break;
      }
      case 'words':
        words.add(descriptorKey(answer.pid, answer.fd));
        break;
      case 'setting': {
        const key = descriptorKey(answer.pid, answer.fd);
        settings.set(key, (settings.get(key) ?? new Set()).add(answer.what));
        break;
      }
      case 'flight': {
        const { pid, target, type, major, minor } = answer;
        inFlight.push({ pid, target, ...(type === 'other' ? {} : { device: { type, major, minor } }) });
        break;
      }
      case 'same':
        sameFile.set(descriptorKey(answer.pid, answer.fd), outsider(answer.other));
        break;
      case 'mapper':
        mappers.set(answer.key, outsider(answer.pid));
        break;
      case 'undo':
        undo.add(answer.pid);
        break;
      case 'protocol':
        protocols.set(inodes.get(descriptorKey(answer.pid, answer.fd)) ?? 0, answer.name);
        break;
      case 'unread':
        if (answer.bytes > 0) unread.set(descriptorKey(answer.pid, answer.fd), answer.bytes);
        break;
      case 'handle':
        if (answer.error === 0) found.add(answer.id);
        break;
    }
  }
  for (const [id, { descriptor, type }] of handles.entries())
    if (!found.has(id)) lost.set(descriptor, [...(lost.get(descriptor) ?? []), type]);
  return { shared, threads, inFlight, words, settings, sameFile, mappers, undo, protocols, unread, lost };
}
