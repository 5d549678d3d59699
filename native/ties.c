/*
 * torpor-ties: what ties processes to others that /proc does not tell, or not without reading all of it. The questions
 * come as records on standard input, each ended by a zero byte; the answers go to standard output as lines of JSON.
 *
 *   inside PID            a process of the tree: who shares memory, descriptors, folder or signal handlers with it,
 *                         whether semaphores may have to be given back when it ends (kcmp(2)), and which of its
 *                         threads have something for themselves: descriptors, folders, namespaces, processors, a tracer
 *   socket PID FD         its protocol, as the kernel names it
 *   unread PID FD         how many bytes it has for its reader
 *   queue PID FD          of a unix socket: what comes with the first thing that it has for its reader: descriptors, and
 *                         word of who sent it or when
 *   settings PID FD       of another socket: what it is set to, of what a checkpoint does not keep
 *   handle ID TYPE HEX PATH   whether a file handle can be opened (open_by_handle_at(2)) on the file system at PATH
 *   held TARGET           who outside has a descriptor that leads there, as readlink(2) says it
 *   terminals             who outside has an end of a pseudo terminal
 *   open PID FD TARGET    who outside has the very same open file, position and locks included (kcmp(2))
 *   mapped MAJOR MINOR INODE  who outside has this in memory
 *
 * Nothing is stopped or changed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common.h"

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 4
#endif

struct open_file {
	pid_t pid;
	int fd;
	const char *target;
};

struct mapping {
	unsigned int major, minor;
	unsigned long inode;
};

/* What is asked; all of it lives until the program ends. */
static struct {
	pid_t *inside;
	size_t inside_count;
	const char **held;
	size_t held_count;
	struct open_file *open;
	size_t open_count;
	struct mapping *mapped;
	size_t mapped_count;
	bool terminals;
} asked;

/* Makes room for one more item of an array. */
static void *grow(void *items, size_t *count, size_t size)
{
	void *grown = reallocarray(items, *count + 1, size);
	if (!grown)
		die("out of memory");
	memset((char *)grown + *count * size, 0, size);
	++*count;
	return grown;
}

#define ADD(items, count) (items = grow(items, &(count), sizeof(*(items))), &(items)[(count)-1])

static void answer_socket(pid_t pid, int fd)
{
	char path[64], name[64] = "";
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
	if (getxattr(path, "system.sockprotoname", name, sizeof(name) - 1) < 0)
		return;
	printf("{\"kind\":\"protocol\",\"pid\":%d,\"fd\":%d,\"name\":", pid, fd);
	write_json_string(stdout, name);
	fputs("}\n", stdout);
}

static int copy_descriptor(pid_t pid, int fd)
{
	CLEANUP_FD int process = (int)syscall(SYS_pidfd_open, pid, 0);
	return process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, fd, 0);
}

static void answer_unread(pid_t pid, int fd)
{
	CLEANUP_FD int copy = copy_descriptor(pid, fd);
	int bytes = 0;
	if (copy < 0 || ioctl(copy, FIONREAD, &bytes) < 0)
		return;
	printf("{\"kind\":\"unread\",\"pid\":%d,\"fd\":%d,\"bytes\":%d}\n", pid, fd, bytes);
}

/* A descriptor on its way; this program has it too for this moment. */
static void answer_flight(pid_t pid, int fd, int carried)
{
	char path[64], target[PATH_MAX];
	struct stat status;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", carried);
	ssize_t length = readlink(path, target, sizeof(target) - 1);
	if (length < 0 || fstat(carried, &status) < 0)
		return;
	target[length] = '\0';
	bool is_device = S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode);
	printf("{\"kind\":\"flight\",\"pid\":%d,\"fd\":%d,\"type\":\"%s\",\"major\":%u,\"minor\":%u,\"target\":", pid, fd,
	       S_ISCHR(status.st_mode) ? "character" : S_ISBLK(status.st_mode) ? "block" : "other",
	       is_device ? major(status.st_rdev) : 0, is_device ? minor(status.st_rdev) : 0);
	write_json_string(stdout, target);
	fputs("}\n", stdout);
}

