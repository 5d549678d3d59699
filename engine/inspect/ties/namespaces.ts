/** Namespaces within the tree: of one tree CRIU saves one of each kind, and nested mount namespaces. */
import type { Finding } from '../../../api/types.ts';
import { descriptorsOf, named, oncePerProcess, type Rule } from '../rule.ts';

/** CLONE_SUBNS of CRIU's namespaces.h; net it has too, but only where the root's own is saved, which a capsule's is not. */
const nestable = new Set(['mnt']);

/** A job that somebody else has put into a container: what that is made of is not the engine's to make again. */
export const containers: Rule = (facts) => {
  const root = facts.processes.find((process) => process.pid === facts.root);
  if (!facts.isContained || root === undefined) return [];
  return [
    {
      tie: 'container',
      verdict: 'blocking',
      by: '',
      pid: root.pid,
      what: `${named(root)} runs in a container that Torpor did not make.`,
      hint: 'Start the application with `torpor run` instead of in Flatpak, Snap, Docker or the like.',
    },
  ];
};

export const namespaces: Rule = (facts) => [
  ...nested(facts),
  ...otherMounts(facts),
  ...handles(facts),
  ...forChildren(facts),
];

/** A job comes back among the mounts that there are; those that only it sees nobody would make again. */
const otherMounts: Rule = (facts) =>
  facts.processes
    .filter(({ state }) => state !== 'Z' && state !== 'X')
    .filter(
      ({ namespaces: { mnt = '' } }) =>
        facts.jobMounts !== undefined && mnt !== '' && mnt !== facts.jobMounts,
    )
    .slice(0, 1)
    .map(
      (process): Finding => ({
        tie: 'namespace',
        verdict: 'blocking',
        by: '',
        pid: process.pid,
        what: `${named(process)} sees other file systems than the rest of the machine (mnt namespace), which are not saved.`,
        hint: 'Start it outside of that (`unshare`, a systemd unit with PrivateTmp and the like), or with `torpor run`.',
      }),
    );

const nested: Rule = (facts) => {
  const root = facts.processes.find((process) => process.pid === facts.root);
  if (root === undefined) return [];
  const tied = facts.processes.flatMap((process) =>
    Object.entries(process.namespaces)
      .filter(
        ([name, link]) =>
          !name.endsWith(childrenSuffix) &&
          !nestable.has(name) &&
          link !== '' &&
          link !== root.namespaces[name],
      )
      .map(([name]) => ({ process, what: name })),
  );
  return oncePerProcess(
    tied,
    (process, whats): Finding => ({
      tie: 'namespace',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} lives in a sandbox of its own (${whats.join(', ')} namespace), which cannot be saved.`,
      hint: 'Start the application with `torpor run`, or turn its own sandbox off.',
    }),
  );
};

const childrenSuffix = '_for_children';

/** It has asked for a pid namespace for its children, of which there are none yet: CRIU does not look at that, and the kernel shows no link. */
const forChildren: Rule = (facts) => {
  const inhabited = new Set(facts.processes.map(({ namespaces: { pid } }) => pid));
  return facts.processes
    .filter(({ state }) => state !== 'Z' && state !== 'X')
    .filter(
      ({ namespaces: { pid = '', [`pid${childrenSuffix}`]: next = '' } }) =>
        pid !== '' && !inhabited.has(next),
    )
    .map(
      (process): Finding => ({
        tie: 'namespace',
        verdict: 'degraded',
        by: 'criu',
        pid: process.pid,
        what: `${named(process)} is about to start its children in a sandbox of their own (pid namespace).`,
        hint: 'After the resume it starts them without.',
      }),
    );
};

/** A handle of a namespace comes back if the namespace does: it must be one of the tree's, and one that is saved. */
const handles: Rule = (facts) => {
  const own = new Set(facts.processes.flatMap((process) => Object.values(process.namespaces)));
  const tied = descriptorsOf(facts).flatMap(({ process, descriptor }) =>
    descriptor.kind === 'namespace'
      ? [{ process, what: descriptor.name, isOwn: own.has(descriptor.target) }]
      : [],
  );
  return [
    ...oncePerProcess(
      tied.filter(({ isOwn }) => !isOwn),
      (process, whats): Finding => ({
        tie: 'namespace',
        verdict: 'blocking',
        by: '',
        pid: process.pid,
        what: `${named(process)} has a handle of a sandbox that no process of it is in (${whats.join(', ')} namespace).`,
        hint: 'End what it uses the sandbox for, and try again.',
      }),
    ),
    ...oncePerProcess(
      tied.filter(({ isOwn, what }) => isOwn && what === 'net'),
      (process): Finding => ({
        tie: 'namespace',
        verdict: 'degraded',
        by: 'criu',
        pid: process.pid,
        what: `${named(process)} has a handle of its network namespace.`,
        hint: 'After the resume the handle is of a new one, without a network; the network that it uses stays the same.',
      }),
    ),
  ];
};
