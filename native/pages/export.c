/*
 * torpor-pages export [--store STATE] [--key-fd N] [--known-fd N] [--compress zstd|none]
 *
 * Writes the memory of snapshots and the contents of files to standard output as a stream of chunks
 * (docs/chunk-stream.md). Standard input has the sources, a line each: `S FOLDER` is a snapshot of the store, `F PATH`
 * a regular file, its path in hexadecimal. Each is answered by a list of chunks or by an error; that one cannot be read is
 * no failure of the others. --known-fd has ids of chunks that need not be sent.
 *
 * What else there is to say, a failure's event included, goes to standard error.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common.h"
#include "chunkstream.h"
#include "commands.h"
#include "crypt.h"
#include "files.h"
#include "hash.h"
#include "idset.h"
#include "index.h"
#include "ordered.h"
#include "record.h"
#include "report.h"
#include "snapshot.h"
#include "speeds.h"

#define THREADS 2u
#define SLOTS 48u
#define OUTPUT_BYTES (1u << 20)

struct export {
	struct index *index; /* NULL up to the first snapshot */
	pthread_rwlock_t index_lock; /* looking for packs that came since takes it alone */
	const char *store;
	bool compress;
	/* Ids of chunks that need not be sent, those that were sent included. */
	struct id_set *known;
	struct ordered *ordered;
	uint32_t sources;
	/* Of the thread that writes. */
	int out;
	uint8_t *buffer;
	size_t used;
	uint8_t (*list)[CHUNK_ID_BYTES]; /* of the source at hand */
	size_t listed;
	size_t list_room;
	uint64_t pages;
	int error;
	char *what;
};

struct slot {
	enum { SLOT_BYTES, SLOT_ZEROS, SLOT_RECORD, SLOT_END } kind;
	uint8_t id[CHUNK_ID_BYTES];
	unsigned pages;
	bool is_memory; /* of the source that ends */
	uint64_t bytes; /* of it, where it is a file */
	uint8_t sha256[32];
	/* Why it could not be read: an errno and a sentence on the heap. */
	int error;
	char *what;
	enum codec codec;
	size_t stored_bytes; /* 0: it need not be sent */
	uint8_t raw[CHUNK_BYTES];
	uint8_t stored[CODEC_ROOM];
};

static void *reader_begins(void *context)
{
	struct record_reader *reader = malloc(sizeof(*reader));

	(void)context;
	if (!reader)
		fail("ENOMEM", "there is not enough memory to read packs");
	record_reader_open(reader, ZSTD_FAST);
	return reader;
}

static void reader_ends(void *own)
{
	record_reader_close(own);
	free(own);
}

static void id_of(const uint8_t *bytes, unsigned pages, uint8_t id[CHUNK_ID_BYTES])
{
	uint8_t hashes[CHUNK_PAGES * PAGE_HASH_BYTES];

	for (unsigned page = 0; page < pages; page++)
		hash_page(bytes + (size_t)page * PAGE_BYTES, hashes + (size_t)page * PAGE_HASH_BYTES);
	chunk_id(hashes, pages, id);
}

static bool all_zeros(const uint8_t *bytes, unsigned pages)
{
	for (unsigned page = 0; page < pages; page++) {
		if (!page_is_zero(bytes + (size_t)page * PAGE_BYTES))
			return false;
	}
	return true;
}

static void pack(const struct export *export, struct codec_state *codec, const uint8_t *bytes, struct slot *slot)
{
	slot->codec = codec_pack(codec, export->compress ? CODEC_ZSTD : CODEC_RAW, bytes,
				 (size_t)slot->pages * PAGE_BYTES, slot->stored, &slot->stored_bytes);
}

static void work_on_bytes(struct export *export, struct record_reader *reader, struct slot *slot)
{
	if (all_zeros(slot->raw, slot->pages)) {
		memset(slot->id, 0, sizeof(slot->id));
		return;
	}
	id_of(slot->raw, slot->pages, slot->id);
	if (!id_set_has(export->known, slot->id))
		pack(export, reader->codec, slot->raw, slot);
}

