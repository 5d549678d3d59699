/** Real sockets; the other end is a child process that inherited it. */
import { spawn } from 'node:child_process';
import { readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Semaphore } from '../../engine/criu/semaphore.ts';
import { openSeqpacketPair, SocketError } from '../../native/seqpacket.ts';

function withChild(script: string) {
  const pair = openSeqpacketPair();
  const child = spawn('perl', ['-e', script], { stdio: ['ignore', 'ignore', 'inherit', pair.peer.fd] });
  pair.peer[Symbol.dispose]();
  return { socket: pair.ours, child };
}

/** Sends everything it gets back, a packet for a packet, until the end. */
const echo = `
  open(my $s, "+<&=", 3) or die;
  while (sysread($s, my $packet, 70000)) { syswrite($s, $packet); }
`;

const sockets = () =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
    } catch {
      return false;
    }
  }).length;

describe('SeqpacketSocket', () => {
  it('keeps packets apart', async () => {
    const { socket } = withChild(echo);
    await using _socket = socket;
    const packets = [Buffer.from('one'), Buffer.from([0]), Buffer.alloc(60_000, 7)];
    for (const packet of packets) socket.send(packet);
    for (const packet of packets) expect((await socket.receive())?.equals(packet)).toBe(true);
  });

  it('says when the other end has gone, after its last packet', async () => {
    const { socket } = withChild('open(my $s, "+<&=", 3); send($s, "last words", 0);');
    await using _socket = socket;
    expect(String(await socket.receive())).toBe('last words');
    expect(await socket.receive()).toBeUndefined();
    expect(() => socket.send(Buffer.from('x'))).toThrow(SocketError);
    expect(() => socket.send(Buffer.from('x'))).toThrow('EPIPE');
  });

  it('says so too where the other end dies with a packet unread', async () => {
    const { socket, child } = withChild('sleep 10');
    await using _socket = socket;
    socket.send(Buffer.from('never read'));
    const received = socket.receive();
    child.kill('SIGKILL');
    expect(await received).toBeUndefined();
  });

  it('can be closed under a pending receive, again and again', async () => {
    const before = sockets();
    for (let round = 0; round < 50; round++) {
      const { ours, peer } = openSeqpacketPair();
      const received = ours.receive();
      if (round % 2 === 0) await sleep(1);
      await Promise.all([ours.close(), ours.close()]);
      expect(await received).toBeUndefined();
      expect(() => ours.send(Buffer.from('x'))).toThrow('EBADF');
      peer[Symbol.dispose]();
      peer[Symbol.dispose]();
    }
    expect(sockets()).toBe(before);
  });

  it('refuses a packet longer than 64 KiB', async () => {
    const { socket } = withChild('open(my $s, "+<&=", 3); send($s, "x" x 70000, 0); sleep 10');
    await using _socket = socket;
    await expect(socket.receive()).rejects.toThrow('EMSGSIZE');
  });

  it('says so where nobody reads', async () => {
    const { ours, peer } = openSeqpacketPair();
    await using socket = ours;
    using _peer = peer;
    expect(() => {
      for (let count = 0; count < 10_000; count++) socket.send(Buffer.alloc(1000));
    }).toThrow('EAGAIN');
  });
});

describe('Semaphore', () => {
  it('lets so many in at once, the others in their order', async () => {
    const semaphore = new Semaphore(2);
    const order: string[] = [];
    let inside = 0;
    let most = 0;
    await Promise.all(
      ['a', 'b', 'c', 'd', 'e'].map(async (name) => {
        using _place = await semaphore.acquire();
        most = Math.max(most, ++inside);
        order.push(name);
        await sleep(2);
        inside--;
      }),
    );
    expect(most).toBe(2);
    expect(order).toEqual(['a', 'b', 'c', 'd', 'e']);
  });

  it('lets a waiting one give up', async () => {
    const semaphore = new Semaphore(1);
    const place = await semaphore.acquire();
    const abort = new AbortController();
    const waiting = semaphore.acquire(abort.signal);
    const next = semaphore.acquire();
    abort.abort(new Error('no more'));
    await expect(waiting).rejects.toThrow('no more');
    place[Symbol.dispose]();
    place[Symbol.dispose]();
    (await next)[Symbol.dispose]();
    using _free = await semaphore.acquire();
    await expect(semaphore.acquire(AbortSignal.abort(new Error('already')))).rejects.toThrow('already');
  });
});
