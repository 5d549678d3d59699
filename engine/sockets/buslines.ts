/**
 * Connections to a D-Bus message bus. A new connection is another one to the bus: it must be authenticated, has another
 * unique name, and none of the names and match rules of the old one. So what the bus knows of a connection is learnt from the bus
 * itself while the program stands still, and at the resume a program of ours (native/buslines.c), as the user, takes
 * all of that on a connection of its own and stands between from then on, so that the program goes on under the unique
 * name that it knows.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import type { Finding } from '../../api/types.ts';
import { takeDescriptor } from '../../native/take-descriptor.ts';
import type { BusSocket } from '../../proto/manifest.ts';
import { unlessAborted } from '../abort.ts';
import { identityOptions, runCommand } from '../command.ts';
import type { SocketUser } from './plan.ts';

/** A connection to a bus, as the inspection sees it. */
export interface BusLine {
  kind: 'bus';
  /** Where the bus listens: a path, or `@` and an abstract name. */
  path: string;
  /** Who may have connected. */
  pids: readonly number[];
  /** The unique name that the program knows, where one of ours stands between already. */
  shown?: string;
}

/** What a bus says of its connections. */
export interface Learnt {
  /** Unique names, by pid. */
  connections: ReadonlyMap<number, readonly string[]>;
  /** Unique names, by the well-known name that each has. */
  owners: ReadonlyMap<string, string>;
  /** By unique name; undefined where the bus does not tell. */
  rules: ReadonlyMap<string, readonly string[]> | undefined;
}

/** What a snapshot keeps of one connection has an end, whatever the bus says. */
const mostTexts = 4096;
const longestText = 4096;

/** By the specification. Whatever else a bus tells, or a program listens to, is no name to be asked for. */
const longestName = 255;
const uniqueName = /^:[\w-]+(?:\.[\w-]+)*$/;
const wellKnownName = /^[A-Za-z_-][\w-]*(?:\.[A-Za-z_-][\w-]*)+$/;
const isWellKnown = (text: string) => text.length <= longestName && wellKnownName.test(text);

/** Whether this can be what a bus calls a connection. */
export const isUniqueName = (text: string): boolean => text.length <= longestName && uniqueName.test(text);

/** Whether a bus that listens here can be told of in a line. */
export const isBusPath = (path: string): boolean => path !== '' && !path.includes('\n');

/** Pure. Of lines that are none of those it knows, nothing is made. */
export function parseLearnt(text: string): Learnt {
  const connections = new Map<number, string[]>();
  const owners = new Map<string, string>();
  const rules = new Map<string, string[]>();
  const push = <K>(map: Map<K, string[]>, key: K, value: string) => {
    const texts = map.get(key);
    if (texts === undefined) map.set(key, [value]);
    else if (texts.length < mostTexts) texts.push(value);
  };
  let areRulesKnown = false;
  for (const line of text.split('\n')) {
    // A rule is anything but the end of a line.
    const [, word, first = '', rest = ''] = /^(\w+) (\S+)(?: (.*))?$/s.exec(line) ?? [];
    if (word === 'connection' && isUniqueName(first)) push(connections, Number(rest), first);
    if (word === 'name' && isWellKnown(first) && isUniqueName(rest)) owners.set(first, rest);
    if (word === 'match') push(rules, first, rest);
    if (line === 'rules known') areRulesKnown = true;
  }
  return { connections, owners, rules: areRulesKnown ? rules : undefined };
}

/**
 * What is to be taken on again for one connection, in the words of its program. Pure.
 * @returns undefined where the bus has not one connection of it, but none or several.
 */
export function busStateOf(
  { path, pids, shown }: BusLine,
  { connections, owners, rules }: Learnt,
): Omit<BusSocket, 'inode' | 'decision'> | undefined {
  const own = pids.flatMap((pid) => connections.get(pid) ?? []);
  const [unique] = own;
  if (unique === undefined || own.length > 1) return undefined;
  const fits = (text: string) => text !== '' && text.length <= longestText;
  // What stands between exchanges the two for one another, and the bus knows that one's name only.
  const asShown = (text: string) =>
    shown === undefined ? text : text === unique ? shown : text === shown ? unique : text;
  const matches = (rules?.get(unique) ?? [])
    .filter(fits)
    .map((rule) => rule.replace(/'([^']*)'/g, (_whole, value: string) => `'${asShown(value)}'`));
  const watched = new Set(matches.flatMap(namesIn));
  return {
    path,
    unique: shown ?? unique,
    names: [...owners]
      .filter(([, owner]) => owner === unique)
      .map(([name]) => name)
      .slice(0, mostTexts),
    matches,
    rulesKnown: rules !== undefined,
    known: [...watched].slice(0, mostTexts).map((name) => ({ name, owner: asShown(owners.get(name) ?? '') })),
  };
}

