/*
 * torpor-pages sweep --store STATE [--check] [--key-fd N]
 *
 * Removes packs of which no snapshot needs anything, and writes anew what is needed of those of which more than half is
 * dead. Where a snapshot cannot be read nobody knows what it needs: then nothing is removed at all, and it is named.
 * With --check it only says what there would be to do. No snapshot may be in the making meanwhile: it may count on
 * chunks that no snapshot has yet.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common.h"
#include "commands.h"
#include "crypt.h"
#include "files.h"
#include "packwriter.h"
#include "record.h"
#include "report.h"
#include "snapshot.h"
#include "tidy.h"

enum fate { PACK_KEPT, PACK_DEAD, PACK_REWRITTEN };

struct pack_state {
	uint8_t *needed; /* a bit for each entry */
	uint64_t live;
	uint64_t dead;
	enum fate fate;
	bool settled; /* has records of zstd, so that recompression is done with it */
};

struct sweep {
	struct tidy tidy;
	struct record_reader reader;
	struct pack_state *packs;
	bool unreadable;
	uint64_t freed;
};

static bool is_needed(const struct sweep *sweep, unsigned pack, const struct idx_entry *entry)
{
	uint64_t count;
	uint64_t number = (uint64_t)(entry - index_pack_entries(sweep->tidy.index, pack, &count));

	return sweep->packs[pack].needed[number / 8] >> (number % 8) & 1;
}

static void need(struct sweep *sweep, unsigned pack, const struct idx_entry *entry)
{
	uint64_t count;
	uint64_t number = (uint64_t)(entry - index_pack_entries(sweep->tidy.index, pack, &count));

	sweep->packs[pack].needed[number / 8] |= (uint8_t)(1u << (number % 8));
}

static void need_ids(struct sweep *sweep, const uint8_t *ids, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		unsigned pack;
		const struct idx_entry *entry = index_find(sweep->tidy.index, ids + i * CHUNK_ID_BYTES, &pack);

		if (entry)
			need(sweep, pack, entry);
	}
}

/* Whether a snapshot has its pages as plain files, as those of the first version do. */
static bool has_plain_pages(const char *snapshot)
{
	CLEANUP_FREE char *images = format_string("%s/images", snapshot);
	DIR *list = opendir(images);
	struct dirent *found;
	bool plain = false;

	while (list && !plain && (found = readdir(list)))
		plain = fnmatch("pages-*.img", found->d_name, 0) == 0;
	if (list)
		closedir(list);
	return plain;
}

static void need_snapshot(struct sweep *sweep, const char *snapshot)
{
	CLEANUP_FREE char *pages = format_string("%s/pages", snapshot);
	struct snapshot lists;
	struct stat status;
	char *what;

	if (lstat(pages, &status) != 0 && errno == ENOENT && has_plain_pages(snapshot))
		return;
	if (snapshot_open(&lists, snapshot, &what) != 0) {
		tidy_skip(&sweep->tidy, what);
		sweep->unreadable = true;
		return;
	}
	need_ids(sweep, (const uint8_t *)lists.chunks, lists.chunk_count);
	snapshot_close(&lists);
}

/* A snapshot in the making is none of the sweep's business, but what it needs stays. */
static void need_staged(struct sweep *sweep, const char *stage)
{
	CLEANUP_FREE char *path = format_string("%s/pages/chunks", stage);
	char *what;
	const void *ids;
	size_t bytes;

	if (!map_file(path, 1, &ids, &bytes, &what)) {
		free(what);
		return;
	}
	need_ids(sweep, ids, bytes / CHUNK_ID_BYTES);
	if (ids)
		munmap((void *)(uintptr_t)ids, bytes);
}

static void for_each_folder(struct sweep *sweep, const char *within, void (*act)(struct sweep *, const char *))
{
	CLEANUP_FREE char *path = format_string("%s/%s", sweep->tidy.store, within);
	DIR *list = opendir(path);
	struct dirent *found;

	if (!list) {
		if (errno == ENOENT)
			return;
		tidy_skip(&sweep->tidy, format_string("%s cannot be listed: %s", path, strerror(errno)));
		sweep->unreadable = true;
		return;
	}
	while ((errno = 0, found = readdir(list))) {
		CLEANUP_FREE char *each = format_string("%s/%s", path, found->d_name);
		struct stat status;

		if (found->d_name[0] != '.' && lstat(each, &status) == 0 && S_ISDIR(status.st_mode))
			act(sweep, each);
	}
	if (errno != 0) {
		tidy_skip(&sweep->tidy, format_string("%s cannot be listed: %s", path, strerror(errno)));
		sweep->unreadable = true;
	}
	closedir(list);
}

