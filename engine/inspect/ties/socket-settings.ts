/** What sockets are set to, of what CRIU 4.2 refuses to save or forgets. */
import type { Finding } from '../../../api/types.ts';
import { descriptorKey, type SocketSetting } from '../facts.ts';
import { descriptorsOf, named, oncePerProcess, type Rule, soon } from '../rule.ts';

type Meaning = Pick<Finding, 'tie' | 'verdict' | 'by' | 'hint'> & { words: string };

const blocking = { verdict: 'blocking', by: '' } as const;

const meanings: Readonly<Record<SocketSetting, Meaning>> = {
  cork: {
    ...blocking,
    tie: 'internet-socket',
    words: 'is just putting together a datagram (UDP_CORK), which cannot be saved',
    hint: soon,
  },
  filter: {
    ...blocking,
    tie: 'socket',
    words: 'has a program in the kernel that filters what arrives at a socket (eBPF), which cannot be saved',
    hint: 'Stop what it uses the socket for, or end it, and try again.',
  },
  groups: {
    ...blocking,
    tie: 'socket',
    words: 'is told by the kernel of changes of kinds that cannot be saved (netlink groups above 32)',
    hint: 'Stop what it watches, or end it, and try again.',
  },
  multicast: {
    tie: 'internet-socket',
    verdict: 'degraded',
    by: 'criu',
    words: 'receives what is sent to groups on the network (multicast)',
    hint: 'After the resume it receives that no more; what it looks for in the network it may find only when it is started again.',
  },
};

export const socketSettings: Rule = (facts) =>
  (Object.keys(meanings) as SocketSetting[]).flatMap((setting) => {
    const { words, ...meaning } = meanings[setting];
    const tied = descriptorsOf(facts).flatMap(({ process, descriptor }) =>
      facts.hidden.settings.get(descriptorKey(process.pid, descriptor.fd))?.has(setting)
        ? [{ process, what: '' }]
        : [],
    );
    return oncePerProcess(
      tied,
      (process): Finding => ({ ...meaning, pid: process.pid, what: `${named(process)} ${words}.` }),
    );
  });