/* What the store has of the chunk, ready to be sent. */
static void use_record(struct export *export, struct record_reader *reader, const struct idx_entry *entry,
		       const uint8_t *key_id, struct slot *slot)
{
	bool encrypted = entry->flags & RECORD_ENCRYPTED;
	size_t bytes = (size_t)entry->pages * PAGE_BYTES;
	size_t stored_bytes = entry->stored - (encrypted ? SEAL_BYTES : 0);

	if (!reader->has_bytes) {
		char key[2 * KEY_ID_BYTES + 1];

		for (unsigned i = 0; i < KEY_ID_BYTES; i++)
			sprintf(key + (size_t)i * 2, "%02x", key_id[i]);
		slot->error = ENOKEY;
		slot->what = format_string("a chunk is encrypted by the key %s, which is not there", key);
		return;
	}
	slot->pages = entry->pages;
	/* Made of keyed hashes, it says nothing to who has not that key. */
	if (encrypted)
		id_of(reader->bytes, slot->pages, slot->id);
	if (id_set_has(export->known, slot->id))
		return;
	/* Raw bytes that zstd has been tried on already cost little: it gives up soon. */
	if (stored_bytes >= bytes || (export->compress && entry->codec != CODEC_ZSTD)) {
		pack(export, reader->codec, reader->bytes, slot);
		return;
	}
	slot->codec = (enum codec)entry->codec;
	slot->stored_bytes = stored_bytes;
	memcpy(slot->stored, encrypted ? reader->opened : record_stored(reader), stored_bytes);
}

/* False where no pack is known to have it. */
static bool find_record(struct export *export, struct record_reader *reader, struct slot *slot)
{
	const struct idx_entry *found;
	unsigned number;

	pthread_rwlock_rdlock(&export->index_lock);
	found = index_find(export->index, slot->id, &number);
	if (found) {
		/* The index is mapped: what record_read() has compared is this copy. */
		const struct idx_entry entry = *found;

		if (!(entry.flags & RECORD_ENCRYPTED) && id_set_has(export->known, slot->id))
			slot->pages = entry.pages;
		else if (record_read(reader, export->index, number, &entry, &slot->what))
			use_record(export, reader, &entry, index_pack_header(export->index, number)->key_id, slot);
		else
			slot->error = EBADMSG;
	}
	pthread_rwlock_unlock(&export->index_lock);
	return found != NULL;
}

static void work_on_record(struct export *export, struct record_reader *reader, struct slot *slot)
{
	CLEANUP_FREE char *trouble = NULL;

	if (find_record(export, reader, slot))
		return;
	/* Recompression may have put it into a pack that was not there when this began. */
	pthread_rwlock_wrlock(&export->index_lock);
	index_refresh(export->index, &trouble);
	pthread_rwlock_unlock(&export->index_lock);
	if (find_record(export, reader, slot))
		return;
	slot->error = EBADMSG;
	slot->what = format_string("a chunk of the snapshot is in no pack%s%s", trouble ? ": " : "", trouble ? trouble : "");
}

static void work(void *context, void *own, void *argument)
{
	struct slot *slot = argument;

	if (slot->kind == SLOT_BYTES)
		work_on_bytes(context, own, slot);
	else if (slot->kind == SLOT_RECORD)
		work_on_record(context, own, slot);
}

static void flush(void *context)
{
	struct export *export = context;

	if (export->used > 0 && !write_all(export->out, export->buffer, export->used))
		fail_errno("the stream cannot be written");
	export->used = 0;
}

static void put(struct export *export, const void *bytes, size_t length)
{
	const uint8_t *next = bytes;

	while (length > 0) {
		size_t room = OUTPUT_BYTES - export->used, part = room < length ? room : length;

		memcpy(export->buffer + export->used, next, part);
		export->used += part;
		next += part;
		length -= part;
		if (export->used == OUTPUT_BYTES)
			flush(export);
	}
}

static void put_header(struct export *export, uint8_t kind, size_t length)
{
	struct item_header header = { .kind = kind, .length = (uint32_t)length };

	put(export, &header, sizeof(header));
}

