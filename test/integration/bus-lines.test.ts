/** Connections to a session bus, a real one that is started anew while the program is suspended. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Finding, Snapshot, Workload } from '../../api/types.ts';
import { findInstallation } from '../../engine/installation.ts';
import { BusTime, learnBus, startBusLine } from '../../engine/sockets/buslines.ts';
import { restoreSockets } from '../../engine/sockets/sockets.ts';
import { type BusSocket, manifestSchema } from '../../proto/manifest.ts';
import { isThere, TestEngine } from '../support/engine.ts';
import { end } from '../support/programs.ts';
import { canCheckpoint } from './criu-fixture.ts';

const run = promisify(execFile);
/** The system's, which has the bindings of D-Bus. */
const python = '/usr/bin/python3';
const fixture = new URL('../fixtures/bus_client.py', import.meta.url).pathname;
const name = 'io.github.torpor.Test';

let engine: TestEngine;
let folder: string;
let address: string;
const started: ChildProcess[] = [];

beforeAll(async () => {
  engine = await TestEngine.create();
});
afterAll(() => engine[Symbol.asyncDispose]());
beforeEach(async () => {
  folder = await mkdtemp('/var/tmp/torpor-bus-');
  address = `unix:path=${join(folder, 'bus')}`;
});
afterEach(async () => {
  for (const child of started.splice(0)) await end(child);
  await rm(folder, { recursive: true, force: true });
});

async function start(command: readonly string[]): Promise<ChildProcess> {
  const [program = '', ...args] = command;
  const env = { ...process.env, DBUS_SESSION_BUS_ADDRESS: address };
  const child = spawn(program, args, { stdio: 'ignore', detached: true, cwd: '/', env });
  started.push(child);
  await once(child, 'spawn');
  return child;
}

const soon = <T>(check: () => Promise<T>) => vi.waitFor(check, { timeout: 30_000, interval: 50 });

/** @param policy what it allows and denies beyond a session bus. */
async function startBus(policy = ''): Promise<ChildProcess> {
  await rm(join(folder, 'bus'), { force: true });
  const settings = join(folder, 'bus.conf');
  await writeFile(
    settings,
    `<busconfig><include>/usr/share/dbus-1/session.conf</include><policy context="mandatory">${policy}</policy></busconfig>`,
  );
  // As in a login, nothing of whoever started this is open.
  const script = 'import os, sys; os.closerange(3, 1024); os.execvp(sys.argv[1], sys.argv[1:])';
  const command = ['dbus-daemon', `--config-file=${settings}`, '--nofork', `--address=${address}`];
  const bus = await start([python, '-c', script, ...command]);
  await soon(async () => expect(existsSync(join(folder, 'bus'))).toBe(true));
  return bus;
}

const heard = (what = folder) => readFile(join(what, 'heard'), 'utf8').catch(() => '');

async function startClient(own = name, where = folder): Promise<ChildProcess> {
  const client = await start([python, fixture, where, own]);
  await soon(async () => expect(await heard(where)).toContain('ready'));
  return client;
}

async function call(method: string, ...args: string[]): Promise<string> {
  const target = ['-a', address, '-d', name, '-o', '/client', '-m', `${name}.${method}`];
  return (await run('gdbus', ['call', ...target, ...args])).stdout.trim();
}

async function tick(text: string): Promise<void> {
  const script =
    'import dbus, dbus.lowlevel, sys; bus = dbus.SessionBus(); ' +
    'signal = dbus.lowlevel.SignalMessage("/elsewhere", sys.argv[1], "Tick"); ' +
    'signal.append(sys.argv[2]); bus.send_message(signal); bus.flush()';
  const env = { ...process.env, DBUS_SESSION_BUS_ADDRESS: address };
  await run(python, ['-c', script, name, text], { env });
  await soon(async () => expect(await heard()).toContain(`tick ${text}\n`));
}

