/*
 * torpor-pages recompress --store STATE [--stop-file PATH] [--key-fd N]
 *
 * Makes packs small that were written for speed: those with records of lz4, or with raw ones that zstd makes smaller. Where
 * there is a key for what is written, packs that are not encrypted by it are written anew too.
 * It does so when nothing else wants the processor or the disk. SIGTERM, or the file PATH, ends it; the pack at hand is
 * then left as it was.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common.h"
#include "commands.h"
#include "crypt.h"
#include "packwriter.h"
#include "record.h"
#include "report.h"
#include "speeds.h"
#include "tidy.h"

/* From the kernel's headers, which libc does not pass on. */
#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_IDLE (3 << 13)

/* So many chunks of a raw pack are tried, and the pack is left alone unless they become smaller by three hundredths. */
#define TRIED 32u
#define GAIN 0.97
/* Read pages are dropped from the page cache, and the stop file is looked for, after so many records. */
#define PAUSE_EVERY 128u

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

struct recompress {
	struct tidy tidy;
	struct record_reader reader;
	uint8_t *packed;
	uint8_t *sealed;
	const char *stop_file;
	unsigned packs;
	uint64_t before;
	uint64_t after;
};

static void be_idle(void)
{
	struct sched_param none = { 0 };

	/* Refused in a container, it only is less polite. */
	sched_setscheduler(0, SCHED_IDLE, &none);
	syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE);
}

static bool must_stop(const struct recompress *recompress)
{
	if (recompress->stop_file && access(recompress->stop_file, F_OK) == 0)
		stopped = 1;
	return stopped;
}

/* Whether zstd makes something of chunks that are stored as they are, by trying some all over the pack. */
static bool pays_off(struct recompress *recompress, unsigned pack, const struct idx_entry **entries, uint64_t count)
{
	uint64_t tries = count < TRIED ? count : TRIED;
	size_t before = 0, after = 0;

	for (uint64_t i = 0; i < tries; i++) {
		/* By the golden ratio, spread over all of it: a fixed step may meet the same kind again and again. */
		uint64_t at = count < TRIED ? i : ((i * 0x9e3779b97f4a7c15u >> 32) * count) >> 32;
		size_t length = (size_t)entries[at]->pages * PAGE_BYTES, packed;
		char *what;

		if (!record_read(&recompress->reader, recompress->tidy.index, pack, entries[at], &what)) {
			tidy_skip(&recompress->tidy, what);
			return false;
		}
		codec_pack(recompress->reader.codec, CODEC_ZSTD, recompress->reader.bytes, length, recompress->packed,
			   &packed);
		before += length;
		after += packed;
	}
	return (double)after < (double)before * GAIN;
}

static bool is_wanted(struct recompress *recompress, unsigned pack, const struct idx_entry **entries, uint64_t count)
{
	const uint8_t *key = index_pack_header(recompress->tidy.index, pack)->key_id;
	bool quick = false, small = false, encrypted = count > 0 && entries[0]->flags & RECORD_ENCRYPTED;

	if (encrypted && !key_is_known(key))
		return false;
	/* What is not encrypted yet, or by a key that anybody may have. */
	if (count > 0 && key_for_writing() && (!encrypted || memcmp(key, key_for_writing(), KEY_ID_BYTES) != 0))
		return true;

	for (uint64_t i = 0; i < count; i++) {
		quick = quick || entries[i]->codec == CODEC_LZ4;
		small = small || entries[i]->codec == CODEC_ZSTD;
	}
	/* A pack with records of zstd has been through this: its raw ones are those that do not get smaller. */
	return count > 0 && (quick || (!small && pays_off(recompress, pack, entries, count)));
}

