/** Locks on files, and leases. */
import type { Finding } from '../../../api/types.ts';
import type { Descriptor } from '../facts.ts';
import { named, type Rule } from '../rule.ts';
import { ownerOf } from './shared-resources.ts';

export const locks: Rule = (facts) => [
  ...own(
    ({ locked }) => locked,
    'file-lock',
    'holds file locks; it gets them back at the resume.',
    'If another process has locked the files by then, it cannot be resumed until that lets go of them.',
  )(facts),
  ...own(
    ({ leased }) => leased,
    'lease',
    'is told before others open a file (a lease); it gets the lease back at the resume.',
    'If another process has the file open by then, it cannot be resumed.',
  )(facts),
  ...inCommon(facts),
];

const own =
  (is: (descriptor: Descriptor) => boolean, tie: string, what: string, hint: string): Rule =>
  (facts) =>
    facts.processes
      .filter(({ pid, descriptors }) =>
        descriptors.some((each) => is(each) && ownerOf(facts, pid, each.fd) === undefined),
      )
      .map(
        (process): Finding => ({
          tie,
          verdict: 'handled',
          by: 'criu',
          pid: process.pid,
          what: `${named(process)} ${what}`,
          hint,
        }),
      );

/** A lock of an open file is everybody's who has that; whoever is outside would keep it, and the resume wait for it. */
const inCommon: Rule = (facts) =>
  facts.processes.flatMap((process) =>
    process.descriptors.flatMap((descriptor): Finding[] => {
      const other = descriptor.locked ? ownerOf(facts, process.pid, descriptor.fd) : undefined;
      if (other === undefined) return [];
      return [
        {
          tie: 'file-lock',
          verdict: 'blocking',
          by: '',
          pid: process.pid,
          what: `${named(process)} has the lock on ${descriptor.target} in common with ${named(other)}, which is outside.`,
          hint: `Wait until ${other.name} has ended, or end it, and try again.`,
        },
      ];
    }),
  );
