/* A record of a pack, read and compared with what it must be. */
#ifndef TORPOR_PAGES_RECORD_H
#define TORPOR_PAGES_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "codec.h"
#include "crypt.h"
#include "index.h"

struct record_reader {
	struct codec_state *codec;
	uint8_t *stored; /* header and stored bytes */
	uint8_t *bytes;	 /* the chunk */
	struct crypt *crypt;
	uint8_t *opened; /* stored bytes that were encrypted */
	bool has_bytes;	 /* false where they are encrypted by a key that is not known */
};

void record_reader_open(struct record_reader *reader, int zstd_level);
void record_reader_close(struct record_reader *reader);

/*
 * Reads a record; its bytes are unpacked and compared with the chunk's id. Of one that is
 * encrypted by a key that is not known only the header can be looked at; `has_bytes` tells. false with a sentence on the
 * heap that names pack and offset.
 */
bool record_read(struct record_reader *reader, const struct index *index, unsigned pack, const struct idx_entry *entry,
		 char **what);

/* Bytes of the record in the pack. */
static inline uint64_t record_bytes(const struct idx_entry *entry)
{
	return sizeof(struct record_header) + entry->stored;
}

/* The stored bytes that record_read() left. */
static inline uint8_t *record_stored(const struct record_reader *reader)
{
	return reader->stored + sizeof(struct record_header);
}

/* The pack's entries as they lie in it, on the heap; reading them so is reading the pack once from end to end. */
const struct idx_entry **entries_by_offset(const struct index *index, unsigned pack, uint64_t *count);

#endif
