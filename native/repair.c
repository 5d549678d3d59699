#include "repair.h"

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>

#include "common.h"

#ifndef TCP_REPAIR
#define TCP_REPAIR 19
#endif

static bool is_in_repair(int fd)
{
	int protocol = 0, repair = 0;
	socklen_t length = sizeof(protocol);
	if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) || protocol != IPPROTO_TCP)
		return false;
	length = sizeof(repair);
	return getsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &repair, &length) == 0 && repair == 1;
}

int end_repair_mode(pid_t pid)
{
	CLEANUP_FD int process = pidfd_open(pid, 0);
	CLEANUP_FREE char *path = format_string("/proc/%d/fd", pid);
	DIR *folder = process < 0 ? NULL : opendir(path);
	if (!folder)
		return 0;
	int mended = 0, off = 0;
	for (const struct dirent *entry; (entry = readdir(folder));) {
		if (entry->d_name[0] == '.')
			continue;
		CLEANUP_FD int fd = pidfd_getfd(process, atoi(entry->d_name), 0);
		if (fd < 0 || !is_in_repair(fd))
			continue;
		if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off)))
			fprintf(stderr, "ending the repair mode of a connection of process %d: %s\n", pid, strerror(errno));
		else
			mended++;
	}
	closedir(folder);
	return mended;
}
