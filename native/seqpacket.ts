/**
 * A pair of connected SOCK_SEQPACKET sockets, which Node has no way to open or read. One end is ours, the other is
 * inherited by a child process. Sends never block; a receive blocks one thread of libuv's pool and never the event
 * loop, so whoever holds several open receives at once must see to it that the pool is large enough.
 */
import { closeSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
const socketpair = libc.func('int socketpair(int, int, int, _Out_ int *)');
const send = libc.func('intptr_t send(int, const void *, size_t, int)');
const recv = libc.func('intptr_t recv(int, void *, size_t, int)');
const shutdown = libc.func('int shutdown(int, int)');

// socket(2) and its headers, Linux on every architecture Torpor runs on.
const afUnix = 1;
const sockSeqpacket = 5;
const sockCloexec = 0o2000000;
const msgTrunc = 0x20;
const msgDontwait = 0x40;
const msgNosignal = 0x4000;
const shutRdwr = 2;

/** CRIU's messages are a few hundred bytes; a longer packet than this is refused. */
const receiveLimit = 64 * 1024;

/** A failed system call; `code` is the errno's name, as in Node's own errors. */
export class SocketError extends Error {
  override readonly name = 'SocketError';
  readonly code: string;
  readonly errno: number;

  constructor(call: string, errno: number) {
    const code = getSystemErrorName(-errno);
    super(`${call}: ${code}`);
    this.code = code;
    this.errno = errno;
  }
}

/** Our end of a pair. */
export class SeqpacketSocket implements AsyncDisposable {
  readonly #fd: number;
  #receiving: Promise<unknown> = Promise.resolve();
  #closed: Promise<void> | undefined;

  /** @param fd a connected SOCK_SEQPACKET socket, owned from here on. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Sends one packet. @throws SocketError, EPIPE where the other end has gone, EAGAIN where it does not read. */
  send(packet: Uint8Array): void {
    this.#mustBeOpen();
    if (send(this.#fd, packet, packet.length, msgDontwait | msgNosignal) < 0)
      throw new SocketError('send', koffi.errno());
  }

  /**
   * Waits for one packet. One receive at a time.
   * @returns undefined once the other end, or {@link shutdown}, has ended the connection and all packets are read.
   * @throws SocketError, EMSGSIZE where a packet is longer than 64 KiB.
   */
  receive(): Promise<Buffer | undefined> {
    this.#mustBeOpen();
    const packet = this.#receiveOnce();
    this.#receiving = packet.catch(() => {});
    return packet;
  }

  #receiveOnce(): Promise<Buffer | undefined> {
    // A slab of its own, not a slice of Node's pool: the kernel writes into it while JavaScript runs on.
    const buffer = Buffer.allocUnsafeSlow(receiveLimit);
    return new Promise((resolve, reject) => {
      recv.async(
        this.#fd,
        buffer,
        buffer.length,
        msgTrunc,
        (error: Error | null, length: number | bigint) => {
          const received = Number(length);
          if (error) reject(error);
          // koffi hands the worker's errno over for the length of this callback.
          else if (received < 0) {
            const errno = koffi.errno();
            if (errno === koffi.os.errno.EINTR) resolve(this.#receiveOnce());
            // The other end died with a request of ours unread: an end like any other.
            else if (errno === koffi.os.errno.ECONNRESET) resolve(undefined);
            else reject(new SocketError('recv', errno));
          } else if (received > receiveLimit) reject(new SocketError('recv', koffi.os.errno.EMSGSIZE ?? 90));
          else resolve(received === 0 ? undefined : buffer.subarray(0, received));
        },
      );
    });
  }

  /** Ends the connection both ways, also under a pending receive; packets already here can still be received. */
  shutdown(): void {
    if (this.#closed === undefined) shutdown(this.#fd, shutRdwr);
  }

  /** Closes the socket. A pending receive is ended first: its thread must be out of the descriptor before it goes. */
  close(): Promise<void> {
    if (this.#closed === undefined) {
      this.shutdown();
      this.#closed = this.#receiving.then(() => closeSync(this.#fd));
    }
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #mustBeOpen(): void {
    if (this.#closed !== undefined) throw new SocketError('socket', koffi.os.errno.EBADF ?? 9);
  }
}

/** An end of a pair: a descriptor to be inherited by a child, then disposed of in this process. */
export interface PeerDescriptor extends Disposable {
  readonly fd: number;
}

/** A connected pair, both ends closed on exec. @throws SocketError, for instance EMFILE. */
export function openSeqpacketPair(): { ours: SeqpacketSocket; peer: PeerDescriptor } {
  const [ours, peer] = openEnds();
  return { ours: new SeqpacketSocket(ours), peer: descriptor(peer) };
}

/** A connected pair for two children. @throws SocketError, for instance EMFILE. */
export function openSeqpacketPeers(): [PeerDescriptor, PeerDescriptor] {
  const [one, other] = openEnds();
  return [descriptor(one), descriptor(other)];
}

function openEnds(): [number, number] {
  const ends = [0, 0];
  if (socketpair(afUnix, sockSeqpacket | sockCloexec, 0, ends) < 0)
    throw new SocketError('socketpair', koffi.errno());
  const [one = -1, other = -1] = ends;
  return [one, other];
}

/** Owns a descriptor until it is disposed of. */
export function descriptor(fd: number): PeerDescriptor {
  let open = true;
  return {
    fd,
    [Symbol.dispose]() {
      if (open) closeSync(fd);
      open = false;
    },
  };
}
