/*
 * torpor-pages verify --store STATE --snapshot DIR [--read-data] [--subset N/M|P%]: whether everything that a snapshot
 * needs is in the packs; with --read-data its bytes are unpacked and compared with their hashes.
 *
 * torpor-pages check-packs --store STATE [--read-data] [--subset N/M|P%]: every pack by itself, also what no snapshot
 * needs.
 *
 * torpor-pages cat --store STATE --snapshot DIR --pages-id N: pages-N.img to standard output.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common.h"
#include "commands.h"
#include "files.h"
#include "hash.h"
#include "reader.h"
#include "report.h"

/* The part of the chunks that is read: those whose number has this rest. */
struct subset {
	uint64_t part, of;
};

static struct subset read_subset(const char *text)
{
	struct subset subset = { 0, 1 };
	char *end;
	unsigned long long first;

	if (!text)
		return subset;
	first = strtoull(text, &end, 10);
	if (*end == '%' && end[1] == '\0' && first >= 1 && first <= 100) {
		subset.of = 100 / first;
		/* Another part each time. */
		subset.part = (uint64_t)getpid() % subset.of;
		return subset;
	}
	subset.part = first - 1;
	if (*end == '/')
		subset.of = strtoull(end + 1, &end, 10);
	if (*end != '\0' || first < 1 || first > subset.of)
		fail("EINVAL", "--subset %s is neither a part, such as 1/10, nor a percentage, such as 5%%", text);
	return subset;
}

static void no_trouble(const struct index *index)
{
	for (unsigned pack = 0; pack < index_packs(index); pack++) {
		const char *trouble = index_pack_trouble(index, pack);

		if (trouble)
			fail("EBADMSG", "%s", trouble);
	}
}

int cmd_check_packs(int argc, char **argv)
{
	struct arguments arguments = { argc - 1, argv + 1 };
	const char *store = argument_needed(&arguments, "--store");
	bool read_data = argument_flag(&arguments, "--read-data");
	struct subset subset = read_subset(argument(&arguments, "--subset"));
	CLEANUP_FREE char *packs = format_string("%s/packs", store);
	struct record_reader records;
	struct index *index;
	uint64_t bytes = 0, chunks = 0;
	char *what;

	arguments_end(&arguments);
	if (index_open(&index, packs, &what) < 0)
		fail("EBADMSG", "%s", what);
	no_trouble(index);
	record_reader_open(&records, 1);
	for (unsigned pack = 0; pack < index_packs(index); pack++) {
		uint64_t count, at = sizeof(struct pack_header);
		const struct idx_entry **entries = entries_by_offset(index, pack, &count);

		for (uint64_t i = 0; i < count; i++) {
			struct record_header record;

			/* Records lie side by side, so that every byte of the pack belongs to one. */
			if (entries[i]->offset != at)
				fail("EBADMSG", "packs/%s at offset %llu: no record that the index knows",
				     index_pack_name(index, pack), (unsigned long long)at);
			at += record_bytes(entries[i]);
			if (read_data && chunks % subset.of == subset.part) {
				if (!record_read(&records, index, pack, entries[i], &what))
					fail("EBADMSG", "%s", what);
				bytes += record_bytes(entries[i]);
			} else if (!pread_all(index_pack_fd(index, pack), &record, sizeof(record), (off_t)entries[i]->offset) ||
				   !record_is_sane(&record, entries[i]->offset, index_pack_bytes(index, pack)) ||
				   !record_is_entry(&record, entries[i])) {
				fail("EBADMSG", "packs/%s at offset %llu: the record's header is damaged",
				     index_pack_name(index, pack), (unsigned long long)entries[i]->offset);
			}
			chunks++;
		}
		if (at != index_pack_bytes(index, pack))
			fail("EBADMSG", "packs/%s at offset %llu: no record that the index knows", index_pack_name(index, pack),
			     (unsigned long long)at);
		free(entries);
	}
	report_line("{\"event\":\"done\",\"packs\":%u,\"chunks\":%llu,\"bytesRead\":%llu}", index_packs(index),
		    (unsigned long long)chunks, (unsigned long long)bytes);
	record_reader_close(&records);
	index_close(index);
	return 0;
}

/* A chunk that is needed, and where it lies: read in the order of the packs, they are read from end to end. */
struct needed {
	unsigned pack;
	uint64_t offset;
	uint32_t chunk;
	uint8_t pages; /* that some page refers to the last of, counted from 1 */
};

static int by_offset(const void *left, const void *right)
{
	const struct needed *a = left, *b = right;

	if (a->pack != b->pack)
		return a->pack < b->pack ? -1 : 1;
	return (a->offset > b->offset) - (a->offset < b->offset);
}

static struct needed *find_needed(const struct reader *reader)
{
	const struct snapshot *snapshot = &reader->snapshot;
	struct needed *needed = calloc(snapshot->chunk_count + 1, sizeof(*needed));

