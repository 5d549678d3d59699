/* Acting as another user for a while, in a process of which the C library may not know all threads. */
#ifndef TORPOR_CRIU_PLUGIN_IDENTITY_H
#define TORPOR_CRIU_PLUGIN_IDENTITY_H

#include <stddef.h>
#include <sys/types.h>

#define GROUPS_LIMIT 65536

struct own_identity {
	uid_t uid;
	gid_t gid;
	gid_t groups[GROUPS_LIMIT];
	int count;
};

/* Writes down who this process acts as. @returns -1 with errno where that cannot be known. */
int remember_identity(struct own_identity *self);

/*
 * Takes on the effective identity of a user, for what the kernel notes of who connects and for what a path may lead
 * through. @returns -1 with errno where it may not, half-way perhaps.
 */
int become(uid_t uid, gid_t gid, const gid_t *groups, size_t count);

/* Goes back, and keeps errno. Ends the process where that fails: it must not go on as somebody else. */
void return_to(const struct own_identity *self);

#endif
