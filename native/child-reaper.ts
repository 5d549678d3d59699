/**
 * Reaping processes that libuv does not know: the inits of capsules, which become children of the engine when the
 * program that made them ends. Until a process is reaped its pid stays taken. prctl(2) and waitpid(2) through koffi.
 */
import koffi from 'koffi';

const setChildSubreaper = 36;
const noHang = 1;

type Bound = ReturnType<ReturnType<typeof koffi.load>['func']>;

let bindings: { prctl: Bound; waitpid: Bound } | undefined;

function libc() {
  if (bindings === undefined) {
    const library = koffi.load('libc.so.6');
    bindings = {
      prctl: library.func('int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)'),
      waitpid: library.func('int waitpid(int, void *, int)'),
    };
  }
  return bindings;
}

/** From here on orphans below this process become its children instead of the host's init's, which may be slow. */
export function becomeSubreaper(): void {
  libc().prctl(setChildSubreaper, 1, 0, 0, 0);
}

/**
 * Reaps this process if it is a child of ours and has ended; otherwise nothing. Must not be given a child that Node
 * itself started, whose status would be lost to it.
 */
export function reapChild(pid: number): void {
  libc().waitpid(pid, null, noHang);
}