/* Looks without taking (MSG_PEEK). A socket that moves on as one looks (SO_PEEK_OFF) is left alone. */
static void answer_queue(pid_t pid, int fd)
{
	CLEANUP_FD int copy = copy_descriptor(pid, fd);
	int offset = -1;
	socklen_t size = sizeof(offset);
	if (copy < 0 || getsockopt(copy, SOL_SOCKET, SO_PEEK_OFF, &offset, &size) < 0 || offset >= 0)
		return;
	/* As many descriptors as a message can have (SCM_MAX_FD), and some words more. */
	static char control[CMSG_SPACE(253 * sizeof(int)) + 1024] __attribute__((aligned(8)));
	char byte;
	struct iovec data = {.iov_base = &byte, .iov_len = 1};
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	if (RETRY(recvmsg(copy, &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC)) < 0)
		return;
	bool has_words = false;
	for (struct cmsghdr *each = CMSG_FIRSTHDR(&message); each; each = CMSG_NXTHDR(&message, each)) {
		const int *carried = (const int *)CMSG_DATA(each);
		size_t count = (each->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		bool is_pidfd = each->cmsg_level == SOL_SOCKET && each->cmsg_type == SCM_PIDFD;
		bool is_rights = each->cmsg_level == SOL_SOCKET && each->cmsg_type == SCM_RIGHTS;
		has_words |= !is_rights;
		for (size_t index = 0; index < count && (is_pidfd || is_rights); index++) {
			if (is_rights)
				answer_flight(pid, fd, carried[index]);
			close(carried[index]);
		}
	}
	if (has_words)
		printf("{\"kind\":\"words\",\"pid\":%d,\"fd\":%d}\n", pid, fd);
}

static void answer_setting(pid_t pid, int fd, const char *what)
{
	printf("{\"kind\":\"setting\",\"pid\":%d,\"fd\":%d,\"what\":\"%s\"}\n", pid, fd, what);
}

/* Whether it is in this group on this interface: it is asked from whom it takes what is sent there. */
static bool is_member(int copy, int level, unsigned int interface, const struct sockaddr *group, socklen_t length)
{
	struct group_filter filter = {.gf_interface = interface};
	socklen_t size = GROUP_FILTER_SIZE(0);
	memcpy(&filter.gf_group, group, length);
	return getsockopt(copy, level, MCAST_MSFILTER, &filter, &size) == 0;
}

/* The groups that anybody is in are in two tables; whose they are is in none. */
static bool is_in_group(pid_t pid, int copy, int domain)
{
	char path[64], line[256], hex[33];
	bool is_v6 = domain == AF_INET6, found = false;
	unsigned int interface = 0, address;
	snprintf(path, sizeof(path), "/proc/%d/net/%s", pid, is_v6 ? "igmp6" : "igmp");
	FILE *table = fopen(path, "re");
	if (!table)
		return false;
	while (!found && fgets(line, sizeof(line), table)) {
		struct sockaddr_in v4 = {.sin_family = AF_INET};
		struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
		if (is_v6 && sscanf(line, "%u %*s %32[0-9a-f]", &interface, hex) == 2) {
			for (size_t index = 0; index < 16 && sscanf(hex + index * 2, "%2x", &address) == 1; index++)
				v6.sin6_addr.s6_addr[index] = (uint8_t)address;
			found = is_member(copy, IPPROTO_IPV6, interface, (struct sockaddr *)&v6, sizeof(v6));
		} else if (!is_v6 && line[0] != '\t') {
			(void)sscanf(line, "%u", &interface);
		} else if (!is_v6 && sscanf(line, " %8x", &address) == 1) {
			v4.sin_addr.s_addr = address;
			found = is_member(copy, IPPROTO_IP, interface, (struct sockaddr *)&v4, sizeof(v4));
		}
	}
	fclose(table);
	return found;
}

static void answer_settings(pid_t pid, int fd)
{
	CLEANUP_FD int copy = copy_descriptor(pid, fd);
	int domain = 0, protocol = 0, corked = 0;
	uint32_t groups[32] = {0};
	socklen_t size = sizeof(domain), none = 0;
	if (copy < 0 || getsockopt(copy, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0)
		return;
	size = sizeof(protocol);
	(void)getsockopt(copy, SOL_SOCKET, SO_PROTOCOL, &protocol, &size);
	/* Of a classic filter the kernel knows the text; of an eBPF one it does not (EACCES). */
	if (getsockopt(copy, SOL_SOCKET, SO_GET_FILTER, NULL, &none) < 0 && errno == EACCES)
		answer_setting(pid, fd, "filter");
	size = sizeof(groups);
	if (domain == AF_NETLINK && getsockopt(copy, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &size) == 0)
		for (size_t word = 1; word < sizeof(groups) / sizeof(groups[0]); word++)
			if (groups[word]) {
				answer_setting(pid, fd, "groups");
				break;
			}
	if ((domain != AF_INET && domain != AF_INET6) || protocol != IPPROTO_UDP)
		return;
	size = sizeof(corked);
	if (getsockopt(copy, IPPROTO_UDP, UDP_CORK, &corked, &size) == 0 && corked)
		answer_setting(pid, fd, "cork");
	if (is_in_group(pid, copy, AF_INET) || (domain == AF_INET6 && is_in_group(pid, copy, AF_INET6)))
		answer_setting(pid, fd, "multicast");
}

/* The handle as /proc/PID/fdinfo has it: hexadecimal bytes. */
static void answer_handle(unsigned int id, int type, const char *hex, const char *path)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} buffer = {.handle = {.handle_type = type}};
	size_t length = strlen(hex) / 2;
	if (length > MAX_HANDLE_SZ)
		return;
	buffer.handle.handle_bytes = (unsigned int)length;
	for (size_t index = 0; index < length; index++) {
		unsigned int byte;
		if (sscanf(hex + index * 2, "%2x", &byte) != 1)
			return;
		buffer.handle.f_handle[index] = (unsigned char)byte;
	}
	CLEANUP_FD int mount = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int error = errno;
	CLEANUP_FD int fd = mount < 0 ? -1 : open_by_handle_at(mount, &buffer.handle, O_PATH | O_CLOEXEC);
	if (mount >= 0)
		error = errno;
	printf("{\"kind\":\"handle\",\"id\":%u,\"error\":%d}\n", id, fd < 0 ? error : 0);
}

