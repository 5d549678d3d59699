/*
 * System calls, not the C library's functions: those tell all threads that the library knows of, which processes that
 * CRIU has cloned are not among.
 */
#include "identity.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

int remember_identity(struct own_identity *self)
{
	self->uid = geteuid();
	self->gid = getegid();
	self->count = getgroups(GROUPS_LIMIT, self->groups);
	return self->count < 0 ? -1 : 0;
}

int become(uid_t uid, gid_t gid, const gid_t *groups, size_t count)
{
	if (syscall(SYS_setgroups, count, groups) < 0 || syscall(SYS_setresgid, -1, gid, -1) < 0)
		return -1;
	return (int)syscall(SYS_setresuid, -1, uid, -1);
}

void return_to(const struct own_identity *self)
{
	int error = errno;
	/* The user first: only root may take the groups. */
	if (syscall(SYS_setresuid, -1, self->uid, -1) < 0 ||
	    become(self->uid, self->gid, self->groups, (size_t)self->count) < 0)
		_exit(1);
	errno = error;
}