/*
 * A chunk that is needed and lies in two packs is needed in one of them. Before the other copy is given up, the one
 * that stays is read.
 */
static void keep_only_copies(struct sweep *sweep, unsigned pack)
{
	uint64_t count;
	const struct idx_entry *entries = index_pack_entries(sweep->tidy.index, pack, &count);

	for (uint64_t i = 0; i < count; i++) {
		unsigned other;
		const struct idx_entry *found = index_find(sweep->tidy.index, entries[i].id, &other);
		char *what;

		if (found == &entries[i] || !is_needed(sweep, other, found) ||
		    /* Of what is encrypted nobody without the key can say which copy is whole: both stay. */
		    ((what = NULL, record_read(&sweep->reader, sweep->tidy.index, other, found, &what)) &&
		     sweep->reader.has_bytes))
			continue;
		if (what)
			tidy_skip(&sweep->tidy, what);
		need(sweep, pack, &entries[i]);
	}
}

static void weigh(struct sweep *sweep, unsigned pack)
{
	struct pack_state *state = &sweep->packs[pack];
	uint64_t count;
	const struct idx_entry *entries = index_pack_entries(sweep->tidy.index, pack, &count);

	state->live = 0;
	for (uint64_t i = 0; i < count; i++) {
		if (is_needed(sweep, pack, &entries[i]))
			state->live += record_bytes(&entries[i]);
		state->settled = state->settled || entries[i].codec == CODEC_ZSTD;
	}
	state->dead = index_pack_bytes(sweep->tidy.index, pack) - state->live;
	state->dead -= state->dead < sizeof(struct pack_header) ? state->dead : sizeof(struct pack_header);
	state->fate = PACK_KEPT;
	if (state->live == 0)
		state->fate = PACK_DEAD;
	else if (state->dead > state->live)
		state->fate = PACK_REWRITTEN;
}

static void decide(struct sweep *sweep)
{
	for (unsigned pack = 0; pack < index_packs(sweep->tidy.index); pack++) {
		const char *trouble = index_pack_trouble(sweep->tidy.index, pack);

		weigh(sweep, pack);
		if (sweep->packs[pack].fate != PACK_KEPT) {
			keep_only_copies(sweep, pack);
			weigh(sweep, pack);
		}
		if (trouble) {
			/* What is damaged may be what somebody needs. */
			tidy_skip(&sweep->tidy, format_string("%s", trouble));
			sweep->packs[pack].fate = PACK_KEPT;
		}
		if (sweep->unreadable)
			sweep->packs[pack].fate = PACK_KEPT;
	}
}

static void remove_packs(struct sweep *sweep, enum fate fate)
{
	for (unsigned pack = 0; pack < index_packs(sweep->tidy.index); pack++) {
		if (sweep->packs[pack].fate != fate)
			continue;
		tidy_remove(&sweep->tidy, pack);
		sweep->freed += index_pack_bytes(sweep->tidy.index, pack);
		sweep->packs[pack].live = 0;
		sweep->packs[pack].dead = 0;
		sweep->packs[pack].fate = PACK_KEPT;
	}
}

/* Copies what is needed; false, with the reason noted, where it cannot be read. */
static bool copy_pack(struct sweep *sweep, unsigned pack, struct pack_writer *writer)
{
	uint64_t count;
	CLEANUP_FREE const struct idx_entry **entries = entries_by_offset(sweep->tidy.index, pack, &count);

	for (uint64_t i = 0; i < count; i++) {
		const struct idx_entry *entry = entries[i];
		char *what;

		if (!is_needed(sweep, pack, entry))
			continue;
		if (!record_read(&sweep->reader, sweep->tidy.index, pack, entry, &what)) {
			tidy_skip(&sweep->tidy, what);
			return false;
		}
		pack_writer_add(writer, entry->id, (enum codec)entry->codec, entry->pages, entry->flags,
				&(struct iovec){ record_stored(&sweep->reader), entry->stored }, 1);
	}
	posix_fadvise(index_pack_fd(sweep->tidy.index, pack), 0, 0, POSIX_FADV_DONTNEED);
	return true;
}

/*
 * Writes anew what is needed of the packs that are like this one, up to about one pack's worth, and removes the old
 * ones; so the room needed meanwhile is that of one pack.
 */
