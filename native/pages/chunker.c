/*
 * Examines the pages of a block: which are zeros, which the parent has at the same address, and what chunks the others
 * make. A window of 64 KiB (by address) of which nothing is the parent's is a chunk of its own, so that it is found
 * again by its id whatever snapshot it is in; what is left of partly changed or thinly filled windows is gathered.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hash.h"
#include "receive.h"
#include "report.h"

/* Of a run of shared memory, to know it again. */
#define PAGES_TRIED 8u
/* While little is known of how well the bytes compress, a chunk of each such many blocks is tried. */
#define SAMPLES_SOON 32u
#define SAMPLE_EVERY 32u
/* Each new sample makes the older ones count for so much of what they did. */
#define FADING 0.98

struct examiner {
	struct receive *receive;
	struct codec_state *codec;
	struct block *block;
	uint64_t number; /* of the block */
	uint8_t *gathered; /* CHUNK_BYTES */
	uint8_t *packed;   /* CODEC_ROOM, for samples and what is encrypted then */
	struct crypt *crypt;
	bool sampled;

	/* The window at hand: its pages that are new, and whether it has others that are the parent's. */
	uint64_t dst_id;
	uint64_t window;
	uint8_t fresh[CHUNK_PAGES];
	unsigned fresh_count;
	bool has_parents;
	uint8_t left[CHUNK_PAGES];
	unsigned left_count;
	/* Shared memory whose image in the parent is known, and that. */
	uint64_t shared_id;
	uint64_t shared_parent;
	/* The parent's chunk that was looked for in the packs last. */
	const uint8_t *looked_for;
	bool was_there;
};

static double thread_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double rate_speed(const struct rate *rate)
{
	return rate->seconds > 0 ? rate->in / rate->seconds / 1e6 : 0;
}

static void add_rate(struct receive *receive, struct rate *rate, double in, double out, double seconds)
{
	pthread_mutex_lock(&receive->lock);
	rate->in = rate->in * FADING + in;
	rate->out = rate->out * FADING + out;
	rate->seconds = rate->seconds * FADING + seconds;
	rate->samples++;
	pthread_mutex_unlock(&receive->lock);
}

static void sample(struct examiner *examiner, const uint8_t *bytes, size_t length)
{
	double before = thread_seconds();
	uint8_t hash[PAGE_HASH_BYTES];

	for (size_t at = 0; at < length; at += PAGE_BYTES)
		hash_page(bytes + at, hash);
	add_rate(examiner->receive, &examiner->receive->hashing, (double)length, (double)length,
		 thread_seconds() - before);
	for (enum codec codec = CODEC_LZ4; codec <= CODEC_ZSTD; codec++) {
		double begun = thread_seconds();
		size_t stored;

		codec_pack(examiner->codec, codec, bytes, length, examiner->packed, &stored);
		add_rate(examiner->receive, codec == CODEC_LZ4 ? &examiner->receive->lz4 : &examiner->receive->zstd,
			 (double)length, (double)stored, thread_seconds() - begun);
	}
	examiner->sampled = true;
}

static bool wants_sample(struct examiner *examiner)
{
	struct receive *receive = examiner->receive;

	if (!receive->automatic || examiner->sampled)
		return false;
	if (examiner->number % SAMPLE_EVERY == 0)
		return true;
	pthread_mutex_lock(&receive->lock);
	bool few = receive->zstd.samples < SAMPLES_SOON;

	pthread_mutex_unlock(&receive->lock);
	return few;
}

static bool are_neighbours(const uint8_t *members, unsigned count)
{
	for (unsigned i = 1; i < count; i++) {
		if (members[i] != members[0] + i)
			return false;
	}
	return true;
}

static void seal_chunk(struct examiner *examiner, struct made_chunk *chunk, const uint8_t *bytes, size_t length)
{
	struct block *block = examiner->block;

	if (block->codec != CODEC_RAW) {
		chunk->codec = codec_pack(examiner->codec, block->codec, bytes, length, examiner->packed, &length);
		if (chunk->codec != CODEC_RAW)
			bytes = examiner->packed;
	}
	if (!crypt_seal(examiner->crypt, key_for_writing(),
			&(struct sealed_record){ chunk->id, chunk->codec, chunk->pages }, bytes, length,
			block->packed + block->packed_used))
		fail("EIO", "pages cannot be encrypted");
	chunk->packed_bytes = length + SEAL_BYTES;
	block->packed_used += chunk->packed_bytes;
}

