#include "parent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common.h"

_Static_assert(sizeof(struct pages_image) == sizeof(struct pages_entry), "both are records of the same file");

struct parent_image {
	uint64_t dst_id;
	uint64_t first; /* its first entry's record, and one after the last */
	uint64_t end;
};

bool map_file(const char *path, size_t unit, const void **start, size_t *bytes, char **what)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat status;

	*start = NULL;
	*bytes = 0;
	if (fd < 0 || fstat(fd, &status) != 0) {
		*what = format_string("%s cannot be opened: %s", path, strerror(errno));
		return false;
	}
	if (!S_ISREG(status.st_mode) || (uint64_t)status.st_size % unit != 0) {
		*what = format_string("%s has %lld bytes, which is no multiple of %zu: it is damaged", path,
				      (long long)status.st_size, unit);
		return false;
	}
	if (status.st_size == 0)
		return true;
	*start = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (*start == MAP_FAILED) {
		*start = NULL;
		*what = format_string("%s cannot be mapped: %s", path, strerror(errno));
		return false;
	}
	*bytes = (size_t)status.st_size;
	return true;
}

void parent_close(struct parent *parent)
{
	for (size_t i = 0; i < sizeof(parent->maps) / sizeof(parent->maps[0]); i++) {
		if (parent->maps[i].start)
			munmap(parent->maps[i].start, parent->maps[i].bytes);
	}
	free(parent->images);
	memset(parent, 0, sizeof(*parent));
}

static bool add_image(struct parent *parent, const struct pages_image *image, uint64_t record)
{
	struct parent_image *more = reallocarray(parent->images, parent->image_count + 1, sizeof(*more));

	if (!more)
		return false;
	parent->images = more;
	parent->images[parent->image_count++] =
		(struct parent_image){ .dst_id = image->dst_id, .first = record + 1, .end = record + 1 };
	return true;
}

static bool is_known(const struct parent *parent, uint64_t dst_id)
{
	for (unsigned i = 0; i < parent->image_count; i++) {
		if (parent->images[i].dst_id == dst_id)
			return true;
	}
	return false;
}

/* NULL, or what is wrong with the records. */
static const char *examine(struct parent *parent, uint64_t *record)
{
	uint64_t page = 0, address = 0;

	for (*record = 0; *record < parent->record_count; ++*record) {
		const struct pages_entry *entry = &parent->records[*record];

		if (entry->kind == PAGES_IMAGE) {
			const struct pages_image *image = (const struct pages_image *)entry;

			if (image->first_page != page || is_known(parent, image->dst_id))
				return "it begins an image where none can begin";
			if (!add_image(parent, image, *record))
				return "there is not enough memory";
			address = 0;
			continue;
		}
		if (entry->kind != PAGES_ENTRY || parent->image_count == 0)
			return "it is of no known kind";
		if (entry->vaddr % PAGE_BYTES != 0 || entry->vaddr < address || entry->pages == 0 ||
		    entry->pages > (UINT64_MAX - entry->vaddr) / PAGE_BYTES)
			return "its addresses are in no order";
		if (entry->first_page != page || entry->pages > parent->pages - page)
			return "its pages are not there";
		page += entry->pages;
		address = entry->vaddr + entry->pages * PAGE_BYTES;
		parent->images[parent->image_count - 1].end = *record + 1;
	}
	return page == parent->pages ? NULL : "pages are left over after it";
}

int parent_open(struct parent *parent, const char *snapshot, char **what)
{
	static const struct {
		const char *name;
		size_t unit;
	} files[4] = { { "entries", sizeof(struct pages_entry) },
		       { "places", sizeof(page_place) },
		       { "hashes", PAGE_HASH_BYTES },
		       { "chunks", CHUNK_ID_BYTES } };
	const void *starts[4] = { NULL };

	memset(parent, 0, sizeof(*parent));
	for (size_t i = 0; i < 4; i++) {
		CLEANUP_FREE char *path = format_string("%s/pages/%s", snapshot, files[i].name);

		if (!map_file(path, files[i].unit, &starts[i], &parent->maps[i].bytes, what)) {
			parent_close(parent);
			return -1;
		}
		parent->maps[i].start = (void *)(uintptr_t)starts[i];
	}
	parent->records = starts[0];
	parent->record_count = parent->maps[0].bytes / files[0].unit;
	parent->places = starts[1];
	parent->pages = parent->maps[1].bytes / files[1].unit;
	parent->hashes = starts[2];
	parent->ids = starts[3];
	parent->chunks = parent->maps[3].bytes / files[3].unit;
	if (parent->maps[2].bytes / PAGE_HASH_BYTES != parent->pages) {
		*what = format_string("%s/pages/hashes is of %zu pages, and places of %llu: one of them is damaged",
				      snapshot, parent->maps[2].bytes / PAGE_HASH_BYTES,
				      (unsigned long long)parent->pages);
		parent_close(parent);
		return -1;
	}
	uint64_t record;
	const char *wrong = examine(parent, &record);

	if (!wrong)
		return 0;
	*what = format_string("%s/pages/entries is damaged at record %llu: %s", snapshot, (unsigned long long)record,
			      wrong);
	parent_close(parent);
	return -1;
}

struct parent_cursor parent_seek(const struct parent *parent, uint64_t dst_id, uint64_t vaddr)
{
	struct parent_cursor cursor = { .parent = parent };

	for (unsigned i = 0; i < parent->image_count; i++) {
		if (parent->images[i].dst_id != dst_id)
			continue;
		uint64_t low = parent->images[i].first, high = parent->images[i].end;

		cursor.end = parent->records + high;
		while (low < high) {
			uint64_t middle = low + (high - low) / 2;
			const struct pages_entry *entry = &parent->records[middle];

			if (entry->vaddr + entry->pages * PAGE_BYTES <= vaddr)
				low = middle + 1;
			else
				high = middle;
		}
		cursor.next = parent->records + low;
		break;
	}
	return cursor;
}

bool parent_page(struct parent_cursor *cursor, uint64_t vaddr, uint64_t *page)
{
	while (cursor->next < cursor->end && cursor->next->vaddr + cursor->next->pages * PAGE_BYTES <= vaddr)
		cursor->next++;
	if (cursor->next >= cursor->end || cursor->next->vaddr > vaddr)
		return false;
	*page = cursor->next->first_page + (vaddr - cursor->next->vaddr) / PAGE_BYTES;
	return true;
}
