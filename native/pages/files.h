/* Files of the page store: names of packs, whole writes, folders made durable. */
#ifndef TORPOR_PAGES_FILES_H
#define TORPOR_PAGES_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "format.h"

#define PACK_NAME_ROOM (PACK_ID_BYTES * 2 + sizeof(".pack"))

/* Whether a file of that name is a pack: 32 lower-case hexadecimal digits and ".pack". */
bool is_pack_name(const char *name);
/* The file name of a pack's ID with `ending`: ".pack" or ".idx". */
void pack_file_name(const uint8_t id[PACK_ID_BYTES], const char *ending, char name[PACK_NAME_ROOM]);

/* Everything, or false with errno. */
bool write_all(int fd, const void *bytes, size_t length);
bool pwrite_all(int fd, const void *bytes, size_t length, off_t offset);
/* Exactly so many bytes, or false; errno is ENODATA where the file ends before. */
bool pread_all(int fd, void *bytes, size_t length, off_t offset);

/* Maps a whole file for reading; NULL and *bytes = 0 where it is empty. false with a sentence where that fails. */
bool map_file(const char *path, size_t unit, const void **start, size_t *bytes, char **what);

#endif