/* One record. @return false where it is none of those above. */
static bool take(char *record)
{
	int pid, fd, type, at = 0;
	unsigned int id, major_number, minor_number;
	unsigned long inode;
	char hex[2 * MAX_HANDLE_SZ + 1];
	if (sscanf(record, "inside %d%n", &pid, &at) == 1 && !record[at]) {
		*ADD(asked.inside, asked.inside_count) = pid;
	} else if (sscanf(record, "socket %d %d%n", &pid, &fd, &at) == 2 && !record[at]) {
		answer_socket(pid, fd);
	} else if (sscanf(record, "unread %d %d%n", &pid, &fd, &at) == 2 && !record[at]) {
		answer_unread(pid, fd);
	} else if (sscanf(record, "queue %d %d%n", &pid, &fd, &at) == 2 && !record[at]) {
		answer_queue(pid, fd);
	} else if (sscanf(record, "settings %d %d%n", &pid, &fd, &at) == 2 && !record[at]) {
		answer_settings(pid, fd);
	} else if (sscanf(record, "handle %u %d %256[0-9a-f] %n", &id, &type, hex, &at) == 3 && at) {
		answer_handle(id, type, hex, record + at);
	} else if (!strncmp(record, "held ", 5)) {
		*ADD(asked.held, asked.held_count) = record + 5;
	} else if (!strcmp(record, "terminals")) {
		asked.terminals = true;
	} else if (sscanf(record, "open %d %d %n", &pid, &fd, &at) == 2 && at) {
		*ADD(asked.open, asked.open_count) = (struct open_file){pid, fd, record + at};
	} else if (sscanf(record, "mapped %u %u %lu%n", &major_number, &minor_number, &inode, &at) == 3 && !record[at]) {
		*ADD(asked.mapped, asked.mapped_count) = (struct mapping){major_number, minor_number, inode};
	} else {
		return false;
	}
	return true;
}

/* The whole of standard input, with a zero byte at its end. */
static char *read_questions(size_t *length)
{
	size_t room = 65536;
	char *text = malloc(room);
	*length = 0;
	for (;;) {
		if (!text)
			die("out of memory");
		ssize_t got = RETRY(read(STDIN_FILENO, text + *length, room - *length - 1));
		if (got < 0)
			die_with_error("reading the questions");
		if (got == 0)
			break;
		*length += (size_t)got;
		if (room - *length < 2)
			text = realloc(text, room *= 2);
	}
	text[*length] = '\0';
	return text;
}

