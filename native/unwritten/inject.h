/* Has a running process make a userfaultfd for us, as nobody else can make one for its memory. */
#ifndef TORPOR_INJECT_H
#define TORPOR_INJECT_H

#include <stdint.h>
#include <sys/types.h>

/* How many filters a process has; UINT64_MAX where that is not known, or it may make hardly any system call (strict mode). */
uint64_t seccomp_filters(pid_t pid);

/*
 * Stops the first thread of a process for as long as two system calls take, and takes the descriptor from it, which it
 * does not keep. Only for a process that runs or sleeps, and that nobody traces.
 * Left alone is one that has not exactly so many seccomp filters by then, of which the caller knows what they do.
 * Returns the descriptor, or -1 with errno; then the process is as it was before.
 */
int take_userfaultfd(pid_t pid, uint64_t filters);

#endif