const ofSockets = ({ findings }: { findings: Finding[] }) =>
  findings.filter(({ tie }) => tie === 'unix-socket');

async function suspend(target: string): Promise<{ id: string; findings: Finding[] }> {
  const done = await engine.json<Snapshot & { findings: Finding[] }>('suspend', target);
  return { id: done.workload, findings: ofSockets(done) };
}

const resume = async (id: string, ...options: string[]) =>
  ofSockets(await engine.json<Workload & { findings: Finding[] }>('resume', id, ...options));

/** It is who it thinks it is, hears and is heard, with descriptors, in both directions. */
async function expectWhole(mark: string, unique: string): Promise<void> {
  expect(await call('Echo', mark)).toBe(`('${mark}',)`);
  const [, own, owner] = /\('(.*)', '(.*)'\)/.exec(await call('WhoAmI')) ?? [];
  expect(own).toBe(unique);
  expect(owner).toBe(unique);
  await tick(mark);
  const script =
    'import dbus, os, sys; bus = dbus.SessionBus(); ' +
    'client = dbus.Interface(bus.get_object(sys.argv[1], "/client", introspect=False), sys.argv[1]); ' +
    'print(client.Read(dbus.types.UnixFd(open(sys.argv[2])), signature="h") + " " + ' +
    'os.fdopen(client.Write().take()).read())';
  await writeFile(join(folder, 'text'), mark);
  const env = { ...process.env, DBUS_SESSION_BUS_ADDRESS: address };
  const { stdout } = await run(python, ['-c', script, name, join(folder, 'text')], { env });
  expect(stdout.trim()).toBe(`${mark} written`);
}

