/*
 * torpor-unwritten: knows which memory of processes has not been written since the latest snapshot of them, so that the
 * next one need not look at it. It has the kernel protect memory against writes, asynchronously (PAGEMAP_SCAN and
 * UFFD_FEATURE_WP_ASYNC, Linux 6.13): the first write to a page takes the protection away, and nobody waits for anybody.
 * When this program ends, however it does, the kernel takes all of it away.
 *
 * Commands, a line each on standard input; each is answered by a line of JSON, {"error": SENTENCE} where it fails:
 *
 *   watch FILTERS PID...  from now on these too, of those that run: {"processes": N}. Left alone is what has little
 *                         memory, a tracer, or more seccomp filters than so many, which are known to do no harm.
 *   protect               all that is watched, which must stand still, is unwritten from now on: {"bytes": N}
 *   list SNAPSHOT PAGES LEFT_OUT
 *                         (with tabs between) writes what is unwritten since the last `protect`, of what the snapshot's
 *                         folder has at the same address: PAGES for torpor-pages receive (unfetched_range), LEFT_OUT for
 *                         libtorpor-unwritten.so (left-out.h): {"pages": N}. All must stand still.
 *
 * Only private anonymous mappings of 1 MiB and more are looked after.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "../common.h"
#include "../pages/files.h"
#include "../pages/snapshot.h"
#include "inject.h"
#include "left-out.h"
#include "pagemap-scan.h"

#define LEAST_MEMORY_KB 4096u
#define LEAST_MAPPING (1u << 20)
#define REGIONS_AT_ONCE 512

struct range {
	uint64_t start;
	uint64_t end;
};

struct watched {
	struct watched *next;
	pid_t pid;
	/* As CRIU names its image: in its innermost pid namespace. */
	uint64_t inner_pid;
	/* Of seccomp, when it was looked at. */
	uint64_t filters;
	int userfaultfd;
	/* What has been protected last. */
	struct range *ranges;
	size_t count;
};

/* Sorted by inner_pid. */
static struct watched *all;

struct list {
	struct unfetched_range *pages;
	struct left_out *left_out;
	size_t count;
	size_t room;
	uint64_t page_count;
};

static void answer_error(const char *what)
{
	printf("{\"error\":");
	write_json_string(stdout, what);
	printf("}\n");
}

struct identity {
	char state;
	uint64_t inner_pid;
	uint64_t own_kilobytes;
	uint64_t locked_kilobytes;
	uint64_t tracer;
};

static bool read_identity(pid_t pid, struct identity *identity)
{
	CLEANUP_FREE char *path = format_string("/proc/%d/status", pid);
	FILE *status = fopen(path, "re");
	char line[512];

	*identity = (struct identity){ 0 };
	while (status && fgets(line, sizeof(line), status)) {
		sscanf(line, "State: %c", &identity->state);
		sscanf(line, "RssAnon: %" SCNu64, &identity->own_kilobytes);
		sscanf(line, "VmLck: %" SCNu64, &identity->locked_kilobytes);
		sscanf(line, "TracerPid: %" SCNu64, &identity->tracer);
		if (strncmp(line, "NSpid:", 6) == 0)
			identity->inner_pid = strtoull(strrchr(line, '\t'), NULL, 10);
	}
	if (status)
		fclose(status);
	return identity->state != 0 && identity->inner_pid != 0;
}

static void free_watched(struct watched *watched)
{
	close_fd(&watched->userfaultfd);
	free(watched->ranges);
	free(watched);
}

/* The end of this thread lets go of whatever it still traces. */
static void *take(void *argument)
{
	struct watched *watched = argument;

	watched->userfaultfd = take_userfaultfd(watched->pid, watched->filters);
	return NULL;
}

/* By either pid: what is there twice could not be told apart in a list. */
static bool is_watched(pid_t pid, uint64_t inner_pid)
{
	for (struct watched *each = all; each; each = each->next) {
		if (each->pid == pid || each->inner_pid == inner_pid)
			return true;
	}
	return false;
}

