/** The inspection of real processes, each made to have one tie: what is said of it, and who is named. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import type { TorporError } from '../../api/errors.ts';
import type { Finding } from '../../api/types.ts';
import { searchDescriptors } from '../../engine/inspect/descriptors.ts';
import { endKey } from '../../engine/inspect/facts.ts';
import { reportOf } from '../../engine/inspect/inspector.ts';
import { findOutsiders } from '../../engine/inspect/outsiders.ts';
import { allProcesses, namespaceOf, readProcessLine, treeBelow } from '../../engine/inspect/proc.ts';
import { killIfThere } from '../support/engine.ts';
import { canInspect, makeInspector, root, Tie, until } from './inspect-fixture.ts';

interface Expected {
  kind: string;
  /** Nothing where the tie is nobody's business. */
  tie?: string;
  verdict?: Finding['verdict'];
  /** INSIDER and OUTSIDER stand for the two processes, FOLDER for their folder. */
  what?: string;
}

const expected: Expected[] = [
  {
    kind: 'UnixStream',
    tie: 'unix-socket',
    verdict: 'blocking',
    what: 'INSIDER talks to OUTSIDER at FOLDER/server socket é over a unix socket.',
  },
  { kind: 'UnixInside' },
  {
    kind: 'Abstract',
    tie: 'abstract-socket',
    verdict: 'degraded',
    what: 'has the abstract socket @torpor test ',
  },
  {
    kind: 'Tcp',
    tie: 'internet-socket',
    verdict: 'degraded',
    what: 'INSIDER is connected to OUTSIDER at 127.0.0.1:PORT.',
  },
  {
    kind: 'Tcp6',
    tie: 'internet-socket',
    verdict: 'degraded',
    what: 'INSIDER is connected to OUTSIDER at [::1]:PORT.',
  },
  { kind: 'TcpListen', tie: 'internet-socket', verdict: 'handled', what: 'INSIDER listens at 127.0.0.1:' },
  {
    kind: 'TcpWaiting',
    tie: 'internet-socket',
    verdict: 'degraded',
    what: 'INSIDER has not answered a connection that waits at 127.0.0.1:',
  },
  { kind: 'Raw', tie: 'internet-socket', verdict: 'handled', what: 'INSIDER has a raw socket' },
  { kind: 'Packet', tie: 'internet-socket', verdict: 'handled', what: 'INSIDER has a packet socket' },
  { kind: 'Device', tie: 'device', verdict: 'blocking', what: 'INSIDER uses FOLDER/null, whose' },
  { kind: 'Harmless' },
  { kind: 'Netlink' },
  { kind: 'Udp' },
  { kind: 'Unconnected' },
  { kind: 'IoUring', tie: 'kernel-object', verdict: 'blocking', what: 'INSIDER has io_uring' },
  { kind: 'Userfault', tie: 'kernel-object', verdict: 'blocking', what: 'INSIDER has a userfaultfd' },
  { kind: 'Aio', tie: 'aio', verdict: 'handled', what: 'INSIDER reads and writes asynchronously' },
  {
    kind: 'UserNamespace',
    tie: 'namespace',
    verdict: 'blocking',
    what: 'lives in a sandbox of its own (user namespace)',
  },
  {
    kind: 'UtsNamespace',
    tie: 'namespace',
    verdict: 'blocking',
    what: 'lives in a sandbox of its own (uts namespace)',
  },
  {
    kind: 'MountNamespace',
    tie: 'namespace',
    verdict: 'blocking',
    what: 'sees other file systems than the rest of the machine (mnt namespace)',
  },
  {
    kind: 'Traced',
    tie: 'tracing',
    verdict: 'blocking',
    what: 'INSIDER is being debugged or traced by OUTSIDER.',
  },
  {
    kind: 'Terminal',
    tie: 'terminal',
    verdict: 'handled',
    what: 'INSIDER runs in a terminal of OUTSIDER.',
  },
  {
    kind: 'TerminalWithoutDescriptor',
    tie: 'terminal',
    verdict: 'handled',
    what: 'INSIDER runs in a terminal of OUTSIDER.',
  },
  { kind: 'TerminalInside' },
  { kind: 'TerminalClosed' },
  { kind: 'TerminalHungUp' },
  {
    kind: 'MasterOnly',
    tie: 'terminal',
    verdict: 'blocking',
    what: 'INSIDER shows a terminal in which OUTSIDER runs, which is outside.',
  },
  {
    kind: 'Pipe',
    tie: 'pipe',
    verdict: 'blocking',
    what: 'INSIDER has a pipe to OUTSIDER, which is outside.',
  },
  { kind: 'PipeInside' },
  { kind: 'PipeClosed' },
  {
    kind: 'Fifo',
    tie: 'pipe',
    verdict: 'blocking',
    what: 'INSIDER has the named pipe FOLDER/named pipe to OUTSIDER, which is outside.',
  },
  {
    kind: 'DeletedFile',
    tie: 'deleted-file',
    verdict: 'handled',
    what: '2 files that are deleted but still in use are saved too (203 MiB).',
  },
  {
    kind: 'HugeDeletedFile',
    tie: 'deleted-file',
    verdict: 'blocking',
    what: 'It has a file of 5120 MiB open that is deleted',
  },
  {
    kind: 'Memfd',
    tie: 'memory-file',
    verdict: 'handled',
    what: 'INSIDER has files that lie in memory only',
  },
  { kind: 'Lock', tie: 'file-lock', verdict: 'handled', what: 'INSIDER holds file locks' },
  { kind: 'OfdLock', tie: 'file-lock', verdict: 'handled', what: 'INSIDER holds file locks' },
  {
    kind: 'Pidfd',
    tie: 'pidfd',
    verdict: 'blocking',
    what: 'INSIDER watches OUTSIDER, which is outside, by a pidfd.',
  },
  { kind: 'Session' },
];

