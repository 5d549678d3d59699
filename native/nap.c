/*
 * torpor-nap out --keep-swap BYTES --pressure PERCENT PID...
 * torpor-nap in
 * torpor-nap present PID...
 *
 * Memory of processes that stand still (process_madvise(2)).
 *
 * `out` has the kernel write it back, a piece at a time: what is anonymous to swap, what is of files to nowhere. It stops as
 * soon as less swap is free than is to be kept, or as others wait for memory for more than PERCENT of the time (PSI,
 * Documentation/accounting/psi.rst). Writes {"advised": bytes looked at, "stopped": "swap", "pressure" or null}.
 *
 * `present` says what is in memory of what only these processes have: lines of PID, start and end, in hexadecimal but the
 * first. `in` reads such lines and has the kernel read these ranges from swap, before anybody needs them. Writes
 * {"advised": bytes}. Ranges that are not there any more are left out.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

/* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_FILE_OR_SHARED (UINT64_C(1) << 61)

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

#define ENTRIES_AT_ONCE 4096
/* The kernel takes some milliseconds for as much, and is asked in between how it does. */
#define PIECE_BYTES (8ULL * 1024 * 1024)
/* With less room than that in swap it is not worth going on. */
#define LEAST_BYTES (256ULL * 1024)
/* Pressure over less time than that says nothing. */
#define PRESSURE_WINDOW_US 100000

struct limits {
	uint64_t keep_swap;
	unsigned pressure_percent;
};

struct pressure {
	int fd;
	int64_t looked_at_us;
	uint64_t stalled_us;
};

static uint64_t advised;
static const char *stopped;

static int open_pid(const char *pid)
{
	if (!*pid || strspn(pid, "0123456789") != strlen(pid))
		die("%s is no pid", pid);
	return (int)syscall(SYS_pidfd_open, atoi(pid), 0);
}

static int64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* For how long anybody has waited for memory since the machine started; 0 where the kernel does not say. */
static uint64_t stalled_us(int fd)
{
	char text[256];
	uint64_t total;
	ssize_t length = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);

	if (length <= 0)
		return 0;
	text[length] = '\0';
	const char *found = strstr(text, "total=");

	return found && sscanf(found, "total=%" SCNu64, &total) == 1 ? total : 0;
}

/* How much to write back next, all of which may need room in swap; 0 where to stop, and why is in `stopped`. */
static uint64_t next_piece(const struct limits *limits, struct pressure *pressure)
{
	struct sysinfo info;
	int64_t now = now_us();
	uint64_t piece = PIECE_BYTES;

	if (sysinfo(&info) == 0 && info.totalswap > 0) {
		uint64_t free = (uint64_t)info.freeswap * info.mem_unit;
		uint64_t room = free > limits->keep_swap ? free - limits->keep_swap : 0;

		if (room < LEAST_BYTES)
			stopped = "swap";
		else if (room < piece)
			piece = room / LEAST_BYTES * LEAST_BYTES;
	}
	if (now - pressure->looked_at_us >= PRESSURE_WINDOW_US) {
		uint64_t stalled = stalled_us(pressure->fd);

		if ((stalled - pressure->stalled_us) * 100 >
		    (uint64_t)(now - pressure->looked_at_us) * limits->pressure_percent)
			stopped = "pressure";
		pressure->looked_at_us = now;
		pressure->stalled_us = stalled;
	}
	return stopped ? 0 : piece;
}

/* A range that the kernel refuses, such as one that is locked, stays as it is. */
static void advise(int pidfd, uint64_t start, uint64_t end, int advice)
{
	struct iovec range = {.iov_base = (void *)(uintptr_t)start, .iov_len = (size_t)(end - start)};
	ssize_t done = syscall(SYS_process_madvise, pidfd, &range, (size_t)1, advice, 0);

	if (done > 0)
		advised += (uint64_t)done;
	else if (done < 0 && (errno == EPERM || errno == ENOSYS))
		die_with_error("process_madvise");
}

static void page_out(const char *pid, const struct limits *limits, struct pressure *pressure)
{
	CLEANUP_FD int pidfd = open_pid(pid);
	CLEANUP_FREE char *path = format_string("/proc/%s/maps", pid);
	FILE *mappings = pidfd < 0 ? NULL : fopen(path, "re");
	char *line = NULL;
	size_t size = 0;

	while (mappings && !stopped && getline(&line, &size, mappings) > 0) {
		uint64_t start, end;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) != 2)
			continue;
		for (uint64_t at = start, piece; at < end && (piece = next_piece(limits, pressure)) > 0; at += piece)
			advise(pidfd, at, end - at > piece ? at + piece : end, MADV_PAGEOUT);
	}
	free(line);
	if (mappings)
		fclose(mappings);
}

