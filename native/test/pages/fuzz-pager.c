/*
 * fuzz-pager SEED SECONDS FOLDER: gives what the pager reads of others bytes that are nearly right: a snapshot's files, packs and
 * their indexes, requests of the mount; and its map of addresses changes in any order, beside a plain model of it. FOLDER
 * has state/ and snapshot/ of make-store, which are damaged and put right again. Built with sanitizers, which speak up.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../common.h"
#include "../../pages/pager-fuse.h"
#include "../../pages/pager-map.h"
#include "../../pages/pager.h"
#include "scene.h"

static uint64_t state;

static uint64_t dice(uint64_t sides)
{
	return (state = mix(state)) % sides;
}

/* Where the worker would go on. */
void worker_trouble(const char *what)
{
	(void)what;
}

int pool_chunk(struct pool *pool, struct record_reader *records, uint64_t chunk, uint8_t *out)
{
	CLEANUP_FREE char *what = NULL;

	return reader_chunk((struct reader *)pool, chunk, records, out, &what);
}

void pool_ahead(struct pool *pool, uint64_t chunk)
{
	(void)pool;
	(void)chunk;
}

static uint8_t *read_file(const char *path, size_t *length)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;
	uint8_t *bytes;

	if (fd < 0 || fstat(fd, &status) < 0)
		die_with_error("reading %s", path);
	*length = (size_t)status.st_size;
	bytes = malloc(*length + 64);
	if (read(fd, bytes, *length) != (ssize_t)*length)
		die_with_error("reading %s", path);
	close(fd);
	return bytes;
}

static void write_file(const char *path, const uint8_t *bytes, size_t length)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, bytes, length) != (ssize_t)length)
		die_with_error("writing %s", path);
	close(fd);
}

static void damage(uint8_t *bytes, size_t *length)
{
	for (uint64_t count = 1 + dice(4); count > 0 && *length > 0; count--) {
		size_t at = dice(2) ? dice(*length) : dice(*length < 256 ? *length : 256);

		switch (dice(4)) {
		case 0:
			bytes[at] ^= (uint8_t)(1u << dice(8));
			break;
		case 1:
			bytes[at] = (uint8_t[]){ 0, 1, 0x7f, 0x80, 0xff }[dice(5)];
			break;
		case 2:
			if (at + 8 <= *length)
				memset(bytes + at, dice(2) ? 0xff : 0, 8);
			break;
		default:
			if (dice(4) == 0)
				*length = at;
		}
	}
}

/* Whatever it says, it must not give anybody a page that is not what its hash says. */
static void read_everything(const char *store, const char *folder)
{
	struct record_reader records;
	struct reader reader;
	uint8_t *chunk = malloc(CHUNK_BYTES);
	char *what = NULL;

	if (reader_open(&reader, store, folder, &what) == 0) {
		record_reader_open(&records, 1);
		for (uint64_t i = 0; i < reader.snapshot.chunk_count && i < 40; i++) {
			char *trouble = NULL;

			reader_chunk(&reader, dice(reader.snapshot.chunk_count), &records, chunk, &trouble);
			free(trouble);
		}
		record_reader_close(&records);
		reader_close(&reader);
	}
	free(what);
	free(chunk);
}