static void watch(pid_t pid, uint64_t most_filters)
{
	struct identity identity;
	pthread_t thread;

	if (!read_identity(pid, &identity) || is_watched(pid, identity.inner_pid) || identity.tracer != 0 ||
	    identity.own_kilobytes < LEAST_MEMORY_KB || !strchr("RS", identity.state))
		return;
	uint64_t filters = seccomp_filters(pid);

	if (filters > most_filters)
		return;
	struct watched *watched = calloc(1, sizeof(*watched));

	if (!watched)
		die("no memory");
	*watched = (struct watched){ .pid = pid, .inner_pid = identity.inner_pid,
				      .filters = filters, .userfaultfd = -1 };
	if (pthread_create(&thread, NULL, take, watched) != 0) {
		free_watched(watched);
		return;
	}
	pthread_join(thread, NULL);
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC };

	if (watched->userfaultfd < 0 || ioctl(watched->userfaultfd, UFFDIO_API, &api) != 0) {
		free_watched(watched);
		return;
	}
	struct watched **at = &all;

	while (*at && (*at)->inner_pid < watched->inner_pid)
		at = &(*at)->next;
	watched->next = *at;
	*at = watched;
}

static bool add_range(struct watched *watched, uint64_t start, uint64_t end)
{
	struct range *more = reallocarray(watched->ranges, watched->count + 1, sizeof(*more));

	if (!more)
		return false;
	watched->ranges = more;
	watched->ranges[watched->count++] = (struct range){ start, end };
	return true;
}

/* Whether a line of /proc/PID/maps is a mapping that is worth it. */
static bool is_wanted(const char *line, uint64_t *start, uint64_t *end)
{
	char access[5], name[2] = "";
	uint64_t inode;
	int at = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*x:%*x %" SCNu64 " %n", start, end, access, &inode, &at) < 4)
		return false;
	if (access[0] != 'r' || access[3] != 'p' || inode != 0 || *end - *start < LEAST_MAPPING)
		return false;
	/* Nameless, the heap, or what the process itself has named. */
	return sscanf(line + at, "%1s", name) != 1 || strncmp(line + at, "[heap]", 6) == 0 ||
	       strncmp(line + at, "[anon:", 6) == 0;
}

/*
 * Opened anew each time: of another program that the process has become, it says that nothing is registered, whoever
 * still has the memory from before.
 */
static int open_pagemap(pid_t pid)
{
	CLEANUP_FREE char *path = format_string("/proc/%d/pagemap", pid);

	return open(path, O_RDONLY | O_CLOEXEC);
}

/* Everything there that has been written is protected. */
static bool protect_range(int pagemap, uint64_t start, uint64_t end)
{
	struct scan_region regions[REGIONS_AT_ONCE];
	struct scan_request request = { .size = sizeof(request),
					.flags = SCAN_WRITE_PROTECT | SCAN_ONLY_TRACKED,
					.start = start,
					.end = end,
					.regions = (uintptr_t)regions,
					.region_count = REGIONS_AT_ONCE,
					.category_mask = SCAN_WRITTEN,
					.category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
					.return_mask = SCAN_WRITTEN };

	for (; request.start < end; request.start = request.walk_end) {
		if (ioctl(pagemap, SCAN_PAGES, &request) < 0 || request.walk_end <= request.start)
			return false;
	}
	return true;
}

/* Returns bytes, or -1 where its memory is that of another program now, or gone. */
static int64_t protect(struct watched *watched)
{
	CLEANUP_FREE char *path = format_string("/proc/%d/maps", watched->pid);
	CLEANUP_FD int pagemap = open_pagemap(watched->pid);
	FILE *maps = fopen(path, "re");
	char line[PATH_MAX + 200];
	int64_t bytes = 0;
	bool is_gone = maps == NULL || pagemap < 0;

	watched->count = 0;
	while (!is_gone && fgets(line, sizeof(line), maps)) {
		uint64_t start, end;

		/* What a device is still reading into its memory for it (io_submit(2)) would come unseen. */
		if (strstr(line, "/[aio]")) {
			watched->count = 0;
			bytes = 0;
			break;
		}
		if (!is_wanted(line, &start, &end))
			continue;
		struct uffdio_register wanted = { .range = { start, end - start }, .mode = UFFDIO_REGISTER_MODE_WP };

		if (ioctl(watched->userfaultfd, UFFDIO_REGISTER, &wanted) != 0) {
			/* EBUSY is a mapping that somebody else tracks, EINVAL one that cannot be tracked. */
			is_gone = errno == ENOMEM || errno == ESRCH;
			continue;
		}
		if (!protect_range(pagemap, start, end) || !add_range(watched, start, end))
			continue;
		bytes += (int64_t)(end - start);
	}
	if (maps)
		fclose(maps);
	return is_gone ? -1 : bytes;
}

