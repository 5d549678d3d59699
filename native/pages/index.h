/*
 * Where each chunk of a store lies: all packs of a folder, by their .idx files, which are mapped and not copied.
 * An .idx that is lost, damaged or of another length of pack is made anew from the headers of the pack's records,
 * and written beside the pack where that is possible (ID.idx.PID.new, fsync, rename); where it is not, it is kept in
 * memory.
 *
 * A pack in which something is damaged does not make the others unusable: index_pack_trouble() says what is wrong,
 * and what could be found in it nevertheless is known as usual. Nothing here looks at the chunks' bytes.
 *
 * All packs stay open until index_close(), so that one which recompression or sweeping removes meanwhile stays
 * readable. After index_open() all functions but index_refresh() may be called by several threads at once.
 */
#ifndef TORPOR_PAGES_INDEX_H
#define TORPOR_PAGES_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format.h"

struct index;

/* A record holds at most this, a nonce and a tag of encryption included. */
#define STORED_MOST (CHUNK_BYTES + CHUNK_BYTES / 128 + 512 + 28)

/* 0, or -1 with a sentence on the heap in *what. A folder that does not exist has no packs. */
int index_open(struct index **index, const char *packs_dir, char **what);
void index_close(struct index *index);
/*
 * Looks for packs that came since. Those known keep their numbers and stay readable, also where their files are gone.
 * No other thread may use the index meanwhile.
 */
int index_refresh(struct index *index, char **what);

/* The chunk's record, NULL where no pack has it. What it gives stays valid until index_close(). */
const struct idx_entry *index_find(const struct index *index, const uint8_t id[CHUNK_ID_BYTES], unsigned *pack);

unsigned index_packs(const struct index *index);
/* "ID.pack" */
const char *index_pack_name(const struct index *index, unsigned pack);
/* Open for reading only, for pread; -1 of a pack that could not be opened, which has no entries. */
int index_pack_fd(const struct index *index, unsigned pack);
uint64_t index_pack_bytes(const struct index *index, unsigned pack);
const struct pack_header *index_pack_header(const struct index *index, unsigned pack);
/* Sorted by id. */
const struct idx_entry *index_pack_entries(const struct index *index, unsigned pack, uint64_t *count);
/* What is damaged in it, as a sentence that names the pack and the offset; NULL where nothing is known to be. */
const char *index_pack_trouble(const struct index *index, unsigned pack);

/* Whether this can be a record's header that fits between `offset` and the pack's end. */
bool record_is_sane(const struct record_header *record, uint64_t offset, uint64_t pack_bytes);
/* The header that belongs to an entry. */
bool record_is_entry(const struct record_header *record, const struct idx_entry *entry);

/* Sorts the entries and writes them with header and digest to a descriptor; -1 and errno where that fails. */
int idx_write(int fd, const uint8_t pack_id[PACK_ID_BYTES], uint64_t pack_bytes, struct idx_entry *entries,
	      uint64_t count);

#endif