static void put_chunk(struct export *export, const struct slot *slot)
{
	struct item_chunk chunk = { .codec = (uint8_t)slot->codec, .pages = (uint8_t)slot->pages };

	memcpy(chunk.id, slot->id, sizeof(chunk.id));
	put_header(export, ITEM_CHUNK, sizeof(chunk) + slot->stored_bytes);
	put(export, &chunk, sizeof(chunk));
	put(export, slot->stored, slot->stored_bytes);
}

static void note_listed(struct export *export, const struct slot *slot)
{
	if (export->listed == export->list_room) {
		size_t room = export->list_room ? export->list_room * 2 : 1024;
		void *more = reallocarray(export->list, room, CHUNK_ID_BYTES);

		if (!more)
			fail("ENOMEM", "there is not enough memory for a list of %zu chunks", room);
		export->list = more;
		export->list_room = room;
	}
	memcpy(export->list[export->listed++], slot->id, CHUNK_ID_BYTES);
	export->pages += slot->pages;
}

static void note_error(struct export *export, const struct slot *slot)
{
	/* The first one says it. */
	if (export->what) {
		free(slot->what);
		return;
	}
	export->error = slot->error;
	export->what = slot->what;
}

static void put_end(struct export *export, const struct slot *slot)
{
	struct item_list list = { .source = export->sources };
	struct item_error error = { .source = export->sources, .number = (uint32_t)export->error };
	size_t ids = export->listed * CHUNK_ID_BYTES;

	if (!export->what && ids > UINT32_MAX - sizeof(list)) {
		error.number = EFBIG;
		export->what = format_string("there are too many chunks for one list: %zu", export->listed);
	}
	if (export->what) {
		put_header(export, ITEM_ERROR, sizeof(error) + strlen(export->what));
		put(export, &error, sizeof(error));
		put(export, export->what, strlen(export->what));
	} else {
		list.count = (uint32_t)export->listed;
		list.bytes = slot->is_memory ? export->pages * PAGE_BYTES : slot->bytes;
		memcpy(list.sha256, slot->sha256, sizeof(list.sha256));
		put_header(export, ITEM_LIST, sizeof(list) + ids);
		put(export, &list, sizeof(list));
		if (ids > 0)
			put(export, export->list, ids);
	}
	free(export->what);
	export->what = NULL;
	export->listed = 0;
	export->pages = 0;
	export->sources++;
}

static void finish(void *context, void *argument)
{
	struct export *export = context;
	struct slot *slot = argument;

	if (slot->what) {
		note_error(export, slot);
	} else if (slot->kind != SLOT_END) {
		/* Here and not before, in the order of the stream: a list comes after all of its chunks. */
		if (slot->stored_bytes > 0 && id_set_add(export->known, slot->id))
			put_chunk(export, slot);
		note_listed(export, slot);
	}
	if (slot->kind == SLOT_END)
		put_end(export, slot);
}

static struct slot *next_slot(struct export *export, int kind)
{
	struct slot *slot = ordered_slot(export->ordered);

	slot->kind = kind;
	slot->error = 0;
	slot->what = NULL;
	slot->stored_bytes = 0;
	slot->pages = 0;
	memset(slot->id, 0, sizeof(slot->id));
	return slot;
}

/* The end of a source; `what` is why it could not be read, NULL: it could. */
static void put_source(struct export *export, bool is_memory, int error, char *what, uint64_t bytes,
		       const uint8_t *digest)
{
	struct slot *slot = next_slot(export, SLOT_END);

	slot->is_memory = is_memory;
	slot->error = error;
	slot->what = what;
	slot->bytes = bytes;
	memset(slot->sha256, 0, sizeof(slot->sha256));
	if (digest)
		memcpy(slot->sha256, digest, sizeof(slot->sha256));
	ordered_put(export->ordered);
}

static void open_store(struct export *export)
{
	char *what;

	if (!export->store)
		fail("EINVAL", "the argument --store is missing");
	CLEANUP_FREE char *packs = format_string("%s/packs", export->store);

	if (index_open(&export->index, packs, &what) < 0)
		fail("EBADMSG", "%s", what);
}