static void protect_all(void)
{
	int64_t bytes = 0;

	for (struct watched **at = &all; *at;) {
		struct watched *each = *at;
		int64_t more = protect(each);

		if (more >= 0) {
			bytes += more;
			at = &each->next;
			continue;
		}
		*at = each->next;
		free_watched(each);
	}
	printf("{\"bytes\":%" PRId64 "}\n", bytes);
}

static bool add_pages(struct list *list, const struct watched *watched, uint64_t dst_id, uint64_t start, uint64_t end,
		      uint64_t first_page)
{
	if (list->count == list->room) {
		size_t room = list->room ? list->room * 2 : 1024;
		struct unfetched_range *pages = reallocarray(list->pages, room, sizeof(*pages));
		struct left_out *left_out = pages ? reallocarray(list->left_out, room, sizeof(*left_out)) : NULL;

		if (pages)
			list->pages = pages;
		if (!left_out)
			return false;
		list->left_out = left_out;
		list->room = room;
	}
	uint64_t pages = (end - start) / PAGE_BYTES;

	list->pages[list->count] = (struct unfetched_range){ dst_id, start, pages, first_page };
	list->left_out[list->count++] = (struct left_out){ (uint64_t)watched->pid, watched->inner_pid,
								   start, end };
	list->page_count += pages;
	return true;
}

/* What of an unwritten region the snapshot has, entry by entry. */
static bool list_region(struct list *list, const struct watched *watched, const struct snapshot *snapshot,
			const struct scan_region *region)
{
	uint64_t dst_id = watched->inner_pid << 8 | 1;
	struct snapshot_cursor cursor = snapshot_seek(snapshot, dst_id, region->start);

	for (; cursor.next < cursor.end && cursor.next->vaddr < region->end; cursor.next++) {
		uint64_t from = cursor.next->vaddr;
		uint64_t to = from + cursor.next->pages * PAGE_BYTES;
		uint64_t start = from > region->start ? from : region->start;
		uint64_t end = to < region->end ? to : region->end;

		if (start < end && !add_pages(list, watched, dst_id, start, end,
					      cursor.next->first_page + (start - from) / PAGE_BYTES))
			return false;
	}
	return true;
}

static bool list_range(struct list *list, const struct watched *watched, int pagemap, const struct snapshot *snapshot,
		       const struct range *range)
{
	struct scan_region regions[REGIONS_AT_ONCE];
	uint64_t without = SCAN_WRITTEN | SCAN_FILE | SCAN_ZERO;
	struct scan_request request = { .size = sizeof(request),
					.start = range->start,
					.end = range->end,
					.regions = (uintptr_t)regions,
					.region_count = REGIONS_AT_ONCE,
					.category_inverted = without,
					.category_mask = without | SCAN_ALLOWED,
					.category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
					.return_mask = SCAN_ALLOWED };

	for (; request.start < range->end; request.start = request.walk_end) {
		int count = ioctl(pagemap, SCAN_PAGES, &request);

		/* What is not known to be unwritten is handed over. */
		if (count < 0 || request.walk_end <= request.start)
			return true;
		for (int i = 0; i < count; i++) {
			if (!list_region(list, watched, snapshot, &regions[i]))
				return false;
		}
	}
	return true;
}

static bool write_file(const char *path, const void *bytes, size_t length)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd >= 0 && write_all(fd, bytes, length);
}

