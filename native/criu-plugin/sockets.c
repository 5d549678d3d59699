/*
 * torpor-sockets.so, a plugin of CRIU's: what is to become of unix sockets whose other end is not dumped with them. The
 * engine decides, and writes a plan (engine/sockets/plan.ts) into a file that TORPOR_SOCKET_PLAN names. At a dump the
 * plugin lets CRIU take the sockets that the plan has. At a restore it makes each of them again: connected to the same
 * address, as the user it belonged to; or with its other end closed; or from a descriptor of the engine's. How it went
 * is written back into the plan.
 *
 * The declarations of CRIU's side are those of version 0.2.0 of its plugin interface, which CRIU 4.2.1 has. A plugin
 * says how many hooks it knows, so that later ones do not matter.
 */
#include "identity.h"
#include "plan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { STAGE_DUMP = 0, STAGE_RESTORE = 2 };
enum { HOOK_DUMP_UNIX_SOCKET = 0, HOOK_RESTORE_UNIX_SOCKET = 1, HOOKS };
#define PLUGIN_INTERFACE_VERSION ((0 << 16) + (2 << 8) + 0)

struct plugin_description {
	const char *name;
	int (*init)(int stage);
	void (*exit)(int stage, int result);
	unsigned int version;
	unsigned int hook_count;
	void *hooks[HOOKS];
};

/* CRIU's store of descriptors that the processes being restored can fetch. */
extern int fdstore_add(int fd) __attribute__((weak));
extern int fdstore_get(int id) __attribute__((weak));

/* A server whose queue of connections is full gets this long to accept one, and another CRIU to make its socket. */
#define CONNECT_TRIES 100
#define MEET_TRIES 1000
#define CONNECT_PAUSE_US 10000
#define QUEUE_ROOM (64 * 1024 * 1024)

static struct plan *plan;

/* Closes it and keeps errno. */
static int fail_with(int fd)
{
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

static socklen_t fill_address(struct sockaddr_un *address, const struct bytes *name)
{
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, name->data, name->length);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + name->length);
}

/* A datagram socket keeps its own name, by which others reach it. Those of connections are told by their server alone. */
static int bind_own_name(int fd, const struct socket_plan *entry)
{
	struct sockaddr_un address;
	if (entry->own.length == 0)
		return 0;
	socklen_t length = fill_address(&address, &entry->own);
	bool has_path = address.sun_path[0] != '\0';
	struct stat found;
	if (has_path && lstat(address.sun_path, &found) == 0 && S_ISSOCK(found.st_mode))
		unlink(address.sun_path);
	if (bind(fd, (struct sockaddr *)&address, length) < 0)
		return -1;
	return has_path ? chmod(address.sun_path, entry->mode & 07777) : 0;
}