static const struct {
	int type;
	const char *name;
} resources[] = {
	{KCMP_VM, "memory"},
	{KCMP_FILES, "descriptors"},
	{KCMP_FS, "folder"},
	{KCMP_SIGHAND, "handlers"},
};

static int kcmp(pid_t a, pid_t b, int type, unsigned long a_index, unsigned long b_index)
{
	return (int)syscall(SYS_kcmp, a, b, type, a_index, b_index);
}

static int compared;
/* The kernel's order, which is total: 1 is less, 2 is greater. All that have nothing, as they end, are the same. */
static int in_order(const void *a, const void *b)
{
	int result = kcmp(*(const pid_t *)a, *(const pid_t *)b, compared, 0, 0);
	return result == 1 ? -1 : result == 2 ? 1 : 0;
}

/* linux/sched.h: what a process that ends has given back already, and what the kernel's own threads never had. */
#define PF_EXITING 0x4UL
#define PF_KTHREAD 0x200000UL

/* Asked after the comparison: a process is marked as ending before it gives anything back. */
static bool has_resources(pid_t pid)
{
	char line[1024];
	CLEANUP_FREE char *path = format_string("/proc/%d/stat", pid);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : RETRY(read(fd, line, sizeof(line) - 1));
	if (length <= 0)
		return false;
	line[length] = '\0';
	const char *name_end = strrchr(line, ')');
	unsigned long flags;
	return name_end && sscanf(name_end + 1, " %*c %*d %*d %*d %*d %*d %lu", &flags) == 1 &&
	       !(flags & (PF_EXITING | PF_KTHREAD));
}

static void answer_shared(const char *what, pid_t pid, pid_t other)
{
	if (pid != other && has_resources(pid) && has_resources(other))
		printf("{\"kind\":\"shared\",\"what\":\"%s\",\"pid\":%d,\"other\":%d}\n", what, pid, other);
}

static bool is_inside(pid_t pid)
{
	for (size_t index = 0; index < asked.inside_count; index++)
		if (asked.inside[index] == pid)
			return true;
	return false;
}

/* Sorted once for each resource, so that neither side is compared with all of the other. */
static void answer_resources(const pid_t *outside, size_t outside_count)
{
	CLEANUP_FREE pid_t *sorted = calloc(asked.inside_count + 1, sizeof(*sorted));
	if (!sorted)
		die("out of memory");
	for (size_t each = 0; each < sizeof(resources) / sizeof(resources[0]); each++) {
		memcpy(sorted, asked.inside, asked.inside_count * sizeof(*sorted));
		compared = resources[each].type;
		qsort(sorted, asked.inside_count, sizeof(*sorted), in_order);
		for (size_t index = 1; index < asked.inside_count; index++)
			if (kcmp(sorted[index - 1], sorted[index], compared, 0, 0) == 0)
				answer_shared(resources[each].name, sorted[index], sorted[index - 1]);
		for (size_t index = 0; index < outside_count; index++) {
			const pid_t *found =
				bsearch(&outside[index], sorted, asked.inside_count, sizeof(*sorted), in_order);
			if (found && kcmp(*found, outside[index], compared, 0, 0) == 0)
				answer_shared(resources[each].name, *found, outside[index]);
		}
	}
}

/* Whether the last who took or gave any of these semaphores is of the tree. */
static bool is_set_used(int id, size_t count)
{
	for (size_t index = 0; index < count; index++)
		if (is_inside((pid_t)semctl(id, (int)index, GETPID)))
			return true;
	return false;
}

/* Whether the tree uses semaphores of the ipc namespace of a process, which this program enters for it. */
static bool uses_semaphores(pid_t pid)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/ns/ipc", pid);
	CLEANUP_FD int namespace = open(path, O_RDONLY | O_CLOEXEC);
	struct seminfo info = {0};
	if (namespace < 0 || setns(namespace, CLONE_NEWIPC) < 0)
		return false;
	int last = semctl(0, 0, SEM_INFO, &info);
	for (int index = 0; index <= last; index++) {
		struct semid_ds set;
		int id = semctl(index, 0, SEM_STAT, &set);
		if (id >= 0 && is_set_used(id, set.sem_nsems))
			return true;
	}
	return false;
}

