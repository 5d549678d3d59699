#include "idset.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "report.h"

#define PLACES_FIRST (1u << 12)

struct id_set {
	/* Ids where their beginning says, or in the next free place. Zeros: free. */
	uint8_t (*places)[CHUNK_ID_BYTES];
	unsigned bits; /* 2^bits places */
	uint64_t count;
	/* Secret and odd: whoever chooses the ids does not choose where they go. */
	uint64_t factor;
	pthread_mutex_t lock;
};

static const uint8_t no_id[CHUNK_ID_BYTES];

static void *places_for(unsigned bits)
{
	void *places = calloc(1ull << bits, CHUNK_ID_BYTES);

	if (!places)
		fail("ENOMEM", "there is not enough memory for a list of %llu chunks", 1ull << bits);
	return places;
}

struct id_set *id_set_open(void)
{
	struct id_set *set = calloc(1, sizeof(*set));

	if (!set)
		fail("ENOMEM", "there is not enough memory for a list of chunks");
	if (getrandom(&set->factor, sizeof(set->factor), 0) != (ssize_t)sizeof(set->factor))
		fail_errno("no random number for a list of chunks");
	set->factor |= 1;
	set->bits = __builtin_ctz(PLACES_FIRST);
	set->places = places_for(set->bits);
	pthread_mutex_init(&set->lock, NULL);
	return set;
}

void id_set_close(struct id_set *set)
{
	pthread_mutex_destroy(&set->lock);
	free(set->places);
	free(set);
}

/* Where it is, or the free place where it would be. */
static uint8_t *place_of(const struct id_set *set, const uint8_t id[CHUNK_ID_BYTES])
{
	uint64_t last = (1ull << set->bits) - 1, begin, at;

	memcpy(&begin, id, sizeof(begin));
	at = begin * set->factor >> (64 - set->bits);
	while (memcmp(set->places[at], id, CHUNK_ID_BYTES) != 0 && memcmp(set->places[at], no_id, CHUNK_ID_BYTES) != 0)
		at = (at + 1) & last;
	return set->places[at];
}

static void grow(struct id_set *set)
{
	uint8_t(*old)[CHUNK_ID_BYTES] = set->places;
	uint64_t places = 1ull << set->bits;

	set->places = places_for(++set->bits);
	for (uint64_t at = 0; at < places; at++) {
		if (memcmp(old[at], no_id, CHUNK_ID_BYTES) != 0)
			memcpy(place_of(set, old[at]), old[at], CHUNK_ID_BYTES);
	}
	free(old);
}

bool id_set_has(struct id_set *set, const uint8_t id[CHUNK_ID_BYTES])
{
	bool has;

	pthread_mutex_lock(&set->lock);
	has = memcmp(place_of(set, id), no_id, CHUNK_ID_BYTES) != 0;
	pthread_mutex_unlock(&set->lock);
	return has;
}

bool id_set_add(struct id_set *set, const uint8_t id[CHUNK_ID_BYTES])
{
	bool added;
	uint8_t *place;

	pthread_mutex_lock(&set->lock);
	if (set->count >= 3ull << set->bits >> 2)
		grow(set);
	place = place_of(set, id);
	added = memcmp(place, no_id, CHUNK_ID_BYTES) == 0;
	if (added && memcmp(id, no_id, CHUNK_ID_BYTES) != 0) {
		memcpy(place, id, CHUNK_ID_BYTES);
		set->count++;
	}
	pthread_mutex_unlock(&set->lock);
	return added;
}
