/*
 * Preloaded into CRIU: ends CRIU by SIGKILL just before it ends the first process of what it has dumped, or where
 * KILL_AFTER is set, just after; where KILL_PARENT is set, together with its parent.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* CRIU itself, once it has taken what it dumps; what it ends before are children of its own. */
static pid_t dumper;

long ptrace(enum __ptrace_request request, ...)
{
	va_list list;
	va_start(list, request);
	long pid = va_arg(list, long), address = va_arg(list, long), data = va_arg(list, long);
	va_end(list);
	if (request == PTRACE_SEIZE)
		dumper = getpid();
	return NEXT(ptrace)(request, pid, address, data);
}

int kill(pid_t pid, int signal)
{
	if (signal != SIGKILL || getpid() != dumper)
		return NEXT(kill)(pid, signal);
	if (getenv("KILL_AFTER"))
		NEXT(kill)(pid, signal);
	if (getenv("KILL_PARENT"))
		NEXT(kill)(getppid(), SIGKILL);
	return NEXT(kill)(dumper, SIGKILL);
}