static void read_snapshot(struct export *export, const char *folder)
{
	struct snapshot snapshot;
	char *what;

	if (!export->index)
		open_store(export);
	if (snapshot_open(&snapshot, folder, &what) < 0) {
		put_source(export, true, EBADMSG, what, 0, NULL);
		return;
	}
	for (uint64_t chunk = 0; chunk < snapshot.chunk_count; chunk++) {
		struct slot *slot = next_slot(export, SLOT_RECORD);

		memcpy(slot->id, snapshot.chunks[chunk], CHUNK_ID_BYTES);
		ordered_put(export->ordered);
	}
	snapshot_close(&snapshot);
	put_source(export, true, 0, NULL, 0, NULL);
}

/* The errno that says best why it is no file to read. */
static int not_regular(mode_t mode)
{
	return S_ISLNK(mode) ? ELOOP : S_ISDIR(mode) ? EISDIR : EINVAL;
}

/*
 * A descriptor, or -1 with errno. What it is is looked at before it is opened: opening a pipe waits, and opening a device
 * may do anything.
 */
static int open_regular(const char *path, struct stat *status)
{
	CLEANUP_FD int found = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char name[64];

	if (found < 0 || fstat(found, status) != 0)
		return -1;
	if (!S_ISREG(status->st_mode)) {
		errno = not_regular(status->st_mode);
		return -1;
	}
	snprintf(name, sizeof(name), "/proc/self/fd/%d", found);
	return open(name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* Where data begins at or after `at`; a file system that knows no holes has data everywhere. */
static uint64_t data_from(int fd, uint64_t at, uint64_t end)
{
	off_t found = lseek(fd, (off_t)at, SEEK_DATA);

	if (found >= 0)
		return (uint64_t)found;
	return errno == ENXIO ? end : at;
}

static bool is_changed(int fd, const struct stat *before)
{
	struct stat now;

	return fstat(fd, &now) != 0 || now.st_size != before->st_size || now.st_mtim.tv_sec != before->st_mtim.tv_sec ||
	       now.st_mtim.tv_nsec != before->st_mtim.tv_nsec;
}

/* Fills slots with a file's pages; NULL, or why not, with an errno in *error. */
static char *read_pages(struct export *export, int fd, const struct stat *status, struct sha256_stream *digest, int *error)
{
	static const uint8_t zeros[CHUNK_BYTES];
	uint64_t end = (uint64_t)status->st_size, data = 0, hole = 0;

	for (uint64_t at = 0; at < end; at += CHUNK_BYTES) {
		size_t length = end - at < CHUNK_BYTES ? end - at : CHUNK_BYTES;
		struct slot *slot;

		if (at >= hole) {
			off_t found;

			data = data_from(fd, at, end);
			found = lseek(fd, (off_t)data, SEEK_HOLE);
			hole = found < 0 ? end : (uint64_t)found;
		}
		slot = next_slot(export, at + length <= data ? SLOT_ZEROS : SLOT_BYTES);
		slot->pages = (unsigned)((length + PAGE_BYTES - 1) / PAGE_BYTES);
		if (slot->kind == SLOT_ZEROS) {
			sha256_add(digest, zeros, length);
		} else {
			if (!pread_all(fd, slot->raw, length, (off_t)at)) {
				*error = errno == ENODATA ? EAGAIN : errno;
				return format_string("it cannot be read at %" PRIu64 ": %s", at,
						     errno == ENODATA ? "it ends there now" : strerror(errno));
			}
			memset(slot->raw + length, 0, (size_t)slot->pages * PAGE_BYTES - length);
			sha256_add(digest, slot->raw, length);
		}
		ordered_put(export->ordered);
	}
	if (is_changed(fd, status)) {
		*error = EAGAIN;
		return format_string("it was changed while it was read");
	}
	return NULL;
}

static void read_file(struct export *export, const char *path)
{
	struct stat status;
	CLEANUP_FD int fd = open_regular(path, &status);
	struct sha256_stream *digest;
	uint8_t sum[32];
	int error = errno;
	char *what;

	if (fd < 0) {
		put_source(export, false, error,
			   error == EINVAL ? format_string("it is no regular file")
					   : format_string("it cannot be opened: %s", strerror(error)),
			   0, NULL);
		return;
	}
	digest = sha256_begin();
	if (!digest)
		fail("ENOMEM", "there is not enough memory to read files");
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	what = read_pages(export, fd, &status, digest, &error);
	sha256_end(digest, sum);
	put_source(export, false, error, what, (uint64_t)status.st_size, sum);
}

static void read_hex_path(char *text)
{
	size_t length = strlen(text);
	char *out = text;

	if (length == 0 || length % 2 != 0 || strspn(text, "0123456789abcdefABCDEF") != length)
		fail("EINVAL", "a path of a source is not in hexadecimal: %s", text);
	for (size_t at = 0; at < length; at += 2) {
		char digits[3] = { text[at], text[at + 1], '\0' };

		*out = (char)strtoul(digits, NULL, 16);
		if (!*out++)
			fail("EINVAL", "a path of a source has a zero byte in it");
	}
	*out = '\0';
}

static void read_sources(struct export *export)
{
	CLEANUP_FREE char *line = NULL;
	size_t room = 0;
	ssize_t length;

	while ((length = getline(&line, &room, stdin)) > 0) {
		if (line[length - 1] != '\n' || strlen(line) != (size_t)length || length < 4 || line[1] != ' ' ||
		    (line[0] != 'S' && line[0] != 'F'))
			fail("EINVAL", "a line is no source: %s", line);
		line[length - 1] = '\0';
		if (line[0] == 'S') {
			read_snapshot(export, line + 2);
		} else {
			read_hex_path(line + 2);
			read_file(export, line + 2);
		}
	}
	if (ferror(stdin))
		fail_errno("the list of sources cannot be read");
}

static void read_known(struct export *export, const char *word)
{
	uint8_t id[CHUNK_ID_BYTES];
	char *end;
	long fd = strtol(word, &end, 10);
	FILE *stream;
	size_t got;

	if (*end || end == word || fd < 3 || fd > 1 << 20 || !(stream = fdopen((int)fd, "r")))
		fail("EINVAL", "--known-fd \"%s\" is no descriptor", word);
	while ((got = fread(id, 1, sizeof(id), stream)) == sizeof(id))
		id_set_add(export->known, id);
	if (ferror(stream))
		fail_errno("the ids of known chunks cannot be read");
	if (got != 0)
		fail("EINVAL", "the ids of known chunks end in the middle of one");
	fclose(stream);
}

/* The stream gets a descriptor of its own, and what is said by others goes to standard error. */
static void take_output(struct export *export)
{
	export->out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	if (export->out < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		fail_errno("standard output is not there");
	/* More at a time where it is a pipe; refused, it only is slower. */
	fcntl(export->out, F_SETPIPE_SZ, OUTPUT_BYTES);
	signal(SIGPIPE, SIG_IGN);
	export->buffer = malloc(OUTPUT_BYTES);
	if (!export->buffer)
		fail("ENOMEM", "there is not enough memory to write the stream");
}

int cmd_export(int argc, char **argv)
{
	struct arguments arguments = { argc - 1, argv + 1 };
	static struct export export = { .index_lock = PTHREAD_RWLOCK_INITIALIZER };
	const char *known, *compress;

	take_output(&export);
	export.store = argument(&arguments, "--store");
	known = argument(&arguments, "--known-fd");
	compress = argument(&arguments, "--compress");
	keys_argument(&arguments);
	arguments_end(&arguments);
	if (compress && strcmp(compress, "zstd") != 0 && strcmp(compress, "none") != 0)
		fail("EINVAL", "--compress %s is neither zstd nor none", compress);
	export.compress = !compress || strcmp(compress, "zstd") == 0;
	export.known = id_set_open();
	if (known)
		read_known(&export, known);
	export.ordered = ordered_open(&(struct ordered_options){ .threads = THREADS,
								 .slots = SLOTS,
								 .slot_bytes = sizeof(struct slot),
								 .context = &export,
								 .thread_begins = reader_begins,
								 .thread_ends = reader_ends,
								 .work = work,
								 .finish = finish,
								 .idle = flush });
	read_sources(&export);
	ordered_end(export.ordered);
	flush(&export);
	if (export.index)
		index_close(export.index);
	id_set_close(export.known);
	free(export.list);
	free(export.buffer);
	return 0;
}
