/*
 * torpor-freed PID...: has the kernel take the memory now that processes have marked free (MADV_FREE, madvise(2)), and
 * that it would take anyway when it needs some. Which pages these are only the kernel knows for certain: one that was
 * written again since is the process's own. So they are not dropped here, but given to its reclaim (MADV_PAGEOUT, see
 * process_madvise(2)), which looks; and only those that can be such pages, as it would swap others out.
 *
 * Writes {"bytes": N}, what they have less of it then. A process that has ended meanwhile counts for nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common.h"

/* linux/kernel-page-flags.h */
#define KPF_ANON 12
#define KPF_SWAPBACKED 14
#define KPF_KSM 21
#define KPF_ZERO_PAGE 24
/* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_FRAME ((UINT64_C(1) << 55) - 1)

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

#define ENTRIES_AT_ONCE 4096
#define RANGES_AT_ONCE 512

struct target {
	int pidfd;
	int pagemap;
	int flags;
	size_t page;
	struct iovec ranges[RANGES_AT_ONCE];
	unsigned count;
};

static bool has_bit(uint64_t flags, unsigned bit)
{
	return (flags >> bit & 1) != 0;
}

/* Whether a page may be one that was marked free. */
static bool may_be_free(int kpageflags, uint64_t entry)
{
	uint64_t flags;

	if (!(entry & PAGEMAP_PRESENT) || (entry & PAGEMAP_FRAME) == 0)
		return false;
	if (pread(kpageflags, &flags, sizeof(flags), (off_t)((entry & PAGEMAP_FRAME) * sizeof(flags))) != sizeof(flags))
		return false;
	return has_bit(flags, KPF_ANON) && !has_bit(flags, KPF_SWAPBACKED) && !has_bit(flags, KPF_KSM) &&
	       !has_bit(flags, KPF_ZERO_PAGE);
}

/* Nothing is lost by a range that the kernel refuses. */
static void give_back(struct target *target)
{
	if (target->count > 0)
		syscall(SYS_process_madvise, target->pidfd, target->ranges, (size_t)target->count, MADV_PAGEOUT, 0);
	target->count = 0;
}

static void add_page(struct target *target, uint64_t address)
{
	struct iovec *last = target->count > 0 ? &target->ranges[target->count - 1] : NULL;

	if (last && (uintptr_t)last->iov_base + last->iov_len == address) {
		last->iov_len += target->page;
		return;
	}
	if (target->count == RANGES_AT_ONCE)
		give_back(target);
	target->ranges[target->count++] =
		(struct iovec){.iov_base = (void *)(uintptr_t)address, .iov_len = target->page};
}

static void give_back_mapping(struct target *target, uint64_t start, uint64_t end)
{
	static uint64_t entries[ENTRIES_AT_ONCE];

	for (uint64_t address = start; address < end;) {
		size_t wanted = (size_t)((end - address) / target->page);
		if (wanted > ENTRIES_AT_ONCE)
			wanted = ENTRIES_AT_ONCE;
		ssize_t got = pread(target->pagemap, entries, wanted * sizeof(*entries),
				    (off_t)(address / target->page * sizeof(*entries)));
		if (got <= 0)
			break;
		for (size_t i = 0; i < (size_t)got / sizeof(*entries); i++, address += target->page) {
			if (may_be_free(target->flags, entries[i]))
				add_page(target, address);
		}
	}
	give_back(target);
}

/* Memory that is marked free, in bytes. With a target, gives it back, a mapping at a time. */
static uint64_t marked_free(const char *pid, struct target *target)
{
	CLEANUP_FREE char *path = format_string("/proc/%s/smaps", pid);
	FILE *mappings = fopen(path, "re");
	char line[PATH_MAX + 100];
	uint64_t start = 0, end = 0, sum = 0;

	while (mappings && fgets(line, sizeof(line), mappings)) {
		uint64_t from, to, kilobytes;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &from, &to) == 2) {
			start = from;
			end = to;
			continue;
		}
		if (sscanf(line, "LazyFree: %" SCNu64 " kB", &kilobytes) != 1 || kilobytes == 0)
			continue;
		sum += kilobytes * 1024;
		if (target)
			give_back_mapping(target, start, end);
	}
	if (mappings)
		fclose(mappings);
	return sum;
}

static uint64_t give_back_all(const char *pid, int kpageflags)
{
	CLEANUP_FREE char *path = format_string("/proc/%s/pagemap", pid);
	CLEANUP_FD int pagemap = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP_FD int pidfd = (int)syscall(SYS_pidfd_open, atoi(pid), 0);

	if (pagemap < 0 || pidfd < 0)
		return 0;
	struct target target = {.pidfd = pidfd, .pagemap = pagemap, .flags = kpageflags,
				.page = (size_t)sysconf(_SC_PAGESIZE)};
	uint64_t before = marked_free(pid, &target);

	if (before == 0)
		return 0;
	uint64_t after = marked_free(pid, NULL);

	return after < before ? before - after : 0;
}

int main(int count, char **arguments)
{
	CLEANUP_FD int kpageflags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t bytes = 0;

	if (kpageflags < 0)
		die_with_error("opening /proc/kpageflags");
	for (int i = 1; i < count; i++) {
		if (strspn(arguments[i], "0123456789") != strlen(arguments[i]) || !*arguments[i])
			die("%s is no pid", arguments[i]);
		bytes += give_back_all(arguments[i], kpageflags);
	}
	printf("{\"bytes\":%" PRIu64 "}\n", bytes);
	return fflush(stdout) == 0 ? 0 : 1;
}