static void pack_chunk(struct examiner *examiner, struct made_chunk *chunk)
{
	struct block *block = examiner->block;
	size_t length = (size_t)chunk->pages * PAGE_BYTES;
	const uint8_t *bytes = block->data + (size_t)chunk->members[0] * PAGE_BYTES;
	bool sampled = wants_sample(examiner);

	if (block->codec == CODEC_RAW && !sampled && !key_for_writing())
		return;
	if (!are_neighbours(chunk->members, chunk->pages)) {
		for (unsigned i = 0; i < chunk->pages; i++)
			memcpy(examiner->gathered + (size_t)i * PAGE_BYTES,
			       block->data + (size_t)chunk->members[i] * PAGE_BYTES, PAGE_BYTES);
		bytes = examiner->gathered;
	}
	if (sampled)
		sample(examiner, bytes, length);
	if (block->codec == CODEC_RAW && !key_for_writing())
		return;
	if (!block->packed && !(block->packed = malloc(PACKED_ROOM)))
		fail("ENOMEM", "there is not enough memory to compress pages");
	chunk->packed_at = block->packed_used;
	if (key_for_writing()) {
		seal_chunk(examiner, chunk, bytes, length);
		return;
	}
	chunk->codec = codec_pack(examiner->codec, block->codec, bytes, length, block->packed + block->packed_used,
				  &chunk->packed_bytes);
	if (chunk->codec == CODEC_RAW)
		chunk->packed_bytes = 0;
	block->packed_used += chunk->packed_bytes;
}

/* Whether an earlier chunk of the block is the same. */
static bool is_in_block(const struct block *block, const uint8_t id[CHUNK_ID_BYTES])
{
	for (unsigned i = 0; i < block->chunk_count; i++) {
		if (memcmp(block->chunks[i].id, id, CHUNK_ID_BYTES) == 0)
			return true;
	}
	return false;
}

static void make_chunk(struct examiner *examiner, const uint8_t *members, unsigned count)
{
	struct block *block = examiner->block;
	struct made_chunk *chunk = &block->chunks[block->chunk_count];
	uint8_t hashes[CHUNK_PAGES * PAGE_HASH_BYTES];
	unsigned pack;

	for (unsigned i = 0; i < count; i++) {
		memcpy(hashes + (size_t)i * PAGE_HASH_BYTES, block->hashes[members[i]], PAGE_HASH_BYTES);
		block->found[members[i]] = (struct found){ FOUND_CHUNK, block->chunk_count * CHUNK_PAGES + i };
	}
	memset(chunk, 0, sizeof(*chunk));
	chunk_id(hashes, count, chunk->id);
	chunk->pages = count;
	memcpy(chunk->members, members, count);
	chunk->stored_already = index_find(examiner->receive->index, chunk->id, &pack) != NULL;
	if (!chunk->stored_already && !is_in_block(block, chunk->id) &&
	    !chunk_list_has(&examiner->receive->chunks, chunk->id))
		pack_chunk(examiner, chunk);
	block->chunk_count++;
}

static void keep_for_later(struct examiner *examiner, uint8_t page)
{
	examiner->left[examiner->left_count++] = page;
	if (examiner->left_count == CHUNK_PAGES) {
		make_chunk(examiner, examiner->left, CHUNK_PAGES);
		examiner->left_count = 0;
	}
}

static void end_window(struct examiner *examiner)
{
	if (!examiner->has_parents && examiner->fresh_count >= OWN_CHUNK_PAGES) {
		make_chunk(examiner, examiner->fresh, examiner->fresh_count);
	} else {
		for (unsigned i = 0; i < examiner->fresh_count; i++)
			keep_for_later(examiner, examiner->fresh[i]);
	}
	examiner->fresh_count = 0;
	examiner->has_parents = false;
}

/* Whether the parent has this page at this address, in a chunk that the store still has. */
static bool is_parents(struct examiner *examiner, struct snapshot_cursor *cursor, uint64_t vaddr, const uint8_t *hash,
		       page_place *place)
{
	uint64_t page;
	unsigned pack;

	if (!snapshot_page(cursor, vaddr, &page) ||
	    memcmp(cursor->snapshot->hashes[page], hash, PAGE_HASH_BYTES) != 0 ||
	    !snapshot_place(cursor->snapshot, page, place) || *place == PLACE_ZERO)
		return false;
	const uint8_t *id = cursor->snapshot->chunks[*place / CHUNK_PAGES];

	if (id != examiner->looked_for) {
		examiner->looked_for = id;
		examiner->was_there = index_find(examiner->receive->index, id, &pack) != NULL;
	}
	return examiner->was_there;
}

static bool has_page(const struct snapshot *snapshot, uint64_t dst_id, uint64_t vaddr, const uint8_t *hash)
{
	struct snapshot_cursor cursor = snapshot_seek(snapshot, dst_id, vaddr);
	uint64_t page;

	return snapshot_page(&cursor, vaddr, &page) && memcmp(snapshot->hashes[page], hash, PAGE_HASH_BYTES) == 0;
}

/* The shared memory of the parent that has this page at this address, if need be by another number. */
static bool find_shared(const struct snapshot *parent, uint64_t vaddr, const uint8_t *hash, uint64_t *dst_id)
{
	if (has_page(parent, *dst_id, vaddr, hash))
		return true;
	for (unsigned i = 0; i < parent->image_count; i++) {
		uint64_t other = parent->images[i].dst_id;

		if (KIND_OF(other) != KIND_SHARED || !has_page(parent, other, vaddr, hash))
			continue;
		*dst_id = other;
		return true;
	}
	return false;
}

