#include "record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../common.h"
#include "files.h"
#include "hash.h"
#include "report.h"

void record_reader_open(struct record_reader *reader, int zstd_level)
{
	reader->codec = codec_open(zstd_level);
	reader->stored = malloc(sizeof(struct record_header) + STORED_MOST);
	reader->bytes = malloc(CHUNK_BYTES);
	if (!reader->codec || !reader->stored || !reader->bytes)
		fail("ENOMEM", "there is not enough memory to read packs");
}

void record_reader_close(struct record_reader *reader)
{
	codec_close(reader->codec);
	free(reader->stored);
	free(reader->bytes);
}

bool record_read(struct record_reader *reader, const struct index *index, unsigned pack, const struct idx_entry *known,
		 char **what)
{
	/* The index is mapped: what its file says was looked at when it was opened, and may be another thing by now. */
	const struct idx_entry copy = *known, *entry = &copy;
	struct record_header record;
	const char *wrong = NULL;

	if (entry->stored > STORED_MOST || entry->pages == 0 || entry->pages > CHUNK_PAGES) {
		wrong = "the pack's index is damaged";
	} else if (!pread_all(index_pack_fd(index, pack), reader->stored, record_bytes(entry), (off_t)entry->offset)) {
		wrong = strerror(errno);
	} else {
		memcpy(&record, reader->stored, sizeof(record));
		if (!record_is_sane(&record, entry->offset, index_pack_bytes(index, pack)) ||
		    !record_is_entry(&record, entry))
			wrong = "the record's header is damaged";
		else if (!(entry->flags & RECORD_ENCRYPTED) &&
			 (!codec_unpack(reader->codec, entry->codec, record_stored(reader), entry->stored, reader->bytes,
					(size_t)entry->pages * PAGE_BYTES) ||
			  !chunk_matches(reader->bytes, entry->pages, entry->id)))
			wrong = "the record's bytes are damaged";
	}
	if (!wrong)
		return true;
	*what = format_string("packs/%s at offset %llu: %s", index_pack_name(index, pack),
			      (unsigned long long)entry->offset, wrong);
	return false;
}

static int compare_offsets(const void *left, const void *right)
{
	const struct idx_entry *a = *(const struct idx_entry *const *)left, *b = *(const struct idx_entry *const *)right;

	return (a->offset > b->offset) - (a->offset < b->offset);
}

const struct idx_entry **entries_by_offset(const struct index *index, unsigned pack, uint64_t *count)
{
	const struct idx_entry *entries = index_pack_entries(index, pack, count);
	const struct idx_entry **sorted = calloc(*count + 1, sizeof(const struct idx_entry *));

	if (!sorted)
		fail("ENOMEM", "there is not enough memory to list packs/%s", index_pack_name(index, pack));
	for (uint64_t i = 0; i < *count; i++)
		sorted[i] = &entries[i];
	qsort(sorted, *count, sizeof(const struct idx_entry *), compare_offsets);
	return sorted;
}
