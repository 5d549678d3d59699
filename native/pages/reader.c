#include "reader.h"

#include <stdio.h>

#include "../common.h"

static void hex(const uint8_t *bytes, unsigned count, char *text)
{
	for (unsigned i = 0; i < count; i++)
		sprintf(text + 2 * i, "%02x", bytes[i]);
}

int reader_open(struct reader *reader, const char *store, const char *folder, char **what)
{
	CLEANUP_FREE char *packs = format_string("%s/packs", store);

	if (snapshot_open(&reader->snapshot, folder, what) < 0)
		return -1;
	if (index_open(&reader->index, packs, what) < 0) {
		snapshot_close(&reader->snapshot);
		return -1;
	}
	pthread_rwlock_init(&reader->lock, NULL);
	return 0;
}

void reader_close(struct reader *reader)
{
	index_close(reader->index);
	snapshot_close(&reader->snapshot);
	pthread_rwlock_destroy(&reader->lock);
}

static int read_known(struct reader *reader, uint64_t chunk, struct record_reader *records, uint8_t *out, char **what)
{
	CLEANUP_FREE char *trouble = NULL;
	char id[2 * CHUNK_ID_BYTES + 1];
	unsigned pack;
	const struct idx_entry *entry;
	int pages = -1;

	pthread_rwlock_rdlock(&reader->lock);
	entry = index_find(reader->index, reader->snapshot.chunks[chunk], &pack);
	if (entry) {
		uint8_t *own = records->bytes;

		/* Unpacked where it is wanted. */
		records->bytes = out;
		if (entry->flags & RECORD_ENCRYPTED)
			trouble = format_string("packs/%s is encrypted, and there is no key", index_pack_name(reader->index, pack));
		else if (record_read(records, reader->index, pack, entry, &trouble))
			pages = entry->pages <= CHUNK_PAGES ? entry->pages : -1;
		records->bytes = own;
	}
	pthread_rwlock_unlock(&reader->lock);
	if (trouble) {
		hex(reader->snapshot.chunks[chunk], CHUNK_ID_BYTES, id);
		*what = format_string("chunk %s cannot be read: %s", id, trouble);
	}
	return pages;
}

int reader_chunk(struct reader *reader, uint64_t chunk, struct record_reader *records, uint8_t *out, char **what)
{
	CLEANUP_FREE char *trouble = NULL;
	char id[2 * CHUNK_ID_BYTES + 1];
	int pages;

	*what = NULL;
	pages = read_known(reader, chunk, records, out, what);
	if (pages > 0 || *what)
		return pages;
	/* Recompression may have put it into a pack that was not there when this began. */
	pthread_rwlock_wrlock(&reader->lock);
	index_refresh(reader->index, &trouble);
	pthread_rwlock_unlock(&reader->lock);
	pages = read_known(reader, chunk, records, out, what);
	if (pages < 0 && !*what) {
		hex(reader->snapshot.chunks[chunk], CHUNK_ID_BYTES, id);
		*what = format_string("chunk %s is in no pack%s%s", id, trouble ? ": " : "", trouble ? trouble : "");
	}
	return pages;
}
