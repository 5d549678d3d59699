#include "outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common.h"
#include "files.h"
#include "report.h"

struct out_file *out_open(char *path)
{
	struct out_file *file = malloc(sizeof(*file));

	if (!file)
		fail("ENOMEM", "there is not enough memory to write %s", path);
	file->path = path;
	file->used = 0;
	file->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (file->fd < 0)
		fail_errno("%s cannot be made", path);
	return file;
}

static void flush(struct out_file *file)
{
	if (!write_all(file->fd, file->buffer, file->used))
		fail_errno("%s cannot be written", file->path);
	file->used = 0;
}

void out_put(struct out_file *file, const void *bytes, size_t length)
{
	const uint8_t *next = bytes;

	while (length > 0) {
		size_t room = sizeof(file->buffer) - file->used;
		size_t part = room < length ? room : length;

		memcpy(file->buffer + file->used, next, part);
		file->used += part;
		next += part;
		length -= part;
		if (file->used == sizeof(file->buffer))
			flush(file);
	}
}

void out_close(struct out_file *file, int synced)
{
	if (!file)
		return;
	flush(file);
	if (synced && fsync(file->fd) != 0)
		fail_errno("%s cannot be synced", file->path);
	/* Written already: all that closing can say has been said. */
	close(file->fd);
	free(file->path);
	free(file);
}

void make_folder(const char *path)
{
	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		fail_errno("the folder %s cannot be made", path);
}

void sync_folder(const char *path)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) != 0)
		fail_errno("the folder %s cannot be synced", path);
}