static int send_packets(int fd, const struct socket_plan *entry)
{
	int room = QUEUE_ROOM;
	if (entry->packet_count > 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	for (size_t index = 0; index < entry->packet_count; index++) {
		const struct bytes *packet = &entry->packets[index];
		ssize_t sent = send(fd, packet->data, packet->length, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent != (ssize_t)packet->length)
			return -1;
	}
	return 0;
}

/* @returns the descriptor of a socket whose other end is `*other`: when that is closed, its peer has hung up. */
static int make_with_other_end(const struct socket_plan *entry, int *other)
{
	int ends[2];
	if (socketpair(AF_UNIX, entry->type | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	if (bind_own_name(ends[0], entry) < 0) {
		close(ends[1]);
		return fail_with(ends[0]);
	}
	*other = ends[1];
	return ends[0];
}

static int connect_patiently(int fd, const struct socket_plan *entry)
{
	struct sockaddr_un address;
	socklen_t length = fill_address(&address, &entry->address);
	bool meets = entry->action == ACTION_MEET;
	/* It waits for nobody for long, so that a server that hangs does not hang a resume. */
	for (int tries = 0;; tries++) {
		if (connect(fd, (struct sockaddr *)&address, length) == 0)
			return 0;
		bool may_come = errno == EAGAIN || (meets && (errno == ENOENT || errno == ECONNREFUSED));
		if (!may_come || tries == (meets ? MEET_TRIES : CONNECT_TRIES))
			return -1;
		usleep(CONNECT_PAUSE_US);
	}
}

/*
 * A datagram socket with a name gets back what it has not read yet, by that name, before it is connected: from then on
 * it takes nothing from others. To one without a name nobody could have answered.
 */
static int requeue_datagrams(const struct socket_plan *entry)
{
	struct sockaddr_un address;
	if (entry->type != SOCK_DGRAM || entry->packet_count == 0 || entry->own.length == 0)
		return 0;
	int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sender < 0)
		return -1;
	socklen_t length = fill_address(&address, &entry->own);
	if (connect(sender, (struct sockaddr *)&address, length) < 0 || send_packets(sender, entry) < 0)
		return fail_with(sender);
	close(sender);
	return 0;
}

/* @returns a socket connected anew, or -1 with errno. Its own flags it gets from CRIU. */
static int make_connected(const struct socket_plan *entry)
{
	int fd = socket(AF_UNIX, entry->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (bind_own_name(fd, entry) < 0 || requeue_datagrams(entry) < 0 || connect_patiently(fd, entry) < 0)
		return fail_with(fd);
	return fd;
}

/* Connected, or hung up: then what its peer had sent is there to be read, and after that its end. */
static int make_as_user(const struct socket_plan *entry)
{
	static struct own_identity self;
	int fd = -1, other = -1, error = 0;
	if (remember_identity(&self) < 0)
		return -1;
	bool is_user = become(entry->uid, entry->gid, entry->groups, entry->group_count) == 0;
	if (is_user && entry->action != ACTION_HANG_UP && (fd = make_connected(entry)) < 0)
		error = errno;
	if (is_user && fd < 0)
		fd = make_with_other_end(entry, &other);
	return_to(&self);
	if (fd < 0)
		return -1;
	/* As root, who may make the room in the queue that the peer had. */
	if (other >= 0) {
		bool is_sent = send_packets(other, entry) == 0;
		close(other);
		if (!is_sent)
			return fail_with(fd);
	}
	set_outcome(entry, error);
	return fd;
}

/* One end of a pair whose other end another CRIU gets. */
static int take_given(const struct socket_plan *entry)
{
	static struct own_identity self;
	int fd = fdstore_get == NULL ? -1 : fdstore_get(entry->store_id);
	if (fd < 0)
		return -1;
	if (remember_identity(&self) < 0)
		return fail_with(fd);
	bool is_bound = become(entry->uid, entry->gid, entry->groups, entry->group_count) == 0 &&
			bind_own_name(fd, entry) == 0;
	return_to(&self);
	if (!is_bound)
		return fail_with(fd);
	set_outcome(entry, 0);
	return fd;
}

static int restore_unix_socket(int inode)
{
	const struct socket_plan *entry = find_socket(plan, (unsigned int)inode);
	if (entry == NULL)
		return -ENOTSUP;
	return entry->action == ACTION_GIVEN ? take_given(entry) : make_as_user(entry);
}

/* The plan is read only now, because the engine inspects while CRIU starts. */
static int dump_unix_socket(int fd, int inode)
{
	(void)fd;
	if (plan == NULL)
		plan = read_plan(getenv("TORPOR_SOCKET_PLAN"));
	if (plan == NULL)
		return -1;
	const struct socket_plan *entry = find_socket(plan, (unsigned int)inode);
	if (entry == NULL)
		entry = find_socket(plan, ANY_SOCKET);
	return entry == NULL || entry->action == ACTION_BLOCK ? -ENOTSUP : 0;
}

static int keep_given(struct socket_plan *entry)
{
	if (entry->action != ACTION_GIVEN)
		return 0;
	if (fdstore_add == NULL)
		return -1;
	entry->store_id = fdstore_add(entry->fd);
	return entry->store_id < 0 ? -1 : 0;
}

static int begin(int stage)
{
	if (stage != STAGE_RESTORE)
		return 0;
	plan = read_plan(getenv("TORPOR_SOCKET_PLAN"));
	if (plan == NULL)
		return -1;
	for (size_t index = 0; index < plan->count; index++)
		if (keep_given(&plan->sockets[index]) < 0)
			return -1;
	return 0;
}

static void finish(int stage, int result)
{
	(void)stage;
	(void)result;
	free_plan(plan);
	plan = NULL;
}

/* The name by which CRIU finds it. */
__attribute__((visibility("default"))) struct plugin_description CR_PLUGIN_DESC = {
	.name = "torpor-sockets",
	.init = begin,
	.exit = finish,
	.version = PLUGIN_INTERFACE_VERSION,
	.hook_count = HOOKS,
	.hooks = { [HOOK_DUMP_UNIX_SOCKET] = (void *)dump_unix_socket,
		   [HOOK_RESTORE_UNIX_SOCKET] = (void *)restore_unix_socket },
};
