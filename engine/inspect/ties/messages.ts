/** What a unix socket has for its reader beside bytes: descriptors, and word of who sent it (unix(7)). */
import type { Finding } from '../../../api/types.ts';
import { descriptorKey, type Facts, type InFlight } from '../facts.ts';
import { descriptorsOf, list, named, oncePerProcess, type Rule, soon } from '../rule.ts';
import { isHarmless } from './devices.ts';
import { isSavedKind } from './kernel-objects.ts';
import { socketsInFlight } from './unix-sockets.ts';

export const messages: Rule = (facts) => [...words(facts), ...carried(facts)];

const words: Rule = (facts) =>
  oncePerProcess(
    descriptorsOf(facts)
      .filter(({ process, descriptor }) => facts.hidden.words.has(descriptorKey(process.pid, descriptor.fd)))
      .map(({ process }) => ({ process, what: '' })),
    (process): Finding => ({
      tie: 'unix-socket',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} has not read yet what was sent to it over a unix socket with word of who sent it, or when.`,
      hint: soon,
    }),
  );

/** CRIU saves most of what is on its way; not what it would not save either if it had arrived. */
const carried: Rule = (facts) => {
  const tied = facts.hidden.inFlight.flatMap((each) => {
    const process = facts.processes.find(({ pid }) => pid === each.pid);
    const what = problemOf(facts, each);
    return process === undefined || what === undefined ? [] : [{ process, what }];
  });
  return oncePerProcess(
    tied,
    (process, whats): Finding => ({
      tie: 'unix-socket',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} has been sent ${list(whats)}, which it has not taken yet and which cannot be saved.`,
      hint: soon,
    }),
  );
};

function problemOf(facts: Facts, { target, device }: InFlight): string | undefined {
  if (device !== undefined) return isHarmless(device) ? undefined : `the device ${target}`;
  if (target.startsWith('anon_inode:')) {
    const type = target.slice(11).replace(/^\[(.*)\]$/, '$1');
    // Its time is asked of the process that has it open, of which there is none.
    return isSavedKind(type) && type !== 'timerfd' ? undefined : `something of the kind ${type}`;
  }
  const inode = Number(/^socket:\[(\d+)\]$/.exec(target)?.[1] ?? 0);
  const peer = facts.unixSockets.get(inode)?.peer || serverOf(facts, inode);
  return peer === 0 || isInside(facts, peer) ? undefined : 'a connection to a process outside';
}

/** Inode of the listening socket at which it waits to be accepted; 0 where it does not. */
function serverOf(facts: Facts, inode: number): number {
  if (inode === 0) return 0;
  return [...facts.unixSockets.values()].find(({ waiting }) => waiting.includes(inode))?.inode ?? 0;
}

const isInside = (facts: Facts, inode: number) =>
  socketsInFlight(facts).includes(inode) ||
  descriptorsOf(facts).some(({ descriptor }) => descriptor.kind === 'socket' && descriptor.inode === inode);