static char *some_file(const char *folder)
{
	static const char *const names[] = { "entries", "places", "hashes", "chunks" };
	char *packs = format_string("%s/state/packs", folder), *path = NULL;
	DIR *directory;
	struct dirent *entry;
	uint64_t skip;

	if (dice(2)) {
		free(packs);
		return format_string("%s/snapshot/pages/%s", folder, names[dice(4)]);
	}
	directory = opendir(packs);
	skip = dice(4) + 2;
	while ((entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		free(path);
		path = format_string("%s/%s", packs, entry->d_name);
		if (skip-- == 0)
			break;
	}
	closedir(directory);
	free(packs);
	return path;
}

static void fuzz_files(const char *folder)
{
	CLEANUP_FREE char *path = some_file(folder);
	CLEANUP_FREE char *store = format_string("%s/state", folder);
	CLEANUP_FREE char *snapshot = format_string("%s/snapshot", folder);
	size_t length, damaged;
	CLEANUP_FREE uint8_t *right = read_file(path, &length);
	CLEANUP_FREE uint8_t *bytes = malloc(length + 64);

	memcpy(bytes, right, length);
	damaged = length;
	damage(bytes, &damaged);
	write_file(path, bytes, damaged);
	read_everything(store, snapshot);
	write_file(path, right, length);
}

static void fuzz_requests(struct fuse_serving *serving)
{
	static const uint32_t codes[] = { FUSE_INIT, FUSE_LOOKUP, FUSE_GETATTR, FUSE_OPEN, FUSE_OPENDIR, FUSE_READ,
					  FUSE_READDIR, FUSE_STATFS, FUSE_RELEASE, FUSE_FORGET, FUSE_INTERRUPT };
	size_t length = sizeof(struct fuse_in_header) + dice(100), answer;
	uint8_t *request = malloc(length); /* exactly so long, so that reading beyond is noticed */
	struct fuse_in_header head = { .len = (uint32_t)length, .opcode = codes[dice(11)], .unique = dice(1000),
				       .nodeid = dice(5) };

	if (dice(10) == 0)
		head.opcode = (uint32_t)dice(1ull << 32);
	for (size_t i = 0; i < length; i++)
		request[i] = (uint8_t)(dice(3) ? 0 : dice(256));
	memcpy(request, &head, sizeof(head));
	if ((head.opcode == FUSE_READ || head.opcode == FUSE_READDIR) &&
	    length >= sizeof(head) + sizeof(struct fuse_read_in)) {
		struct fuse_read_in in = { .offset = dice(3) ? dice(1 << 23) : dice(UINT64_MAX), .size = (uint32_t)dice(1ull << 32) };

		if (dice(3))
			in.size = (uint32_t)dice(1 << 21);
		memcpy(request + sizeof(head), &in, sizeof(in));
	}
	answer = fuse_answer(serving, request, dice(20) ? length : dice(length));
	if (answer > FUSE_REPLY_ROOM)
		die("an answer of %zu bytes", answer);
	free(request);
}

/* ---- the map, beside a model that has one element a page ---- */

#define MODEL_PAGES 400u
#define NOTHING UINT64_MAX

static void check_map(const struct page_map *map, const uint64_t *model)
{
	uint64_t missing = 0, address = 0, found, page;

	for (uint64_t place = 0; place < MODEL_PAGES; place++) {
		uint64_t follow;
		bool there = map_find(map, place * PAGE_BYTES, &page, &follow);
		bool wanted = model[place] != NOTHING;

		/* What was brought keeps its range. */
		if (wanted && (!there || page != model[place] || !map_is_missing(map, page)))
			die("page %llu is not where it should be", (unsigned long long)place);
		if (!wanted && there && map_is_missing(map, page))
			die("page %llu is there and should not be", (unsigned long long)place);
		missing += wanted;
	}
	if (missing != map->missing)
		die("%llu pages are missing, not %llu", (unsigned long long)missing, (unsigned long long)map->missing);
	for (; map_next_missing(map, address, &found, &page); address = found + PAGE_BYTES) {
		if (model[found / PAGE_BYTES] != page)
			die("page %llu is listed at the wrong place", (unsigned long long)page);
		missing--;
	}
	if (missing != 0)
		die("%llu missing pages are not listed", (unsigned long long)missing);
}

static void fuzz_map(void)
{
	struct pages_entry entries[4];
	struct snapshot_image image = { .first_page = 1000, .entries = entries, .count = 4 };
	uint64_t model[MODEL_PAGES], at = 0;
	struct page_map map;

	memset(model, 0xff, sizeof(model));
	for (unsigned i = 0; i < 4; i++) {
		at += dice(10);
		entries[i] = (struct pages_entry){ .kind = PAGES_ENTRY, .flags = ENTRY_PRESENT | (dice(4) ? ENTRY_LAZY : 0),
						   .vaddr = at * PAGE_BYTES, .pages = 1 + dice(40),
						   .first_page = 1000 + image.pages };
		for (uint64_t page = 0; page < entries[i].pages; page++, at++) {
			if (entries[i].flags & ENTRY_LAZY)
				model[at] = entries[i].first_page + page;
		}
		image.pages += entries[i].pages;
	}
	map_open(&map, &image);
	for (unsigned round = 0; round < 40; round++) {
		uint64_t from = dice(MODEL_PAGES), count = 1 + dice(MODEL_PAGES - from), to;
		uint64_t page, follow;
		struct page_map child;

		count = count > 60 ? 60 : count;
		switch (dice(6)) {
		case 0:
			map_unmap(&map, from * PAGE_BYTES, count * PAGE_BYTES);
			memset(model + from, 0xff, count * sizeof(*model));
			break;
		case 1:
			map_remove(&map, from * PAGE_BYTES, count * PAGE_BYTES);
			memset(model + from, 0xff, count * sizeof(*model));
			break;
		case 2:
			to = dice(MODEL_PAGES - count + 1);
			/* The kernel refuses what overlaps. */
			if (to < from + count && from < to + count)
				break;
			map_move(&map, from * PAGE_BYTES, to * PAGE_BYTES, count * PAGE_BYTES);
			memcpy(model + to, model + from, count * sizeof(*model));
			memset(model + from, 0xff, count * sizeof(*model));
			break;
		case 3:
			for (uint64_t i = from; i < from + count; i++) {
				if (map_find(&map, i * PAGE_BYTES, &page, &follow))
					map_done(&map, page);
				model[i] = NOTHING;
			}
			break;
		case 4:
			map_fork(&child, &map);
			check_map(&child, model);
			/* As if the fork had come before all changes since the last that was quiet. */
			for (size_t i = map.past_count; i > 0; i--) {
				uint64_t address = map.past[i - 1].address;

				map_restore(&child, &map.past[i - 1]);
				if (!map_find(&child, address, &page, &follow) || page != map.past[i - 1].page)
					die("what was restored is not there");
			}
			map_close(&child);
			break;
		default:
			map_forget_past(&map);
		}
		check_map(&map, model);
	}
	map_close(&map);
}

int main(int argc, char **argv)
{
	char *what;
	struct reader reader;
	struct fuse_serving serving = { .reader = &reader, .pool = (struct pool *)&reader };
	time_t end;
	unsigned long rounds = 0;

	if (argc != 4)
		die("usage: fuzz SEED SECONDS FOLDER");
	state = strtoull(argv[1], NULL, 10);
	end = time(NULL) + atoi(argv[2]);
	CLEANUP_FREE char *store = format_string("%s/state", argv[3]);
	CLEANUP_FREE char *snapshot = format_string("%s/snapshot", argv[3]);
	if (reader_open(&reader, store, snapshot, &what) < 0)
		die("%s", what);
	serving.reply = malloc(FUSE_REPLY_ROOM);
	serving.spare = malloc(CHUNK_BYTES);
	record_reader_open(&serving.thread, 1);
	do {
		fuzz_map();
		for (unsigned i = 0; i < 20; i++)
			fuzz_requests(&serving);
		if (rounds % 4 == 0)
			fuzz_files(argv[3]);
		rounds++;
	} while (time(NULL) < end);
	free(serving.reply);
	free(serving.spare);
	record_reader_close(&serving.thread);
	reader_close(&reader);
	printf("%lu rounds\n", rounds);
	return 0;
}
