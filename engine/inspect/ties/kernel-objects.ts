/** Descriptors of things that live in the kernel: CRIU saves the common ones; of the others it knows nothing. */
import type { Finding } from '../../../api/types.ts';
import { descriptorsOf, list, named, namedPid, oncePerProcess, type Rule } from '../rule.ts';

/** Those that CRIU 4.2 knows (its criu/files.c). */
const saved = new Set(['eventfd', 'eventpoll', 'timerfd', 'signalfd', 'inotify', 'fanotify', 'pidfd']);

export const isSavedKind = (type: string) => saved.has(type);

/** Memory of that kind is told of by `memory.ts`, whether it is open or not. */
const secretMemory = 'secretmem';
const words: Readonly<Record<string, string>> = {
  io_uring: 'io_uring, a queue of disk and network work in the kernel',
  'bpf-prog': 'a program in the kernel (bpf)',
  'bpf-map': 'a table in the kernel (bpf)',
  perf_event: 'performance counters of the kernel',
  userfaultfd: 'a userfaultfd',
  'kvm-vm': 'a virtual machine (kvm)',
  'kvm-vcpu': 'a virtual machine (kvm)',
  'seccomp notify': 'the decision about system calls of a process (seccomp)',
  'landlock-ruleset': 'rules about files that are not in force yet (landlock)',
  dmabuf: 'a buffer of the graphics hardware (dmabuf)',
};

export const kernelObjects: Rule = (facts) => [
  ...unknownObjects(facts),
  ...handlesOfOthers(facts),
  ...asynchronousIo(facts),
];

const unknownObjects: Rule = (facts) => {
  const tied = descriptorsOf(facts).flatMap(({ process, descriptor }) => {
    if (descriptor.kind !== 'kernel-object') return [];
    const type = descriptor.type.split(':')[0] ?? '';
    return saved.has(type) || type === secretMemory
      ? []
      : [{ process, what: words[type] ?? `a kernel object of the kind ${type}` }];
  });
  return oncePerProcess(
    tied,
    (process, whats): Finding => ({
      tie: 'kernel-object',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} has ${whats.join(' and ')}, which cannot be saved.`,
      hint: 'Start the application with `torpor run`: in a capsule it does without where it can.',
    }),
  );
};

/** A pidfd comes back if its process does. */
const handlesOfOthers: Rule = (facts) => {
  const inside = new Set(facts.processes.map(({ pid }) => pid));
  const tied = descriptorsOf(facts).flatMap(({ process, descriptor }) => {
    const pid = descriptor.kind === 'kernel-object' ? (descriptor.pid ?? 0) : 0;
    return pid <= 0 || inside.has(pid) ? [] : [{ process, what: namedPid(facts, pid) }];
  });
  return oncePerProcess(
    tied,
    (process, whats): Finding => ({
      tie: 'pidfd',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} watches ${list(whats)}, which is outside, by a pidfd.`,
      hint: 'Wait until that process has ended, or end it, and try again.',
    }),
  );
};

const asynchronousIo: Rule = (facts) =>
  facts.processes
    .filter(({ mappings }) => mappings.some(({ kind }) => kind === 'aio'))
    .map(
      (process): Finding => ({
        tie: 'aio',
        verdict: 'handled',
        by: 'criu',
        pid: process.pid,
        what: `${named(process)} reads and writes asynchronously (aio); its queue is saved.`,
        hint: '',
      }),
    );
