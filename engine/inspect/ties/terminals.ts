/** Terminals of which one end is outside of the tree, and sessions that somebody outside leads. */
import type { Finding } from '../../../api/types.ts';
import { endKey, type Facts, type ProcessFacts } from '../facts.ts';
import { descriptorsOf, named, namedPid, ownerOutside, type Rule } from '../rule.ts';

const jobHint =
  'Start it in a capsule with `torpor run -- xterm`; jobs of a terminal cannot be adopted by this version.';

export const terminals: Rule = (facts) => [...slaves(facts), ...masters(facts), ...aliases(facts)];

/** One finding a terminal: a shell and all it runs have the same one. */
const slaves: Rule = (facts) => {
  const inside = new Set(descriptorsOf(facts).map(({ descriptor }) => endKey(descriptor)));
  const users = new Map<string, { process: ProcessFacts; controlling: boolean }>();
  for (const process of facts.processes) {
    const open = process.descriptors.flatMap((each) =>
      each.kind === 'terminal' && each.end === 'slave' ? [each.key] : [],
    );
    for (const key of open) if (!users.has(key)) users.set(key, { process, controlling: false });
    const known = process.terminal === undefined ? undefined : users.get(process.terminal);
    if (process.terminal !== undefined && known?.controlling !== true)
      users.set(process.terminal, { process, controlling: true });
  }
  return [...users]
    .filter(([key]) => !inside.has(`master:${key}`))
    .flatMap(([key, { process, controlling }]) => slave(facts, key, process, controlling));
};

function slave(facts: Facts, key: string, process: ProcessFacts, controlling: boolean): Finding[] {
  const owner = ownerOutside(facts, `master:${key}`);
  // Where nobody has the master the terminal has been closed, and comes back closed.
  if (owner === undefined || owner === 'stranger') return [];
  return [
    {
      tie: 'terminal',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} ${controlling ? 'runs in' : 'has open'} a terminal of ${named(owner)}, which is outside.`,
      hint: facts.isCapsule ? 'End it and try again.' : jobHint,
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
 * A terminal that is open as /dev/tty. CRIU 4.2 saves that only for the process that it met the terminal with first
 * (`ctty inheritance detected`), which under a terminal emulator is the emulator.
 */
const aliases: Rule = (facts) =>
  facts.processes.flatMap((process): Finding[] => {
    if (!process.descriptors.some(({ target }) => target === '/dev/tty')) return [];
    const first = facts.processes.find(({ descriptors }) =>
      descriptors.some((each) => each.kind === 'terminal' && each.key === process.terminal),
    );
    if (first === undefined || first.pid === process.pid) return [];
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

/** CRIU makes a session anew with its leader; one that is led from outside it cannot. */
export const sessions: Rule = (facts) => {
  const inside = new Set(facts.processes.map(({ pid }) => pid));
  const led = facts.processes.find(
    ({ session }) => !inside.has(session) && (session === 0 || facts.names.has(session)),
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
      hint: facts.isCapsule ? 'End it and try again.' : jobHint,
    },
  ];
};
