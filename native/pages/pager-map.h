/*
 * Which pages of a process are still missing and at which addresses, as the process moves and removes them. Ranges say
 * where pages are; a bit for each page of the image says whether it is missing, so that fetching in any order makes
 * the ranges no more. Nothing here calls the kernel.
 */
#ifndef TORPOR_PAGES_PAGER_MAP_H
#define TORPOR_PAGES_PAGER_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot.h"

struct map_range {
	uint64_t address;
	uint64_t pages;
	uint64_t page; /* the first one's number in the snapshot */
};

struct page_map {
	struct map_range *ranges; /* sorted by address, never overlapping */
	size_t count, room;
	/*
	 * Ranges as they were before changes that a fork may have preceded: the kernel can report a fork after a change that
	 * another thread made after it. The child still has them then. The latest is the last.
	 */
	struct map_range *past;
	size_t past_count, past_room;
	uint64_t first_page, pages; /* of the image */
	uint64_t *missing_bits;
	uint64_t missing;
	bool is_moved; /* pages may be in another order than addresses */
};

/* All false only where there is no memory. */
bool map_open(struct page_map *map, const struct snapshot_image *image);
void map_close(struct page_map *map);
/* The past is not taken over; map_restore() gives the child a range of it that it turns out to have. */
bool map_fork(struct page_map *child, const struct page_map *parent);
bool map_restore(struct page_map *child, const struct map_range *range);

/* The page at an address, and how many follow it in its range (itself included); false where none is. */
bool map_find(const struct page_map *map, uint64_t address, uint64_t *page, uint64_t *follow);
/* Where a page is now. */
bool map_address(const struct page_map *map, uint64_t page, uint64_t *address);
bool map_is_missing(const struct page_map *map, uint64_t page);
/* The page, which some range has, is there. */
void map_done(struct page_map *map, uint64_t page);

/* The process unmapped this (it stays in the past), or removed what was in it. */
bool map_unmap(struct page_map *map, uint64_t address, uint64_t length);
bool map_remove(struct page_map *map, uint64_t address, uint64_t length);
bool map_move(struct page_map *map, uint64_t from, uint64_t to, uint64_t length);
/* No fork can be under way whose report is still to come. */
void map_forget_past(struct page_map *map);

/* The first missing page at `address` or after it; false where there is none. */
bool map_next_missing(const struct page_map *map, uint64_t address, uint64_t *found, uint64_t *page);

#endif