	if (!needed)
		fail("ENOMEM", "there is not enough memory for a list of %llu chunks",
		     (unsigned long long)snapshot->chunk_count);
	for (uint64_t page = 0; page < snapshot->pages; page++) {
		page_place place = snapshot->places[page];

		if (place != PLACE_ZERO && needed[place / CHUNK_PAGES].pages <= place % CHUNK_PAGES)
			needed[place / CHUNK_PAGES].pages = (uint8_t)(place % CHUNK_PAGES + 1);
	}
	for (uint64_t chunk = 0; chunk < snapshot->chunk_count; chunk++) {
		const struct idx_entry *entry = index_find(reader->index, snapshot->chunks[chunk], &needed[chunk].pack);
		struct record_header record;

		if (!entry) {
			/* In a pack that cannot be read, most likely. */
			no_trouble(reader->index);
			fail("EBADMSG", "chunk %llu of the snapshot is in no pack", (unsigned long long)chunk);
		}
		if (!pread_all(index_pack_fd(reader->index, needed[chunk].pack), &record, sizeof(record),
			       (off_t)entry->offset) ||
		    !record_is_sane(&record, entry->offset, index_pack_bytes(reader->index, needed[chunk].pack)) ||
		    !record_is_entry(&record, entry))
			fail("EBADMSG", "packs/%s at offset %llu: the record's header is damaged",
			     index_pack_name(reader->index, needed[chunk].pack), (unsigned long long)entry->offset);
		if (entry->pages < needed[chunk].pages)
			fail("EBADMSG", "packs/%s at offset %llu: a chunk of %u pages, of which page %u is needed",
			     index_pack_name(reader->index, needed[chunk].pack), (unsigned long long)entry->offset,
			     entry->pages, needed[chunk].pages);
		needed[chunk].offset = entry->offset;
		needed[chunk].chunk = (uint32_t)chunk;
	}
	qsort(needed, snapshot->chunk_count, sizeof(*needed), by_offset);
	return needed;
}

/* The hash of each page stands in the snapshot too; a chunk that is itself may still be at the wrong place. */
static void check_hashes(const struct snapshot *snapshot)
{
	for (uint64_t page = 0; page < snapshot->pages; page++) {
		static const uint8_t zeros[PAGE_HASH_BYTES];
		bool is_zero = memcmp(snapshot->hashes[page], zeros, sizeof(zeros)) == 0;

		if (is_zero != (snapshot->places[page] == PLACE_ZERO))
			fail("EBADMSG", "page %llu of the snapshot has a place and a hash that do not fit each other",
			     (unsigned long long)page);
	}
}

int cmd_verify(int argc, char **argv)
{
	struct arguments arguments = { argc - 1, argv + 1 };
	const char *store = argument_needed(&arguments, "--store");
	const char *folder = argument_needed(&arguments, "--snapshot");
	bool read_data = argument_flag(&arguments, "--read-data");
	struct subset subset = read_subset(argument(&arguments, "--subset"));
	struct record_reader records;
	struct reader reader;
	struct needed *needed;
	uint64_t bytes = 0;
	char *what;

	arguments_end(&arguments);
	if (reader_open(&reader, store, folder, &what) < 0)
		fail("EBADMSG", "%s", what);
	check_hashes(&reader.snapshot);
	needed = find_needed(&reader);
	record_reader_open(&records, 1);
	for (uint64_t i = 0; read_data && i < reader.snapshot.chunk_count; i++) {
		unsigned pack;
		const struct idx_entry *entry = index_find(reader.index, reader.snapshot.chunks[needed[i].chunk], &pack);

		if (i % subset.of != subset.part)
			continue;
		if (!record_read(&records, reader.index, pack, entry, &what))
			fail("EBADMSG", "%s", what);
		bytes += record_bytes(entry);
	}
	report_line("{\"event\":\"done\",\"pages\":%llu,\"chunks\":%llu,\"bytesRead\":%llu}",
		    (unsigned long long)reader.snapshot.pages, (unsigned long long)reader.snapshot.chunk_count,
		    (unsigned long long)bytes);
	free(needed);
	record_reader_close(&records);
	reader_close(&reader);
	return 0;
}

int cmd_cat(int argc, char **argv)
{
	struct arguments arguments = { argc - 1, argv + 1 };
	const char *store = argument_needed(&arguments, "--store");
	const char *folder = argument_needed(&arguments, "--snapshot");
	const char *number = argument_needed(&arguments, "--pages-id");
	static uint8_t chunk[CHUNK_BYTES], zeros[PAGE_BYTES];
	uint64_t have = UINT64_MAX;
	const struct snapshot_image *image;
	struct record_reader records;
	struct reader reader;
	int pages = 0;
	char *what;

	arguments_end(&arguments);
	if (reader_open(&reader, store, folder, &what) < 0)
		fail("EBADMSG", "%s", what);
	image = snapshot_by_pages_id(&reader.snapshot, (uint32_t)strtoul(number, NULL, 10));
	if (!image)
		fail("ENOENT", "the snapshot has no pages-%s.img", number);
	record_reader_open(&records, 1);
	for (uint64_t page = image->first_page; page < image->first_page + image->pages; page++) {
		page_place place = reader.snapshot.places[page];
		const uint8_t *bytes = zeros;

		if (place != PLACE_ZERO) {
			if (place / CHUNK_PAGES != have)
				pages = reader_chunk(&reader, place / CHUNK_PAGES, &records, chunk, &what);
			have = place / CHUNK_PAGES;
			/* Standard output has the pages. */
			if (pages < 0)
				die("%s", what);
			if ((int)(place % CHUNK_PAGES) >= pages)
				die("page %llu lies beyond the end of its chunk", (unsigned long long)page);
			bytes = chunk + (size_t)(place % CHUNK_PAGES) * PAGE_BYTES;
		}
		if (fwrite(bytes, PAGE_BYTES, 1, stdout) != 1)
			die_with_error("writing to standard output");
	}
	if (fflush(stdout) != 0)
		die_with_error("writing to standard output");
	record_reader_close(&records);
	reader_close(&reader);
	return 0;
}
