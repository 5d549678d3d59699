#include "index.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common.h"
#include "files.h"
#include "hash.h"

/*
 * The table of ids is the only thing of the index in memory of its own: 4 bytes a place, so at most 16 MiB. A store
 * of more chunks than fit (2.8 millions; that is 180 GiB before compression) is searched pack by pack.
 */
#define TABLE_PLACES_MOST (1u << 22)

struct pack {
	char name[PACK_ID_BYTES * 2 + sizeof(".pack")];
	int fd;
	uint64_t bytes;
	struct pack_header header;
	void *map; /* of the .idx; NULL where the entries are in memory of their own */
	size_t map_bytes;
	struct idx_entry *rebuilt;
	const struct idx_entry *entries;
	uint64_t count;
	uint64_t first; /* how many entries the packs before it have */
	char *trouble;
};

struct index {
	char *folder;
	struct pack **packs;
	unsigned count;
	uint64_t entries;
	uint32_t *table; /* number of the entry over all packs + 1; 0: nothing here */
	uint32_t mask;
};

static void free_pack(struct pack *pack)
{
	if (pack->map)
		munmap(pack->map, pack->map_bytes);
	free(pack->rebuilt);
	free(pack->trouble);
	if (pack->fd >= 0)
		close(pack->fd);
	free(pack);
}

static void drop_table(struct index *index)
{
	if (index->table)
		munmap(index->table, ((size_t)index->mask + 1) * sizeof(*index->table));
	index->table = NULL;
}

void index_close(struct index *index)
{
	if (!index)
		return;
	for (unsigned i = 0; i < index->count; i++)
		free_pack(index->packs[i]);
	drop_table(index);
	free(index->packs);
	free(index->folder);
	free(index);
}

/* Keeps the first thing that was found to be wrong. */
static void note_trouble(struct pack *pack, char *trouble)
{
	if (pack->trouble)
		free(trouble);
	else
		pack->trouble = trouble;
}

bool record_is_sane(const struct record_header *record, uint64_t offset, uint64_t pack_bytes)
{
	static const uint8_t zeros[sizeof(record->zero)];
	uint64_t room = pack_bytes - offset;

	return offset <= pack_bytes && room >= sizeof(*record) && record->magic == RECORD_MAGIC &&
	       check_is_right(record, sizeof(*record)) && record->codec <= CODEC_ZSTD && record->pages >= 1 &&
	       record->pages <= CHUNK_PAGES && (record->flags & ~RECORD_ENCRYPTED) == 0 && record->reserved == 0 &&
	       memcmp(record->zero, zeros, sizeof(zeros)) == 0 && record->stored <= STORED_MOST &&
	       record->stored <= room - sizeof(*record);
}

bool record_is_entry(const struct record_header *record, const struct idx_entry *entry)
{
	return memcmp(record->id, entry->id, CHUNK_ID_BYTES) == 0 && record->stored == entry->stored &&
	       record->codec == entry->codec && record->pages == entry->pages && record->flags == entry->flags;
}

static bool entry_is_sane(const struct idx_entry *entry, uint64_t pack_bytes)
{
	return entry->offset >= sizeof(struct pack_header) && entry->offset <= pack_bytes &&
	       pack_bytes - entry->offset >= sizeof(struct record_header) && entry->stored <= STORED_MOST &&
	       entry->stored <= pack_bytes - entry->offset - sizeof(struct record_header) && entry->pages >= 1 &&
	       entry->pages <= CHUNK_PAGES && entry->codec <= CODEC_ZSTD && (entry->flags & ~RECORD_ENCRYPTED) == 0;
}

static int compare_entries(const void *left, const void *right)
{
	const struct idx_entry *a = left, *b = right;
	int order = memcmp(a->id, b->id, CHUNK_ID_BYTES);

	return order ? order : (a->offset > b->offset) - (a->offset < b->offset);
}

