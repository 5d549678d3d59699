/* What a snapshot's folder pages/ says: which pages each process has, and in which chunk each lies (format.h). */
#ifndef TORPOR_PAGES_SNAPSHOT_H
#define TORPOR_PAGES_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format.h"

/* A record of `entries` and the entries that follow it. */
struct snapshot_image {
	uint32_t pages_id;
	uint64_t dst_id;
	uint64_t first_page;
	uint64_t pages;
	const struct pages_entry *entries;
	uint64_t count;
};

/* Everything is mapped from the files and has been checked: no entry, place or chunk leads beyond what is there. */
struct snapshot {
	struct snapshot_image *images;
	unsigned image_count;
	const page_place *places;
	uint64_t pages;
	const uint8_t (*chunks)[CHUNK_ID_BYTES];
	uint64_t chunk_count;
	const uint8_t (*hashes)[PAGE_HASH_BYTES];
	struct snapshot_map {
		const void *start;
		size_t length;
	} maps[4];
};

/* 0, or -1 with a sentence on the heap in *what. */
int snapshot_open(struct snapshot *snapshot, const char *folder, char **what);
void snapshot_close(struct snapshot *snapshot);

/* The image with that pages-N.img; NULL where there is none. */
const struct snapshot_image *snapshot_by_pages_id(const struct snapshot *snapshot, uint32_t pages_id);
const struct snapshot_image *snapshot_by_dst_id(const struct snapshot *snapshot, uint64_t dst_id);

/* Where one looks in the pages of one process (or shared memory), in ascending order of addresses. */
struct snapshot_cursor {
	const struct snapshot *snapshot;
	const struct pages_entry *next;
	const struct pages_entry *end;
};

/* At the first page that lies at `vaddr` or above. */
struct snapshot_cursor snapshot_seek(const struct snapshot *snapshot, uint64_t dst_id, uint64_t vaddr);
/* The number of the page at this address; false where there is none. Addresses must not descend. */
bool snapshot_page(struct snapshot_cursor *cursor, uint64_t vaddr, uint64_t *page);
/* The place of a page, and whether it is one still: the disk may give other bytes than when it was checked. */
bool snapshot_place(const struct snapshot *snapshot, uint64_t page, page_place *place);

/* The entry that has a page, by its number; there is one for each. */
const struct pages_entry *snapshot_entry(const struct snapshot *snapshot, uint64_t page);

/* Checks what has been read of `entries`; images are put on the heap. */
int snapshot_read_entries(struct snapshot *snapshot, const void *bytes, size_t length, char **what);

#endif
