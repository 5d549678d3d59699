/*
 * `torpor-pages shares --store STATE`, with ids of snapshots on standard input, one a line: what each of them takes of
 * the packs, as they are now. What several need counts for the one that is named first, so that the sum is what all of
 * them take. What cannot be read or found counts for nobody.
 *
 * {"event":"share","snapshot":"ID","bytes":N} each, then {"event":"done"}.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../common.h"
#include "commands.h"
#include "files.h"
#include "index.h"
#include "report.h"

/* Which chunks have been counted: a bit for each entry of all packs. */
struct counted {
	uint64_t *first; /* number of each pack's first entry */
	uint8_t *bits;
};

static struct counted count_nothing(const struct index *index)
{
	unsigned packs = index_packs(index);
	uint64_t entries = 0, count;
	struct counted counted = { .first = calloc(packs + 1, sizeof(uint64_t)) };

	for (unsigned i = 0; counted.first && i < packs; i++) {
		counted.first[i] = entries;
		index_pack_entries(index, i, &count);
		entries += count;
	}
	counted.bits = calloc(entries / 8 + 1, 1);
	if (!counted.first || !counted.bits)
		fail("ENOMEM", "there is not enough memory for what the snapshots have in common");
	return counted;
}

static uint64_t share_of(const struct index *index, struct counted *counted, const uint8_t *ids, size_t chunks)
{
	uint64_t bytes = 0, count;

	for (size_t i = 0; i < chunks; i++) {
		unsigned pack;
		const struct idx_entry *entry = index_find(index, ids + i * CHUNK_ID_BYTES, &pack);

		if (!entry)
			continue;
		uint64_t number = counted->first[pack] + (uint64_t)(entry - index_pack_entries(index, pack, &count));

		if (counted->bits[number / 8] & 1u << number % 8)
			continue;
		counted->bits[number / 8] |= (uint8_t)(1u << number % 8);
		bytes += sizeof(struct record_header) + entry->stored + sizeof(struct idx_entry);
	}
	return bytes;
}

int cmd_shares(int argc, char **argv)
{
	struct arguments arguments = { argc - 1, argv + 1 };
	const char *store = argument_needed(&arguments, "--store");
	CLEANUP_FREE char *packs = format_string("%s/packs", store);
	CLEANUP_FREE char *line = NULL;
	struct counted counted;
	struct index *index;
	size_t room = 0;
	char *what;

	arguments_end(&arguments);
	if (index_open(&index, packs, &what) != 0)
		fail("EIO", "%s", what);
	counted = count_nothing(index);
	while (getline(&line, &room, stdin) > 0) {
		const void *ids;
		size_t bytes;

		line[strcspn(line, "\n")] = '\0';
		if (line[0] == '\0' || strchr(line, '/') || line[0] == '.')
			fail("EINVAL", "%s is not the id of a snapshot", line);
		CLEANUP_FREE char *path = format_string("%s/snapshots/%s/pages/chunks", store, line);
		CLEANUP_FREE char *id = json_string(line);

		if (!map_file(path, CHUNK_ID_BYTES, &ids, &bytes, &what)) {
			free(what);
			continue;
		}
		report_line("{\"event\":\"share\",\"snapshot\":%s,\"bytes\":%llu}", id,
			    (unsigned long long)share_of(index, &counted, ids, bytes / CHUNK_ID_BYTES));
		if (ids)
			munmap((void *)(uintptr_t)ids, bytes);
	}
	free(counted.first);
	free(counted.bits);
	index_close(index);
	report_line("{\"event\":\"done\"}");
	return 0;
}