int idx_write(int fd, const uint8_t pack_id[PACK_ID_BYTES], uint64_t pack_bytes, struct idx_entry *entries,
	      uint64_t count)
{
	struct idx_header header = { .version = PACKS_VERSION, .pack_bytes = pack_bytes,
				     .entries = count };
	uint8_t digest[IDX_DIGEST_BYTES];
	struct sha256_stream *stream;

	memcpy(header.magic, "TORPORIX", sizeof(header.magic));
	memcpy(header.pack_id, pack_id, PACK_ID_BYTES);
	qsort(entries, count, sizeof(*entries), compare_entries);
	stream = sha256_begin();
	if (!stream) {
		errno = ENOMEM;
		return -1;
	}
	sha256_add(stream, &header, sizeof(header));
	sha256_add(stream, entries, count * sizeof(*entries));
	sha256_end(stream, digest);
	if (!write_all(fd, &header, sizeof(header)) || !write_all(fd, entries, count * sizeof(*entries)) ||
	    !write_all(fd, digest, sizeof(digest)))
		return -1;
	return 0;
}

/* Looks in a damaged pack for the next record whose header is whole; the end of the file where there is none. */
static uint64_t next_record(const struct pack *pack, uint64_t offset)
{
	uint8_t bytes[CHUNK_BYTES];

	while (offset < pack->bytes) {
		ssize_t got = RETRY(pread(pack->fd, bytes, sizeof(bytes), (off_t)offset));

		if (got < (ssize_t)sizeof(struct record_header))
			break;
		for (size_t at = 0; at + sizeof(struct record_header) <= (size_t)got; at++) {
			struct record_header record;

			if (bytes[at] != (RECORD_MAGIC & 0xff))
				continue;
			memcpy(&record, bytes + at, sizeof(record));
			if (record_is_sane(&record, offset + at, pack->bytes))
				return offset + at;
		}
		offset += (size_t)got - sizeof(struct record_header) + 1;
	}
	return pack->bytes;
}

/* Finds the entries of a pack from its records. */
static int scan_pack(struct pack *pack, char **what)
{
	uint64_t offset = sizeof(struct pack_header);
	size_t room = 0, kept = 0;

	while (offset < pack->bytes) {
		struct record_header record;
		ssize_t got = RETRY(pread(pack->fd, &record, sizeof(record), (off_t)offset));

		if (got < 0) {
			note_trouble(pack, format_string("packs/%s cannot be read at offset %llu: %s", pack->name,
							 (unsigned long long)offset, strerror(errno)));
			break;
		}
		if ((size_t)got < sizeof(record) || !record_is_sane(&record, offset, pack->bytes)) {
			note_trouble(pack, format_string("packs/%s is damaged at offset %llu: no whole record is there",
							 pack->name, (unsigned long long)offset));
			offset = next_record(pack, offset + 1);
			continue;
		}
		if (pack->count == room) {
			struct idx_entry *more;

			room = room ? room * 2 : 4096;
			more = reallocarray(pack->rebuilt, room, sizeof(*more));
			if (!more) {
				*what = format_string("there is not enough memory to list packs/%s", pack->name);
				return -1;
			}
			pack->rebuilt = more;
		}
		struct idx_entry *entry = &pack->rebuilt[pack->count++];

		memcpy(entry->id, record.id, CHUNK_ID_BYTES);
		entry->offset = offset;
		entry->stored = record.stored;
		entry->codec = record.codec;
		entry->pages = record.pages;
		entry->flags = record.flags;
		offset += sizeof(record) + record.stored;
	}
	if (pack->count == 0)
		return 0;
	qsort(pack->rebuilt, pack->count, sizeof(*pack->rebuilt), compare_entries);
	for (size_t i = 1; i < pack->count; i++) {
		if (memcmp(pack->rebuilt[kept].id, pack->rebuilt[i].id, CHUNK_ID_BYTES) != 0)
			pack->rebuilt[++kept] = pack->rebuilt[i];
	}
	pack->count = kept + 1;
	pack->entries = pack->rebuilt;
	return 0;
}

