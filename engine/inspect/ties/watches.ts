/** Watches of files and of descriptors: inotify, fanotify, epoll. */
import type { Finding } from '../../../api/types.ts';
import { descriptorKey, type Facts } from '../facts.ts';
import { descriptorsOf, list, named, oncePerProcess, type Rule, soon } from '../rule.ts';

export const watches: Rule = (facts) => [
  ...files(facts),
  ...unfindable(facts),
  ...untold(facts),
  ...escaped(facts),
];

const isWatch = (type: string) => type === 'inotify' || type === 'fanotify';

function watchesOf(facts: Facts) {
  return descriptorsOf(facts).filter(
    ({ descriptor }) => descriptor.kind === 'kernel-object' && isWatch(descriptor.type),
  );
}

const files: Rule = (facts) =>
  oncePerProcess(
    watchesOf(facts)
      .filter(({ process, descriptor }) => !facts.hidden.lost.has(descriptorKey(process.pid, descriptor.fd)))
      .map(({ process }) => ({ process, what: '' })),
    (process): Finding => ({
      tie: 'watch',
      verdict: 'handled',
      by: 'criu',
      pid: process.pid,
      what: `${named(process)} watches files for changes (inotify or fanotify); it watches them again after the resume.`,
      hint: 'It is not told of what changes while it is suspended.',
    }),
  );

/** CRIU asks for a file by its handle, which some file systems do not answer. */
const unfindable: Rule = (facts) => {
  const tied = watchesOf(facts).flatMap(({ process, descriptor }) =>
    (facts.hidden.lost.get(descriptorKey(process.pid, descriptor.fd)) ?? []).map((type) => ({
      process,
      what: type,
    })),
  );
  return oncePerProcess(
    tied,
    (process, types): Finding => ({
      tie: 'watch',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} watches something for changes on a file system where it cannot be found again (${list(types)}).`,
      hint: 'Close the window or setting in which it shows that, or end it, and try again.',
    }),
  );
};

const untold: Rule = (facts) =>
  oncePerProcess(
    watchesOf(facts)
      .filter(({ process, descriptor }) => facts.hidden.unread.has(descriptorKey(process.pid, descriptor.fd)))
      .map(({ process }) => ({ process, what: '' })),
    (process): Finding => ({
      tie: 'watch',
      verdict: 'degraded',
      by: 'criu',
      pid: process.pid,
      what: `${named(process)} has not read yet which of the files it watches have changed.`,
      hint: 'It is not told of these changes after the resume; a moment later it may have read them.',
    }),
  );

/** What epoll watches lives on when it is closed but on its way to another process; CRIU finds only what is open. */
const escaped: Rule = (facts) => {
  const open = new Set(
    descriptorsOf(facts).flatMap(({ descriptor }) =>
      descriptor.kind === 'socket' || descriptor.kind === 'pipe' ? [descriptor.inode] : [],
    ),
  );
  const numbers = new Map(
    facts.processes.map(({ pid, descriptors }) => [pid, new Set(descriptors.map(({ fd }) => fd))]),
  );
  const tied = descriptorsOf(facts).flatMap(({ process, descriptor }) => {
    const watched = descriptor.kind === 'kernel-object' ? (descriptor.watched ?? []) : [];
    const isLost = watched.some(
      (each) =>
        each.kind === 'descriptor' && !open.has(each.inode) && !numbers.get(process.pid)?.has(each.fd),
    );
    return isLost ? [{ process, what: '' }] : [];
  });
  return oncePerProcess(
    tied,
    (process): Finding => ({
      tie: 'watch',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} waits for something (epoll) that no process of it has open any more.`,
      hint: soon,
    }),
  );
};
