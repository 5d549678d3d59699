/*
 * libtorpor-session.so, preloaded into CRIU where it restores the leader of a session: as soon as a process begins that
 * session it takes the terminal, as a login does, so that the children it has from then on have the terminal too
 * (/dev/tty, tty(4)). CRIU gives the terminal to the leader only when all processes are there, and a process cannot come
 * by it later. TORPOR_SESSION_LEADER is the leader's pid as it counts itself, TORPOR_SESSION_TERMINAL the terminal's path.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

pid_t setsid(void)
{
	static pid_t (*real)(void);
	if (!real)
		real = (pid_t(*)(void))dlsym(RTLD_NEXT, "setsid");
	pid_t session = real();
	const char *leader = getenv("TORPOR_SESSION_LEADER");
	const char *terminal = getenv("TORPOR_SESSION_TERMINAL");
	if (session < 0 || !leader || !terminal || strtol(leader, NULL, 10) != session)
		return session;
	/* The first terminal that a leader opens becomes that of its session. CRIU complains itself where it did not. */
	int fd = open(terminal, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	return session;
}
