/*
 * make-store STATE SNAPSHOT SEED PROCESSES MAPPINGS PAGES raw|lz4|zstd [random|text]: a store with one snapshot of a scene,
 * in several packs, with chunks that are windows and chunks of what was left of windows.
 */
#include <fcntl.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../common.h"
#include "../../pages/codec.h"
#include "../../pages/files.h"
#include "../../pages/hash.h"
#include "../../pages/index.h"
#include "scene.h"

#define PACK_CHUNKS 4096u

struct known {
	uint8_t id[CHUNK_ID_BYTES];
	uint32_t chunk;
};

static struct scene scene;
static const char *state;
static enum codec codec;
static struct codec_state *packer;

static FILE *pack;
static uint8_t pack_id[PACK_ID_BYTES];
static unsigned packs;
static uint64_t pack_bytes;
static struct idx_entry *entries;
static uint64_t entry_count;

static void *known_chunks;
static uint32_t chunk_count;
static FILE *chunks, *hashes;
static uint32_t *places;

static uint8_t rest[CHUNK_BYTES];
static uint64_t rest_pages[CHUNK_PAGES];
static unsigned rest_count;

static void end_pack(void)
{
	char name[PACK_NAME_ROOM];
	char *path;
	int fd;

	if (!pack)
		return;
	fclose(pack);
	pack_file_name(pack_id, ".idx", name);
	path = format_string("%s/packs/%s", state, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || idx_write(fd, pack_id, pack_bytes, entries, entry_count) < 0)
		die_with_error("writing %s", path);
	close(fd);
	free(path);
	entry_count = 0;
	pack = NULL;
}

static void begin_pack(void)
{
	struct pack_header header = { .magic = "TORPORPK", .version = PACKS_VERSION };
	char name[PACK_NAME_ROOM];
	char *path;
	uint8_t digest[32];
	uint64_t words[2] = { scene.seed, ++packs };

	sha256(words, sizeof(words), digest);
	memcpy(pack_id, digest, sizeof(pack_id));
	memcpy(header.id, pack_id, sizeof(pack_id));
	set_check(&header, sizeof(header));
	pack_file_name(pack_id, ".pack", name);
	path = format_string("%s/packs/%s", state, name);
	pack = fopen(path, "we");
	if (!pack || fwrite(&header, sizeof(header), 1, pack) != 1)
		die_with_error("writing %s", path);
	pack_bytes = sizeof(header);
	free(path);
}

static int by_id(const void *left, const void *right)
{
	return memcmp(left, right, CHUNK_ID_BYTES);
}

static void store_chunk(const uint8_t *bytes, unsigned pages, const uint64_t *numbers)
{
	static uint8_t out[CODEC_ROOM];
	uint8_t page_hashes[CHUNK_PAGES * PAGE_HASH_BYTES] = { 0 };
	struct record_header record = { .magic = RECORD_MAGIC, .pages = (uint8_t)pages };
	struct known *known = malloc(sizeof(*known)), **found;
	size_t stored;

	for (unsigned i = 0; i < pages; i++)
		hash_page(bytes + (size_t)i * PAGE_BYTES, page_hashes + (size_t)i * PAGE_HASH_BYTES);
	chunk_id(page_hashes, pages, known->id);
	known->chunk = chunk_count;
	found = tsearch(known, &known_chunks, by_id);
	for (unsigned i = 0; i < pages; i++)
		places[numbers[i]] = (*found)->chunk << 4 | i;
	if (*found != known) {
		free(known);
		return;
	}
	chunk_count++;
	fwrite(known->id, CHUNK_ID_BYTES, 1, chunks);
	if (pack && entry_count == PACK_CHUNKS)
		end_pack();
	if (!pack)
		begin_pack();
	record.codec = (uint8_t)codec_pack(packer, codec, bytes, (size_t)pages * PAGE_BYTES, out, &stored);
	record.stored = (uint32_t)stored;
	memcpy(record.id, known->id, CHUNK_ID_BYTES);
	set_check(&record, sizeof(record));
	entries[entry_count] = (struct idx_entry){
		.offset = pack_bytes, .stored = record.stored, .codec = record.codec, .pages = record.pages
	};
	memcpy(entries[entry_count++].id, known->id, CHUNK_ID_BYTES);
	if (fwrite(&record, sizeof(record), 1, pack) != 1 || fwrite(out, stored, 1, pack) != 1)
		die_with_error("writing a pack");
	pack_bytes += sizeof(record) + stored;
}

static void flush_rest(void)
{
	if (rest_count)
		store_chunk(rest, rest_count, rest_pages);
	rest_count = 0;
}

