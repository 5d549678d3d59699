/**
 * Viewers of a capsule's screen hold a connection that CRIU could not save. They are cut before a checkpoint, without
 * their help; they connect again by themselves afterwards.
 */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { TorporError } from '../../api/errors.ts';
import { runCommand } from '../command.ts';
import type { Installation } from '../installation.ts';

/** Where the X server in a capsule has its RFB socket, as the kernel shows its name. */
const socketName = '/run/torpor/screen/rfb';
/** State `SS_CONNECTED` of /proc/net/unix. */
const connected = '03';
const politeMs = 100;
const cutLimitMs = 3000;

/** Inodes of the server's ends of connections to a socket of this name, of all capsules. Pure. */
export function connectedInodes(procNetUnix: string, name: string): Set<string> {
  return new Set(
    procNetUnix
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .filter((fields) => fields[5] === connected && fields[7] === name)
      .map((fields) => fields[6] ?? ''),
  );
}

/** Which of these processes holds a connection to a socket of this name. */
export async function holderOf(name: string, pids: readonly number[]): Promise<number | undefined> {
  const inodes = connectedInodes(await readFile('/proc/net/unix', 'utf8'), name);
  if (inodes.size === 0) return undefined;
  for (const pid of pids) {
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '');
      const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
      if (inode !== undefined && inodes.has(inode)) return pid;
    }
  }
  return undefined;
}

/**
 * Ends all viewer connections of the capsule with this init and these processes, and waits until the X server has let
 * go of them.
 * @throws TorporError `failed` where it does not.
 */
export async function cutViewers(
  installation: Installation,
  init: number,
  pids: readonly number[],
  display: number,
): Promise<void> {
  const startedAt = Date.now();
  let asked = false;
  while ((await holderOf(socketName, pids)) !== undefined) {
    const passed = Date.now() - startedAt;
    if (passed > cutLimitMs) {
      throw new TorporError(
        'failed',
        'A viewer of its screen could not be disconnected.',
        'Close the windows that show it and try again.',
      );
    }
    if (!asked && passed > politeMs) {
      asked = true;
      await runCommand(installation.capsuleTool, [
        ...['exec', String(init), '--env', `DISPLAY=:${display}`, '--env', 'PATH=/usr/bin:/bin'],
        ...['--', 'vncconfig', '-disconnect'],
      ]);
    }
    await sleep(5);
  }
}
