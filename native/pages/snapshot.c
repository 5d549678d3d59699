#include "snapshot.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../common.h"
#include "files.h"

/* No process has memory beyond this; so sums of addresses and lengths never overflow. */
#define ADDRESS_LIMIT (1ull << 57)

enum { MAP_ENTRIES, MAP_PLACES, MAP_HASHES, MAP_CHUNKS };
static const char *const map_names[] = { "entries", "places", "hashes", "chunks" };

static bool entry_fits(const struct snapshot_image *image, const struct pages_entry *entry, uint64_t all_pages)
{
	const struct pages_entry *last = image->count ? &image->entries[image->count - 1] : NULL;

	return (entry->flags & ~(ENTRY_LAZY | ENTRY_PRESENT)) == 0 && (entry->flags & ENTRY_PRESENT) != 0 &&
	       entry->pages > 0 && entry->pages <= all_pages && entry->vaddr % PAGE_BYTES == 0 &&
	       entry->vaddr < ADDRESS_LIMIT && entry->pages < ADDRESS_LIMIT / PAGE_BYTES &&
	       entry->first_page == image->first_page + image->pages &&
	       (!last || entry->vaddr >= last->vaddr + last->pages * PAGE_BYTES);
}

int snapshot_read_entries(struct snapshot *snapshot, const void *bytes, size_t length, char **what)
{
	const struct pages_entry *records = bytes;
	size_t count = length / sizeof(*records);
	struct snapshot_image *image = NULL;
	uint64_t pages = 0;
	unsigned images = 0;

	_Static_assert(sizeof(struct pages_image) == sizeof(struct pages_entry), "records have one size");
	for (size_t i = 0; i < count; i++)
		images += records[i].kind == PAGES_IMAGE;
	snapshot->images = calloc(images ? images : 1, sizeof(*snapshot->images));
	if (!snapshot->images) {
		*what = format_string("no memory for %u images", images);
		return -1;
	}
	for (size_t i = 0; i < count; i++) {
		bool sane = false;

		if (records[i].kind == PAGES_IMAGE) {
			const struct pages_image *record = (const struct pages_image *)&records[i];

			sane = record->first_page == pages &&
			       !snapshot_by_pages_id(snapshot, record->pages_id) &&
			       !snapshot_by_dst_id(snapshot, record->dst_id);
			image = &snapshot->images[snapshot->image_count++];
			*image = (struct snapshot_image){ .pages_id = record->pages_id,
							  .dst_id = record->dst_id,
							  .first_page = pages,
							  .entries = &records[i + 1] };
		} else if (records[i].kind == PAGES_ENTRY && image) {
			sane = entry_fits(image, &records[i], snapshot->pages);
			if (sane) {
				image->count++;
				image->pages += records[i].pages;
				pages += records[i].pages;
			}
		}
		if (!sane || pages > snapshot->pages) {
			*what = format_string("record %zu of pages/entries makes no sense", i);
			return -1;
		}
	}
	if (pages != snapshot->pages) {
		*what = format_string("pages/entries has %llu pages, pages/places %llu", (unsigned long long)pages,
				      (unsigned long long)snapshot->pages);
		return -1;
	}
	return 0;
}

