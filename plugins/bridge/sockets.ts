/**
 * Unix stream sockets that carry descriptors, which Node's own do not. One thread of libuv's pool waits for all of them
 * (epoll); everything else is done without waiting.
 */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
koffi.struct('iovec', { iov_base: 'void *', iov_len: 'size_t' });
koffi.struct('msghdr', {
  msg_name: 'void *',
  msg_namelen: 'uint32_t',
  msg_iov: 'iovec *',
  msg_iovlen: 'size_t',
  msg_control: 'void *',
  msg_controllen: 'size_t',
  msg_flags: 'int',
});
const socket = libc.func('int socket(int, int, int)');
const connect = libc.func('int connect(int, const void *, uint32_t)');
const shutdownSocket = libc.func('int shutdown(int, int)');
const sendmsg = libc.func('intptr_t sendmsg(int, const msghdr *, int)');
const recvmsg = libc.func('intptr_t recvmsg(int, _Inout_ msghdr *, int)');
const epollCreate = libc.func('int epoll_create1(int)');
const epollCtl = libc.func('int epoll_ctl(int, int, int, void *)');
const epollWait = libc.func('int epoll_wait(int, void *, int, int)');

// Numbers of the kernel's interface, the same on all architectures that Torpor runs on.
const openPath = 0o10000000;
const afUnix = 1;
const sockStream = 1;
const cloexec = 0o2000000;
const nonblock = 0o4000;
const solSocket = 1;
const scmRights = 1;
const msgDontwait = 0x40;
const msgNosignal = 0x4000;
const msgCmsgCloexec = 0x40000000;
const msgCtrunc = 8;
const shutWrite = 1;
const epollIn = 1;
const epollOut = 4;
const ctl = { add: 1, remove: 2, change: 3 } as const;
const eventsAtOnce = 32;
/** `struct epoll_event` is packed on x86-64 alone (epoll_ctl(2)). */
const eventSize = process.arch === 'x64' ? 12 : 16;
const eventDataAt = eventSize - 8;
/** Most descriptors of one message, and the control message that holds them (cmsg(3)). */
export const mostDescriptors = 16;
const controlHeader = 16;
const controlSize = controlHeader + mostDescriptors * 4;
const readSize = 64 * 1024;

export class SocketError extends Error {
  override readonly name = 'SocketError';
  constructor(call: string, errno: number) {
    super(`${call}: ${getSystemErrorName(-errno)}`);
  }
}

export interface StreamEvents {
  data(bytes: Buffer, fds: number[]): void;
  end(reason: string): void;
}

/** A connected socket. It owns the descriptors that it is given to send. */
export class DescriptorStream {
  readonly #loop: SocketLoop;
  readonly #fd: number;
  readonly #queue: { bytes: Buffer; fds: number[] }[] = [];
  #queued = 0;
  #events: StreamEvents | undefined;
  #isOpen = true;
  #isEnding = false;

  private constructor(loop: SocketLoop, fd: number) {
    this.#loop = loop;
    this.#fd = fd;
  }

  /**
   * Connects to a socket by its path, or by its abstract name with a leading zero.
   * @param isForeign the folder is another's: what is opened must not be a link, and is held, so that nothing can take
   * its place before the connection.
   * @throws SocketError, Error where it is no socket.
   */
  static connect(place: string, loop: SocketLoop, isForeign = false): DescriptorStream {
    const held = isForeign ? openSync(place, openPath | constants.O_NOFOLLOW) : undefined;
    const fd = socket(afUnix, sockStream | cloexec | nonblock, 0) as number;
    try {
      if (held !== undefined && !fstatSync(held).isSocket()) throw new Error(`${place} is no socket`);
      const path = held === undefined ? place : `/proc/self/fd/${held}`;
      const name = Buffer.from(path.startsWith('\0') ? path : `${path}\0`);
      const address = Buffer.alloc(2 + name.length);
      address.writeUInt16LE(afUnix, 0);
      name.copy(address, 2);
      if (fd < 0 || connect(fd, address, address.length) < 0) throw new SocketError('connect', koffi.errno());
    } catch (error) {
      if (fd >= 0) closeSync(fd);
      throw error;
    } finally {
      if (held !== undefined) closeSync(held);
    }
    return new DescriptorStream(loop, fd);
  }

  /** From now on what comes is told. */
  listen(events: StreamEvents): void {
    this.#events = events;
    this.#loop.add(this.#fd, this);
  }

  /** Bytes that wait to be sent. */
  get queued(): number {
    return this.#queued;
  }

  write(bytes: Buffer, fds: number[] = []): void {
    if (!this.#isOpen) {
      for (const fd of fds) closeSync(fd);
      return;
    }
    this.#queue.push({ bytes, fds });
    this.#queued += bytes.length;
    this.flush();
  }