/*
 * This program has no list of what it would give back; a process that has none either compares equal. A process that has
 * or had threads has one too, which says nothing where the tree uses no semaphores.
 */
static void answer_undo(void)
{
	for (size_t index = 0; index < asked.inside_count; index++)
		if (kcmp(getpid(), asked.inside[index], KCMP_SYSVSEM, 0, 0) > 0 && uses_semaphores(asked.inside[index]))
			printf("{\"kind\":\"undo\",\"pid\":%d}\n", asked.inside[index]);
}

/* What stands in the line of /proc/PID/status that begins with NAME, which has its colon; empty where there is none. */
static void read_status(pid_t pid, pid_t thread, const char *name, char *value, size_t room)
{
	char path[64], line[8192];
	value[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, thread);
	FILE *status = fopen(path, "re");
	if (!status)
		return;
	while (fgets(line, sizeof(line), status))
		if (!strncmp(line, name, strlen(name))) {
			snprintf(value, room, "%s", line + strlen(name));
			break;
		}
	fclose(status);
}

/* Whether a link of a thread leads to what that of its process does; what has ended leads nowhere, which is no difference. */
static bool leads_elsewhere(const char *name, pid_t pid, pid_t thread)
{
	char path[96], ours[PATH_MAX], theirs[PATH_MAX];
	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", pid, pid, name);
	ssize_t length = readlink(path, ours, sizeof(ours));
	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", pid, thread, name);
	ssize_t other = readlink(path, theirs, sizeof(theirs));
	return length >= 0 && other >= 0 && (length != other || memcmp(ours, theirs, (size_t)length) != 0);
}

static void answer_thread(pid_t pid, const char *what, pid_t other)
{
	printf("{\"kind\":\"thread\",\"pid\":%d,\"what\":\"%s\",\"other\":%d}\n", pid, what, other);
}

/* Usually threads have all of this in common with their process, of which alone it is known otherwise. */
static void look_at_thread(pid_t pid, pid_t thread, const char *processors)
{
	static const char *const namespaces[] = {"ns/net", "ns/mnt", "ns/pid",    "ns/uts",
						 "ns/ipc", "ns/user", "ns/cgroup", "ns/time"};
	char theirs[256];
	if (kcmp(pid, thread, KCMP_FILES, 0, 0) > 0)
		answer_thread(pid, "descriptors", 0);
	if (kcmp(pid, thread, KCMP_FS, 0, 0) > 0 &&
	    (leads_elsewhere("cwd", pid, thread) || leads_elsewhere("root", pid, thread)))
		answer_thread(pid, "folder", 0);
	for (size_t each = 0; each < sizeof(namespaces) / sizeof(namespaces[0]); each++)
		if (leads_elsewhere(namespaces[each], pid, thread)) {
			answer_thread(pid, "namespace", 0);
			break;
		}
	read_status(pid, thread, "Cpus_allowed_list:", theirs, sizeof(theirs));
	if (processors[0] && theirs[0] && strcmp(processors, theirs))
		answer_thread(pid, "processors", 0);
	read_status(pid, thread, "TracerPid:", theirs, sizeof(theirs));
	if (atoi(theirs))
		answer_thread(pid, "tracer", atoi(theirs));
}

static void answer_threads(void)
{
	for (size_t index = 0; index < asked.inside_count; index++) {
		pid_t pid = asked.inside[index];
		char path[64], processors[256];
		snprintf(path, sizeof(path), "/proc/%d/task", pid);
		DIR *folder = opendir(path);
		if (!folder)
			continue;
		read_status(pid, pid, "Cpus_allowed_list:", processors, sizeof(processors));
		for (const struct dirent *entry; (entry = readdir(folder));) {
			pid_t thread = atoi(entry->d_name);
			if (thread > 0 && thread != pid)
				look_at_thread(pid, thread, processors);
		}
		closedir(folder);
	}
}

