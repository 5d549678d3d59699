/*
 * Chunks of a snapshot as they were: read from whatever pack has them, unpacked, and compared with the chunk's id. What
 * is not the chunk is never given to anybody. Several threads may read at once, each with a reader_thread of its own.
 */
#ifndef TORPOR_PAGES_READER_H
#define TORPOR_PAGES_READER_H

#include <pthread.h>
#include <stdint.h>

#include "codec.h"
#include "format.h"
#include "index.h"
#include "snapshot.h"

struct reader {
	struct snapshot snapshot;
	struct index *index;
	/* Reading takes it shared; looking for packs that came since takes it alone. */
	pthread_rwlock_t lock;
};

struct reader_thread {
	struct codec_state *codec;
	uint8_t *stored;
};

/* `store` has packs/, `folder` is a snapshot's. 0, or -1 with a sentence on the heap in *what. */
int reader_open(struct reader *reader, const char *store, const char *folder, char **what);
void reader_close(struct reader *reader);

int reader_thread_open(struct reader_thread *thread);
void reader_thread_close(struct reader_thread *thread);

/* What an idx entry stands for, into `out` (CHUNK_BYTES); -1 with a sentence that names pack and offset. */
int read_record(const struct index *index, unsigned pack, const struct idx_entry *entry, struct reader_thread *thread,
		uint8_t *out, char **what);

/*
 * A chunk of the snapshot by its number, into `out` (CHUNK_BYTES). Gives the number of its pages, or -1 with a sentence
 * that names chunk and pack.
 */
int reader_chunk(struct reader *reader, uint64_t chunk, struct reader_thread *thread, uint8_t *out, char **what);

#endif