describe.skipIf(!canInspect)('ties of real processes', () => {
  test.each(expected)('$kind: $verdict', async ({ kind, tie, verdict, what = '' }) => {
    await using held = await Tie.hold(kind);
    const findings = await held.findings();
    if (tie === undefined) {
      expect(findings).toEqual([]);
      return;
    }
    const sentence = what
      .replace('INSIDER', `insider (1) é (pid ${held.insider})`)
      .replace('OUTSIDER', `outsider (pid ${held.outsider})`)
      .replace('PORT', String(held.port))
      .replace('FOLDER', held.folder);
    const found = expect.objectContaining({
      tie,
      verdict,
      by: verdict === 'blocking' ? '' : expect.stringMatching(/^(criu|engine)$/),
      what: expect.stringContaining(sentence),
      hint: expect.any(String),
    });
    expect(findings).toContainEqual(found);
    if (what.startsWith('INSIDER')) expect(findings.map(({ pid }) => pid)).toContain(held.insider);
    for (const each of findings) {
      expect(each.tie).toBe(tie);
      if (each.verdict === 'blocking') expect(each.hint).not.toBe('');
    }
  });

  test('a connection that came to it is named by who made it', async () => {
    await using server = await Tie.hold('TcpServed');
    const connected = (await server.findings()).find(({ verdict }) => verdict === 'degraded');
    expect(connected?.what).toContain(`is connected to outsider (pid ${server.outsider}) at 127.0.0.1:`);
  });

  test('twenty processes with 500 descriptors take less than 150 ms', async () => {
    await using crowd = await Tie.hold('Crowd');
    const inspector = await makeInspector(crowd.folder);
    const times: number[] = [];
    for (let round = 0; round < 7; round++) {
      const startedAt = performance.now();
      const { facts } = await inspector.inspectPid(crowd.insider, root);
      times.push(performance.now() - startedAt);
      expect(facts.processes).toHaveLength(20);
      expect(facts.processes.flatMap(({ descriptors }) => descriptors).length).toBeGreaterThanOrEqual(500);
    }
    // The best of them: what else the machine does is not the inspection's.
    expect(Math.min(...times)).toBeLessThan(150);
    console.log(`inspection: ${times.map((time) => time.toFixed(0)).join(', ')} ms`);
  });

  test('the report names what is open', async () => {
    await using held = await Tie.hold('UnixStream');
    const report = reportOf('it', await (await makeInspector(held.folder)).inspectPid(held.insider, root));
    expect(report.target).toBe('it');
    expect(report.processes).toMatchObject([{ pid: held.insider, ppid: held.outsider, uid: 0 }]);
    expect(report.processes[0]?.command.slice(-2)).toEqual(['UnixStream', held.folder]);
    expect(report.memoryBytes).toBeGreaterThan(1024 * 1024);
    expect(report.sockets).toEqual(['unix stream established']);
    expect(report.openFiles).toContain('/dev/null');
  });
});

/** A process in a pid namespace of its own, and one that was put there from outside. */
class Guest implements AsyncDisposable {
  readonly init: number;
  readonly stranger: number;
  readonly #children: ChildProcess[];

  private constructor(children: ChildProcess[], init: number, stranger: number) {
    this.#children = children;
    this.init = init;
    this.stranger = stranger;
  }