int snapshot_open(struct snapshot *snapshot, const char *folder, char **what)
{
	static const size_t records[] = { sizeof(struct pages_entry), sizeof(page_place), PAGE_HASH_BYTES,
					  CHUNK_ID_BYTES };

	memset(snapshot, 0, sizeof(*snapshot));
	for (unsigned which = 0; which < 4; which++) {
		CLEANUP_FREE char *path = format_string("%s/pages/%s", folder, map_names[which]);

		if (!map_file(path, records[which], &snapshot->maps[which].start, &snapshot->maps[which].length, what))
			goto failed;
	}
	snapshot->places = snapshot->maps[MAP_PLACES].start;
	snapshot->pages = snapshot->maps[MAP_PLACES].length / sizeof(page_place);
	snapshot->hashes = snapshot->maps[MAP_HASHES].start;
	snapshot->chunks = snapshot->maps[MAP_CHUNKS].start;
	snapshot->chunk_count = snapshot->maps[MAP_CHUNKS].length / CHUNK_ID_BYTES;
	if (snapshot->maps[MAP_HASHES].length / PAGE_HASH_BYTES != snapshot->pages) {
		*what = format_string("%s/pages has places of %llu pages and hashes of %zu", folder,
				      (unsigned long long)snapshot->pages,
				      snapshot->maps[MAP_HASHES].length / PAGE_HASH_BYTES);
		goto failed;
	}
	for (uint64_t page = 0; page < snapshot->pages; page++) {
		page_place place = snapshot->places[page];

		if (place != PLACE_ZERO && place / CHUNK_PAGES >= snapshot->chunk_count) {
			*what = format_string("%s/pages/places has page %llu in chunk %u, and there are %llu chunks", folder,
					      (unsigned long long)page, place / CHUNK_PAGES,
					      (unsigned long long)snapshot->chunk_count);
			goto failed;
		}
	}
	if (snapshot_read_entries(snapshot, snapshot->maps[MAP_ENTRIES].start, snapshot->maps[MAP_ENTRIES].length,
				  what) < 0)
		goto failed;
	return 0;
failed:
	snapshot_close(snapshot);
	return -1;
}

void snapshot_close(struct snapshot *snapshot)
{
	for (unsigned which = 0; which < 4; which++) {
		if (snapshot->maps[which].start)
			munmap((void *)(uintptr_t)snapshot->maps[which].start, snapshot->maps[which].length);
	}
	free(snapshot->images);
	memset(snapshot, 0, sizeof(*snapshot));
}

const struct snapshot_image *snapshot_by_pages_id(const struct snapshot *snapshot, uint32_t pages_id)
{
	for (unsigned i = 0; i < snapshot->image_count; i++) {
		if (snapshot->images[i].pages_id == pages_id)
			return &snapshot->images[i];
	}
	return NULL;
}

const struct snapshot_image *snapshot_by_dst_id(const struct snapshot *snapshot, uint64_t dst_id)
{
	for (unsigned i = 0; i < snapshot->image_count; i++) {
		if (snapshot->images[i].dst_id == dst_id)
			return &snapshot->images[i];
	}
	return NULL;
}

const struct pages_entry *snapshot_entry(const struct snapshot *snapshot, uint64_t page)
{
	const struct snapshot_image *image = snapshot->images;

	while (page >= image->first_page + image->pages)
		image++;
	uint64_t low = 0, high = image->count - 1;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (image->entries[middle].first_page + image->entries[middle].pages <= page)
			low = middle + 1;
		else
			high = middle;
	}
	return &image->entries[low];
}

struct snapshot_cursor snapshot_seek(const struct snapshot *snapshot, uint64_t dst_id, uint64_t vaddr)
{
	const struct snapshot_image *image = snapshot_by_dst_id(snapshot, dst_id);
	struct snapshot_cursor cursor = { .snapshot = snapshot };
	uint64_t low = 0, high = image ? image->count : 0;

	if (!image)
		return cursor;
	cursor.end = image->entries + high;
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		const struct pages_entry *entry = &image->entries[middle];

		if (entry->vaddr + entry->pages * PAGE_BYTES <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	cursor.next = image->entries + low;
	return cursor;
}

bool snapshot_page(struct snapshot_cursor *cursor, uint64_t vaddr, uint64_t *page)
{
	while (cursor->next < cursor->end && cursor->next->vaddr + cursor->next->pages * PAGE_BYTES <= vaddr)
		cursor->next++;
	if (cursor->next >= cursor->end || cursor->next->vaddr > vaddr)
		return false;
	*page = cursor->next->first_page + (vaddr - cursor->next->vaddr) / PAGE_BYTES;
	return true;
}

bool snapshot_place(const struct snapshot *snapshot, uint64_t page, page_place *place)
{
	*place = snapshot->places[page];
	return *place == PLACE_ZERO || *place / CHUNK_PAGES < snapshot->chunk_count;
}