/* A window that has no zeros becomes a chunk; the pages of the others are collected, as are some windows for a change. */
static void store_window(const uint64_t *numbers, unsigned count, bool whole)
{
	static uint8_t bytes[CHUNK_BYTES];
	unsigned zeros = 0;

	for (unsigned i = 0; i < count; i++) {
		make_page(&scene, numbers[i], bytes + (size_t)i * PAGE_BYTES);
		zeros += page_is_zero(bytes + (size_t)i * PAGE_BYTES);
	}
	if (whole && zeros == 0 && (scene.kinds || mix(numbers[0]) % 4 != 0)) {
		store_chunk(bytes, count, numbers);
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		uint8_t *page = bytes + (size_t)i * PAGE_BYTES;

		if (page_is_zero(page)) {
			places[numbers[i]] = PLACE_ZERO;
			continue;
		}
		memcpy(rest + (size_t)rest_count * PAGE_BYTES, page, PAGE_BYTES);
		rest_pages[rest_count++] = numbers[i];
		if (rest_count == CHUNK_PAGES)
			flush_rest();
	}
}

static FILE *open_file(const char *folder, const char *name)
{
	char *path = format_string("%s/pages/%s", folder, name);
	FILE *file = fopen(path, "we");

	if (!file)
		die_with_error("opening %s", path);
	free(path);
	return file;
}

int main(int argc, char **argv)
{
	const char *snapshot = argv[2];
	FILE *entry_file, *place_file;
	uint64_t total;

	if (argc < 8)
		die("usage: make-store STATE SNAPSHOT SEED PROCESSES MAPPINGS PAGES CODEC [random|text]");
	state = argv[1];
	scene = (struct scene){ strtoull(argv[3], NULL, 10), (unsigned)atoi(argv[4]), (unsigned)atoi(argv[5]),
				strtoull(argv[6], NULL, 10), argc > 8 ? argv[8] : NULL };
	codec = strcmp(argv[7], "zstd") == 0 ? CODEC_ZSTD : strcmp(argv[7], "lz4") == 0 ? CODEC_LZ4 : CODEC_RAW;
	packer = codec_open(1);
	mkdir(state, 0700);
	mkdir(format_string("%s/packs", state), 0700);
	mkdir(snapshot, 0700);
	mkdir(format_string("%s/pages", snapshot), 0700);
	entry_file = open_file(snapshot, "entries");
	place_file = open_file(snapshot, "places");
	hashes = open_file(snapshot, "hashes");
	chunks = open_file(snapshot, "chunks");
	total = scene.processes * scene.mappings * scene.pages;
	places = calloc(total, sizeof(*places));
	entries = calloc(PACK_CHUNKS, sizeof(*entries));
	for (unsigned process = 0; process < scene.processes; process++) {
		struct pages_image image = { .kind = PAGES_IMAGE, .pages_id = process + 1,
					     .dst_id = (uint64_t)(FIRST_PID + process) << 8 | 1,
					     .first_page = page_number(&scene, process, 0, 0) };

		fwrite(&image, sizeof(image), 1, entry_file);
		for (unsigned mapping = 0; mapping < scene.mappings; mapping++) {
			uint64_t vaddr = mapping_address(mapping), numbers[CHUNK_PAGES];
			struct pages_entry entry = { .kind = PAGES_ENTRY, .flags = ENTRY_LAZY | ENTRY_PRESENT, .vaddr = vaddr,
						     .pages = scene.pages,
						     .first_page = page_number(&scene, process, mapping, 0) };
			unsigned count = 0;

			fwrite(&entry, sizeof(entry), 1, entry_file);
			for (uint64_t page = 0; page < scene.pages; page++) {
				numbers[count++] = entry.first_page + page;
				if ((vaddr / PAGE_BYTES + page) % CHUNK_PAGES == CHUNK_PAGES - 1 || page + 1 == scene.pages) {
					store_window(numbers, count, count == CHUNK_PAGES);
					count = 0;
				}
			}
		}
	}
	flush_rest();
	end_pack();
	for (uint64_t number = 0; number < total; number++) {
		uint8_t page[PAGE_BYTES], hash[PAGE_HASH_BYTES] = { 0 };

		make_page(&scene, number, page);
		if (!page_is_zero(page))
			hash_page(page, hash);
		fwrite(hash, sizeof(hash), 1, hashes);
	}
	fwrite(places, sizeof(*places), total, place_file);
	if (fclose(entry_file) || fclose(place_file) || fclose(hashes) || fclose(chunks))
		die_with_error("writing the snapshot");
	return 0;
}
