#include "packwriter.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "../common.h"
#include "files.h"
#include "hash.h"
#include "index.h"
#include "report.h"

/* One direct write of 4 MiB at a time reaches what the disk can (measured: 1.7 GB/s; of 1 MiB each: 1.0 GB/s). */
#define BUFFER_BYTES (4u << 20)
#define BUFFERS 3u
#define ALIGNMENT 4096u
#define PREALLOCATED_BYTES (64ull << 20)
/* Where less than this is free, nothing is allocated ahead: it could be the room that the other files need. */
#define PREALLOCATION_FREE (256ull << 20)
/* Bounds the memory for the entries of the pack in the making (3 MiB), however small its records are. */
#define ENTRIES_MOST 65536u

struct pack_file {
	uint8_t id[PACK_ID_BYTES];
	int fd;
	uint64_t bytes;
	uint64_t allocated;
	bool direct;
	int idx_fd;
};

struct buffer {
	uint8_t *bytes;
	size_t used;
	unsigned pack; /* its number in `packs` */
	uint64_t offset;
	bool last; /* of its pack, which is cut to its true length then */
};

struct pack_writer {
	struct pack_writer_options options;
	struct pack_file *packs;
	unsigned count;
	struct idx_entry *entries;
	unsigned entry_count;
	bool in_pack;
	uint8_t pack_id[PACK_ID_BYTES];

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct buffer buffers[BUFFERS];
	uint64_t filled; /* how many buffers were handed over, and how many of those were written */
	uint64_t written;
	bool ended;
	uint64_t bytes;
	double speed;
	double megabytes; /* through the page cache, and their time */
	double seconds;
	bool no_preallocation;
};

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static char *pack_path(const struct pack_writer *writer, const uint8_t id[PACK_ID_BYTES], const char *ending)
{
	char name[PACK_NAME_ROOM];

	pack_file_name(id, ending, name);
	return format_string("%s%s", name, writer->options.suffix);
}

static void cannot_write(const struct pack_writer *writer, const uint8_t id[PACK_ID_BYTES])
	__attribute__((noreturn));
static void cannot_write(const struct pack_writer *writer, const uint8_t id[PACK_ID_BYTES])
{
	fail_errno("%s/%s cannot be written", writer->options.called, pack_path(writer, id, ".pack"));
}

static void preallocate(struct pack_writer *writer, struct pack_file *pack, uint64_t end)
{
	struct statvfs room;

	if (writer->no_preallocation || end <= pack->allocated || fstatvfs(pack->fd, &room) != 0 ||
	    (uint64_t)room.f_bavail * room.f_frsize < PREALLOCATION_FREE)
		return;
	/* Refused (ENOSPC, EOPNOTSUPP), the write itself says what is the matter, if anything. */
	if (fallocate(pack->fd, 0, (off_t)pack->allocated, (off_t)PREALLOCATED_BYTES) == 0)
		pack->allocated += PREALLOCATED_BYTES;
	else
		writer->no_preallocation = true;
}

/*
 * What the medium can do: a direct write that had to wait for a core says little, so that of those the fastest counts,
 * and fades (a stick that had a cache of its own for the beginning is seen through after some 100 MiB). Writes through
 * the page cache come back at once or after that of the one before: there only the average says something.
 */
static void note_speed(struct pack_writer *writer, bool direct, double megabytes, double seconds)
{
	if (seconds <= 0 || megabytes <= 0)
		return;
	if (direct) {
		writer->speed = megabytes / seconds > writer->speed * 0.95 ? megabytes / seconds : writer->speed * 0.95;
		return;
	}
	writer->megabytes += megabytes;
	writer->seconds += seconds;
	writer->speed = writer->megabytes / writer->seconds;
}

