/*
 * Preloaded into CRIU before the tracer's library: ends CRIU by SIGKILL just before its KILL_AT-th step of a dump, where KILL_PARENT
 * is set together with its parent. A
 * step is a call that deals with what is dumped: ptrace, a wait, a message to or from the code that CRIU runs in it.
 * At its end CRIU writes the number of steps to the file KILL_COUNT, if there is one.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t owner;
static long steps;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void step(void)
{
	if (getpid() != owner)
		return;
	const char *at = getenv("KILL_AT");
	if (++steps != (at ? atol(at) : 0))
		return;
	if (getenv("KILL_PARENT"))
		kill(getppid(), SIGKILL);
	kill(owner, SIGKILL);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list list;
	va_start(list, request);
	long pid = va_arg(list, long), address = va_arg(list, long), data = va_arg(list, long);
	va_end(list);
	if (request == PTRACE_SEIZE && owner == 0)
		owner = getpid();
	step();
	return NEXT(ptrace)(request, pid, address, data);
}

pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
	step();
	return NEXT(wait4)(pid, status, options, usage);
}

ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
	step();
	return NEXT(send)(fd, bytes, length, flags);
}

ssize_t recv(int fd, void *bytes, size_t length, int flags)
{
	step();
	return NEXT(recv)(fd, bytes, length, flags);
}

int accept(int fd, struct sockaddr *address, socklen_t *length)
{
	step();
	return NEXT(accept)(fd, address, length);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	step();
	return NEXT(sendmsg)(fd, message, flags);
}

__attribute__((destructor)) static void report(void)
{
	const char *path = getenv("KILL_COUNT");
	FILE *file = path && getpid() == owner ? fopen(path, "we") : NULL;
	if (!file)
		return;
	fprintf(file, "%ld\n", steps);
	fclose(file);
}
