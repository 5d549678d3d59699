/*
 * Puts in order what was found in the blocks: numbers the chunks, hands new ones to the packs, writes places and
 * hashes, and looks from time to time whether another codec would be the faster one.
 */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "../common.h"
#include "hash.h"
#include "receive.h"
#include "report.h"

#define PROGRESS_SECONDS 0.1
/* Bytes received between two looks at the codec; the first one soon, if nothing was known before. */
#define FIRST_LOOK (8ull << 20)
#define LOOK_EVERY (64ull << 20)
/* So much must have been written before the disk's speed is believed: a cache of its own takes the beginning. */
#define WRITTEN_ENOUGH (16ull << 20)

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

struct speeds receive_speeds(struct receive *receive)
{
	struct speeds speeds = receive->known;
	double *medium = speeds_direct(&receive->known) ? &speeds.direct : &speeds.buffered;

	if (pack_writer_bytes(receive->packs) >= (*medium > 0 ? WRITTEN_ENOUGH : 1))
		*medium = pack_writer_speed(receive->packs);
	pthread_mutex_lock(&receive->lock);
	if (receive->hashing.samples > 0)
		speeds.sha256 = rate_speed(&receive->hashing);
	if (receive->lz4.samples > 0) {
		speeds.lz4 = rate_speed(&receive->lz4);
		speeds.lz4_ratio = receive->lz4.out / receive->lz4.in;
		speeds.zstd = rate_speed(&receive->zstd);
		speeds.zstd_ratio = receive->zstd.out / receive->zstd.in;
	}
	pthread_mutex_unlock(&receive->lock);
	return speeds;
}

static void store_chunk(struct receive *receive, struct block *block, const struct made_chunk *chunk)
{
	struct iovec parts[CHUNK_PAGES];
	unsigned count = 0;

	if (chunk->packed_bytes > 0) {
		parts[count++] = (struct iovec){ block->packed + chunk->packed_at, chunk->packed_bytes };
	} else {
		for (unsigned i = 0; i < chunk->pages; i++)
			parts[count++] = (struct iovec){ block->data + (size_t)chunk->members[i] * PAGE_BYTES, PAGE_BYTES };
	}
	pack_writer_add(receive->packs, chunk->id, chunk->codec, chunk->pages,
			key_for_writing() ? RECORD_ENCRYPTED : 0, parts, count);
	receive->new_chunks++;
	receive->raw_bytes += (uint64_t)chunk->pages * PAGE_BYTES;
	receive->bytes_by_codec[block->codec] += (uint64_t)chunk->pages * PAGE_BYTES;
}

/* The place here of a page of the parent's chunks. */
static page_place place_of_parents(struct receive *receive, page_place place)
{
	uint32_t *number = &receive->parent_numbers[place / CHUNK_PAGES];
	bool added;

	if (*number == 0) {
		*number = chunk_list_add(&receive->chunks, receive->parent.chunks[place / CHUNK_PAGES], &added) + 1;
		if (added)
			receive->known_chunks++;
	}
	return (*number - 1) * CHUNK_PAGES + place % CHUNK_PAGES;
}

static void put_page(struct receive *receive, page_place place, const uint8_t *hash)
{
	out_put(receive->places, &place, sizeof(place));
	out_put(receive->hashes, hash, PAGE_HASH_BYTES);
}

static void assemble_read(struct receive *receive, const struct block *block, const uint32_t *numbers,
			  const struct run *run)
{
	for (uint64_t page = run->first; page < run->first + run->pages; page++) {
		const struct found *found = &block->found[page];
		page_place place = PLACE_ZERO;

		switch (found->kind) {
		case FOUND_ZERO:
			receive->zero_pages++;
			break;
		case FOUND_PARENT:
			place = place_of_parents(receive, found->place);
			receive->parent_pages++;
			break;
		case FOUND_CHUNK:
			place = numbers[found->place / CHUNK_PAGES] * CHUNK_PAGES + found->place % CHUNK_PAGES;
			break;
		}
		put_page(receive, place, block->hashes[page]);
	}
}

static void assemble_taken_over(struct receive *receive, const struct run *run)
{
	for (uint64_t page = run->first; page < run->first + run->pages; page++) {
		page_place place;
		unsigned pack;

		if (!snapshot_place(&receive->parent, page, &place))
			fail("EIO", "page %" PRIu64 " of the parent is in a chunk that it does not have: its pages/places "
				    "is damaged", page);
		if (place != PLACE_ZERO) {
			/* Once for each chunk: what nobody fetched and no pack has would be lost without a word. */
			if (receive->parent_numbers[place / CHUNK_PAGES] == 0 &&
			    !index_find(receive->index, receive->parent.chunks[place / CHUNK_PAGES], &pack))
				fail("EIO", "chunk %u of the parent, which was not fetched yet, is in no pack of the store",
				     place / CHUNK_PAGES);
			place = place_of_parents(receive, place);
		}
		put_page(receive, place, receive->parent.hashes[page]);
	}
}

static void assemble_block(struct receive *receive, struct block *block)
{
	uint32_t numbers[BLOCK_CHUNKS];

	for (unsigned i = 0; i < block->chunk_count; i++) {
		const struct made_chunk *chunk = &block->chunks[i];
		bool added;

		numbers[i] = chunk_list_add(&receive->chunks, chunk->id, &added);
		if (added && !chunk->stored_already)
			store_chunk(receive, block, chunk);
		else
			receive->known_chunks++;
	}
	for (unsigned i = 0; i < block->run_count; i++) {
		if (block->runs[i].kind == RUN_READ)
			assemble_read(receive, block, numbers, &block->runs[i]);
		else
			assemble_taken_over(receive, &block->runs[i]);
	}
}

static void look_at_codec(struct receive *receive)
{
	struct speeds speeds = receive_speeds(receive);
	enum codec now = (enum codec)atomic_load(&receive->codec);

	atomic_store(&receive->codec, speeds_choose(&speeds, receive->threads, now));
}

void *assemble_blocks(void *argument)
{
	struct receive *receive = argument;
	uint64_t next_look = speeds_time(&receive->known, CODEC_ZSTD, receive->threads) > 0 ? LOOK_EVERY : FIRST_LOOK;
	double reported = seconds_now();
	enum codec codec = (enum codec)atomic_load(&receive->codec);

	for (;;) {
		pthread_mutex_lock(&receive->lock);
		struct block *block = &receive->blocks[receive->assembled % receive->block_count];

		while (receive->assembled < receive->read ? block->state != BLOCK_EXAMINED : !receive->ended)
			pthread_cond_wait(&receive->changed, &receive->lock);
		bool done = receive->assembled == receive->read;

		pthread_mutex_unlock(&receive->lock);
		if (done)
			return NULL;
		if (block->codec != codec && block->chunk_count > 0) {
			/* One way of storing for each pack: recompression goes by that. */
			pack_writer_cut(receive->packs);
			codec = block->codec;
		}
		assemble_block(receive, block);
		pthread_mutex_lock(&receive->lock);
		block->state = BLOCK_FREE;
		receive->assembled++;
		pthread_cond_broadcast(&receive->changed);
		pthread_mutex_unlock(&receive->lock);

		uint64_t received = atomic_load(&receive->received);
		double now = seconds_now();

		if (receive->automatic && received >= next_look) {
			look_at_codec(receive);
			next_look = received + LOOK_EVERY;
		}
		if (now - reported >= PROGRESS_SECONDS) {
			report_line("{\"event\":\"progress\",\"received\":%" PRIu64 ",\"written\":%" PRIu64 "}", received,
				    pack_writer_bytes(receive->packs));
			reported = now;
		}
	}
}
