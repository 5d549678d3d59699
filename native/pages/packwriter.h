/*
 * Writes packs: records are gathered in aligned buffers which a thread of its own writes, past the page cache where the
 * file system can (O_DIRECT), else through it and out of it again. A new pack is begun each 512 MiB. All failures end
 * the process with the pack's name (report.h).
 */
#ifndef TORPOR_PAGES_PACKWRITER_H
#define TORPOR_PAGES_PACKWRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "format.h"

#define PACK_BYTES_MOST (512ull << 20)

struct pack_writer;

struct pack_writer_options {
	int folder;         /* where the packs are made */
	const char *called; /* the same for people: "packs" */
	/* ".new" where they are written among packs in use, to be renamed by pack_writer_end(); "" else */
	const char *suffix;
	bool direct;
	const uint8_t *key_id; /* of the packs' headers; NULL: none */
};

struct pack_writer *pack_writer_open(const struct pack_writer_options *options);

/* Adds a record; the parts are its bytes, one after the other. They are copied before it comes back. */
void pack_writer_add(struct pack_writer *writer, const uint8_t id[CHUNK_ID_BYTES], enum codec codec, unsigned pages,
		     unsigned flags, const struct iovec *parts, unsigned count);

/* The next record begins a new pack. */
void pack_writer_cut(struct pack_writer *writer);

/* Bytes that have been handed to the kernel. Any thread may ask. */
uint64_t pack_writer_bytes(struct pack_writer *writer);
/* How fast the medium takes them lately, in MB (10^6) a second; 0 where nothing was written. */
double pack_writer_speed(struct pack_writer *writer);

struct pack_writer_sums {
	unsigned packs;
	uint64_t bytes; /* of the packs */
};
/*
 * Writes what is left and the .idx files, syncs all of it, gives the packs their names (and syncs the folder) where
 * they have a suffix, and frees the writer.
 */
struct pack_writer_sums pack_writer_end(struct pack_writer *writer);

/* Ends the writer and removes what it has written; for packs with a suffix. */
void pack_writer_drop(struct pack_writer *writer);

#endif
