/*
 * Test program: reads snapshots with the code that resumes use, for as long as it is asked to, so that thousands of
 * stores can be read without as many processes. Takes lines "STORE<TAB>SNAPSHOT-FOLDER"; answers each with "ok" and the
 * SHA-256 of its pages-N.img one after the other, by N, or with "wrong" and why.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../native/common.h"
#include "../../../native/pages/hash.h"
#include "../../../native/pages/reader.h"

struct page_source {
	struct reader reader;
	struct record_reader records;
	uint64_t chunk; /* that is in `bytes` */
	int chunk_pages;
	uint8_t bytes[CHUNK_BYTES];
};

static const uint8_t *page_at(struct page_source *source, page_place place, char **what)
{
	static const uint8_t zeros[PAGE_BYTES];

	if (place == PLACE_ZERO)
		return zeros;
	if (source->chunk_pages <= 0 || source->chunk != place >> 4) {
		source->chunk = place >> 4;
		source->chunk_pages = reader_chunk(&source->reader, source->chunk, &source->records, source->bytes, what);
	}
	if (source->chunk_pages < 0)
		return NULL;
	if ((int)(place & 15) >= source->chunk_pages) {
		*what = format_string("chunk %llu has no page %u", (unsigned long long)source->chunk, place & 15);
		return NULL;
	}
	return source->bytes + (place & 15) * PAGE_BYTES;
}

static bool digest_of(struct page_source *source, uint8_t digest[32], char **what)
{
	const struct snapshot *snapshot = &source->reader.snapshot;
	struct sha256_stream *stream = sha256_begin();
	bool good = stream != NULL;

	for (unsigned id = 1; good && id <= snapshot->image_count; id++) {
		const struct snapshot_image *image = snapshot_by_pages_id(snapshot, id);

		for (uint64_t i = 0; good && image && i < image->pages; i++) {
			const uint8_t *page = page_at(source, snapshot->places[image->first_page + i], what);

			good = page != NULL;
			if (good)
				sha256_add(stream, page, PAGE_BYTES);
		}
	}
	if (stream)
		sha256_end(stream, digest);
	return good;
}

static void answer(struct page_source *source, const char *store, const char *folder)
{
	uint8_t digest[32];
	CLEANUP_FREE char *what = NULL;

	source->chunk_pages = 0;
	if (reader_open(&source->reader, store, folder, &what) < 0) {
		printf("wrong %s\n", what);
		return;
	}
	if (digest_of(source, digest, &what)) {
		printf("ok ");
		for (unsigned i = 0; i < sizeof(digest); i++)
			printf("%02x", digest[i]);
		printf("\n");
	} else {
		printf("wrong %s\n", what ? what : "there is no memory");
	}
	reader_close(&source->reader);
}

int main(void)
{
	static struct page_source source;
	CLEANUP_FREE char *line = NULL;
	size_t room = 0;
	ssize_t length;

	record_reader_open(&source.records, 1);
	while ((length = getline(&line, &room, stdin)) > 0) {
		line[length - 1] = 0;
		char *tab = strchr(line, '\t');

		if (!tab)
			return 2;
		*tab = 0;
		answer(&source, line, tab + 1);
		fflush(stdout);
	}
	record_reader_close(&source.records);
	return 0;
}
