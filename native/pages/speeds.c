#include "speeds.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common.h"
#include "files.h"

static const struct {
	const char *name;
	size_t offset;
} fields[] = {
#define FIELD(name, member) { "\"" name "\":", offsetof(struct speeds, member) }
	FIELD("direct", direct),	FIELD("buffered", buffered),   FIELD("sha256", sha256),
	FIELD("lz4", lz4),		FIELD("lz4Ratio", lz4_ratio), FIELD("zstd", zstd),
	FIELD("zstdRatio", zstd_ratio),
#undef FIELD
};
#define FIELDS (sizeof(fields) / sizeof(fields[0]))

void speeds_read(const char *path, struct speeds *speeds)
{
	char text[1024];
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t got = fd < 0 ? 0 : RETRY(read(fd, text, sizeof(text) - 1));

	memset(speeds, 0, sizeof(*speeds));
	text[got > 0 ? got : 0] = '\0';
	for (size_t i = 0; i < FIELDS; i++) {
		const char *found = strstr(text, fields[i].name);
		double value = found ? strtod(found + strlen(fields[i].name), NULL) : 0;

		if (isfinite(value) && value > 0)
			memcpy((char *)speeds + fields[i].offset, &value, sizeof(value));
	}
}

char *speeds_json(const struct speeds *speeds)
{
	char *json = NULL;
	size_t length;
	FILE *stream = open_memstream(&json, &length);

	if (!stream)
		return NULL;
	for (size_t i = 0; i < FIELDS; i++) {
		double value;

		memcpy(&value, (const char *)speeds + fields[i].offset, sizeof(value));
		fprintf(stream, "%c%s%.4g", i == 0 ? '{' : ',', fields[i].name, value);
	}
	fputc('}', stream);
	if (fclose(stream) == 0)
		return json;
	free(json);
	return NULL;
}

bool speeds_write(const char *path, const struct speeds *speeds)
{
	CLEANUP_FREE char *temporary = format_string("%s.%d.new", path, (int)getpid());
	CLEANUP_FREE char *json = speeds_json(speeds);
	CLEANUP_FREE char *line = format_string("%s\n", json ? json : "{}");
	CLEANUP_FD int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return false;
	if (write_all(fd, line, strlen(line)) && fsync(fd) == 0 && rename(temporary, path) == 0)
		return true;
	int number = errno;

	unlink(temporary);
	errno = number;
	return false;
}

bool speeds_direct(const struct speeds *speeds)
{
	return speeds->buffered == 0 || speeds->direct == 0 || speeds->direct * 1.1 >= speeds->buffered;
}

double speeds_time(const struct speeds *speeds, enum codec codec, unsigned threads)
{
	double disk = speeds_direct(speeds) && speeds->direct > 0 ? speeds->direct : speeds->buffered;
	double core = codec == CODEC_LZ4 ? speeds->lz4 : speeds->zstd;
	double ratio = codec == CODEC_RAW ? 1 : codec == CODEC_LZ4 ? speeds->lz4_ratio : speeds->zstd_ratio;
	double written, computed;

	if (disk == 0 || speeds->sha256 == 0 || ratio == 0 || (codec != CODEC_RAW && core == 0))
		return 0;
	written = ratio / disk;
	/* What else the cores do meanwhile, CRIU's part included: moving bytes, about 2.5 GB/s each. */
	computed = (1 / speeds->sha256 + 1.0 / 2500 + (codec == CODEC_RAW ? 0 : 1 / core)) / threads;
	return written > computed ? written : computed;
}

enum codec speeds_choose(const struct speeds *speeds, unsigned threads, enum codec unknown)
{
	enum codec best = CODEC_RAW;
	double shortest = speeds_time(speeds, CODEC_RAW, threads);

	if (shortest == 0 || speeds_time(speeds, CODEC_ZSTD, threads) == 0)
		return unknown;
	for (enum codec codec = CODEC_LZ4; codec <= CODEC_ZSTD; codec++) {
		double needed = speeds_time(speeds, codec, threads);

		if (needed > 0 && needed < shortest * 0.87) {
			best = codec;
			shortest = needed;
		}
	}
	return best;
}
