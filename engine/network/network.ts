/**
 * The network that a workload was suspended in, and the one that it comes back in. Which one it is, its way out tells: the
 * gateway with its hardware address, or, where there is none, the addresses of the interface. A resume says where it
 * is another one, and waits for a way out first where that is wanted.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Finding } from '../../api/types.ts';
import type { Manifest, RecordedWay } from '../../proto/manifest.ts';

const askEveryMs = 250;

/** A way out of the machine's own network. */
export type Way =
  /** The hardware address is not known until something was sent there. */
  | { kind: 'gateway'; address: string; hardware: string | undefined }
  | { kind: 'interface'; addresses: readonly string[] };

/** Pure: of /proc/net/route and /proc/net/arp. */
export function waysIn(route: string, arp: string, addressesOf: (name: string) => readonly string[]): Way[] {
  const hardware = new Map(
    arp
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .map(([address = '', , , station = '']) => [address, station] as const),
  );
  return route
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[1] === '00000000' && fields[7] === '00000000')
    .map(([name = '', , gateway = '']): Way => {
      const address = (gateway.match(/../g) ?? []).reverse().map((byte) => Number.parseInt(byte, 16));
      if (address.every((byte) => byte === 0)) return { kind: 'interface', addresses: addressesOf(name) };
      const text = address.join('.');
      const station = hardware.get(text);
      return {
        kind: 'gateway',
        address: text,
        hardware: station === undefined || /^(00:)+00$/.test(station) ? undefined : station,
      };
    });
}

/** Those of IPv6 by their gateway alone: its table of neighbours is not to be had as a file. Pure. */
export function waysInIpv6(route: string): Way[] {
  return route
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(
      ([destination, length, , , gateway, , , , , name]) =>
        /^0{32}$/.test(destination ?? '') &&
        length === '00' &&
        !/^0{32}$/.test(gateway ?? '') &&
        name !== 'lo',
    )
    .map(([, , , , gateway = '']) => ({ kind: 'gateway', address: gateway, hardware: undefined }));
}

async function waysOut(): Promise<Way[]> {
  const [route, arp, route6] = await Promise.all(
    ['route', 'arp', 'ipv6_route'].map((name) => readFile(`/proc/net/${name}`, 'latin1').catch(() => '')),
  );
  const addressesOf = (name: string) =>
    (networkInterfaces()[name] ?? [])
      .filter(({ internal }) => !internal)
      .map(({ cidr, address }) => cidr ?? address);
  return [...waysIn(route ?? '', arp ?? '', addressesOf), ...waysInIpv6(route6 ?? '')];
}

/**
 * As it is kept: hashed, since a snapshot may be carried about and which networks somebody was in is nobody's business.
 * @param salt of the snapshot.
 */
export async function recordNetwork(salt: string): Promise<RecordedWay[]> {
  return (await waysOut()).map((way) => recordedWay(way, salt));
}

/** Pure. */
export function recordedWay(way: Way, salt: string): RecordedWay {
  const hash = (...words: readonly string[]) =>
    createHash('sha256')
      .update([salt, ...words].join('\n'))
      .digest('hex');
  if (way.kind === 'interface') return { way: hash('interface', ...[...way.addresses].sort()) };
  const { address, hardware } = way;
  return {
    way: hash('gateway', address),
    ...(hardware === undefined ? {} : { hardware: hash('hardware', address, hardware) }),
  };
}

/** Whether one of the ways out is there still. Pure. */
export function isSameNetwork(then: readonly RecordedWay[], now: readonly RecordedWay[]): boolean {
  if (then.length === 0 || now.length === 0) return then.length === now.length;
  return then.some(({ way, hardware }) =>
    now.some(
      (each) =>
        each.way === way &&
        (hardware === undefined || each.hardware === undefined || each.hardware === hardware),
    ),
  );
}

/** How long to wait where the user does not say, in seconds. */
const usualWait = (manifest: Manifest): number =>
  manifest.kind === 'capsule' ? (manifest.capsule.profiles?.waitNetwork ?? 0) : 0;

/**
 * Before a workload runs again.
 * @param wanted how long the user wants to wait for a way out, in seconds.
 * @param waits called where it has to be waited.
 * @param signal ends the waiting. @throws its reason then.
 */
export async function meetNetwork(
  manifest: Manifest,
  wanted: number | undefined,
  waits: () => void,
  signal: AbortSignal,
): Promise<Finding[]> {
  const { network, workload, name } = manifest;
  const waitSeconds = wanted ?? usualWait(manifest);
  // The clock on the wall may be set meanwhile, as it often is once there is a network.
  const end = performance.now() + waitSeconds * 1000;
  let now = await recordNetwork(workload);
  if (now.length === 0 && waitSeconds > 0) waits();
  while (now.length === 0 && performance.now() < end) {
    await sleep(askEveryMs, undefined, { signal }).catch(() => signal.throwIfAborted());
    now = await recordNetwork(workload);
  }
  const findings = waitSeconds > 0 && now.length === 0 ? [notThere(waitSeconds)] : [];
  // A snapshot of an earlier version does not say.
  if (network !== undefined && !isSameNetwork(network, now)) findings.push(another(name, network, now));
  return findings;
}

const degraded = (what: string, hint: string): Finding => ({
  tie: 'network',
  verdict: 'degraded',
  by: 'engine',
  what,
  hint,
});

const notThere = (seconds: number) =>
  degraded(
    `There was no network within ${seconds} ${seconds === 1 ? 'second' : 'seconds'}.`,
    'It runs without one, and may say so; it goes on as any program does when the network comes.',
  );

function another(name: string, then: readonly RecordedWay[], now: readonly RecordedWay[]): Finding {
  const what =
    now.length === 0
      ? `The machine has no network now; it had one when ${name} was suspended.`
      : then.length === 0
        ? `The machine has a network now; it had none when ${name} was suspended.`
        : `The machine is in another network than when ${name} was suspended.`;
  return degraded(
    what,
    'Connections that cannot go on are closed. What it has learnt of names and addresses (a resolver’s cache of its own) nobody outside can take from it: let it load anew, or start it again, where it does not find something.',
  );
}
