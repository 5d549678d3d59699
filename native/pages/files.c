#include "files.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
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