/* False where the pack stays as it is. */
static bool write_anew(struct recompress *recompress, unsigned pack, struct pack_writer *writer, const uint8_t *key,
		       const struct idx_entry **entries, uint64_t count)
{
	int fd = index_pack_fd(recompress->tidy.index, pack);

	for (uint64_t i = 0; i < count; i++) {
		const struct idx_entry *entry = entries[i];
		struct iovec stored = { record_stored(&recompress->reader), entry->stored };
		enum codec codec = (enum codec)entry->codec;
		char *what;

		if (i % PAUSE_EVERY == 0) {
			posix_fadvise(fd, 0, (off_t)entry->offset, POSIX_FADV_DONTNEED);
			must_stop(recompress);
		}
		if (stopped)
			return false;
		if (!record_read(&recompress->reader, recompress->tidy.index, pack, entry, &what)) {
			tidy_skip(&recompress->tidy, what);
			return false;
		}
		if (codec != CODEC_ZSTD) {
			codec = codec_pack(recompress->reader.codec, CODEC_ZSTD, recompress->reader.bytes,
					   (size_t)entry->pages * PAGE_BYTES, recompress->packed, &stored.iov_len);
			stored.iov_base = recompress->packed;
		} else if (entry->flags & RECORD_ENCRYPTED) {
			stored = (struct iovec){ recompress->reader.opened, entry->stored - SEAL_BYTES };
		}
		if (key) {
			if (!crypt_seal(recompress->reader.crypt, key,
					&(struct sealed_record){ entry->id, codec, entry->pages }, stored.iov_base,
					stored.iov_len, recompress->sealed))
				fail("EIO", "chunks cannot be encrypted");
			stored = (struct iovec){ recompress->sealed, stored.iov_len + SEAL_BYTES };
		}
		pack_writer_add(writer, entry->id, codec, entry->pages, key ? RECORD_ENCRYPTED : 0, &stored, 1);
	}
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return true;
}

static void recompress_pack(struct recompress *recompress, unsigned pack)
{
	struct tidy *tidy = &recompress->tidy;
	uint64_t count;
	CLEANUP_FREE const struct idx_entry **entries = entries_by_offset(tidy->index, pack, &count);

	if (index_pack_trouble(tidy->index, pack)) {
		tidy_skip(tidy, format_string("%s", index_pack_trouble(tidy->index, pack)));
		return;
	}
	if (!is_wanted(recompress, pack, entries, count))
		return;
	/* What was encrypted once stays so: its ids are no hashes by which it could be told from damage otherwise. */
	const uint8_t *key = key_for_writing() ? key_for_writing()
			     : entries[0]->flags & RECORD_ENCRYPTED ? index_pack_header(tidy->index, pack)->key_id
								   : NULL;
	struct pack_writer *writer = pack_writer_open(&(struct pack_writer_options){
		.folder = tidy->packs, .called = "packs", .suffix = ".new", .direct = true, .key_id = key });

	if (!write_anew(recompress, pack, writer, key, entries, count)) {
		pack_writer_drop(writer);
		return;
	}
	struct pack_writer_sums sums = pack_writer_end(writer);

	tidy_remove(tidy, pack);
	if (fsync(tidy->packs) != 0)
		fail_errno("the folder %s cannot be synced", tidy->packs_path);
	recompress->packs++;
	recompress->before += index_pack_bytes(tidy->index, pack);
	recompress->after += sums.bytes;
	report_line("{\"event\":\"progress\",\"packs\":%u,\"bytesBefore\":%" PRIu64 ",\"bytesAfter\":%" PRIu64 "}",
		    recompress->packs, recompress->before, recompress->after);
}

int cmd_recompress(int argc, char **argv)
{
	struct arguments arguments = { argc - 1, argv + 1 };
	struct recompress recompress = { 0 };
	const char *store = argument_needed(&arguments, "--store");

	recompress.stop_file = argument(&arguments, "--stop-file");
	keys_argument(&arguments);
	arguments_end(&arguments);
	signal(SIGTERM, stop);
	be_idle();
	tidy_open(&recompress.tidy, store, false);
	record_reader_open(&recompress.reader, ZSTD_SMALL);
	recompress.packed = malloc(CODEC_ROOM);
	recompress.sealed = malloc(CODEC_ROOM + SEAL_BYTES);
	if (!recompress.packed || !recompress.sealed)
		fail("ENOMEM", "there is not enough memory to compress");
	for (unsigned pack = 0; pack < index_packs(recompress.tidy.index) && !must_stop(&recompress); pack++)
		recompress_pack(&recompress, pack);
	report_line("{\"event\":\"done\",\"packs\":%u,\"bytesBefore\":%" PRIu64 ",\"bytesAfter\":%" PRIu64
		    ",\"stopped\":%s,\"skipped\":[%s]}",
		    recompress.packs, recompress.before, recompress.after, stopped ? "true" : "false",
		    tidy_skipped(&recompress.tidy));
	free(recompress.packed);
	free(recompress.sealed);
	record_reader_close(&recompress.reader);
	tidy_close(&recompress.tidy);
	return 0;
}