static void write_buffer(struct pack_writer *writer, const struct buffer *buffer)
{
	pthread_mutex_lock(&writer->lock);
	struct pack_file pack = writer->packs[buffer->pack];
	pthread_mutex_unlock(&writer->lock);
	size_t length = (buffer->used + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	double begun = seconds_now();

	memset(buffer->bytes + buffer->used, 0, length - buffer->used);
	preallocate(writer, &pack, buffer->offset + length);
	if (!pwrite_all(pack.fd, buffer->bytes, length, (off_t)buffer->offset)) {
		/* Some file systems take O_DIRECT at opening and refuse it at writing. */
		if (!pack.direct || errno != EINVAL || fcntl(pack.fd, F_SETFL, 0) != 0)
			cannot_write(writer, pack.id);
		pack.direct = false;
		if (!pwrite_all(pack.fd, buffer->bytes, length, (off_t)buffer->offset))
			cannot_write(writer, pack.id);
	}
	if (!pack.direct) {
		/* The memory of these pages is needed for the application: written now, forgotten one buffer later. */
		sync_file_range(pack.fd, (off_t)buffer->offset, (off_t)length, SYNC_FILE_RANGE_WRITE);
		if (buffer->offset >= BUFFER_BYTES) {
			off_t before = (off_t)(buffer->offset - BUFFER_BYTES);

			sync_file_range(pack.fd, before, BUFFER_BYTES,
					SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
						SYNC_FILE_RANGE_WAIT_AFTER);
			posix_fadvise(pack.fd, before, BUFFER_BYTES, POSIX_FADV_DONTNEED);
		}
	}
	if (buffer->last && ftruncate(pack.fd, (off_t)(buffer->offset + buffer->used)) != 0)
		cannot_write(writer, pack.id);
	pthread_mutex_lock(&writer->lock);
	writer->packs[buffer->pack].allocated = pack.allocated;
	writer->packs[buffer->pack].direct = pack.direct;
	writer->bytes += buffer->used;
	note_speed(writer, pack.direct, (double)length / 1e6, seconds_now() - begun);
	pthread_mutex_unlock(&writer->lock);
}

static void *write_buffers(void *argument)
{
	struct pack_writer *writer = argument;

	pthread_mutex_lock(&writer->lock);
	for (;;) {
		while (writer->written == writer->filled && !writer->ended)
			pthread_cond_wait(&writer->changed, &writer->lock);
		if (writer->written == writer->filled)
			break;
		struct buffer *buffer = &writer->buffers[writer->written % BUFFERS];

		pthread_mutex_unlock(&writer->lock);
		write_buffer(writer, buffer);
		pthread_mutex_lock(&writer->lock);
		writer->written++;
		pthread_cond_broadcast(&writer->changed);
	}
	pthread_mutex_unlock(&writer->lock);
	return NULL;
}

struct pack_writer *pack_writer_open(const struct pack_writer_options *options)
{
	struct pack_writer *writer = calloc(1, sizeof(*writer));

	if (!writer || !(writer->entries = malloc(ENTRIES_MOST * sizeof(*writer->entries))))
		fail("ENOMEM", "there is not enough memory to write packs");
	writer->options = *options;
	for (unsigned i = 0; i < BUFFERS; i++) {
		if (posix_memalign((void **)&writer->buffers[i].bytes, ALIGNMENT, BUFFER_BYTES) != 0)
			fail("ENOMEM", "there is not enough memory to write packs");
	}
	pthread_mutex_init(&writer->lock, NULL);
	pthread_cond_init(&writer->changed, NULL);
	if (pthread_create(&writer->thread, NULL, write_buffers, writer) != 0)
		fail("EAGAIN", "a thread that writes packs cannot be started");
	return writer;
}

/* The buffer that is being filled. */
static struct buffer *current(struct pack_writer *writer)
{
	return &writer->buffers[writer->filled % BUFFERS];
}

static void hand_over(struct pack_writer *writer, bool last)
{
	struct buffer *buffer = current(writer);
	struct buffer *next;
	uint64_t offset = buffer->offset + buffer->used;
	unsigned pack = buffer->pack;

	pthread_mutex_lock(&writer->lock);
	buffer->last = last;
	writer->filled++;
	pthread_cond_broadcast(&writer->changed);
	while (writer->filled - writer->written >= BUFFERS)
		pthread_cond_wait(&writer->changed, &writer->lock);
	next = current(writer);
	next->used = 0;
	next->pack = pack;
	next->offset = offset;
	pthread_mutex_unlock(&writer->lock);
}

static void put(struct pack_writer *writer, const void *bytes, size_t length)
{
	const uint8_t *next = bytes;

	while (length > 0) {
		struct buffer *buffer = current(writer);
		size_t part = BUFFER_BYTES - buffer->used < length ? BUFFER_BYTES - buffer->used : length;

		memcpy(buffer->bytes + buffer->used, next, part);
		buffer->used += part;
		next += part;
		length -= part;
		if (buffer->used == BUFFER_BYTES)
			hand_over(writer, false);
	}
}

static void begin_pack(struct pack_writer *writer)
{
	struct pack_file pack = { .fd = -1, .idx_fd = -1, .direct = writer->options.direct };
	struct pack_header header = { .version = PACKS_VERSION };
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;

	if (getrandom(pack.id, sizeof(pack.id), 0) != (ssize_t)sizeof(pack.id))
		fail_errno("no random bytes for the name of a pack");
	CLEANUP_FREE char *path = pack_path(writer, pack.id, ".pack");

	if (pack.direct) {
		pack.fd = openat(writer->options.folder, path, flags | O_DIRECT, 0600);
		if (pack.fd < 0 && errno == EINVAL) {
			/* Refused after the file was made. */
			unlinkat(writer->options.folder, path, 0);
			pack.direct = false;
		}
	}
	if (pack.fd < 0)
		pack.fd = openat(writer->options.folder, path, flags, 0600);
	if (pack.fd < 0)
		cannot_write(writer, pack.id);
	pthread_mutex_lock(&writer->lock);
	struct pack_file *more = reallocarray(writer->packs, writer->count + 1, sizeof(*more));

	if (!more)
		fail("ENOMEM", "there is not enough memory to write packs");
	writer->packs = more;
	writer->packs[writer->count++] = pack;
	pthread_mutex_unlock(&writer->lock);
	current(writer)->pack = writer->count - 1;
	current(writer)->offset = 0;
	current(writer)->used = 0;
	writer->entry_count = 0;
	memcpy(writer->pack_id, pack.id, sizeof(pack.id));
	writer->in_pack = true;

	memcpy(header.magic, "TORPORPK", sizeof(header.magic));
	memcpy(header.id, pack.id, sizeof(header.id));
	if (writer->options.key_id)
		memcpy(header.key_id, writer->options.key_id, sizeof(header.key_id));
	set_check(&header, sizeof(header));
	put(writer, &header, sizeof(header));
}

static uint64_t pack_end(struct pack_writer *writer)
{
	return current(writer)->offset + current(writer)->used;
}

void pack_writer_cut(struct pack_writer *writer)
{
	if (!writer->in_pack)
		return;
	const uint8_t *id = writer->pack_id;
	uint64_t bytes = pack_end(writer);
	CLEANUP_FREE char *path = pack_path(writer, id, ".idx");

	hand_over(writer, true);
	int fd = openat(writer->options.folder, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || idx_write(fd, id, bytes, writer->entries, writer->entry_count) != 0)
		fail_errno("%s/%s cannot be written", writer->options.called, path);
	/* So that the sync at the end has less to wait for. */
	sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	pthread_mutex_lock(&writer->lock);
	writer->packs[writer->count - 1].bytes = bytes;
	writer->packs[writer->count - 1].idx_fd = fd;
	pthread_mutex_unlock(&writer->lock);
	writer->in_pack = false;
}

void pack_writer_add(struct pack_writer *writer, const uint8_t id[CHUNK_ID_BYTES], enum codec codec, unsigned pages,
		     unsigned flags, const struct iovec *parts, unsigned count)
{
	struct record_header record = { .magic = RECORD_MAGIC, .codec = (uint8_t)codec, .pages = (uint8_t)pages,
					.flags = (uint16_t)flags };
	size_t stored = 0;

	for (unsigned i = 0; i < count; i++)
		stored += parts[i].iov_len;
	if (writer->in_pack && (writer->entry_count == ENTRIES_MOST ||
				pack_end(writer) + sizeof(record) + stored > PACK_BYTES_MOST))
		pack_writer_cut(writer);
	if (!writer->in_pack)
		begin_pack(writer);
	record.stored = (uint32_t)stored;
	memcpy(record.id, id, CHUNK_ID_BYTES);
	set_check(&record, sizeof(record));

	struct idx_entry *entry = &writer->entries[writer->entry_count++];

	memcpy(entry->id, id, CHUNK_ID_BYTES);
	entry->offset = pack_end(writer);
	entry->stored = record.stored;
	entry->codec = record.codec;
	entry->pages = record.pages;
	entry->flags = record.flags;
	put(writer, &record, sizeof(record));
	for (unsigned i = 0; i < count; i++)
		put(writer, parts[i].iov_base, parts[i].iov_len);
}

uint64_t pack_writer_bytes(struct pack_writer *writer)
{
	pthread_mutex_lock(&writer->lock);
	uint64_t bytes = writer->bytes;

	pthread_mutex_unlock(&writer->lock);
	return bytes;
}

double pack_writer_speed(struct pack_writer *writer)
{
	pthread_mutex_lock(&writer->lock);
	double speed = writer->speed;

	pthread_mutex_unlock(&writer->lock);
	return speed;
}

static void stop(struct pack_writer *writer)
{
	pthread_mutex_lock(&writer->lock);
	writer->ended = true;
	pthread_cond_broadcast(&writer->changed);
	pthread_mutex_unlock(&writer->lock);
	pthread_join(writer->thread, NULL);
}

static void free_writer(struct pack_writer *writer)
{
	for (unsigned i = 0; i < writer->count; i++) {
		close_fd(&writer->packs[i].fd);
		close_fd(&writer->packs[i].idx_fd);
	}
	for (unsigned i = 0; i < BUFFERS; i++)
		free(writer->buffers[i].bytes);
	pthread_mutex_destroy(&writer->lock);
	pthread_cond_destroy(&writer->changed);
	free(writer->packs);
	free(writer->entries);
	free(writer);
}

static void give_name(const struct pack_writer *writer, const uint8_t id[PACK_ID_BYTES], const char *ending)
{
	char name[PACK_NAME_ROOM];
	CLEANUP_FREE char *path = pack_path(writer, id, ending);

	pack_file_name(id, ending, name);
	if (renameat(writer->options.folder, path, writer->options.folder, name) != 0)
		fail_errno("%s/%s cannot be renamed", writer->options.called, path);
}

struct pack_writer_sums pack_writer_end(struct pack_writer *writer)
{
	struct pack_writer_sums sums = { 0 };

	pack_writer_cut(writer);
	stop(writer);
	for (unsigned i = 0; i < writer->count; i++) {
		struct pack_file *pack = &writer->packs[i];

		if (fsync(pack->fd) != 0 || fsync(pack->idx_fd) != 0)
			cannot_write(writer, pack->id);
		if (!pack->direct)
			posix_fadvise(pack->fd, 0, 0, POSIX_FADV_DONTNEED);
		sums.packs++;
		sums.bytes += pack->bytes;
	}
	/* The pack before its .idx: one without the other is found again from the pack. */
	for (unsigned i = 0; i < writer->count && *writer->options.suffix; i++) {
		give_name(writer, writer->packs[i].id, ".pack");
		give_name(writer, writer->packs[i].id, ".idx");
	}
	if (fsync(writer->options.folder) != 0)
		fail_errno("the folder %s cannot be synced", writer->options.called);
	free_writer(writer);
	return sums;
}

void pack_writer_drop(struct pack_writer *writer)
{
	pack_writer_cut(writer);
	stop(writer);
	for (unsigned i = 0; i < writer->count; i++) {
		CLEANUP_FREE char *pack = pack_path(writer, writer->packs[i].id, ".pack");
		CLEANUP_FREE char *idx = pack_path(writer, writer->packs[i].id, ".idx");

		unlinkat(writer->options.folder, pack, 0);
		unlinkat(writer->options.folder, idx, 0);
	}
	free_writer(writer);
}
