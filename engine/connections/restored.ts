/**
 * TCP connections in a resume. Each that was kept goes on where both ends can still agree: this machine still has the
 * address, and nothing else has the connection. Whether the other side still has it too, the kernel finds out as soon
 * as the connection is there again: it asks, and is answered, or told that there is no such connection, which the
 * application then meets as a reset. The others come back as if the other side had hung up: read gives the end of the
 * file, write fails.
 */
import { createSocket } from 'node:dgram';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Finding } from '../../api/types.ts';
import { fileEntry, inventoryEntry, rewriteImage } from '../../proto/images.ts';
import type { Manifest } from '../../proto/manifest.ts';
import { decode, delimitedField, encode, message, rawFields, required } from '../../proto/wire.ts';
import { type InetSocketImage, readInetSockets } from '../criu/images.ts';
import type { RestoreOptions } from '../criu/options.ts';
import { formatHost, readInternetSockets } from '../inspect/sockets.ts';

const inetOfFileEntry = 4;
/** Fields of inet_sk_entry (images/sk-inet.proto of CRIU 4.2) that make it a connected socket. */
const connected = { state: 6, srcPort: 7, dstPort: 8, shutdown: 19 } as const;
const hungUp = encode(
  message('inet_sk_entry', {
    state: required(connected.state, 'uint32'),
    srcPort: required(connected.srcPort, 'uint32'),
    dstPort: required(connected.dstPort, 'uint32'),
    shutdown: required(connected.shutdown, 'enum'),
  }),
  // TCP_CLOSE, nowhere, and shut down both ways.
  { state: 7, srcPort: 0, dstPort: 0, shutdown: 3 },
);
const lockMethod = 11;
const noLock = encode(message('inventory_entry', { method: required(lockMethod, 'uint32') }), { method: 3 });

/**
 * Whether kept connections go on, or are closed; or are none of this workload's, because an earlier resume or the
 * workload that this is a copy of has them.
 */
export type Claim = 'keep' | 'close' | 'none';

export interface RestoreConnections {
  options: Pick<RestoreOptions, 'tcpClose' | 'tcpEstablished'>;
  findings: Finding[];
}

/** The TCP connections in a checkpoint. @throws TorporError `failed` where the image is damaged. */
export async function readConnections(imagesDir: string): Promise<InetSocketImage[]> {
  const sockets = await readInetSockets(imagesDir);
  return sockets.filter(({ protocol, remotePort }) => protocol === 'tcp' && remotePort !== 0);
}

/**
 * @param imagesDir CRIU's images, verified already.
 * @param rewritten images that CRIU shall read instead, by name; those that must be changed are put there.
 * @param claim what is to become of those that were kept.
 */
export async function restoreConnections(
  { connectionLock }: Pick<Manifest, 'connectionLock'>,
  imagesDir: string,
  rewritten: Map<string, Buffer>,
  claim: Claim,
): Promise<RestoreConnections> {
  const allClosed = { options: { tcpClose: true }, findings: [] };
  if (connectionLock === undefined) return allClosed;
  if (claim === 'close') return allClosed;
  const read = async (name: string) => rewritten.get(name) ?? (await readFile(join(imagesDir, name)));
  if (claim === 'none') {
    // CRIU would remove the lock, which is another's.
    rewritten.set('inventory.img', rewriteImage('inventory', await read('inventory.img'), withoutLock));
    return allClosed;
  }
  const connections = await readConnections(imagesDir);
  const taken = new Set(
    [...(await readInternetSockets(process.pid)).values()].map(({ local, remote }) => `${local} ${remote}`),
  );
  const lost = new Map<number, Finding>();
  for (const connection of connections) {
    const why = await whyNot(connection, taken);
    if (why !== undefined) lost.set(connection.id, cannotBeKept(connection, why));
  }
  const findings = [...new Map([...lost.values()].map((finding) => [finding.what, finding])).values()];
  if (lost.size === connections.length) return { ...allClosed, findings };
  if (lost.size > 0) rewritten.set('files.img', hangUp(await read('files.img'), new Set(lost.keys())));
  return { options: { tcpEstablished: true }, findings };
}

/** Ports and addresses as the inspection prints them. */
const endOf = (address: readonly number[], port: number) => `${formatHost(address)}:${port}`;

async function whyNot(connection: InetSocketImage, taken: ReadonlySet<string>): Promise<string | undefined> {
  const { localAddress, localPort, remoteAddress, remotePort } = connection;
  const host = formatHost(localAddress).replace(/^\[|\]$/g, '');
  if (!(await isOurs(host))) return `this machine does not have the address ${host} any more`;
  if (taken.has(`${endOf(localAddress, localPort)} ${endOf(remoteAddress, remotePort)}`))
    return 'another program has a connection between the same ports';
  return undefined;
}

/** Whether this machine has an address: something can be bound to it. Any other answer than no lets CRIU try. */
function isOurs(host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    socket.once('error', ({ code }: NodeJS.ErrnoException) => {
      socket.close();
      resolve(code !== 'EADDRNOTAVAIL');
    });
    socket.bind({ address: host, port: 0 }, () => socket.close(() => resolve(true)));
  });
}

function cannotBeKept({ remoteAddress, remotePort }: InetSocketImage, why: string): Finding {
  return {
    tie: 'internet-socket',
    verdict: 'degraded',
    by: 'engine',
    what: `The connection to ${endOf(remoteAddress, remotePort)} could not be kept: ${why}.`,
    hint: 'It is closed, as if the other side had hung up.',
  };
}

/** `files.img` with these sockets as ones whose connection is over, by the ids of their files. */
export function hangUp(filesImage: Buffer, ids: ReadonlySet<number>): Buffer {
  const numbers = new Set<number>(Object.values(connected));
  const over = (content: Buffer) =>
    Buffer.concat([
      ...Array.from(rawFields(content, 'inet_sk_entry'))
        .filter(({ number }) => !numbers.has(number))
        .map(({ whole }) => whole),
      hungUp,
    ]);
  return rewriteImage('files', filesImage, (entry) => {
    const id = decode(fileEntry, entry).inet?.id;
    if (id === undefined || !ids.has(id)) return entry;
    return Buffer.concat(
      Array.from(rawFields(entry, 'file_entry'), ({ number, content, whole }) =>
        number === inetOfFileEntry ? delimitedField(inetOfFileEntry, over(content)) : whole,
      ),
    );
  });
}

function withoutLock(inventory: Buffer): Buffer {
  const rest = Array.from(rawFields(inventory, inventoryEntry.name))
    .filter(({ number }) => number !== lockMethod)
    .map(({ whole }) => whole);
  return Buffer.concat([...rest, noLock]);
}
