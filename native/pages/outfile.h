/* New files that are written from beginning to end, with a buffer. All failures end the process (report.h). */
#ifndef TORPOR_PAGES_OUTFILE_H
#define TORPOR_PAGES_OUTFILE_H

#include <stddef.h>
#include <stdint.h>

struct out_file {
	char *path;
	int fd;
	size_t used;
	uint8_t buffer[16384];
};

/* A file that must not be there yet; `path` is on the heap, and is freed with it. NULL never. */
struct out_file *out_open(char *path);
void out_put(struct out_file *file, const void *bytes, size_t length);
/* Syncs it, if asked to, closes it and frees it. NULL is none. */
void out_close(struct out_file *file, int synced);

/* Makes a folder unless it is there. */
void make_folder(const char *path);
void sync_folder(const char *path);

#endif