static bool read_header(struct pack *pack)
{
	ssize_t got = RETRY(pread(pack->fd, &pack->header, sizeof(pack->header), 0));
	char name[sizeof(pack->name)];

	if (got != (ssize_t)sizeof(pack->header) || memcmp(pack->header.magic, "TORPORPK", 8) != 0 ||
	    !check_is_right(&pack->header, sizeof(pack->header))) {
		note_trouble(pack, format_string("packs/%s has a damaged header (offset 0)", pack->name));
		return false;
	}
	if (pack->header.version != PACKS_VERSION) {
		note_trouble(pack, format_string("packs/%s has version %u, and this Torpor knows version %u only: "
						 "use the newer Torpor that wrote it",
						 pack->name, pack->header.version, PACKS_VERSION));
		return false;
	}
	pack_file_name(pack->header.id, ".pack", name);
	if (strcmp(name, pack->name) != 0) {
		note_trouble(pack, format_string("packs/%s says that it is packs/%s", pack->name, name));
		return false;
	}
	return true;
}

/* Maps an .idx; false where it is not there or does not fit the pack. */
static bool map_idx(int folder, const char *name, struct pack *pack)
{
	CLEANUP_FD int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat status;
	const struct idx_header *header;
	uint8_t digest[IDX_DIGEST_BYTES];

	if (fd < 0 || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) ||
	    (uint64_t)status.st_size < sizeof(*header) + IDX_DIGEST_BYTES)
		return false;
	pack->map_bytes = (size_t)status.st_size;
	pack->map = mmap(NULL, pack->map_bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (pack->map == MAP_FAILED) {
		pack->map = NULL;
		return false;
	}
	header = pack->map;
	pack->entries = (const struct idx_entry *)(header + 1);
	pack->count = (pack->map_bytes - sizeof(*header) - IDX_DIGEST_BYTES) / sizeof(struct idx_entry);
	sha256(pack->map, pack->map_bytes - IDX_DIGEST_BYTES, digest);
	bool right = memcmp(header->magic, "TORPORIX", 8) == 0 && header->version == PACKS_VERSION &&
		     header->reserved == 0 && memcmp(header->pack_id, pack->header.id, PACK_ID_BYTES) == 0 &&
		     header->pack_bytes == pack->bytes && header->entries == pack->count &&
		     pack->map_bytes ==
			     sizeof(*header) + pack->count * sizeof(struct idx_entry) + IDX_DIGEST_BYTES &&
		     memcmp((const uint8_t *)pack->map + pack->map_bytes - sizeof(digest), digest, sizeof(digest)) == 0;

	for (uint64_t i = 0; right && i < pack->count; i++) {
		right = entry_is_sane(&pack->entries[i], pack->bytes) &&
			(i == 0 || memcmp(pack->entries[i - 1].id, pack->entries[i].id, CHUNK_ID_BYTES) < 0);
	}
	if (right)
		return true;
	munmap(pack->map, pack->map_bytes);
	pack->map = NULL;
	pack->entries = NULL;
	pack->count = 0;
	return false;
}

/* Best effort: what cannot be written is found in the pack again next time. */
static void keep_idx(int folder, const char *name, struct pack *pack)
{
	CLEANUP_FREE char *temporary = format_string("%s.%d.new", name, (int)getpid());
	CLEANUP_FD int fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return;
	if (idx_write(fd, pack->header.id, pack->bytes, pack->rebuilt, pack->count) != 0 || fsync(fd) != 0 ||
	    renameat(folder, temporary, folder, name) != 0) {
		unlinkat(folder, temporary, 0);
		return;
	}
	fsync(folder);
	/* From now on mapped, so that it does not take memory. */
	struct idx_entry *rebuilt = pack->rebuilt;

	if (map_idx(folder, name, pack)) {
		free(rebuilt);
		pack->rebuilt = NULL;
	} else {
		pack->entries = rebuilt;
	}
}