  static async start(): Promise<Guest> {
    const unshare = spawn('unshare', ['--pid', '--fork', '--kill-child', 'setsid', 'sleep', '1000'], {
      stdio: 'ignore',
      detached: true,
    });
    const sleepBelow = (parent: ChildProcess) =>
      until(() =>
        allProcesses().find((pid) => {
          const line = readProcessLine(pid);
          return line?.ppid === parent.pid && line?.name === 'sleep';
        }),
      );
    const init = await sleepBelow(unshare);
    const nsenter = spawn('nsenter', ['--target', String(init), '--pid', 'sleep', '1000'], {
      stdio: 'ignore',
    });
    return new Guest([nsenter, unshare], init, await sleepBelow(nsenter));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = this.#children.map((child) => once(child, 'exit'));
    for (const pid of [this.stranger, this.init]) killIfThere(pid);
    await Promise.all(ended);
  }
}

describe.skipIf(!canInspect)('what is refused', () => {
  const inspect = async (pid: number, uid = 0): Promise<TorporError> => {
    const inspector = await makeInspector('/tmp');
    return inspector.inspectPid(pid, { uid }).then(
      () => Promise.reject(new Error('it was not refused')),
      (error: TorporError) => error,
    );
  };

  test('a pid that is nobody', async () => {
    expect(await inspect(4_194_303)).toMatchObject({
      code: 'not-found',
      message: 'There is no process 4194303.',
    });
  });

  test('the kernel, the machine, the engine and what it runs in', async () => {
    const thread = allProcesses().find((pid) => readProcessLine(pid)?.kernelThread);
    if (thread !== undefined) {
      expect(await inspect(thread)).toMatchObject({
        code: 'blocked',
        message: expect.stringContaining('is a part of the kernel'),
      });
    }
    expect((await inspect(1)).message).toContain("is the machine's init");
    expect((await inspect(process.pid)).message).toContain('is the engine itself');
    expect((await inspect(process.ppid)).message).toContain('is what the engine runs in');
  });

  test("another user's process, also below one of one's own", async () => {
    await using held = await Tie.hold('UnixInside');
    const error = await inspect(held.insider, 1500);
    expect(error).toMatchObject({
      code: 'not-permitted',
      message: `Process ${held.insider} (insider (1) é) belongs to another user.`,
    });
    await using mixed = await Tie.hold('ForeignChild');
    const below = await inspect(mixed.insider, 1500);
    expect(below.code).toBe('not-permitted');
    expect(below.message).toMatch(
      /\(child of root\), which runs below process \d+, belongs to another user\.$/,
    );
  });

  test('a process in the same pid namespace that is not below the root is named', async () => {
    await using guest = await Guest.start();
    expect(namespaceOf(guest.stranger, 'pid')).toBe(namespaceOf(guest.init, 'pid'));
    const { findings } = await (await makeInspector('/tmp')).inspectPid(guest.init, root);
    expect(findings).toContainEqual(
      expect.objectContaining({
        tie: 'exec',
        verdict: 'blocking',
        what: expect.stringContaining(`sleep (pid ${guest.stranger})`),
      }),
    );
  });

  test('what was started below the root since the tree was read is not outside', async () => {
    const child = spawn('sh', ['-c', 'sleep 100 | sleep 100'], { stdio: 'ignore', detached: true });
    const top = child.pid ?? 0;
    const ended = once(child, 'exit');
    try {
      const ends = await until(() => {
        const [, ...below] = treeBelow(top);
        const pipes = below.flatMap((pid) => [...searchDescriptors(pid, (target) => /^pipe:/.test(target))]);
        const own = pipes.filter(({ fd }) => fd < 2);
        return own.length === 2 ? new Map(own.map((each) => [endKey(each) ?? '', each.target])) : undefined;
      });
      const outside = async (root: number) => [
        ...(await findOutsiders(ends, root, new Set([root]))).values(),
      ];
      expect(await outside(top)).toEqual([]);
      expect(await outside(treeBelow(top).at(-1) ?? 0)).toEqual([expect.objectContaining({ name: 'sleep' })]);
    } finally {
      process.kill(-top, 'SIGKILL');
      await ended;
    }
  });

  test('processes that end meanwhile are left out', async () => {
    const child = spawn('sh', ['-c', 'while :; do /bin/true; done'], { stdio: 'ignore', detached: true });
    const ended = once(child, 'exit');
    try {
      const inspector = await makeInspector('/tmp');
      for (let round = 0; round < 20; round++) {
        const { facts } = await inspector.inspectPid(child.pid ?? 0, root);
        expect(facts.processes[0]?.pid).toBe(child.pid);
      }
    } finally {
      child.kill('SIGKILL');
      await ended;
    }
    await expect(inspect(child.pid ?? 0)).resolves.toMatchObject({ code: 'not-found' });
  });
});