static void list_all(const char *folder, const char *pages, const char *left_out)
{
	struct list list = { 0 };
	struct snapshot snapshot;
	char *what;
	bool has_room = true;

	if (snapshot_open(&snapshot, folder, &what) != 0) {
		answer_error(what);
		free(what);
		return;
	}
	for (struct watched *each = all; each; each = each->next) {
		CLEANUP_FD int pagemap = open_pagemap(each->pid);
		struct identity identity;

		/* What is locked by now cannot come lazily, as the snapshot may have it. */
		if (!read_identity(each->pid, &identity) || identity.locked_kilobytes > 0)
			continue;
		for (size_t i = 0; i < each->count && has_room && pagemap >= 0; i++)
			has_room = list_range(&list, each, pagemap, &snapshot, &each->ranges[i]);
	}
	snapshot_close(&snapshot);
	if (!has_room) {
		answer_error("there is not enough memory to list what was not written");
	} else if (!write_file(pages, list.pages, list.count * sizeof(*list.pages)) ||
		   !write_file(left_out, list.left_out, list.count * sizeof(*list.left_out))) {
		CLEANUP_FREE char *reason = format_string("%s or %s cannot be written: %s", pages, left_out, strerror(errno));

		answer_error(reason);
	} else {
		printf("{\"pages\":%" PRIu64 "}\n", list.page_count);
	}
	free(list.pages);
	free(list.left_out);
}

static bool is_number(const char *word)
{
	return *word && strspn(word, "0123456789") == strlen(word);
}

static void watch_all(char *rest)
{
	const char *filters = strsep(&rest, " "), *pid;
	unsigned count = 0;

	if (!filters || !is_number(filters)) {
		answer_error("watch needs a number of filters");
		return;
	}
	while ((pid = strsep(&rest, " ")) != NULL) {
		if (is_number(pid))
			watch(atoi(pid), strtoull(filters, NULL, 10));
	}
	for (struct watched *each = all; each; each = each->next)
		count++;
	printf("{\"processes\":%u}\n", count);
}

static void obey(char *line)
{
	char *rest = line;
	const char *command = strsep(&rest, " \t");

	if (strcmp(command, "watch") == 0) {
		watch_all(rest);
	} else if (strcmp(command, "protect") == 0) {
		protect_all();
	} else if (strcmp(command, "list") == 0) {
		const char *folder = strsep(&rest, "\t"), *pages = strsep(&rest, "\t"), *left_out = strsep(&rest, "\t");

		if (left_out)
			list_all(folder, pages, left_out);
		else
			answer_error("list needs a snapshot and two files");
	} else {
		answer_error("there is no such command");
	}
	fflush(stdout);
}

/*
 * Before 6.13 a mapping that was moved, or whose userfaultfd was closed, kept marks of protection that meant nothing any
 * more, and by which a page that is written could pass for one that is not.
 */
static bool is_supported(void)
{
	struct utsname system;
	unsigned major = 0, minor = 0;

	if (uname(&system) != 0 || sscanf(system.release, "%u.%u", &major, &minor) != 2 || major < 6 ||
	    (major == 6 && minor < 13))
		return false;
	CLEANUP_FD int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC };

	return fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;
}

int main(void)
{
	CLEANUP_FREE char *line = NULL;
	size_t room = 0;
	ssize_t length;

	sigset_t ending;
	CLEANUP_FD int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	/* It ends with its input: in the middle of an injection a thread would be left in the wrong place. */
	sigemptyset(&ending);
	sigaddset(&ending, SIGTERM);
	sigaddset(&ending, SIGINT);
	sigaddset(&ending, SIGHUP);
	sigaddset(&ending, SIGPIPE);
	sigprocmask(SIG_BLOCK, &ending, NULL);
	if (score >= 0)
		RETRY(write(score, "-1000", 5));
	if (!is_supported())
		die("this kernel cannot tell which memory has been written (UFFD_FEATURE_WP_ASYNC)");
	while ((length = getline(&line, &room, stdin)) > 0) {
		if (line[length - 1] == '\n')
			line[length - 1] = '\0';
		obey(line);
	}
	return 0;
}
