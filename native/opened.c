/*
 * torpor-opened ID PATH...
 *
 * Which files the processes of one workload open: on the file systems of these paths, by processes with a control group whose
 * path ends with "/ID". Writes "ready", then the path of each that is opened, as this process sees it, each followed by a NUL;
 * the path of a folder ends with a slash. One that is opened again is written again. Ends when its standard input does, with
 * all that was opened until then. Opens nothing of it itself: a pipe would have a reader by that (fanotify(7),
 * FAN_REPORT_DFID_NAME, since Linux 5.9).
 *
 * Exits with 4 where the kernel cannot tell, and with 5 where some events were lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "common.h"

#define CANNOT_TELL 4
#define LOST 5
#define KNOWN_PIDS 4096

enum membership { UNKNOWN, MEMBER, OTHER };

/* Of the last ones asked for: a process does not leave its workload, and pids come back only after many others. */
static struct {
	pid_t pid;
	enum membership membership;
} known[KNOWN_PIDS];

static const char *wanted;

static void cannot_tell(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(CANNOT_TELL);
}

static int ends_with_wanted(const char *line)
{
	size_t length = strlen(line), tail = strlen(wanted);

	return length > tail && line[length - tail - 1] == '/' && strcmp(line + length - tail, wanted) == 0;
}

static enum membership look_up(pid_t pid)
{
	CLEANUP_FREE char *path = format_string("/proc/%d/cgroup", pid);
	FILE *file = fopen(path, "re");
	enum membership found = OTHER;
	char line[4096];

	if (!file)
		return OTHER;
	while (found == OTHER && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (ends_with_wanted(line))
			found = MEMBER;
	}
	fclose(file);
	return found;
}

static int is_member(pid_t pid)
{
	unsigned int slot = (unsigned int)pid % KNOWN_PIDS;

	/* Others may still join. */
	if (known[slot].pid != pid || known[slot].membership != MEMBER) {
		known[slot].pid = pid;
		known[slot].membership = look_up(pid);
	}
	return known[slot].membership == MEMBER;
}

/* The file systems that are listened to. */
static struct place {
	__kernel_fsid_t id;
	int fd;
} *places;
static int place_count;

static void add_place(int notifier, const char *path)
{
	struct statfs status;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fstatfs(fd, &status) < 0 ||
	    fanotify_mark(notifier, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN | FAN_ONDIR, AT_FDCWD, path) < 0)
		cannot_tell(path);
	memcpy(&places[place_count].id, &status.f_fsid, sizeof(places[place_count].id));
	places[place_count++].fd = fd;
}

static int place_of(const __kernel_fsid_t *id)
{
	for (int index = 0; index < place_count; index++)
		if (memcmp(&places[index].id, id, sizeof(*id)) == 0)
			return places[index].fd;
	return -1;
}

/* Its folder, and its name in that; the name of a folder that is opened itself is a dot. */
static void tell(const struct fanotify_event_info_fid *info)
{
	struct file_handle *handle = (struct file_handle *)info->handle;
	const char *name = (const char *)handle->f_handle + handle->handle_bytes;
	CLEANUP_FD int folder = open_by_handle_at(place_of(&info->fsid), handle, O_PATH | O_CLOEXEC);
	char path[4096];

	/* One that has gone meanwhile is nobody's to find again. */
	if (folder < 0)
		return;
	CLEANUP_FREE char *link = format_string("/proc/self/fd/%d", folder);
	ssize_t length = readlink(link, path, sizeof(path));

	if (length <= 0 || length == sizeof(path))
		return;
	fwrite(path, 1, (size_t)length, stdout);
	if (length > 1)
		putchar('/');
	if (strcmp(name, ".") != 0)
		fputs(name, stdout);
	putchar('\0');
}

/* All that is there now. */
static void drain(int notifier)
{
	char buffer[65536] __attribute__((aligned(__alignof__(struct fanotify_event_metadata))));

	for (;;) {
		ssize_t length = read(notifier, buffer, sizeof(buffer));

		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0 && errno == EAGAIN)
			break;
		if (length <= 0)
			die_with_error("cannot read what was opened");
		struct fanotify_event_metadata *event = (struct fanotify_event_metadata *)buffer;

		for (; FAN_EVENT_OK(event, length); event = FAN_EVENT_NEXT(event, length)) {
			if (event->mask & FAN_Q_OVERFLOW)
				exit(LOST);
			const struct fanotify_event_info_fid *info = (void *)((char *)event + event->metadata_len);

			if (event->event_len > event->metadata_len &&
			    info->hdr.info_type == FAN_EVENT_INFO_TYPE_DFID_NAME && is_member(event->pid))
				tell(info);
		}
	}
	if (fflush(stdout) != 0)
		exit(0);
}

int main(int count, char **arguments)
{
	if (count < 3)
		die("usage: torpor-opened ID PATH...");
	wanted = arguments[1];
	CLEANUP_FD int notifier =
		fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE,
			      O_RDONLY | O_CLOEXEC);

	if (notifier < 0)
		cannot_tell("the kernel does not tell what is opened");
	places = calloc((size_t)count, sizeof(*places));
	if (!places)
		die("no memory");
	for (int index = 2; index < count; index++)
		add_place(notifier, arguments[index]);
	printf("ready");
	putchar('\0');
	if (fflush(stdout) != 0)
		return 0;
	struct pollfd polls[] = {{.fd = notifier, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};

	for (;;) {
		if (poll(polls, 2, -1) < 0 && errno != EINTR)
			die_with_error("poll");
		drain(notifier);
		if (polls[1].revents)
			return 0;
	}
}
