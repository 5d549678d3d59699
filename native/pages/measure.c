/*
 * torpor-pages measure --store STATE --speeds FILE
 *
 * Measures how fast the medium of the store takes writes, past the page cache and through it, and how fast one core
 * hashes and compresses; writes that to FILE, by which `receive` chooses how it stores. What is written has no name,
 * so that nothing is left of it however this ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "../common.h"
#include "codec.h"
#include "commands.h"
#include "files.h"
#include "hash.h"
#include "report.h"
#include "speeds.h"

#define WRITTEN_BYTES (64u << 20)
#define WRITE_BYTES (4u << 20)
#define SAMPLE_BYTES (8u << 20)

static double seconds(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int nameless_file(const char *folder, int flags)
{
	int fd = open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC | flags, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return fd;
	CLEANUP_FREE char *path = format_string("%s/.measure.%d.new", folder, (int)getpid());

	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | flags, 0600);
	unlink(path);
	return fd;
}

/* MB a second; 0 where the file system does not do direct writes. */
static double write_speed(const char *store, bool direct)
{
	CLEANUP_FD int fd = nameless_file(store, direct ? O_DIRECT : 0);
	CLEANUP_FREE uint8_t *bytes = NULL;
	double begun;

	if (fd < 0 && direct && errno == EINVAL)
		return 0;
	if (fd < 0)
		fail_errno("no file can be made in %s", store);
	if (posix_memalign((void **)&bytes, PAGE_BYTES, WRITE_BYTES) != 0)
		fail("ENOMEM", "there is not enough memory to measure");
	/* Random, since some media compress. */
	for (size_t at = 0; at < WRITE_BYTES; at += 256) {
		if (getrandom(bytes + at, 256, 0) != 256)
			fail_errno("no random bytes to measure with");
	}
	begun = seconds(CLOCK_MONOTONIC);
	for (size_t at = 0; at < WRITTEN_BYTES; at += WRITE_BYTES) {
		if (pwrite_all(fd, bytes, WRITE_BYTES, (off_t)at))
			continue;
		if (direct && errno == EINVAL)
			return 0;
		fail_errno("%u bytes cannot be written in %s to measure its speed", WRITTEN_BYTES, store);
	}
	if (fdatasync(fd) != 0)
		fail_errno("a file in %s cannot be synced", store);
	double speed = WRITTEN_BYTES / 1e6 / (seconds(CLOCK_MONOTONIC) - begun);

	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return speed;
}

/* Bytes as programs have them in memory: the running kernel's view of this one's libraries. */
static size_t fill_sample(uint8_t *sample)
{
	static const char *const sources[] = { "/proc/self/exe", "/usr/lib/locale/C.utf8/LC_CTYPE", "/usr/bin/node",
					       "/bin/bash", "/usr/bin/gcc" };
	size_t filled = 0;

	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]) && filled < SAMPLE_BYTES; i++) {
		CLEANUP_FD int fd = open(sources[i], O_RDONLY | O_CLOEXEC);
		ssize_t got;

		while (fd >= 0 && filled < SAMPLE_BYTES &&
		       (got = RETRY(read(fd, sample + filled, SAMPLE_BYTES - filled))) > 0)
			filled += (size_t)got;
	}
	return filled / CHUNK_BYTES * CHUNK_BYTES;
}

static void measure_codec(struct codec_state *state, enum codec codec, const uint8_t *sample, size_t length,
			  double *speed, double *ratio)
{
	CLEANUP_FREE uint8_t *packed = malloc(CODEC_ROOM);
	double begun = seconds(CLOCK_THREAD_CPUTIME_ID);
	size_t sum = 0, stored;

	if (!packed)
		fail("ENOMEM", "there is not enough memory to measure");
	for (size_t at = 0; at < length; at += CHUNK_BYTES) {
		codec_pack(state, codec, sample + at, CHUNK_BYTES, packed, &stored);
		sum += stored;
	}
	*speed = (double)length / 1e6 / (seconds(CLOCK_THREAD_CPUTIME_ID) - begun);
	*ratio = (double)sum / (double)length;
}

static void measure_cores(struct speeds *speeds)
{
	CLEANUP_FREE uint8_t *sample = malloc(SAMPLE_BYTES);
	struct codec_state *state = codec_open(ZSTD_FAST);
	size_t length = sample ? fill_sample(sample) : 0;
	uint8_t hash[PAGE_HASH_BYTES];

	if (!state || !sample)
		fail("ENOMEM", "there is not enough memory to measure");
	double begun = seconds(CLOCK_THREAD_CPUTIME_ID);

	for (size_t at = 0; at < length; at += PAGE_BYTES)
		hash_page(sample + at, hash);
	speeds->sha256 = (double)length / 1e6 / (seconds(CLOCK_THREAD_CPUTIME_ID) - begun);
	measure_codec(state, CODEC_LZ4, sample, length, &speeds->lz4, &speeds->lz4_ratio);
	measure_codec(state, CODEC_ZSTD, sample, length, &speeds->zstd, &speeds->zstd_ratio);
	codec_close(state);
}

int cmd_measure(int argc, char **argv)
{
	struct arguments arguments = { argc - 1, argv + 1 };
	const char *store = argument_needed(&arguments, "--store");
	const char *path = argument_needed(&arguments, "--speeds");
	struct speeds speeds = { 0 };

	arguments_end(&arguments);
	speeds.direct = write_speed(store, true);
	speeds.buffered = write_speed(store, false);
	measure_cores(&speeds);
	if (!speeds_write(path, &speeds))
		fail_errno("%s cannot be written", path);
	CLEANUP_FREE char *json = speeds_json(&speeds);

	report_line("{\"event\":\"done\",\"speeds\":%s}", json ? json : "{}");
	return 0;
}