static int load_pack(int folder, struct pack *pack, char **what)
{
	char name[sizeof(pack->name)];
	uint64_t count;

	if (!read_header(pack))
		return 0;
	pack_file_name(pack->header.id, ".idx", name);
	if (map_idx(folder, name, pack))
		return 0;
	if (scan_pack(pack, what) != 0)
		return -1;
	count = pack->count;
	if (!pack->trouble) {
		keep_idx(folder, name, pack);
		pack->count = count;
	}
	return 0;
}

static bool is_known(const struct index *index, const char *name)
{
	for (unsigned i = 0; i < index->count; i++) {
		if (strcmp(index->packs[i]->name, name) == 0)
			return true;
	}
	return false;
}

/* Adds the packs of the folder that are not known yet. 1: the folder changed meanwhile, and must be listed again. */
static int list_packs(struct index *index, int folder, char **what)
{
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *found;
	int result = 0;

	if (!list) {
		*what = format_string("the folder %s cannot be listed: %s", index->folder, strerror(errno));
		close_fd(&fd);
		return -1;
	}
	while (result == 0 && (errno = 0, found = readdir(list))) {
		struct pack *pack, **more;
		struct stat status;

		if (!is_pack_name(found->d_name) || is_known(index, found->d_name))
			continue;
		pack = calloc(1, sizeof(*pack));
		more = reallocarray(index->packs, index->count + 1, sizeof(*more));
		if (more)
			index->packs = more;
		if (!pack || !more) {
			free(pack);
			*what = format_string("there is not enough memory for the packs of %s", index->folder);
			result = -1;
			break;
		}
		memcpy(pack->name, found->d_name, sizeof(pack->name));
		pack->fd = openat(folder, pack->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (pack->fd < 0 && errno == ENOENT) {
			free_pack(pack);
			result = 1;
			break;
		}
		if (pack->fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
			*what = format_string("packs/%s cannot be opened: %s", pack->name, strerror(errno));
			free_pack(pack);
			result = -1;
			break;
		}
		if (pack->fd < 0 || fstat(pack->fd, &status) != 0 || !S_ISREG(status.st_mode)) {
			note_trouble(pack, format_string("packs/%s cannot be opened: %s", pack->name,
							 pack->fd < 0 ? strerror(errno) : "it is no file"));
		} else {
			pack->bytes = (uint64_t)status.st_size;
			result = load_pack(folder, pack, what);
		}
		if (result != 0)
			free_pack(pack);
		else
			index->packs[index->count++] = pack;
	}
	if (result == 0 && errno != 0) {
		*what = format_string("the folder %s cannot be listed: %s", index->folder, strerror(errno));
		result = -1;
	}
	closedir(list);
	return result;
}

static const struct idx_entry *entry_of(const struct index *index, uint64_t number, unsigned *pack)
{
	unsigned low = 0, high = index->count;

	while (high - low > 1) {
		unsigned middle = low + (high - low) / 2;

		if (index->packs[middle]->first <= number)
			low = middle;
		else
			high = middle;
	}
	*pack = low;
	return &index->packs[low]->entries[number - index->packs[low]->first];
}

/* An id is a hash already: its beginning is as good as any other. */
static uint32_t place_of(const struct index *index, const uint8_t id[CHUNK_ID_BYTES])
{
	uint32_t beginning;

	memcpy(&beginning, id, sizeof(beginning));
	return beginning & index->mask;
}

static int make_table(struct index *index, char **what)
{
	uint64_t places = 1024, number = 0;

	drop_table(index);
	index->entries = 0;
	for (unsigned i = 0; i < index->count; i++) {
		index->packs[i]->first = index->entries;
		index->entries += index->packs[i]->count;
	}
	while (places * 2 < index->entries * 3)
		places *= 2;
	if (places > TABLE_PLACES_MOST)
		return 0;
	index->table = mmap(NULL, places * sizeof(*index->table), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	if (index->table == MAP_FAILED) {
		index->table = NULL;
		*what = format_string("there is not enough memory for the index of %s", index->folder);
		return -1;
	}
	index->mask = (uint32_t)(places - 1);
	for (unsigned i = 0; i < index->count; i++) {
		for (uint64_t each = 0; each < index->packs[i]->count; each++) {
			uint32_t place = place_of(index, index->packs[i]->entries[each].id);

			while (index->table[place])
				place = (place + 1) & index->mask;
			index->table[place] = (uint32_t)++number;
		}
	}
	return 0;
}

int index_refresh(struct index *index, char **what)
{
	/* A listing that is overtaken by renames may show neither the old nor the new pack; such a one is repeated. */
	for (int round = 0; round < 100; round++) {
		CLEANUP_FD int folder = open(index->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		struct stat before, after;
		int result;

		if (folder < 0 && errno == ENOENT)
			return make_table(index, what);
		if (folder < 0 || fstat(folder, &before) != 0) {
			*what = format_string("the folder %s cannot be opened: %s", index->folder, strerror(errno));
			return -1;
		}
		result = list_packs(index, folder, what);
		if (result < 0)
			return -1;
		if (fstat(folder, &after) != 0 || result > 0)
			continue;
		if (before.st_mtim.tv_sec == after.st_mtim.tv_sec && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec)
			return make_table(index, what);
	}
	*what = format_string("the folder %s changes all the time: something else writes there", index->folder);
	return -1;
}

int index_open(struct index **index, const char *packs_dir, char **what)
{
	struct rlimit files;

	/* Each pack is one descriptor for as long as the index is open. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	*index = calloc(1, sizeof(**index));
	if (!*index || !((*index)->folder = strdup(packs_dir))) {
		index_close(*index);
		*index = NULL;
		*what = format_string("there is not enough memory for the index of %s", packs_dir);
		return -1;
	}
	if (index_refresh(*index, what) == 0)
		return 0;
	index_close(*index);
	*index = NULL;
	return -1;
}

static const struct idx_entry *search_pack(const struct pack *pack, const uint8_t id[CHUNK_ID_BYTES])
{
	uint64_t low = 0, high = pack->count;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		int order = memcmp(id, pack->entries[middle].id, CHUNK_ID_BYTES);

		if (order == 0)
			return &pack->entries[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

const struct idx_entry *index_find(const struct index *index, const uint8_t id[CHUNK_ID_BYTES], unsigned *pack)
{
	if (!index->table) {
		for (*pack = 0; *pack < index->count; ++*pack) {
			const struct idx_entry *entry = search_pack(index->packs[*pack], id);

			if (entry)
				return entry;
		}
		return NULL;
	}
	for (uint32_t place = place_of(index, id); index->table[place]; place = (place + 1) & index->mask) {
		const struct idx_entry *entry = entry_of(index, index->table[place] - 1, pack);

		if (memcmp(entry->id, id, CHUNK_ID_BYTES) == 0)
			return entry;
	}
	return NULL;
}

unsigned index_packs(const struct index *index)
{
	return index->count;
}

const char *index_pack_name(const struct index *index, unsigned pack)
{
	return index->packs[pack]->name;
}

int index_pack_fd(const struct index *index, unsigned pack)
{
	return index->packs[pack]->fd;
}

uint64_t index_pack_bytes(const struct index *index, unsigned pack)
{
	return index->packs[pack]->bytes;
}

const struct pack_header *index_pack_header(const struct index *index, unsigned pack)
{
	return &index->packs[pack]->header;
}

const struct idx_entry *index_pack_entries(const struct index *index, unsigned pack, uint64_t *count)
{
	*count = index->packs[pack]->count;
	return index->packs[pack]->entries;
}

const char *index_pack_trouble(const struct index *index, unsigned pack)
{
	return index->packs[pack]->trouble;
}
