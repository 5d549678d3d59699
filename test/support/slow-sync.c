/* Preloaded into an engine, for tests: it waits SLOW_SYNC_MS at each fsync(2), as on a medium with much to do. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int fsync(int fd)
{
	const char *wait = getenv("SLOW_SYNC_MS");

	if (wait)
		usleep((useconds_t)atoi(wait) * 1000);
	return (int)syscall(SYS_fsync, fd);
}
