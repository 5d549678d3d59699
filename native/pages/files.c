#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common.h"

bool is_pack_name(const char *name)
{
	return strlen(name) == PACK_ID_BYTES * 2 + strlen(".pack") &&
	       strspn(name, "0123456789abcdef") == PACK_ID_BYTES * 2 && strcmp(name + PACK_ID_BYTES * 2, ".pack") == 0;
}

void pack_file_name(const uint8_t id[PACK_ID_BYTES], const char *ending, char name[PACK_NAME_ROOM])
{
	for (unsigned i = 0; i < PACK_ID_BYTES; i++)
		sprintf(name + (size_t)i * 2, "%02x", id[i]);
	strcpy(name + PACK_ID_BYTES * 2, ending);
}

bool write_all(int fd, const void *bytes, size_t length)
{
	const uint8_t *next = bytes;

	while (length > 0) {
		ssize_t put = RETRY(write(fd, next, length));

		if (put < 0)
			return false;
		next += put;
		length -= (size_t)put;
	}
	return true;
}

bool pwrite_all(int fd, const void *bytes, size_t length, off_t offset)
{
	const uint8_t *next = bytes;

	while (length > 0) {
		ssize_t put = RETRY(pwrite(fd, next, length, offset));

		if (put < 0)
			return false;
		next += put;
		offset += put;
		length -= (size_t)put;
	}
	return true;
}

bool pread_all(int fd, void *bytes, size_t length, off_t offset)
{
	uint8_t *next = bytes;

	while (length > 0) {
		ssize_t got = RETRY(pread(fd, next, length, offset));

		if (got == 0)
			errno = ENODATA;
		if (got <= 0)
			return false;
		next += got;
		offset += got;
		length -= (size_t)got;
	}
	return true;
}

bool map_file(const char *path, size_t unit, const void **start, size_t *bytes, char **what)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat status;

	*start = NULL;
	*bytes = 0;
	if (fd < 0 || fstat(fd, &status) != 0) {
		*what = format_string("%s cannot be opened: %s", path, strerror(errno));
		return false;
	}
	if (!S_ISREG(status.st_mode) || (uint64_t)status.st_size % unit != 0) {
		*what = format_string("%s has %lld bytes, which is no multiple of %zu: it is damaged", path,
				      (long long)status.st_size, unit);
		return false;
	}
	if (status.st_size == 0)
		return true;
	*start = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (*start == MAP_FAILED) {
		*start = NULL;
		*what = format_string("%s cannot be mapped: %s", path, strerror(errno));
		return false;
	}
	*bytes = (size_t)status.st_size;
	return true;
}
