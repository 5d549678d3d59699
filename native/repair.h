/* TCP connections that CRIU was holding in its hands when it ended. */
#ifndef TORPOR_REPAIR_H
#define TORPOR_REPAIR_H

#include <sys/types.h>

/*
 * Ends the repair mode (TCP_REPAIR, in which the kernel neither sends nor answers, and read and write fail) of all TCP
 * connections of a process. One that has gone meanwhile needs nothing. @return how many there were
 */
int end_repair_mode(pid_t pid);

#endif