async function uniqueName(): Promise<string> {
  const [, unique = ''] = /\('(.*)', /.exec(await call('WhoAmI')) ?? [];
  return unique;
}

/** Programs of ours that are at this, with a bus of this test. */
async function standers(verb = 'stand'): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((each) => /^\d+$/.test(each));
  const lines = await Promise.all(
    pids.map(async (pid) => [pid, await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')] as const),
  );
  return lines
    .filter(([, line]) => line.includes(`\0${verb}\0`) && line.includes(folder))
    .map(([pid]) => Number(pid));
}

describe.runIf(canCheckpoint)('a connection to the session bus', () => {
  it('comes back with its names and match rules to a bus that was started anew, again and again', async () => {
    const bus = await startBus();
    const client = await startClient();
    const unique = await uniqueName();
    await expectWhole('before', unique);
    const { id, findings } = await suspend(String(client.pid));
    expect(findings).toMatchObject([
      { verdict: 'degraded', by: 'engine', what: expect.stringContaining('talks to the session bus') },
    ]);
    try {
      await end(bus);
      await startBus();
      // Others have the first unique names now, also that of the client.
      for (const _each of [1, 2, 3]) await start(['gdbus', 'monitor', '-a', address, '-d', name]);
      await soon(async () =>
        expect(
          (
            await run('gdbus', [
              ...['call', '-a', address, '-d', 'org.freedesktop.DBus', '-o', '/org/freedesktop/DBus'],
              ...['-m', 'org.freedesktop.DBus.NameHasOwner', unique],
            ])
          ).stdout,
        ).toContain('true'),
      );
      expect(await resume(id)).toEqual([]);
      await expectWhole('after', unique);
      expect(await standers()).toHaveLength(1);

      // What stands between is what it is connected to now, and comes again.
      const again = await suspend(id);
      expect(again.findings).toMatchObject([{ what: expect.stringContaining('talks to the session bus') }]);
      await soon(async () => expect(await standers()).toEqual([]));
      expect(await resume(id)).toEqual([]);
      await expectWhole('once more', unique);
      expect(await heard()).not.toContain('lost');
      // Its own name has been its own all the time.
      expect((await heard()).match(/^own .*$/gm)).toEqual([`own ${unique}`]);
    } finally {
      await engine.run(['end', id]);
    }
    await soon(async () => expect(await standers()).toEqual([]));
  });

  it('is told what has come and gone meanwhile', async () => {
    await startBus();
    const elsewhere = join(folder, 'server');
    await run('mkdir', [elsewhere]);
    const server = await startClient(`${name}.Server`, elsewhere);
    const client = await startClient();
    await soon(async () => expect(await heard()).toMatch(/^server :/m));
    expect(await call('Ask', 'one')).toBe("('one',)");
    const { id } = await suspend(String(client.pid));
    try {
      await end(server);
      await startClient(`${name}.Server`, elsewhere);
      await resume(id);
      await soon(async () => expect((await heard()).match(/^server.*$/gm)).toHaveLength(3));
      const [first, none, second] = (await heard()).match(/^server.*$/gm) ?? [];
      expect(none).toBe('server ');
      expect(second).not.toBe(first);
      expect(await call('Ask', 'two')).toBe("('two',)");
    } finally {
      await engine.run(['end', id]);
    }
  });

  it('whose name another program has taken is told so', async () => {
    await startBus();
    const client = await startClient();
    const { id } = await suspend(String(client.pid));
    const elsewhere = join(folder, 'other');
    await run('mkdir', [elsewhere]);
    const other = await startClient(name, elsewhere);
    try {
      expect(await resume(id)).toMatchObject([
        { verdict: 'degraded', what: expect.stringContaining(`had the name ${name}`) },
      ]);
      await soon(async () => expect(await heard()).toContain('lost'));
      await end(other);
      await soon(async () => expect(await call('Echo', 'mine again')).toBe("('mine again',)"));
    } finally {
      await engine.run(['end', id]);
    }
  });

  it('whose name the bus does not give any more is told so', async () => {
    const bus = await startBus();
    const client = await startClient();
    const { id } = await suspend(String(client.pid));
    await end(bus);
    await startBus(`<deny own="${name}"/>`);
    try {
      expect(await resume(id)).toMatchObject([
        { verdict: 'degraded', what: expect.stringContaining('which the bus does not give it any more') },
      ]);
      await soon(async () => expect(await heard()).toContain('lost'));
    } finally {
      await engine.run(['end', id]);
    }
  });

  it('to a bus that is not there is not resumed until that is, unless its user wants it', async () => {
    const bus = await startBus();
    const client = await startClient();
    const unique = await uniqueName();
    const { id } = await suspend(String(client.pid));
    await end(bus);
    await rm(join(folder, 'bus'), { force: true });
    const reason = /could not be connected again to the bus .*connecting to/;
    const error = await engine.failure(3, 'resume', id);
    expect(error.message).toMatch(reason);
    expect(error.hint).toContain('`torpor resume --external-sockets hang-up`');
    expect((await engine.workload(id)).state).toBe('suspended');
    const second = await startBus();
    expect(await resume(id)).toEqual([]);
    await expectWhole('after', unique);

    await suspend(id);
    await end(second);
    await rm(join(folder, 'bus'), { force: true });
    expect(await resume(id, '--external-sockets', 'hang-up')).toMatchObject([
      { verdict: 'degraded', what: expect.stringMatching(reason) },
    ]);
    await engine.run(['end', id]);
    if (client.pid !== undefined && isThere(client.pid)) process.kill(client.pid, 'SIGKILL');
  });

  it('on which half a message may have been said blocks the suspend', async () => {
    const bus = await startBus();
    const script =
      'import os, socket, sys, time; os.closerange(3, 1024); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); ' +
      's.send(b"\\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\\r\\n"); s.recv(100)\n' +
      'os.mkdir(sys.argv[3])\n' +
      'while not os.path.exists(sys.argv[2]): time.sleep(0.05)\n' +
      's.sendall(b"BEGIN\\r\\nl\\1\\0\\1" + bytes(8 << 20))';
    const places = ['bus', 'go', 'greeted'].map((each) => join(folder, each));
    const speaker = await start([python, '-c', script, ...places]);
    await soon(async () => expect(existsSync(join(folder, 'greeted'))).toBe(true));
    bus.kill('SIGSTOP');
    await writeFile(join(folder, 'go'), '');
    await soon(async () =>
      expect(await readFile(`/proc/${speaker.pid}/wchan`, 'utf8')).toContain('sock_alloc_send'),
    );
    const error = await engine.failure(3, 'suspend', String(speaker.pid));
    expect(error.message).toContain('is just saying something to the session bus');
    expect(error.hint).toBe('Try again in a moment.');
    bus.kill('SIGCONT');
  });

  it('of which nothing is left where the resume fails just after it was made', async () => {
    await startBus();
    const client = await startClient();
    const { id } = await suspend(String(client.pid));
    const [snapshot] = await engine.json<Snapshot[]>('snapshots', id);
    const kept = join(engine.paths.stateDir, 'snapshots', snapshot?.id ?? '');
    const manifest = manifestSchema.parse(JSON.parse(await readFile(join(kept, 'manifest.json'), 'utf8')));
    await writeFile(join(folder, 'full'), '');
    const place = { program: findInstallation().busLines, cgroup: async () => folder };
    const never = new AbortController().signal;
    const failed = restoreSockets(
      ...([manifest, join(kept, 'images'), join(folder, 'full/scratch'), undefined, place] as const),
      undefined,
      never,
    );
    await expect(failed).rejects.toMatchObject({ code: 'ENOTDIR' });
    await soon(async () => expect(await standers()).toEqual([]));
    await resume(id);
    await engine.run(['end', id]);
  });

  it('comes back with its bus where both are suspended and resumed as one', async () => {
    const bus = await startBus();
    const client = await startClient();
    const unique = await uniqueName();
    const suspended = await engine.json<(Snapshot & { findings: Finding[] })[]>(
      'suspend',
      ...[String(bus.pid), String(client.pid)],
    );
    const ids = suspended.map(({ workload }) => workload);
    try {
      await engine.json('resume', ...ids);
      await expectWhole('after', unique);
      expect(await standers()).toEqual([]);
    } finally {
      for (const id of ids) await engine.run(['end', id]);
    }
  });
});

describe('what stands between', () => {
  const program = findInstallation().busLines;

  /** A bus that greets as one does and then says this. */
  async function falseBus(says: Buffer): Promise<Server> {
    const bus = createServer((socket) => {
      socket.on('error', () => {});
      socket.on('data', (data) => {
        const text = data.toString('latin1');
        if (text.includes('AUTH')) socket.write('OK 1234\r\n');
        if (text.includes('NEGOTIATE')) socket.write('AGREE_UNIX_FD\r\n');
        if (text.includes('Hello')) socket.write(says);
      });
    });
    bus.listen(join(folder, 'bus'));
    await once(bus, 'listening');
    return bus;
  }

  const head = (...numbers: number[]) => {
    const bytes = Buffer.alloc(16);
    bytes.set([0x6c, 1, 0, 1]);
    for (const [index, value] of numbers.entries()) bytes.writeUInt32LE(value, 4 + index * 4);
    return bytes;
  };

  it.each([
    ['of four gigabytes', head(0xffffffff, 1, 0xffffffff), 'no message'],
    ['that is none', Buffer.from('GET / HTTP/1.1\r\n\r\n'), 'no message'],
    [
      'with a field of no kind',
      Buffer.concat([head(0, 1, 8), Buffer.from('\x01\x01z\0abcd')]),
      'damaged message',
    ],
    [
      'with a text past its end',
      Buffer.concat([head(0, 1, 8), Buffer.from('\x01\x01o\0\xff\xff\xff\x7f', 'latin1')]),
      'damaged message',
    ],
    ['without end', Buffer.concat(Array.from({ length: 700_000 }, () => head(0, 1, 0))), 'says too much'],
  ])('does not take a message %s', async (_what, says, reason) => {
    const bus = await falseBus(says);
    const failed = run(program, ['learn', join(folder, 'bus')]);
    await expect(failed).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining(reason) });
    bus.close();
  });

  /** An answer to a call of ours, the first one of which is number 0. */
  const answer = (number: number, signature: string, body: Buffer) => {
    const fields = Buffer.alloc(15 + signature.length + 1);
    fields.set([5, 1, 0x75, 0]);
    fields.writeUInt32LE(0xf0000000 + number, 4);
    fields.set([8, 1, 0x67, 0, signature.length], 8);
    fields.write(signature, 13, 'latin1');
    const used = 13 + signature.length + 1;
    const message = Buffer.concat([head(body.length, 1, used), fields.subarray(0, used)]);
    message[1] = 2;
    return Buffer.concat([message, Buffer.alloc((8 - (message.length % 8)) % 8), body]);
  };
  const text = (value: string) => {
    const bytes = Buffer.alloc(Math.ceil((4 + value.length + 1) / 4) * 4);
    bytes.writeUInt32LE(value.length);
    bytes.write(value, 4, 'latin1');
    return bytes;
  };
  const sized = (body: Buffer, padding = 0) => {
    const bytes = Buffer.alloc(4 + padding);
    bytes.writeUInt32LE(body.length);
    return Buffer.concat([bytes, body]);
  };
  const greets = answer(0, 's', text(':1.0'));

  it('does not learn millions of rules', async () => {
    const rules = Buffer.concat(Array.from({ length: 1_000_000 }, () => text('x')));
    const all = answer(2, 'a{sas}', sized(Buffer.concat([text(':1'), sized(rules)]), 4));
    const bus = await falseBus(Buffer.concat([greets, answer(1, 'as', sized(Buffer.alloc(0))), all]));
    const failed = run(program, ['learn', join(folder, 'bus')], { maxBuffer: 64 * 1024 * 1024 });
    await expect(failed).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining('says too much') });
    bus.close();
  });

  it('is not waited for when the resume is called off, or for ever, also where its user has stopped it', async () => {
    const bus = await falseBus(greets);
    const place = { program, cgroup: async () => folder };
    const socket: BusSocket = {
      ...{ inode: 1, decision: 'bus', path: join(folder, 'bus'), unique: ':1.0', names: [name] },
      ...{ matches: [], known: [], rulesKnown: true },
    };
    const user = { uid: 0, gid: 0, groups: [] };
    const abort = new AbortController();
    const time = new BusTime();
    const calledOff = startBusLine(place, socket, [], user, 'x', time, abort.signal);
    const left = startBusLine(place, socket, [], user, 'x', time, new AbortController().signal);
    const isGivenUp = expect(left).rejects.toMatchObject({ message: expect.stringContaining('20 seconds') });
    const learnt = learnBus(program, join(folder, 'bus'), user, time);
    const isNotLearnt = expect(learnt).rejects.toMatchObject({
      message: expect.stringContaining('20 seconds'),
    });
    await soon(async () => expect(await standers()).toHaveLength(2));
    await soon(async () => expect(await standers('learn')).toHaveLength(1));
    for (const pid of [...(await standers()), ...(await standers('learn'))]) process.kill(pid, 'SIGSTOP');
    abort.abort(new Error('called off'));
    await expect(calledOff).rejects.toThrow('called off');
    await isGivenUp;
    await isNotLearnt;
    await soon(async () => expect(await standers('learn')).toEqual([]));
    await soon(async () => expect(await standers()).toEqual([]));
    bus.close();
  }, 60_000);

  it('does not go to where there is no bus', async () => {
    await expect(run(program, ['learn', join(folder, 'none')])).rejects.toMatchObject({ code: 1 });
    await expect(run(program, ['stand', join(folder, 'none'), 'none'])).rejects.toMatchObject({ code: 1 });
  });
});