static void all_out(char **arguments)
{
	struct limits limits;
	char *end;

	if (!arguments[0] || strcmp(arguments[0], "--keep-swap") != 0 || !arguments[1] || !arguments[2] ||
	    strcmp(arguments[2], "--pressure") != 0 || !arguments[3])
		die("usage: torpor-nap out --keep-swap BYTES --pressure PERCENT PID...");
	limits.keep_swap = strtoull(arguments[1], &end, 10);
	if (*end || end == arguments[1])
		die("%s is no number of bytes", arguments[1]);
	limits.pressure_percent = (unsigned)strtoul(arguments[3], &end, 10);
	if (*end || end == arguments[3])
		die("%s is no percentage", arguments[3]);
	CLEANUP_FD int fd = open("/proc/pressure/memory", O_RDONLY | O_CLOEXEC);
	struct pressure pressure = {.fd = fd, .looked_at_us = now_us(), .stalled_us = stalled_us(fd)};

	for (char **pid = arguments + 4; *pid && !stopped; pid++)
		page_out(*pid, &limits, &pressure);
	printf("{\"advised\":%" PRIu64 ",\"stopped\":", advised);
	if (stopped)
		write_json_string(stdout, stopped);
	else
		fputs("null", stdout);
	fputs("}\n", stdout);
}

static void print_present(const char *pid, int pagemap, uint64_t start, uint64_t end, uint64_t page)
{
	static uint64_t entries[ENTRIES_AT_ONCE];
	uint64_t from = 0, to = 0;

	for (uint64_t at = start; at < end;) {
		size_t wanted = (size_t)((end - at) / page);
		if (wanted > ENTRIES_AT_ONCE)
			wanted = ENTRIES_AT_ONCE;
		ssize_t got = pread(pagemap, entries, wanted * sizeof(*entries), (off_t)(at / page * sizeof(*entries)));
		if (got <= 0)
			break;
		for (size_t i = 0; i < (size_t)got / sizeof(*entries); i++, at += page) {
			if (!(entries[i] & PAGEMAP_PRESENT) || (entries[i] & PAGEMAP_FILE_OR_SHARED))
				continue;
			if (at == to) {
				to += page;
				continue;
			}
			if (to > from)
				printf("%s %" PRIx64 " %" PRIx64 "\n", pid, from, to);
			from = at;
			to = at + page;
		}
	}
	if (to > from)
		printf("%s %" PRIx64 " %" PRIx64 "\n", pid, from, to);
}

static void all_present(const char *pid)
{
	CLEANUP_FD int pidfd = open_pid(pid);
	CLEANUP_FREE char *maps_path = format_string("/proc/%s/maps", pid);
	CLEANUP_FREE char *pagemap_path = format_string("/proc/%s/pagemap", pid);
	CLEANUP_FD int pagemap = open(pagemap_path, O_RDONLY | O_CLOEXEC);
	FILE *mappings = pidfd < 0 || pagemap < 0 ? NULL : fopen(maps_path, "re");
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	char *line = NULL;
	size_t size = 0;

	while (mappings && getline(&line, &size, mappings) > 0) {
		uint64_t start, end;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2)
			print_present(pid, pagemap, start, end, page);
	}
	free(line);
	if (mappings)
		fclose(mappings);
}

static void all_in(void)
{
	char *line = NULL;
	size_t size = 0;
	char last[16] = "";
	CLEANUP_FD int pidfd = -1;

	while (getline(&line, &size, stdin) > 0) {
		uint64_t start, end;
		char pid[16];

		if (sscanf(line, "%15[0-9] %" SCNx64 " %" SCNx64, pid, &start, &end) != 3 || end <= start)
			die("not a pid and a range: %s", line);
		if (strcmp(pid, last) != 0) {
			close_fd(&pidfd);
			pidfd = open_pid(pid);
			strcpy(last, pid);
		}
		if (pidfd >= 0)
			advise(pidfd, start, end, MADV_WILLNEED);
	}
	free(line);
	printf("{\"advised\":%" PRIu64 "}\n", advised);
}

int main(int count, char **arguments)
{
	const char *command = count > 1 ? arguments[1] : "";

	if (strcmp(command, "out") == 0)
		all_out(arguments + 2);
	else if (strcmp(command, "in") == 0 && count == 2)
		all_in();
	else if (strcmp(command, "present") == 0)
		for (char **pid = arguments + 2; *pid; pid++)
			all_present(*pid);
	else
		die("usage: torpor-nap out|in|present ...");
	return fflush(stdout) == 0 ? 0 : 1;
}
