/*
 * The pages of an earlier snapshot, from its folder pages/ (format.h). Its files are mapped, not read, and everything
 * that they say is checked before it is believed.
 */
#ifndef TORPOR_PAGES_PARENT_H
#define TORPOR_PAGES_PARENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format.h"

struct parent {
	const struct pages_entry *records; /* `entries`, the images' records among them */
	uint64_t record_count;
	const page_place *places;
	const uint8_t *hashes;
	uint64_t pages;
	const uint8_t *ids; /* `chunks` */
	uint64_t chunks;
	struct parent_image *images;
	unsigned image_count;
	struct {
		void *start;
		size_t bytes;
	} maps[4];
};

/* 0, or -1 with a sentence on the heap in *what. */
int parent_open(struct parent *parent, const char *snapshot, char **what);
void parent_close(struct parent *parent);

/* Where one looks in the pages of one process (or shared memory), in ascending order of addresses. */
struct parent_cursor {
	const struct parent *parent;
	const struct pages_entry *next;
	const struct pages_entry *end;
};

/* At the first page that lies at `vaddr` or above. */
struct parent_cursor parent_seek(const struct parent *parent, uint64_t dst_id, uint64_t vaddr);
/* The number of the page at this address; false where there is none. Addresses must not descend. */
bool parent_page(struct parent_cursor *cursor, uint64_t vaddr, uint64_t *page);

/* The place of a page and whether it is one that the snapshot's chunks can have. */
static inline bool parent_place(const struct parent *parent, uint64_t page, page_place *place)
{
	*place = parent->places[page];
	return *place == PLACE_ZERO || *place / CHUNK_PAGES < parent->chunks;
}

static inline const uint8_t *parent_chunk(const struct parent *parent, page_place place)
{
	return parent->ids + (uint64_t)(place / CHUNK_PAGES) * CHUNK_ID_BYTES;
}

static inline const uint8_t *parent_hash(const struct parent *parent, uint64_t page)
{
	return parent->hashes + page * PAGE_HASH_BYTES;
}

/* Maps a whole file for reading; NULL and *bytes = 0 where it is empty. false with a sentence where that fails. */
bool map_file(const char *path, size_t unit, const void **start, size_t *bytes, char **what);

#endif
