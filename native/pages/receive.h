/*
 * What the parts of `torpor-pages receive` share. One thread reads the socket (stream.c) into a ring of blocks, some
 * examine them (chunker.c), one puts what they found in order (assemble.c), one writes packs (packwriter.c).
 */
#ifndef TORPOR_PAGES_RECEIVE_H
#define TORPOR_PAGES_RECEIVE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "chunklist.h"
#include "codec.h"
#include "crypt.h"
#include "format.h"
#include "index.h"
#include "outfile.h"
#include "packwriter.h"
#include "snapshot.h"
#include "speeds.h"

#define BLOCK_PAGES 256u
#define BLOCK_BYTES (BLOCK_PAGES * PAGE_BYTES)
#define BLOCK_RUNS 512u
/* A window whose pages are all new is a chunk of its own if it has so many; so most blocks have 16 of them. */
#define OWN_CHUNK_PAGES 4u
#define BLOCK_CHUNKS (BLOCK_PAGES / OWN_CHUNK_PAGES + BLOCK_PAGES / CHUNK_PAGES + 1)
/* For each block 1 MiB that was read and 1 MiB compressed, so that 64 MiB are never reached. */
#define BLOCKS_MOST 14u
#define THREADS_MOST 8u

/* What is not compressed but encrypted is longer than it was. */
#define PACKED_ROOM (BLOCK_BYTES + CODEC_ROOM + BLOCK_CHUNKS * SEAL_BYTES)

/* Pages that follow one another: read from the socket, or taken over from the parent unseen. */
struct run {
	enum { RUN_READ, RUN_TAKEN_OVER } kind;
	uint64_t dst_id;
	uint64_t vaddr;
	uint64_t pages;
	uint64_t first; /* RUN_READ: in the block; RUN_TAKEN_OVER: in the parent */
};

/* Where a page that was read is to be found. */
struct found {
	enum { FOUND_ZERO, FOUND_PARENT, FOUND_CHUNK } kind;
	page_place place; /* in the parent's chunks, or in those of the block */
};

struct made_chunk {
	uint8_t id[CHUNK_ID_BYTES];
	unsigned pages;
	uint8_t members[CHUNK_PAGES]; /* pages of the block */
	bool stored_already;	      /* in a pack of the store */
	/* Compressed or encrypted: in `packed` of the block; else `packed_bytes` is 0 and the pages themselves are stored. */
	enum codec codec;
	size_t packed_at;
	size_t packed_bytes;
};

struct block {
	enum { BLOCK_FREE, BLOCK_READ, BLOCK_EXAMINED } state;
	enum codec codec; /* what was tried for its chunks */
	uint8_t *data;
	uint8_t *packed; /* NULL until there is something; room for PACKED_ROOM */
	size_t packed_used;
	unsigned pages;
	unsigned run_count;
	unsigned chunk_count;
	struct run runs[BLOCK_RUNS];
	struct found found[BLOCK_PAGES];
	uint8_t hashes[BLOCK_PAGES][PAGE_HASH_BYTES];
	struct made_chunk chunks[BLOCK_CHUNKS];
};

/* Sums of what was measured on the way; old ones fade. */
struct rate {
	double in;
	double out;
	double seconds;
	unsigned samples;
};

struct receive {
	int socket;
	const char *stage;
	bool has_parent;
	struct snapshot parent;
	const struct unfetched_range *unfetched;
	uint64_t unfetched_count;
	struct index *index;
	bool automatic;
	unsigned threads;
	struct speeds known; /* from the file */

	struct block *blocks;
	unsigned block_count;
	pthread_mutex_t lock; /* of all up to the next empty line */
	pthread_cond_t changed;
	uint64_t read; /* numbers of blocks: read, begun to be examined, put in order */
	uint64_t taken;
	uint64_t assembled;
	bool ended;
	struct rate hashing;
	struct rate lz4;
	struct rate zstd;

	_Atomic int codec;
	_Atomic uint64_t received; /* bytes of pages */
	struct chunk_list chunks;
	struct pack_writer *packs;

	/* Of the thread that reads. */
	unsigned images;
	uint64_t pages;
	uint64_t unfetched_pages;

	/* Of the thread that puts in order. */
	struct out_file *places;
	struct out_file *hashes;
	uint32_t *parent_numbers; /* of the parent's chunks: number here + 1; 0: not needed yet */
	uint64_t zero_pages;
	uint64_t parent_pages;
	uint64_t known_chunks;
	uint64_t new_chunks;
	uint64_t raw_bytes;
	uint64_t bytes_by_codec[CODEC_ZSTD + 1];
};

/* The next block to fill, as soon as one is free; and the one that has been filled. */
struct block *receive_block(struct receive *receive);
void receive_filled(struct receive *receive);

/* Reads all that CRIU sends, up to its CLOSE (stream.c). */
void read_stream(struct receive *receive);

/* Examines blocks until the stream has ended (chunker.c); threads run it. */
void *examine_blocks(void *receive);

/* Puts them in order (assemble.c); a thread runs it. */
void *assemble_blocks(void *receive);

/* The speeds as now known, those of the file included where nothing was measured. */
struct speeds receive_speeds(struct receive *receive);

double rate_speed(const struct rate *rate);

#endif