static bool is_terminal(const char *target)
{
	size_t length = strlen(target);
	return (length >= 5 && !strcmp(target + length - 5, "/ptmx")) || !fnmatch("*/pts/[0-9]*", target, 0);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int by_target(const void *a, const void *b)
{
	return strcmp(((const struct open_file *)a)->target, ((const struct open_file *)b)->target);
}

/* The first of those that lead there, in their order by target; behind all where there is none. */
static size_t first_open(const char *target)
{
	size_t low = 0, high = asked.open_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (strcmp(asked.open[middle].target, target) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void look_at_descriptor(pid_t pid, int fd, const char *target)
{
	bool held = (asked.terminals && is_terminal(target)) ||
		    bsearch(&target, asked.held, asked.held_count, sizeof(*asked.held), by_text);
	if (held)
		printf("{\"kind\":\"holder\",\"pid\":%d,\"fd\":%d}\n", pid, fd);
	for (size_t index = first_open(target); index < asked.open_count; index++) {
		const struct open_file *open = &asked.open[index];
		if (strcmp(open->target, target))
			break;
		if (kcmp(open->pid, pid, KCMP_FILE, (unsigned long)open->fd, (unsigned long)fd) == 0)
			printf("{\"kind\":\"same\",\"pid\":%d,\"fd\":%d,\"other\":%d}\n", open->pid, open->fd, pid);
	}
}

static void look_at_descriptors(pid_t pid)
{
	char path[64], target[PATH_MAX];
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	DIR *folder = opendir(path);
	if (!folder)
		return;
	for (const struct dirent *entry; (entry = readdir(folder));) {
		ssize_t length = readlinkat(dirfd(folder), entry->d_name, target, sizeof(target) - 1);
		if (length < 0)
			continue;
		target[length] = '\0';
		look_at_descriptor(pid, atoi(entry->d_name), target);
	}
	closedir(folder);
}

static void look_at_mappings(pid_t pid)
{
	char path[64], line[PATH_MAX + 256];
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	FILE *maps = fopen(path, "re");
	if (!maps)
		return;
	CLEANUP_FREE bool *told = calloc(asked.mapped_count, sizeof(*told));
	while (told && fgets(line, sizeof(line), maps)) {
		struct mapping found;
		if (sscanf(line, "%*s %*s %*s %x:%x %lu", &found.major, &found.minor, &found.inode) != 3 || !found.inode)
			continue;
		/* Numbered by its ipc namespace, and so like another one's, or like a file in memory. */
		if (strstr(line, " /SYSV"))
			continue;
		for (size_t index = 0; index < asked.mapped_count; index++) {
			const struct mapping *wanted = &asked.mapped[index];
			if (told[index] || wanted->inode != found.inode || wanted->major != found.major ||
			    wanted->minor != found.minor)
				continue;
			told[index] = true;
			printf("{\"kind\":\"mapper\",\"pid\":%d,\"key\":\"%u:%u:%lu\"}\n", pid, found.major, found.minor,
			       found.inode);
		}
	}
	fclose(maps);
}

/* All processes that are not of the tree, nor this one. */
static pid_t *others(size_t *count)
{
	pid_t *found = NULL;
	*count = 0;
	DIR *folder = opendir("/proc");
	if (!folder)
		die_with_error("reading /proc");
	for (const struct dirent *entry; (entry = readdir(folder));) {
		pid_t pid = atoi(entry->d_name);
		if (pid > 0 && pid != getpid() && !is_inside(pid))
			*ADD(found, *count) = pid;
	}
	closedir(folder);
	return found;
}

int main(void)
{
	size_t length;
	CLEANUP_FREE char *questions = read_questions(&length);
	for (char *record = questions; record < questions + length; record += strlen(record) + 1)
		if (!take(record))
			die("no such question: %s", record);
	qsort(asked.held, asked.held_count, sizeof(*asked.held), by_text);
	qsort(asked.open, asked.open_count, sizeof(*asked.open), by_target);
	size_t count;
	CLEANUP_FREE pid_t *outside = others(&count);
	answer_resources(outside, count);
	for (size_t index = 0; index < count; index++) {
		if (asked.held_count || asked.terminals || asked.open_count)
			look_at_descriptors(outside[index]);
		if (asked.mapped_count)
			look_at_mappings(outside[index]);
	}
	answer_threads();
	answer_undo();
	return 0;
}