  /** Says that nothing more comes; the end is told when the other side has let go too. */
  end(): void {
    this.#isEnding = true;
    if (this.#isOpen && this.#queue.length === 0) shutdownSocket(this.#fd, shutWrite);
  }

  close(reason = 'closed here'): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#loop.remove(this.#fd);
    closeSync(this.#fd);
    for (const { fds } of this.#queue.splice(0)) for (const fd of fds) closeSync(fd);
    this.#events?.end(reason);
  }

  /** Sends what waits, as far as the other side takes it. */
  flush(): void {
    for (let first = this.#queue[0]; first !== undefined; first = this.#queue[0]) {
      const sent = this.#send(first.bytes, first.fds);
      if (sent === undefined) return;
      this.#queued -= sent;
      for (const fd of first.fds.splice(0)) closeSync(fd);
      if (sent < first.bytes.length) first.bytes = first.bytes.subarray(sent);
      else this.#queue.shift();
    }
    if (!this.#isOpen) return;
    this.#loop.watch(this.#fd, false);
    if (this.#isEnding) shutdownSocket(this.#fd, shutWrite);
  }

  #send(bytes: Buffer, fds: readonly number[]): number | undefined {
    const control = Buffer.alloc(fds.length === 0 ? 0 : Math.ceil((controlHeader + fds.length * 4) / 8) * 8);
    if (fds.length > 0) {
      control.writeBigUInt64LE(BigInt(controlHeader + fds.length * 4), 0);
      control.writeInt32LE(solSocket, 8);
      control.writeInt32LE(scmRights, 12);
      for (const [index, fd] of fds.entries()) control.writeInt32LE(fd, controlHeader + index * 4);
    }
    const sent = Number(sendmsg(this.#fd, header(bytes, control), msgDontwait | msgNosignal));
    if (sent >= 0) return sent;
    const errno = koffi.errno();
    if (errno === koffi.os.errno.EINTR) return this.#send(bytes, fds);
    if (errno === koffi.os.errno.EAGAIN) this.#loop.watch(this.#fd, true);
    else this.close(new SocketError('sendmsg', errno).message);
    return undefined;
  }

  /** Reads what has come. */
  receive(): void {
    const bytes = Buffer.allocUnsafeSlow(readSize);
    const control = Buffer.alloc(controlSize);
    const message = header(bytes, control);
    const received = Number(recvmsg(this.#fd, message, msgDontwait | msgCmsgCloexec));
    if (received < 0) {
      const errno = koffi.errno();
      if (errno !== koffi.os.errno.EINTR && errno !== koffi.os.errno.EAGAIN)
        this.close(new SocketError('recvmsg', errno).message);
      return;
    }
    const fds = descriptorsIn(control.subarray(0, Number(message.msg_controllen)));
    if (received === 0) {
      this.close('the other side has closed it');
      return;
    }
    this.#events?.data(bytes.subarray(0, received), fds);
    if ((message.msg_flags & msgCtrunc) !== 0) this.close('more descriptors than one message may have');
  }
}

function header(bytes: Buffer, control: Buffer) {
  return {
    msg_name: null,
    msg_namelen: 0,
    msg_iov: { iov_base: bytes, iov_len: bytes.length },
    msg_iovlen: 1,
    msg_control: control.length === 0 ? null : control,
    msg_controllen: control.length,
    msg_flags: 0,
  };
}

function descriptorsIn(control: Buffer): number[] {
  const fds: number[] = [];
  for (let at = 0; at + controlHeader <= control.length; ) {
    const length = Number(control.readBigUInt64LE(at));
    if (length < controlHeader || at + length > control.length) break;
    if (control.readInt32LE(at + 8) === solSocket && control.readInt32LE(at + 12) === scmRights)
      for (let each = at + controlHeader; each + 4 <= at + length; each += 4)
        fds.push(control.readInt32LE(each));
    at += Math.ceil(length / 8) * 8;
  }
  return fds;
}

/** Waits for all sockets of the process. */
export class SocketLoop {
  readonly #epoll: number;
  readonly #streams = new Map<number, DescriptorStream>();
  readonly #events = Buffer.allocUnsafeSlow(eventsAtOnce * eventSize);
  readonly #watchingOut = new Set<number>();
  #isRunning = false;

  constructor() {
    this.#epoll = epollCreate(cloexec) as number;
  }

  add(fd: number, stream: DescriptorStream): void {
    this.#streams.set(fd, stream);
    this.#control(ctl.add, fd, epollIn);
    if (!this.#isRunning) this.#run();
  }

  remove(fd: number): void {
    if (!this.#streams.delete(fd)) return;
    this.#watchingOut.delete(fd);
    this.#control(ctl.remove, fd, 0);
  }

  /** Whether it should be told when there is room to write. */
  watch(fd: number, out: boolean): void {
    if (!this.#streams.has(fd) || this.#watchingOut.has(fd) === out) return;
    if (out) this.#watchingOut.add(fd);
    else this.#watchingOut.delete(fd);
    this.#control(ctl.change, fd, out ? epollIn | epollOut : epollIn);
  }

  #control(operation: number, fd: number, events: number): void {
    const event = Buffer.alloc(eventSize);
    event.writeUInt32LE(events, 0);
    event.writeInt32LE(fd, eventDataAt);
    epollCtl(this.#epoll, operation, fd, event);
  }

  /** Goes round as long as there are sockets; a round lasts a second at most, so that nothing keeps the process. */
  #run(): void {
    this.#isRunning = this.#streams.size > 0;
    if (!this.#isRunning) return;
    epollWait.async(this.#epoll, this.#events, eventsAtOnce, 1000, (_: Error | null, count: number) => {
      for (let index = 0; index < count; index++) {
        const events = this.#events.readUInt32LE(index * eventSize);
        const stream = this.#streams.get(this.#events.readInt32LE(index * eventSize + eventDataAt));
        if ((events & epollOut) !== 0) stream?.flush();
        if ((events & ~epollOut) !== 0) stream?.receive();
      }
      this.#run();
    });
  }
}
