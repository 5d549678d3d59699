/*
 * torpor-socketpairs: pairs of connected unix sockets for workloads that are resumed together. Usage: torpor-socketpairs
 * PLAN, with a plan (criu-plugin/plan.h) whose sockets belong together two by two, each with what it has to read yet.
 * Prints the descriptors, in the order of the plan, and keeps them open until its standard input ends, for the engine to
 * take.
 */
#include "common.h"
#include "criu-plugin/identity.h"
#include "criu-plugin/plan.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define QUEUE_ROOM (64 * 1024 * 1024)

static struct own_identity self;

static void act_as(const struct socket_plan *entry)
{
	if (become(entry->uid, entry->gid, entry->groups, entry->group_count) < 0)
		die_with_error("acting as user %u", (unsigned int)entry->uid);
}

static bool is_same_user(const struct socket_plan *one, const struct socket_plan *other)
{
	return one->uid == other->uid && one->gid == other->gid;
}

/* One connects as the one user and the other accepts as the other, so that each is told the truth about the other. */
static void connect_users(const struct socket_plan *one, const struct socket_plan *other, int ends[2])
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t length = sizeof(address);
	act_as(other);
	CLEANUP_FD int listener = socket(AF_UNIX, other->type | SOCK_CLOEXEC, 0);
	/* Without a name it gets an abstract one that nobody has. */
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address.sun_family)) < 0 ||
	    listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)&address, &length) < 0)
		die_with_error("making a listening socket");
	return_to(&self);
	act_as(one);
	ends[0] = socket(AF_UNIX, one->type | SOCK_CLOEXEC, 0);
	if (ends[0] < 0 || connect(ends[0], (struct sockaddr *)&address, length) < 0)
		die_with_error("connecting a socket");
	return_to(&self);
	ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (ends[1] < 0)
		die_with_error("accepting a socket");
	/* Its name was to be seen by all: another may have been quicker. */
	struct ucred found;
	length = sizeof(found);
	if (getsockopt(ends[1], SOL_SOCKET, SO_PEERCRED, &found, &length) < 0 || found.pid != getpid())
		die("a stranger has connected to the socket of a session");
}

static void fill_queue(int sender, const struct socket_plan *reader)
{
	int room = QUEUE_ROOM;
	if (reader->packet_count > 0 && setsockopt(sender, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0)
		die_with_error("making room in the queue of a socket");
	for (size_t index = 0; index < reader->packet_count; index++) {
		const struct bytes *packet = &reader->packets[index];
		ssize_t sent = RETRY(send(sender, packet->data, packet->length, MSG_DONTWAIT | MSG_NOSIGNAL));
		if (sent != (ssize_t)packet->length)
			die_with_error("putting %zu bytes back into the queue of a socket", packet->length);
	}
}

static void make_pair(const struct socket_plan *one, const struct socket_plan *other, int ends[2])
{
	if (one->type == SOCK_DGRAM || is_same_user(one, other)) {
		act_as(one);
		if (socketpair(AF_UNIX, one->type | SOCK_CLOEXEC, 0, ends) < 0)
			die_with_error("making a pair of sockets");
		return_to(&self);
	} else {
		connect_users(one, other, ends);
	}
	fill_queue(ends[1], one);
	fill_queue(ends[0], other);
}

int main(int argc, char **argv)
{
	struct plan *plan = argc == 2 ? read_plan(argv[1]) : NULL;
	if (plan == NULL || plan->count % 2 != 0)
		die("no plan of sockets was given");
	if (remember_identity(&self) < 0)
		die_with_error("reading the groups of this process");
	for (size_t index = 0; index < plan->count; index += 2) {
		int ends[2];
		if (plan->sockets[index].type != plan->sockets[index + 1].type)
			die("two sockets of different types cannot be connected");
		make_pair(&plan->sockets[index], &plan->sockets[index + 1], ends);
		printf("%s%d %d", index == 0 ? "" : " ", ends[0], ends[1]);
	}
	printf("\n");
	fflush(stdout);
	char end;
	while (RETRY(read(STDIN_FILENO, &end, 1)) > 0)
		;
	return 0;
}
