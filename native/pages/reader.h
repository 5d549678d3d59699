/*
 * Chunks of a snapshot as they were: read from whatever pack has them, unpacked, and compared with the chunk's id. What
 * is not the chunk is never given to anybody. Several threads may read at once, each with a record_reader of its own.
 */
#ifndef TORPOR_PAGES_READER_H
#define TORPOR_PAGES_READER_H

#include <pthread.h>
#include <stdint.h>

#include "format.h"
#include "index.h"
#include "record.h"
#include "snapshot.h"

struct reader {
	struct snapshot snapshot;
	struct index *index;
	/* Reading takes it shared; looking for packs that came since takes it alone. */
	pthread_rwlock_t lock;
};

/* `store` has packs/, `folder` is a snapshot's. 0, or -1 with a sentence on the heap in *what. */
int reader_open(struct reader *reader, const char *store, const char *folder, char **what);
void reader_close(struct reader *reader);

/*
 * A chunk of the snapshot by its number, into `out` (CHUNK_BYTES). Gives the number of its pages, or -1 with a sentence
 * that names chunk and pack.
 */
int reader_chunk(struct reader *reader, uint64_t chunk, struct record_reader *records, uint8_t *out, char **what);

#endif
