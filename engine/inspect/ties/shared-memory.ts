/** Memory, semaphores and messages that processes have in common, some of them with processes outside. */
import type { Finding } from '../../../api/types.ts';
import type { Facts, Mapping, Outsider, ProcessFacts } from '../facts.ts';
import { descriptorsOf, list, named, oncePerProcess, type Rule } from '../rule.ts';

const tie = 'shared-memory';

export const sharedMemory: Rule = (facts) => [
  ...systemV(facts),
  ...withOutsiders(facts),
  ...semaphores(facts),
  ...messageQueues(facts),
];

/** The ipc namespace is saved where it is the tree's own. */
const isOwnIpc = (facts: Facts) => facts.isCapsule;

const has = (process: ProcessFacts, what: 'system-v') =>
  process.mappings.some((mapping) => mapping.kind === 'shared' && mapping.what === what);

const systemV: Rule = (facts) =>
  facts.processes
    .filter((process) => has(process, 'system-v'))
    .map((process): Finding => {
      if (isOwnIpc(facts)) {
        return {
          tie,
          verdict: 'handled',
          by: 'criu',
          pid: process.pid,
          what: `${named(process)} has System V shared memory; it is saved with all of the capsule's.`,
          hint: '',
        };
      }
      return {
        tie,
        verdict: 'blocking',
        by: '',
        pid: process.pid,
        what: `${named(process)} has System V shared memory, which any process of this machine could have too.`,
        hint: 'Start the application with `torpor run`: a capsule has shared memory of its own.',
      };
    });

function keyOf(mapping: Mapping): string | undefined {
  if (mapping.kind === 'shared') return mapping.what === 'system-v' ? undefined : mapping.key;
  return mapping.kind === 'deleted' ? mapping.key : undefined;
}

/** What is in a file that is there stays in common; other memory comes back as the tree's own. */
const withOutsiders: Rule = (facts) => {
  const mapped = facts.processes.flatMap((process) =>
    process.mappings.map((mapping) => ({ process, key: keyOf(mapping), name: nameOf(mapping) })),
  );
  const open = descriptorsOf(facts).map(({ process, descriptor }) => ({
    process,
    key: descriptor.kind === 'memory-file' ? descriptor.key : undefined,
    name: 'a file in memory (memfd)',
  }));
  const tied = [...mapped, ...open].flatMap(({ process, key, name }) => {
    const other = key === undefined ? undefined : facts.hidden.mappers.get(key);
    return other === undefined || isStranger(facts, other)
      ? []
      : [{ process, what: `${name} with ${named(other)}` }];
  });
  return oncePerProcess(
    tied,
    (process, whats): Finding => ({
      tie,
      verdict: 'degraded',
      by: 'criu',
      pid: process.pid,
      what: `${named(process)} has memory in common with a process outside: ${list(whats)}.`,
      hint: 'After the resume each has its own: neither sees what the other writes.',
    }),
  );
};

const isStranger = (facts: Facts, { pid }: Outsider) => facts.strangers.some((each) => each.pid === pid);

function nameOf(mapping: Mapping): string {
  if (mapping.kind === 'deleted') return `${mapping.path} (deleted)`;
  if (mapping.kind !== 'shared') return '';
  return mapping.what === 'anonymous' ? 'memory without a name' : 'a file in memory (memfd)';
}

const semaphores: Rule = (facts) =>
  facts.processes
    .filter(({ pid }) => facts.hidden.undo.has(pid))
    .map(
      (process): Finding => ({
        tie: 'semaphore',
        verdict: 'degraded',
        by: 'criu',
        pid: process.pid,
        what: `${named(process)} may have semaphores to give back when it ends (System V, SEM_UNDO).`,
        hint: isOwnIpc(facts)
          ? 'After the resume they keep their values, but are not given back by themselves.'
          : 'They are given back by the suspend, and not taken again by the resume.',
      }),
    );

/** Their file system is mounted nowhere that a capsule or most desktops would see. */
const messageQueues: Rule = (facts) => {
  const tied = descriptorsOf(facts).flatMap(({ process, descriptor }) =>
    descriptor.kind === 'message-queue' ? [{ process, what: descriptor.target }] : [],
  );
  return oncePerProcess(
    tied,
    (process, whats): Finding => ({
      tie: 'message-queue',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} has the POSIX message queue ${list(whats)} open, which cannot be saved.`,
      hint: 'Let it close the queue, or end it, and try again.',
    }),
  );
};
