/*
 * libtorpor-unwritten.so, preloaded into CRIU for a dump: where CRIU asks the kernel which pages a process has
 * (PAGEMAP_SCAN), those are left out of the answer that are the same in the snapshot before. Who receives the pages has
 * the same list and takes these from there (torpor-pages receive). The list is written when all processes stand still;
 * where there is none, nothing is left out.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "left-out.h"
#include "pagemap-scan.h"

/* Sorted by pid, as CRIU sees it, and address. */
static struct left_out *ranges;
static size_t range_count;

static int by_place(const void *left, const void *right)
{
	const struct left_out *a = left, *b = right;

	if (a->pid != b->pid)
		return a->pid < b->pid ? -1 : 1;
	return a->start < b->start ? -1 : a->start > b->start;
}

/* CRIU must not go on where the list is there and cannot be read: the pages would come twice. */
static void read_list(void)
{
	const char *path = getenv(LEFT_OUT_VARIABLE);
	struct stat status;
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;

	if (fd < 0) {
		if (path && errno != ENOENT)
			abort();
		return;
	}
	if (fstat(fd, &status) != 0)
		abort();
	if (status.st_size > 0) {
		void *start = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

		if (start == MAP_FAILED)
			abort();
		ranges = start;
		range_count = (size_t)status.st_size / sizeof(*ranges);
	}
	close(fd);
	if (getenv(LEFT_OUT_INSIDE_VARIABLE)) {
		for (size_t i = 0; i < range_count; i++)
			ranges[i].pid = ranges[i].inner_pid;
	}
	if (range_count > 0)
		qsort(ranges, range_count, sizeof(*ranges), by_place);
}

/* Whose pagemap that is; 0 where it is none of another process. */
static uint64_t pid_of(int fd)
{
	char link[64], path[64];
	unsigned long pid;
	int end = 0;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t length = readlink(link, path, sizeof(path) - 1);

	if (length < 0)
		return 0;
	path[length] = '\0';
	if (sscanf(path, "/proc/%lu/pagemap%n", &pid, &end) != 1 || end != length || pid == (unsigned long)getpid())
		return 0;
	return pid;
}

/* The first range of the process that ends behind an address. */
static size_t first_behind(uint64_t pid, uint64_t address)
{
	size_t low = 0, high = range_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct left_out *range = &ranges[middle];

		if (range->pid < pid || (range->pid == pid && range->end <= address))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/*
 * Takes the ranges out of the regions. Where there is no room for all that is left, the walk ends before, as the
 * kernel's own would. Returns how many there are, or -1 with errno.
 */
static long leave_out(uint64_t pid, struct scan_request *request, long count)
{
	struct scan_region *regions = (struct scan_region *)(uintptr_t)request->regions;
	size_t bytes = (size_t)count * sizeof(*regions);
	struct scan_region *before = malloc(bytes ? bytes : 1);
	long made = 0;

	if (!before) {
		errno = ENOMEM;
		return -1;
	}
	memcpy(before, regions, bytes);
	for (long i = 0; i < count; i++) {
		uint64_t at = before[i].start;
		size_t next = first_behind(pid, at);

		while (at < before[i].end) {
			bool is_hit = next < range_count && ranges[next].pid == pid &&
				      ranges[next].start < before[i].end;
			uint64_t stop = is_hit ? ranges[next].start : before[i].end;

			if (at < stop) {
				if ((uint64_t)made == request->region_count) {
					request->walk_end = at;
					free(before);
					return made;
				}
				regions[made++] = (struct scan_region){ at, stop, before[i].categories };
			}
			if (!is_hit)
				break;
			at = ranges[next++].end;
		}
	}
	free(before);
	return made;
}

int ioctl(int fd, unsigned long number, ...)
{
	static int (*next)(int, unsigned long, ...);
	static bool has_read;
	va_list arguments;

	va_start(arguments, number);
	void *argument = va_arg(arguments, void *);

	va_end(arguments);
	if (!next)
		next = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	int result = next(fd, number, argument);

	if (number != SCAN_PAGES || result <= 0)
		return result;
	uint64_t pid = pid_of(fd);

	if (pid == 0)
		return result;
	if (!has_read)
		read_list();
	has_read = true;
	return range_count == 0 ? result : (int)leave_out(pid, argument, result);
}