/** Well-known names, of whose owners a match rule makes sure that its connection hears. */
function namesIn(rule: string): string[] {
  const names = Array.from(rule.matchAll(/\b(?:arg0|sender)='([^']*)'/g), ([, name = '']) => name);
  return names.filter((name) => isWellKnown(name) && name !== 'org.freedesktop.DBus');
}

/**
 * A limit for all buses of a workload together. Ours gives up with each of them before that, unless somebody has
 * stopped it: it is its user's, as the buses may be, and others wait meanwhile.
 */
export class BusTime {
  readonly #end = performance.now() + busLimitMs;

  get leftMs(): number {
    return Math.max(0, this.#end - performance.now());
  }
}
const busLimitMs = 20_000;
const tooLate = `its user's buses did not answer within ${busLimitMs / 1000} seconds`;

/** As a program of the user's. @throws TorporError `blocked` where the bus does not answer. */
export async function learnBus(
  program: string,
  path: string,
  user: SocketUser,
  time: BusTime,
): Promise<Learnt> {
  const [command = '', ...args] = [...asUser(user), program, 'learn', path];
  const limits = { timeoutMs: time.leftMs, killSignal: 'SIGKILL', env: environment } as const;
  const { status, stdout, stderr } = await runCommand(command, args, limits);
  if (status === 0) return parseLearnt(stdout);
  throw new TorporError(
    'blocked',
    `The bus at ${path} did not tell what it knows of its connections: ${time.leftMs === 0 ? tooLate : reasonIn(stderr)}.`,
    'Try again, or let the program find the connection closed: `--external-sockets hang-up`.',
  );
}

/** Nothing of root's own reaches a program that runs as a user. */
const environment = { PATH: '/usr/bin:/bin' };

const asUser = (user: SocketUser): string[] => ['setpriv', ...identityOptions(user), '--'];

function reasonIn(stderr: string): string {
  const text = stderr.trim().split('\n').at(-1) ?? '';
  try {
    return String((JSON.parse(text) as { error: unknown }).error);
  } catch {
    return text || 'it ended';
  }
}

/** Whether these bytes are D-Bus messages with nothing missing at their end. Pure. */
export function areWholeMessages(bytes: Buffer): boolean {
  let offset = 0;
  while (offset < bytes.length) {
    if (bytes.length - offset < 16) return false;
    const isBig = bytes[offset] === 'B'.charCodeAt(0);
    if (!isBig && bytes[offset] !== 'l'.charCodeAt(0)) return false;
    const read = (at: number) => (isBig ? bytes.readUInt32BE(offset + at) : bytes.readUInt32LE(offset + at));
    offset += 16 + Math.ceil(read(12) / 8) * 8 + read(4);
  }
  return offset === bytes.length;
}

/** Where those that stand between are put, so that they outlive the engine and end with the workload. */
export interface BusLinesPlace {
  program: string;
  /** The folder of a cgroup. */
  cgroup: () => Promise<string>;
}

/** One that has been started for a resume. */
export interface StartedBusLine {
  /** The program's end, a descriptor of ours. */
  fd: number;
  findings: Finding[];
  /** CRIU has its end, or does not want it any more. */
  handedOver: () => void;
}

/** Of what it says more is not kept. */
const mostSaid = 256;
const longestSaid = 2 * longestText;
const lastWordsMs = 200;

/**
 * @param signal ends the waiting. @throws its reason then.
 * @throws TorporError `failed` where the bus cannot be reached.
 */
export async function startBusLine(
  { program, cgroup }: BusLinesPlace,
  { path, unique, names, matches, known, rulesKnown }: BusSocket,
  unread: readonly Buffer[],
  user: SocketUser,
  comm: string,
  time: BusTime,
  signal: AbortSignal,
): Promise<StartedBusLine> {
  signal.throwIfAborted();
  const [command = '', ...args] = [...asUser(user), program, 'stand', path, unique];
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
    cwd: '/',
    env: environment,
  });
  child.stdin.on('error', () => {});
  // Of one that ends at once nothing is heard later.
  const ready = unlessAborted(untilReady(child, time), signal);
  ready.catch(() => {});
  const lines = [
    ...(unread.length === 0 ? [] : [`unread ${Buffer.concat(unread).toString('hex')}`]),
    ...names.map((name) => `name ${name}`),
    ...matches.map((rule) => `match ${rule}`),
    ...known.map(({ name, owner }) => `owner ${name} ${owner}`),
    'end',
  ];
  const pid = child.pid ?? 0;
  const letGo = () => {
    child.unref();
    for (const stream of [child.stdout, child.stderr]) stream.destroy();
  };
  try {
    await once(child, 'spawn');
    const folder = await cgroup();
    // One that has ended says why.
    if (hasEnded(child)) await ready;
    await writeFile(join(folder, 'cgroup.procs'), String(pid)).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code === 'ESRCH') await ready;
      throw error;
    });
    child.stdin.write(lines.map((line) => `${line}\n`).join(''));
    const said = await ready;
    if (hasEnded(child)) throw new TorporError('failed', 'It ended before it was connected.');
    const fd = takeDescriptor(pid, said.descriptor);
    letGo();
    const findings = said.lost.map((what) => lost(comm, what));
    if (!rulesKnown) findings.push(rulesUnknown(comm, path));
    return { fd, findings, handedOver: () => child.stdin.destroy() };
  } catch (error) {
    child.kill('SIGKILL');
    child.stdin.destroy();
    letGo();
    throw error;
  }
}

