/* Becoming the user that an application runs as. */
#ifndef TORPOR_IDENTITY_H
#define TORPOR_IDENTITY_H

#include <stdbool.h>
#include <sys/types.h>

struct identity {
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	size_t group_count;
};

/*
 * Gives up root for good: supplementary groups, group, user, and no_new_privs where the user is not root, since a
 * set-user-id program would else run in surroundings of the user's making. Then the capsule's system call filter.
 * Dies on any error.
 */
void become(const struct identity *identity);

#endif
