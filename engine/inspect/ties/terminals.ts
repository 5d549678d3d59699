/** Terminals of which one end is outside of the tree, and sessions that somebody outside leads. */
import type { Finding } from '../../../api/types.ts';
import { endKey, type Facts, type ProcessFacts } from '../facts.ts';
import { descriptorsOf, named, namedPid, ownerOutside, type Rule } from '../rule.ts';

export const terminals: Rule = (facts) => [...slaves(facts), ...masters(facts), ...aliases(facts)];

/** A terminal that the tree uses and somebody outside shows. */
export interface OuterTerminal {
  key: string;
  process: ProcessFacts;
  controlling: boolean;
  /** By which it can be looked at; undefined where the tree has it as its controlling terminal only. */
  path: string | undefined;
}

/** One a terminal: a shell and all it runs have the same one. */
export function outerTerminals(facts: Facts): OuterTerminal[] {
  const inside = new Set(descriptorsOf(facts).map(({ descriptor }) => endKey(descriptor)));
  const users = new Map<string, OuterTerminal>();
  for (const process of facts.processes) {
    for (const each of process.descriptors) {
      if (each.kind !== 'terminal' || each.end !== 'slave' || users.get(each.key)?.path !== undefined)
        continue;
      const controlling = users.get(each.key)?.controlling ?? false;
      users.set(each.key, {
        key: each.key,
        process,
        controlling,
        path: `/proc/${process.pid}/fd/${each.fd}`,
      });
    }
    const { terminal: key } = process;
    if (key === undefined || users.get(key)?.controlling === true) continue;
    users.set(key, { key, process, controlling: true, path: users.get(key)?.path });
  }
  // Where nobody has the master the terminal has been closed, and comes back closed.
  return [...users.values()].filter(
    ({ key }) => !inside.has(`master:${key}`) && ownerOutside(facts, `master:${key}`) !== undefined,
  );
}

const slaves: Rule = (facts) => {
  const all = outerTerminals(facts);
  return all.flatMap((terminal) => slave(facts, terminal, all.length));
};

function slave(facts: Facts, { key, process, controlling }: OuterTerminal, count: number): Finding[] {
  const owner = ownerOutside(facts, `master:${key}`);
  if (owner === undefined || owner === 'stranger') return [];
  if (!facts.isCapsule && count === 1) {
    return [
      {
        tie: 'terminal',
        verdict: 'handled',
        by: 'engine',
        pid: process.pid,
        what: `${named(process)} ${controlling ? 'runs in' : 'has open'} a terminal of ${named(owner)}.`,
        hint: 'It comes back in a terminal of its own: `torpor attach`.',
      },
    ];
  }
  return [
    {
      tie: 'terminal',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} ${controlling ? 'runs in' : 'has open'} a terminal of ${named(owner)}, which is outside.`,
      hint: facts.isCapsule
        ? 'End it and try again.'
        : 'It uses several terminals; only one can come back. Close the others and try again.',
    },
  ];
}

const masters: Rule = (facts) => {
  const seen = new Set<string>();
  return descriptorsOf(facts).flatMap(({ process, descriptor }): Finding[] => {
    if (descriptor.kind !== 'terminal' || descriptor.end !== 'master' || seen.has(descriptor.key)) return [];
    seen.add(descriptor.key);
    const owner = ownerOutside(facts, `slave:${descriptor.key}`);
    if (owner === undefined || owner === 'stranger') return [];
    return [
      {
        tie: 'terminal',
        verdict: 'blocking',
        by: '',
        pid: process.pid,
        what: `${named(process)} shows a terminal in which ${named(owner)} runs, which is outside.`,
        hint: `Wait until ${owner.name} has ended, or end it, and try again.`,
      },
    ];
  });
};

/**
 * A terminal that is open as /dev/tty. That of a job it comes back in: it is given the one in place of the other. Of any
 * other CRIU 4.2 saves it only for the process that it met the terminal with first (`ctty inheritance detected`), which
 * under a terminal emulator is the emulator.
 */
const aliases: Rule = (facts) => {
  const given = facts.isCapsule ? undefined : outerTerminals(facts)[0]?.key;
  return facts.processes.flatMap((process): Finding[] => {
    if (!process.descriptors.some(({ target }) => target === '/dev/tty')) return [];
    if (given !== undefined && process.terminal === given) return [];
    const first = facts.processes.find(({ descriptors }) =>
      descriptors.some((each) => each.kind === 'terminal' && each.key === process.terminal),
    );
    if (given === undefined && (first === undefined || first.pid === process.pid)) return [];
    return [
      {
        tie: 'terminal',
        verdict: 'blocking',
        by: '',
        pid: process.pid,
        what: `${named(process)} has its terminal open by the name /dev/tty, which cannot be saved.`,
        hint: `End ${process.name} and try again. Pagers that read from a pipe do this, and the shell dash; bash does not.`,
      },
    ];
  });
};

/**
 * CRIU makes a session anew with its leader; one that is led from outside it cannot. What a job's first process is in
 * is led by the room that it comes back in.
 */
export const sessions: Rule = (facts) => {
  const inside = new Set(facts.processes.map(({ pid }) => pid));
  const first = facts.processes.find(({ pid }) => pid === facts.root);
  const led = facts.processes.find(
    ({ session }) => !inside.has(session) && (session === 0 || facts.names.has(session)) && !isOfJob(session),
  );
  if (led === undefined) return [];
  const leader = led.session === 0 ? 'a process that cannot be seen' : namedPid(facts, led.session);
  return [
    {
      tie: 'session',
      verdict: 'blocking',
      by: '',
      pid: led.pid,
      what: `${named(led)} belongs to a session that ${leader} leads, which is outside.`,
      hint:
        led.session === 0 ? 'Start it again in a session of its own, as by setsid.' : 'End it and try again.',
    },
  ];

  function isOfJob(session: number): boolean {
    return !facts.isCapsule && session !== 0 && session === first?.session;
  }
};