/*
 * Of which image of the parent this is the later state. Shared memory is counted anew after each restore, and perhaps by a
 * number that another one had: it is that one's of which a page is still the same, of some that are tried.
 */
static uint64_t id_in_parent(struct examiner *examiner, const struct run *run)
{
	uint64_t found = run->dst_id;

	if (KIND_OF(run->dst_id) != KIND_SHARED)
		return run->dst_id;
	if (examiner->shared_id == run->dst_id)
		return examiner->shared_parent;
	for (unsigned i = 0; i < PAGES_TRIED; i++) {
		/* Never at one distance only, at which all may have changed. */
		uint64_t page = i * (run->pages / PAGES_TRIED) + i;
		const uint8_t *bytes = examiner->block->data + (run->first + page) * PAGE_BYTES;
		uint8_t hash[PAGE_HASH_BYTES];

		if (page >= run->pages)
			break;
		if (page_is_zero(bytes))
			continue;
		hash_new_page(bytes, hash);
		if (!find_shared(&examiner->receive->parent, run->vaddr + page * PAGE_BYTES, hash, &found))
			continue;
		examiner->shared_id = run->dst_id;
		examiner->shared_parent = found;
		break;
	}
	return found;
}

static void examine_run(struct examiner *examiner, const struct run *run)
{
	struct receive *receive = examiner->receive;
	struct block *block = examiner->block;
	struct snapshot_cursor cursor = { 0 };

	if (receive->has_parent)
		cursor = snapshot_seek(&receive->parent, id_in_parent(examiner, run), run->vaddr);
	for (uint64_t i = 0; i < run->pages; i++) {
		uint64_t vaddr = run->vaddr + i * PAGE_BYTES;
		uint8_t page = (uint8_t)(run->first + i);
		const uint8_t *bytes = block->data + (size_t)page * PAGE_BYTES;

		if (vaddr / CHUNK_BYTES != examiner->window || run->dst_id != examiner->dst_id) {
			end_window(examiner);
			examiner->window = vaddr / CHUNK_BYTES;
			examiner->dst_id = run->dst_id;
		}
		if (page_is_zero(bytes)) {
			memset(block->hashes[page], 0, PAGE_HASH_BYTES);
			block->found[page] = (struct found){ FOUND_ZERO, PLACE_ZERO };
			continue;
		}
		hash_new_page(bytes, block->hashes[page]);
		page_place place;

		if (receive->has_parent && is_parents(examiner, &cursor, vaddr, block->hashes[page], &place)) {
			block->found[page] = (struct found){ FOUND_PARENT, place };
			examiner->has_parents = true;
		} else {
			examiner->fresh[examiner->fresh_count++] = page;
		}
	}
}

static void examine_block(struct examiner *examiner)
{
	struct block *block = examiner->block;

	block->codec = (enum codec)atomic_load(&examiner->receive->codec);
	block->packed_used = 0;
	block->chunk_count = 0;
	examiner->sampled = false;
	examiner->window = UINT64_MAX;
	examiner->fresh_count = 0;
	examiner->has_parents = false;
	examiner->left_count = 0;
	for (unsigned i = 0; i < block->run_count; i++) {
		if (block->runs[i].kind == RUN_READ)
			examine_run(examiner, &block->runs[i]);
	}
	end_window(examiner);
	if (examiner->left_count > 0)
		make_chunk(examiner, examiner->left, examiner->left_count);
}

void *examine_blocks(void *argument)
{
	struct receive *receive = argument;
	struct examiner examiner = { .receive = receive, .codec = codec_open(ZSTD_FAST),
				     .gathered = malloc(CHUNK_BYTES), .packed = malloc(CODEC_ROOM),
				     .crypt = crypt_open() };

	if (!examiner.codec || !examiner.crypt || !examiner.gathered || !examiner.packed)
		fail("ENOMEM", "there is not enough memory to compress pages");
	for (;;) {
		pthread_mutex_lock(&receive->lock);
		while (receive->taken == receive->read && !receive->ended)
			pthread_cond_wait(&receive->changed, &receive->lock);
		if (receive->taken == receive->read) {
			pthread_mutex_unlock(&receive->lock);
			break;
		}
		examiner.number = receive->taken++;
		examiner.block = &receive->blocks[examiner.number % receive->block_count];
		pthread_mutex_unlock(&receive->lock);
		examine_block(&examiner);
		pthread_mutex_lock(&receive->lock);
		examiner.block->state = BLOCK_EXAMINED;
		pthread_cond_broadcast(&receive->changed);
		pthread_mutex_unlock(&receive->lock);
	}
	codec_close(examiner.codec);
	crypt_close(examiner.crypt);
	free(examiner.gathered);
	free(examiner.packed);
	return NULL;
}
