#include "reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../common.h"
#include "files.h"
#include "hash.h"

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

int reader_thread_open(struct reader_thread *thread)
{
	thread->codec = codec_open(1);
	thread->stored = malloc(sizeof(struct record_header) + STORED_MOST);
	if (thread->codec && thread->stored)
		return 0;
	reader_thread_close(thread);
	return -1;
}

void reader_thread_close(struct reader_thread *thread)
{
	codec_close(thread->codec);
	free(thread->stored);
	*thread = (struct reader_thread){ 0 };
}

int read_record(const struct index *index, unsigned pack, const struct idx_entry *entry, struct reader_thread *thread,
		uint8_t *out, char **what)
{
	char id[2 * CHUNK_ID_BYTES + 1];
	const char *trouble;
	struct record_header record;
	size_t length = (size_t)entry->pages * PAGE_BYTES;

	/* Header and data in one read: they lie side by side. */
	if (entry->stored > STORED_MOST ||
	    !pread_all(index_pack_fd(index, pack), thread->stored, sizeof(record) + entry->stored, (off_t)entry->offset)) {
		trouble = entry->stored > STORED_MOST ? "its length makes no sense" : strerror(errno);
		goto bad;
	}
	memcpy(&record, thread->stored, sizeof(record));
	if (!record_is_sane(&record, entry->offset, index_pack_bytes(index, pack)) || !record_is_entry(&record, entry)) {
		trouble = "the head of its record is damaged";
		goto bad;
	}
	if (entry->flags & RECORD_ENCRYPTED) {
		trouble = "it is encrypted, and there is no key";
		goto bad;
	}
	if (!codec_unpack(thread->codec, entry->codec, thread->stored + sizeof(record), entry->stored, out, length) ||
	    !chunk_matches(out, entry->pages, entry->id)) {
		trouble = "its bytes are damaged";
		goto bad;
	}
	return 0;
bad:
	hex(entry->id, CHUNK_ID_BYTES, id);
	*what = format_string("chunk %s of pack %s at %llu cannot be read: %s", id, index_pack_name(index, pack),
			      (unsigned long long)entry->offset, trouble);
	return -1;
}

static int read_known(struct reader *reader, uint64_t chunk, struct reader_thread *thread, uint8_t *out, char **what)
{
	unsigned pack;
	const struct idx_entry *entry;
	int pages = -1;

	pthread_rwlock_rdlock(&reader->lock);
	entry = index_find(reader->index, reader->snapshot.chunks[chunk], &pack);
	if (entry && read_record(reader->index, pack, entry, thread, out, what) == 0)
		pages = entry->pages;
	pthread_rwlock_unlock(&reader->lock);
	return pages;
}

int reader_chunk(struct reader *reader, uint64_t chunk, struct reader_thread *thread, uint8_t *out, char **what)
{
	char id[2 * CHUNK_ID_BYTES + 1];
	CLEANUP_FREE char *trouble = NULL;
	int pages;

	*what = NULL;
	pages = read_known(reader, chunk, thread, out, what);
	if (pages > 0 || *what)
		return pages;
	/* Recompression may have put it into a pack that was not there when this began. */
	pthread_rwlock_wrlock(&reader->lock);
	index_refresh(reader->index, &trouble);
	pthread_rwlock_unlock(&reader->lock);
	pages = read_known(reader, chunk, thread, out, what);
	if (pages < 0 && !*what) {
		hex(reader->snapshot.chunks[chunk], CHUNK_ID_BYTES, id);
		*what = format_string("chunk %s is in no pack%s%s", id, trouble ? ": " : "", trouble ? trouble : "");
	}
	return pages;
}
