#include "pager-map.h"

#include <stdlib.h>
#include <string.h>

static bool make_room(struct map_range **ranges, size_t count, size_t *room)
{
	size_t wanted = *room ? *room * 2 : 16;
	struct map_range *more;

	if (count < *room)
		return true;
	more = realloc(*ranges, wanted * sizeof(**ranges));
	if (!more)
		return false;
	*ranges = more;
	*room = wanted;
	return true;
}

/* The first range that ends after the address. */
static size_t range_after(const struct page_map *map, uint64_t address)
{
	size_t low = 0, high = map->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (map->ranges[middle].address + map->ranges[middle].pages * PAGE_BYTES <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool insert_range(struct page_map *map, size_t at, struct map_range range)
{
	if (!make_room(&map->ranges, map->count, &map->room))
		return false;
	memmove(map->ranges + at + 1, map->ranges + at, (map->count - at) * sizeof(range));
	map->ranges[at] = range;
	map->count++;
	return true;
}

bool map_is_missing(const struct page_map *map, uint64_t page)
{
	uint64_t bit = page - map->first_page;

	return (map->missing_bits[bit / 64] >> bit % 64 & 1) != 0;
}

static void set_missing(struct page_map *map, uint64_t page)
{
	uint64_t bit = page - map->first_page;

	if (!map_is_missing(map, page)) {
		map->missing_bits[bit / 64] |= 1ull << bit % 64;
		map->missing++;
	}
}

void map_done(struct page_map *map, uint64_t page)
{
	uint64_t bit = page - map->first_page;

	if (map_is_missing(map, page)) {
		map->missing_bits[bit / 64] &= ~(1ull << bit % 64);
		map->missing--;
	}
}

bool map_open(struct page_map *map, const struct snapshot_image *image)
{
	memset(map, 0, sizeof(*map));
	map->first_page = image->first_page;
	map->pages = image->pages;
	map->missing_bits = calloc(image->pages / 64 + 1, sizeof(uint64_t));
	if (!map->missing_bits)
		return false;
	for (uint64_t i = 0; i < image->count; i++) {
		const struct pages_entry *entry = &image->entries[i];

		if (!(entry->flags & ENTRY_LAZY))
			continue;
		if (!insert_range(map, map->count,
				  (struct map_range){ entry->vaddr, entry->pages, entry->first_page })) {
			map_close(map);
			return false;
		}
		for (uint64_t page = 0; page < entry->pages; page++)
			set_missing(map, entry->first_page + page);
	}
	return true;
}

void map_close(struct page_map *map)
{
	free(map->ranges);
	free(map->past);
	free(map->missing_bits);
	memset(map, 0, sizeof(*map));
}

/* Takes [address, end) out of the ranges, splitting at both ends; what was there goes to `taken` where that is given. */
static bool cut(struct page_map *map, uint64_t address, uint64_t end, struct page_map *taken)
{
	size_t at = range_after(map, address);

	while (at < map->count && map->ranges[at].address < end) {
		struct map_range range = map->ranges[at];
		uint64_t range_end = range.address + range.pages * PAGE_BYTES;
		uint64_t from = range.address > address ? range.address : address;
		uint64_t to = range_end < end ? range_end : end;
		struct map_range out = { from, (to - from) / PAGE_BYTES, range.page + (from - range.address) / PAGE_BYTES };

		if (taken && !insert_range(taken, taken->count, out))
			return false;
		/* Its beginning stays in place; its end becomes a range of its own. */
		if (to < range_end &&
		    !insert_range(map, at + 1,
				  (struct map_range){ to, (range_end - to) / PAGE_BYTES,
						      range.page + (to - range.address) / PAGE_BYTES }))
			return false;
		if (from > range.address) {
			map->ranges[at].pages = (from - range.address) / PAGE_BYTES;
			at++;
		} else {
			memmove(map->ranges + at, map->ranges + at + 1, (map->count - at - 1) * sizeof(range));
			map->count--;
		}
	}
	return true;
}

static bool keep_past(struct page_map *map, const struct page_map *taken)
{
	for (size_t i = 0; i < taken->count; i++) {
		if (!make_room(&map->past, map->past_count, &map->past_room))
			return false;
		map->past[map->past_count++] = taken->ranges[i];
	}
	return true;
}

static uint64_t count_missing(const struct page_map *map, const struct map_range *range)
{
	uint64_t count = 0;

	for (uint64_t page = 0; page < range->pages; page++)
		count += map_is_missing(map, range->page + page);
	return count;
}

static void count_again(struct page_map *map)
{
	map->missing = 0;
	for (size_t i = 0; i < map->count; i++)
		map->missing += count_missing(map, &map->ranges[i]);
}

bool map_unmap(struct page_map *map, uint64_t address, uint64_t length)
{
	struct page_map taken = { 0 };
	bool fine = cut(map, address, address + length, &taken) && keep_past(map, &taken);

	/* Their bits stay, for a child that still has the pages; without a range nobody else looks at them. */
	for (size_t i = 0; i < taken.count; i++)
		map->missing -= count_missing(map, &taken.ranges[i]);
	free(taken.ranges);
	return fine;
}

bool map_remove(struct page_map *map, uint64_t address, uint64_t length)
{
	struct page_map taken = { 0 };
	bool fine = cut(map, address, address + length, &taken);

	for (size_t i = 0; i < taken.count; i++)
		map->missing -= count_missing(map, &taken.ranges[i]);
	free(taken.ranges);
	return fine;
}

bool map_move(struct page_map *map, uint64_t from, uint64_t to, uint64_t length)
{
	struct page_map taken = { 0 };
	bool fine = cut(map, from, from + length, &taken) && keep_past(map, &taken);

	/* Whatever was there is overwritten; the kernel has reported it as unmapped already. */
	fine = fine && map_unmap(map, to, length);
	for (size_t i = 0; i < taken.count && fine; i++) {
		taken.ranges[i].address += to - from;
		fine = insert_range(map, range_after(map, taken.ranges[i].address), taken.ranges[i]);
	}
	map->is_moved = map->is_moved || taken.count > 0;
	free(taken.ranges);
	return fine;
}

void map_forget_past(struct page_map *map)
{
	map->past_count = 0;
}

bool map_fork(struct page_map *child, const struct page_map *parent)
{
	size_t words = parent->pages / 64 + 1;

	*child = (struct page_map){ .first_page = parent->first_page,
				    .pages = parent->pages,
				    .missing = parent->missing,
				    .is_moved = parent->is_moved };
	child->missing_bits = malloc(words * sizeof(uint64_t));
	child->room = parent->count + 1;
	child->ranges = malloc(child->room * sizeof(*child->ranges));
	if (!child->missing_bits || !child->ranges) {
		map_close(child);
		return false;
	}
	memcpy(child->missing_bits, parent->missing_bits, words * sizeof(uint64_t));
	if (parent->count)
		memcpy(child->ranges, parent->ranges, parent->count * sizeof(*child->ranges));
	child->count = parent->count;
	return true;
}

bool map_restore(struct page_map *map, const struct map_range *range)
{
	bool fine = true;

	for (size_t i = 0; i < map->count && fine; i++) {
		struct map_range each = map->ranges[i];
		uint64_t from = each.page > range->page ? each.page : range->page;
		uint64_t each_end = each.page + each.pages, range_end = range->page + range->pages;
		uint64_t to = each_end < range_end ? each_end : range_end;

		if (from < to) {
			fine = cut(map, each.address + (from - each.page) * PAGE_BYTES,
				   each.address + (to - each.page) * PAGE_BYTES, NULL);
			i = SIZE_MAX; /* begins anew: ranges have changed */
		}
	}
	fine = fine && cut(map, range->address, range->address + range->pages * PAGE_BYTES, NULL) &&
	       insert_range(map, range_after(map, range->address), *range);
	map->is_moved = true;
	count_again(map);
	return fine;
}

bool map_find(const struct page_map *map, uint64_t address, uint64_t *page, uint64_t *follow)
{
	size_t at = range_after(map, address);
	uint64_t before;

	if (at >= map->count || map->ranges[at].address > address)
		return false;
	before = (address - map->ranges[at].address) / PAGE_BYTES;
	*page = map->ranges[at].page + before;
	*follow = map->ranges[at].pages - before;
	return true;
}

bool map_address(const struct page_map *map, uint64_t page, uint64_t *address)
{
	size_t first = 0, end = map->count;

	/* Until something was moved, addresses and pages rise together. */
	while (!map->is_moved && first + 1 < end) {
		size_t middle = first + (end - first) / 2;

		if (map->ranges[middle].page <= page)
			first = middle;
		else
			end = middle;
	}
	for (size_t i = first; i < end; i++) {
		const struct map_range *range = &map->ranges[i];

		if (page >= range->page && page < range->page + range->pages) {
			*address = range->address + (page - range->page) * PAGE_BYTES;
			return true;
		}
	}
	return false;
}

bool map_next_missing(const struct page_map *map, uint64_t address, uint64_t *found, uint64_t *page)
{
	for (size_t at = range_after(map, address); at < map->count; at++) {
		const struct map_range *range = &map->ranges[at];
		uint64_t skip = address > range->address ? (address - range->address) / PAGE_BYTES : 0;

		for (; skip < range->pages; skip++) {
			uint64_t bit = range->page + skip - map->first_page;
			uint64_t word = map->missing_bits[bit / 64] >> bit % 64;

			if (word == 0) {
				skip += 63 - bit % 64;
				continue;
			}
			skip += (uint64_t)__builtin_ctzll(word);
			if (skip >= range->pages)
				break;
			*page = range->page + skip;
			*found = range->address + skip * PAGE_BYTES;
			return true;
		}
	}
	return false;
}
