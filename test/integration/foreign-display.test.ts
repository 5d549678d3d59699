/**
 * A desktop whose X server is display 0 and listens to the abstract socket, as most do. In a network namespace of the
 * test's own, so that neither the machine's desktop nor other tests are in the way.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { CapsuleWindow } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';

const xServer = 'Xvnc :0 -nolisten tcp -nolisten unix -rfbport -1 -SecurityTypes None -geometry 320x200';
const waiting = { timeout: 15_000, interval: 50 };

let desktop: ChildProcess;
let engine: TestEngine;

beforeAll(async () => {
  // A /tmp of its own for the lock of display 0, and a loopback for CRIU, which tries what the kernel can.
  const script = `mount -t tmpfs none /tmp && ip link set lo up && exec ${xServer}`;
  desktop = spawn('unshare', ['--net', '--mount', 'sh', '-c', script], { stdio: 'ignore' });
  const sockets = () => readFile(`/proc/${desktop.pid}/net/unix`, 'utf8');
  await vi.waitFor(async () => expect(await sockets()).toContain('@/tmp/.X11-unix/X0'), waiting);
  engine = await TestEngine.create({ prefix: ['nsenter', `--net=/proc/${desktop.pid}/ns/net`] });
});
afterAll(() => desktop.kill('SIGKILL'));
afterAll(() => engine[Symbol.asyncDispose]());

it('is not where the windows of a capsule open, before and after a resume', async () => {
  const { id } = await engine.start(['xterm', '-title', 'inside']);
  const isInside = () =>
    vi.waitFor(async () => {
      expect(await engine.json<CapsuleWindow[]>('windows', id)).toMatchObject([{ title: 'inside' }]);
    }, waiting);
  await isInside();
  await engine.json('suspend', id);
  await engine.json('resume', id);
  await isInside();
  await engine.json('end', id);
});
