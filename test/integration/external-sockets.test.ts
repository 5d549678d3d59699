/** Unix sockets to programs outside of a capsule: each decision, with the server restarted, gone, or another user's. */
import { chmod, mkdtemp, rm, symlink } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Finding } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { EchoServer, SocketClient, type SocketKind } from '../support/sockets.ts';
import { canCheckpoint } from './criu-fixture.ts';

interface WithFindings {
  findings: Finding[];
}

let engine: TestEngine;
let folder: string;
let count = 0;

beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-server-');
  await chmod(folder, 0o777);
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

const address = (name = `socket ${++count}`) => join(folder, name);
const suspend = (id: string, choice: string) =>
  engine.json<WithFindings>('suspend', id, '--external-sockets', choice);
const resume = (id: string) => engine.json<WithFindings>('resume', id);
/** A picture of the screen may be being taken, which is handled. */
const ofSockets = ({ findings }: WithFindings) =>
  findings.filter(({ tie, verdict }) => tie === 'unix-socket' && verdict !== 'handled');

describe.runIf(canCheckpoint)('external unix sockets', () => {
  it('blocks unless the caller has chosen, and names the choice', async () => {
    const path = address();
    await using _server = await EchoServer.start('stream', path);
    await using client = await SocketClient.start(engine, ['connect', 'stream', path]);
    for (const choice of [[], ['--external-sockets', 'block']]) {
      const error = await engine.failure(3, 'suspend', client.id, ...choice);
      const [finding] = error.findings?.filter(({ verdict }) => verdict === 'blocking') ?? [];
      expect(finding?.what).toContain(path);
      expect(finding?.hint).toContain('--external-sockets reconnect');
      expect(finding?.hint).toContain('--external-sockets hang-up');
    }
    expect(await client.do('send still there')).toBe('sent');
    expect(await client.do('recv')).toBe('0:still there');
  });

  it('refuses a choice that there is not', async () => {
    const outcome = await engine.run(['suspend', 'x', '--external-sockets', 'perhaps']);
    expect(outcome.code).toBe(2);
    expect(outcome.stderr).toContain('block, reconnect, hang-up');
  });

  it.each<SocketKind>(['stream', 'seqpacket', 'datagram'])(
    'connects a %s socket again to a server that was restarted',
    async (kind) => {
      const path = address();
      let server = await EchoServer.start(kind, path);
      try {
        await using client = await SocketClient.start(engine, ['connect', kind, path]);
        const options = await client.do('options');
        const suspended = await suspend(client.id, 'reconnect');
        // A datagram socket has no connection that could be missed.
        const expected = kind === 'datagram' ? [] : ['degraded'];
        const ofServer = ofSockets(suspended).filter(({ what }) => what.includes(path));
        expect(ofServer.map(({ verdict }) => verdict)).toEqual(expected);
        await server[Symbol.asyncDispose]();
        server = await EchoServer.start(kind, path);
        expect(ofSockets(await resume(client.id))).toEqual([]);
        expect(await client.do('send anew')).toBe('sent');
        expect(await client.do('recv')).toMatch(/:anew$/);
        expect(await client.do('options')).toBe(options);
      } finally {
        await server[Symbol.asyncDispose]();
      }
    },
  );

  it('connects again as the user of the application, to an abstract address of a server of another user', async () => {
    const name = `@torpor-test-${process.pid}`;
    await using _server = await EchoServer.start('stream', name, 65534);
    await using client = await SocketClient.start(engine, ['connect', 'stream', name], {
      user: 'www-data',
      uid: 33,
    });
    await suspend(client.id, 'reconnect');
    expect(ofSockets(await resume(client.id))).toEqual([]);
    expect(await client.do('send who am I')).toBe('sent');
    expect(await client.do('recv')).toBe('33:who am I');
  });

  it.each<[SocketKind, string]>([
    ['stream', 'EPIPE'],
    ['seqpacket', 'EPIPE'],
  ])('presents a %s socket as hung up, after what was still to be read', async (kind, error) => {
    const path = address();
    await using _server = await EchoServer.start(kind, path);
    await using client = await SocketClient.start(engine, ['connect', kind, path]);
    const long = 'x'.repeat(30_000);
    expect(await client.do(`send ${long}`)).toBe('sent');
    await suspend(client.id, 'hang-up');
    expect(ofSockets(await resume(client.id))).toEqual([]);
    expect(await client.do('recv')).toBe(`0:${long}`);
    expect(await client.do('recv')).toBe('EOF');
    expect(await client.do('send more')).toBe(error);
  });

  it('connects a datagram socket again without being asked to, as that of the log', async () => {
    const path = address();
    let server = await EchoServer.start('datagram', path);
    try {
      await using client = await SocketClient.start(engine, ['connect', 'datagram', path]);
      const { findings } = await engine.json<WithFindings>('suspend', client.id);
      expect(findings.find(({ what }) => what.includes(path))).toMatchObject({
        tie: 'unix-socket',
        verdict: 'handled',
        by: 'engine',
      });
      await server[Symbol.asyncDispose]();
      server = await EchoServer.start('datagram', path);
      expect(ofSockets(await resume(client.id))).toEqual([]);
      expect(await client.do('send anew')).toBe('sent');
      expect(await client.do('recv')).toMatch(/:anew$/);
    } finally {
      await server[Symbol.asyncDispose]();
    }
  });

  it('presents a datagram socket as one whose server has gone', async () => {
    const path = address();
    await using _server = await EchoServer.start('datagram', path);
    await using client = await SocketClient.start(engine, ['connect', 'datagram', path]);
    expect(await client.do('send one')).toBe('sent');
    await suspend(client.id, 'hang-up');
    await resume(client.id);
    expect(await client.do('recv')).toBe('?:one');
    expect(await client.do('send more')).toBe('ECONNREFUSED');
  });

  it('says at the resume where the server is gone', async () => {
    const path = address();
    const server = await EchoServer.start('stream', path);
    await using client = await SocketClient.start(engine, ['connect', 'stream', path]);
    await suspend(client.id, 'reconnect');
    await server[Symbol.asyncDispose]();
    const [finding] = ofSockets(await resume(client.id));
    expect(finding?.verdict).toBe('degraded');
    expect(finding?.what).toContain(`${path} (nothing answers there)`);
    expect(await client.do('recv')).toBe('EOF');
  });

  it('says what was sent to it and is lost with the old connection, and keeps datagrams', async () => {
    const path = address();
    await using _server = await EchoServer.start('stream', path);
    await using client = await SocketClient.start(engine, ['connect', 'stream', path]);
    expect(await client.do('send unread')).toBe('sent');
    const findings = ofSockets(await suspend(client.id, 'reconnect'));
    expect(findings.map(({ what }) => what).join()).toContain('had not read 8 bytes');
    await resume(client.id);
    expect(await client.do('recv')).toBe('nothing');

    const other = address();
    await using _datagrams = await EchoServer.start('datagram', other);
    await using named = await SocketClient.start(engine, ['connect', 'datagram', other]);
    expect(await named.do('send kept')).toBe('sent');
    await suspend(named.id, 'reconnect');
    await resume(named.id);
    expect(await named.do('recv')).toBe('?:kept');
    expect(await named.do('send again')).toBe('sent');
    expect(await named.do('recv')).toBe('?:again');
  });

  it('does not lend a user the rights of root for a link in the place of their socket', async () => {
    const path = address();
    const server = await EchoServer.start('stream', path, 33);
    await using client = await SocketClient.start(engine, ['connect', 'stream', path], {
      user: 'www-data',
      uid: 33,
    });
    await suspend(client.id, 'reconnect');
    await server[Symbol.asyncDispose]();
    const secret = address();
    await using _root = await EchoServer.start('stream', secret);
    await chmod(secret, 0o600);
    await rm(path);
    await symlink(secret, path);
    const [finding] = ofSockets(await resume(client.id));
    expect(finding?.what).toContain(`${path} (its user may not)`);
    expect(await client.do('send let me in')).toBe('EPIPE');
  });

  it('leaves what the server has not read with the server', async () => {
    const path = address();
    await using server = await EchoServer.start('stream', path);
    await using client = await SocketClient.start(engine, ['connect', 'stream', path]);
    server.signal('SIGSTOP');
    expect(await client.do('send while it sleeps')).toBe('sent');
    await suspend(client.id, 'hang-up');
    server.signal('SIGCONT');
    await resume(client.id);
    expect(await client.do('recv')).toBe('EOF');
  });

  it('does not wait for a server that accepts nobody', async () => {
    const path = address();
    await using server = await EchoServer.start('stream', path);
    await using client = await SocketClient.start(engine, ['connect', 'stream', path]);
    await suspend(client.id, 'reconnect');
    server.signal('SIGSTOP');
    // It is in the queue of connections, and answered when the server goes on.
    await resume(client.id);
    expect(await client.do('send patience')).toBe('sent');
    server.signal('SIGCONT');
    expect(await client.do('recv')).toBe('0:patience');
  });

  it('blocks, whatever was chosen, while a server has not accepted', async () => {
    const path = address();
    await using server = await EchoServer.start('stream', path);
    server.signal('SIGSTOP');
    await using client = await SocketClient.start(engine, ['connect', 'stream', path]);
    for (const choice of ['block', 'hang-up', 'reconnect']) {
      const error = await engine.failure(3, 'suspend', client.id, '--external-sockets', choice);
      expect(error.message).toContain(`has connected to ${path}, which has not accepted yet.`);
    }
    server.signal('SIGCONT');
    expect(await client.do('send now')).toBe('sent');
    expect(await client.do('recv')).toBe('0:now');
    await suspend(client.id, 'hang-up');
    await resume(client.id);
    expect(await client.do('recv')).toBe('EOF');
  });

  it('hangs up a client from outside, which cannot be connected again', async () => {
    const path = address();
    await using listener = await SocketClient.start(engine, ['listen', 'stream', path]);
    const socket = createConnection(path);
    socket.on('error', () => {});
    await listener.ready();
    await suspend(listener.id, 'reconnect');
    socket.destroy();
    await resume(listener.id);
    expect(await listener.do('recv')).toBe('EOF');
    expect(await listener.do('send x')).toBe('EPIPE');
  });
});