/** Its number may be another process's as soon as it has been waited for. */
const hasEnded = ({ exitCode, signalCode }: ChildProcess) => exitCode !== null || signalCode !== null;

async function untilReady(
  child: ChildProcess,
  time: BusTime,
): Promise<{ descriptor: number; lost: string[] }> {
  return await new Promise((resolve, reject) => {
    const failed = (why: string) => {
      clearTimeout(limit);
      reject(new TorporError('failed', why));
    };
    const limit = setTimeout(() => failed(tooLate), time.leftMs);
    // What it has started may keep its output open; its last words are there by then.
    child.once('exit', () => setTimeout(() => failed(reasonIn(complaint)), lastWordsMs).unref());
    const lost: string[] = [];
    let begun = '';
    let complaint = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (begun + text).split('\n');
      begun = (lines.pop() ?? '').slice(0, longestSaid);
      for (const line of lines) {
        const [, descriptor] = /^ready (\d+)$/.exec(line) ?? [];
        if (descriptor !== undefined) {
          clearTimeout(limit);
          resolve({ descriptor: Number(descriptor), lost });
        } else if (lost.length < mostSaid && /^(lost|refused|unmatched) /.test(line)) {
          lost.push(line.slice(0, longestSaid));
        }
      }
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      complaint = (complaint + text).slice(-longestSaid);
    });
    child.once('error', ({ message }) => failed(message));
    child.once('close', () => failed(reasonIn(complaint)));
  });
}

/** A socket that is there again, and not as it was. */
export const degraded = (what: string, hint: string): Finding => ({
  tie: 'unix-socket',
  verdict: 'degraded',
  by: 'engine',
  what,
  hint,
});

function lost(comm: string, line: string): Finding {
  const [word, ...rest] = line.split(' ');
  const what = rest.join(' ');
  switch (word) {
    case 'lost':
      return degraded(
        `${comm} had the name ${what} on its bus, which another program has now.`,
        'It has been told so, and gets the name when the other one gives it up.',
      );
    case 'refused':
      return degraded(
        `${comm} had the name ${what} on its bus, which the bus does not give it any more.`,
        'It has been told that it lost the name; allow it again in the settings of the bus, and start it again where that matters.',
      );
    default:
      return degraded(
        `The bus did not take a match rule of ${comm}: ${what}.`,
        'It does not hear what this rule was for; start it again where that matters.',
      );
  }
}

/** Said at the suspend as well as at the resume. */
export const rulesUnknown = (comm: string, path: string): Finding =>
  degraded(
    `The bus at ${path} does not tell which messages ${comm} listens to.`,
    'After the resume it hears only what is sent to it alone; start it again where that matters.',
  );

/**
 * Where its bus cannot be had now nothing is resumed: many programs end when their bus hangs up, and it may be there soon.
 */
export const busMissing = (comm: string, path: string, why: string): TorporError =>
  new TorporError(
    'blocked',
    `${comm} could not be connected again to the bus at ${path}: ${why}.`,
    'Start that bus, which for a session bus is to log in, and resume again. Or let it find the connection closed, by which many programs end: `torpor resume --external-sockets hang-up`.',
  );

/** What a resume says where the user lets the program find its connection closed. */
export const busNotThere = (comm: string, path: string, why: string): Finding =>
  degraded(
    `${comm} could not be connected again to the bus at ${path}: ${why}.`,
    'It finds the connection closed, as was wanted; many programs end then.',
  );
