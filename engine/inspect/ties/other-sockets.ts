/** Sockets to the kernel, and those of families that CRIU does not know. */
import type { Finding } from '../../../api/types.ts';
import type { Facts, ProcessFacts } from '../facts.ts';
import { descriptorsOf, named, type Rule, soon } from '../rule.ts';

const tie = 'socket';

/** As the kernel names the protocols that CRIU 4.2 knows (dump_socket of its sockets.c, and can_dump_ipproto). */
const known =
  /^(?:TCP|TCPv6|UDP|UDPv6|UDP-Lite|UDPLITEv6|UDPLite|RAW|RAWv6|PING|PINGv6|PACKET|NETLINK|UNIX(?:-STREAM)?)$/;

interface Family {
  words: string;
  hint: string;
}

const families: Readonly<Record<string, Family>> = {
  MPTCP: {
    words: 'a multipath TCP socket (MPTCP)',
    hint: 'Start the application with the environment variable GODEBUG=multipathtcp=0 if it is written in Go; otherwise turn MPTCP off in its settings.',
  },
  AF_VSOCK: {
    words: 'a socket to or from a virtual machine (vsock)',
    hint: 'End what it does with the virtual machine, and try again.',
  },
  ALG: {
    words: 'a socket by which the kernel encrypts for it (AF_ALG)',
    hint: 'Let it finish what it encrypts, and try again.',
  },
};

export const otherSockets: Rule = (facts) => {
  const seen = new Set<number>();
  return descriptorsOf(facts).flatMap(({ process, descriptor }): Finding[] => {
    if (descriptor.kind !== 'socket' || seen.has(descriptor.inode)) return [];
    seen.add(descriptor.inode);
    return [...toKernel(facts, process, descriptor.inode), ...unknown(facts, process, descriptor.inode)];
  });
};

function toKernel(facts: Facts, process: ProcessFacts, inode: number): Finding[] {
  const socket = facts.netlinkSockets.get(inode);
  if (socket === undefined) return [];
  if (socket.unread > 0) {
    return [
      blocking(
        process,
        `${named(process)} has not read yet what the kernel told it (netlink), which would be lost.`,
        soon,
      ),
    ];
  }
  if (socket.groups === 0 || socket.port !== 0) return [];
  return [
    blocking(
      process,
      `${named(process)} is told of changes by the kernel at a socket without an address (netlink), which cannot be saved.`,
      'End it and try again.',
    ),
  ];
}

function unknown(facts: Facts, process: ProcessFacts, inode: number): Finding[] {
  const protocol = facts.hidden.protocols.get(inode);
  if (protocol === undefined || known.test(protocol)) return [];
  const family = families[protocol] ?? {
    words: `a socket of the kind ${protocol}`,
    hint: 'Stop what it uses the socket for, and try again.',
  };
  return [blocking(process, `${named(process)} has ${family.words}, which cannot be saved.`, family.hint)];
}

const blocking = (process: ProcessFacts, what: string, hint: string): Finding => ({
  tie,
  verdict: 'blocking',
  by: '',
  pid: process.pid,
  what,
  hint,
});