static void rewrite_like(struct sweep *sweep, unsigned first)
{
	const uint8_t *key = index_pack_header(sweep->tidy.index, first)->key_id;
	struct pack_writer *writer = pack_writer_open(&(struct pack_writer_options){
		.folder = sweep->tidy.packs, .called = "packs", .suffix = ".new", .direct = true, .key_id = key });
	unsigned count = index_packs(sweep->tidy.index);
	CLEANUP_FREE bool *done = calloc(count, sizeof(*done));
	uint64_t copied = 0;

	if (!done)
		fail("ENOMEM", "there is not enough memory");
	for (unsigned pack = first; pack < count && copied < PACK_BYTES_MOST; pack++) {
		struct pack_state *state = &sweep->packs[pack];

		if (state->fate != PACK_REWRITTEN || state->settled != sweep->packs[first].settled ||
		    memcmp(index_pack_header(sweep->tidy.index, pack)->key_id, key, 16) != 0)
			continue;
		done[pack] = copy_pack(sweep, pack, writer);
		if (done[pack])
			copied += state->live;
		else
			state->fate = PACK_KEPT;
	}
	struct pack_writer_sums sums = pack_writer_end(writer);

	for (unsigned pack = first; pack < count; pack++) {
		if (!done[pack])
			continue;
		tidy_remove(&sweep->tidy, pack);
		sweep->freed += index_pack_bytes(sweep->tidy.index, pack);
		sweep->packs[pack].dead = 0;
		sweep->packs[pack].fate = PACK_KEPT;
	}
	sweep->freed -= sums.bytes < sweep->freed ? sums.bytes : sweep->freed;
}

static void prepare(struct sweep *sweep)
{
	unsigned count = index_packs(sweep->tidy.index);

	sweep->packs = calloc(count + 1, sizeof(*sweep->packs));
	for (unsigned pack = 0; pack < count; pack++) {
		uint64_t entries;

		index_pack_entries(sweep->tidy.index, pack, &entries);
		if (!sweep->packs || !(sweep->packs[pack].needed = calloc(entries / 8 + 1, 1)))
			fail("ENOMEM", "there is not enough memory to weigh packs");
	}
	record_reader_open(&sweep->reader, 1);
}

int cmd_sweep(int argc, char **argv)
{
	struct arguments arguments = { argc - 1, argv + 1 };
	struct sweep sweep = { 0 };
	const char *store = argument_needed(&arguments, "--store");
	bool only_looks = argument_flag(&arguments, "--check");
	uint64_t live = 0, dead = 0;

	keys_argument(&arguments);
	arguments_end(&arguments);
	tidy_open(&sweep.tidy, store, only_looks);
	prepare(&sweep);
	for_each_folder(&sweep, "snapshots", need_snapshot);
	for_each_folder(&sweep, "staging", need_staged);
	decide(&sweep);
	if (!only_looks) {
		/* First what makes room. */
		remove_packs(&sweep, PACK_DEAD);
		for (unsigned pack = 0; pack < index_packs(sweep.tidy.index); pack++) {
			if (sweep.packs[pack].fate == PACK_REWRITTEN)
				rewrite_like(&sweep, pack);
		}
		if (sweep.tidy.packs >= 0 && fsync(sweep.tidy.packs) != 0)
			fail_errno("the folder %s cannot be synced", sweep.tidy.packs_path);
	}
	for (unsigned pack = 0; pack < index_packs(sweep.tidy.index); pack++) {
		/* Whatever fate is left has only been looked at. */
		if (sweep.packs[pack].fate == PACK_DEAD)
			sweep.freed += index_pack_bytes(sweep.tidy.index, pack);
		else if (sweep.packs[pack].fate == PACK_REWRITTEN)
			sweep.freed += sweep.packs[pack].dead;
		live += sweep.packs[pack].live;
		dead += sweep.packs[pack].dead;
		free(sweep.packs[pack].needed);
	}
	report_line("{\"event\":\"done\",\"freedBytes\":%" PRIu64 ",\"packs\":%u,\"liveBytes\":%" PRIu64
		    ",\"deadBytes\":%" PRIu64 ",\"skipped\":[%s]}",
		    sweep.freed, index_packs(sweep.tidy.index), live, dead, tidy_skipped(&sweep.tidy));
	free(sweep.packs);
	record_reader_close(&sweep.reader);
	tidy_close(&sweep.tidy);
	return 0;
}
