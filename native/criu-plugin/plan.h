/* The engine's plan for unix sockets whose other end is not dumped with them, as engine/sockets/plan.ts writes it. */
#ifndef TORPOR_CRIU_PLUGIN_PLAN_H
#define TORPOR_CRIU_PLUGIN_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Stands for all sockets that have no line of their own. */
#define ANY_SOCKET 0u

enum socket_action { ACTION_BLOCK, ACTION_HANG_UP, ACTION_RECONNECT, ACTION_MEET, ACTION_GIVEN };

struct bytes {
	unsigned char *data;
	size_t length;
};

struct socket_plan {
	/* Where the plan says how it went: four characters of the file, seen by the engine. */
	char *outcome;
	unsigned int inode;
	enum socket_action action;
	/* SOCK_STREAM and so on. */
	int type;
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	size_t group_count;
	/* Its own name, with the permissions of its file, and where it connects to. */
	struct bytes own;
	mode_t mode;
	struct bytes address;
	/* With ACTION_GIVEN: which descriptor of CRIU's it is, and where it is kept. */
	int fd;
	int store_id;
	struct bytes *packets;
	size_t packet_count;
};

struct plan {
	char *mapping;
	size_t length;
	struct socket_plan *sockets;
	size_t count;
};

/* Maps and reads the file. @returns NULL where it is not there or is not a plan. */
struct plan *read_plan(const char *path);
void free_plan(struct plan *plan);

struct socket_plan *find_socket(struct plan *plan, unsigned int inode);

/* Writes down that it was made, or, with an errno, that it could not be connected and is hung up. */
void set_outcome(const struct socket_plan *entry, int error);

#endif
