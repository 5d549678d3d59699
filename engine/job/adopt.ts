/** Turns a process tree that Torpor did not start into a job: what it is called, and what of it a resume must know. */
import { readFileSync, readlinkSync, statSync } from 'node:fs';
import { nearestSize } from '../../api/terminal-stream.ts';
import { windowSizeOf } from '../../native/terminal.ts';
import type { JobSpec } from '../../proto/manifest.ts';
import { findUserIfAny, type User } from '../capsule/users.ts';
import { external } from '../criu/options.ts';
import type { Facts, ProcessFacts } from '../inspect/facts.ts';
import { outerTerminals } from '../inspect/ties/terminals.ts';

/**
 * @param facts of the tree below it, which has no finding that blocks.
 * @param first the first process, as it counts itself and the leader of its session.
 */
export async function jobSpecOf(
  facts: Facts,
  process: ProcessFacts,
  first: { root: number; session: number },
): Promise<JobSpec> {
  const terminal = terminalOf(facts);
  return {
    command: process.command.length > 0 ? process.command : [process.name],
    cwd: workingFolderOf(process.pid),
    user: (await findUserIfAny(process.uid)) ?? nameless(process),
    ...first,
    ...(terminal === undefined ? {} : { terminal }),
  };
}

/** Of a user whom the machine does not know, such as one of a container or who was removed, the process itself tells. */
function nameless({ pid, uid }: ProcessFacts): User {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const numbers = (field: string) =>
    (new RegExp(`^${field}:(.*)$`, 'm').exec(status)?.[1] ?? '').split(/\s+/).filter(Boolean).map(Number);
  const [gid = uid] = numbers('Gid');
  return { uid, gid, groups: numbers('Groups'), name: String(uid), home: '/', shell: '/bin/sh' };
}

function workingFolderOf(pid: number): string {
  const link = readlinkSync(`/proc/${pid}/cwd`);
  return link.startsWith('/') ? link.replace(/ \(deleted\)$/, '') : '/';
}

function terminalOf(facts: Facts): JobSpec['terminal'] {
  const [outer] = outerTerminals(facts);
  if (outer?.path === undefined) return undefined;
  const { rdev, dev } = statSync(outer.path);
  return {
    key: external.terminal(rdev, dev),
    ...nearestSize(windowSizeOf(outer.path) ?? {}),
  };
}
