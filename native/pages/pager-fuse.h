/* The files pages-N.img of the mount, spoken to the kernel in its own protocol (linux/fuse.h). */
#ifndef TORPOR_PAGES_PAGER_FUSE_H
#define TORPOR_PAGES_PAGER_FUSE_H

#include <stddef.h>
#include <stdint.h>

#include "reader.h"

struct pool;

/* The most that one read asks for, and room for a whole chunk behind it. */
#define FUSE_READ_MOST (1024u * 1024u)
#define FUSE_REPLY_ROOM (4096u + FUSE_READ_MOST + CHUNK_BYTES)

struct fuse_serving {
	struct reader *reader;
	struct pool *pool;
	struct record_reader thread;
	uint8_t *reply; /* FUSE_REPLY_ROOM */
	uint8_t *spare; /* CHUNK_BYTES */
};

/* What to answer to a request of so many bytes, in serving->reply: its length, 0 for no answer. */
size_t fuse_answer(struct fuse_serving *serving, const void *request, size_t length);

#endif
