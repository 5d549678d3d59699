/* Memory of made-up processes for the tests of the pager: any page of it can be made anew from a seed and a number. */
#ifndef TORPOR_TEST_SCENE_H
#define TORPOR_TEST_SCENE_H

#include <stddef.h>
#include <stdint.h>

#include "../../pages/format.h"

struct scene {
	uint64_t seed;
	unsigned processes, mappings;
	uint64_t pages; /* of each mapping */
	const char *kinds; /* NULL: of all kinds; else "random" or "text" */
};

#define FIRST_PID 1000u
/* Registered behind each mapping, without being in the snapshot. */
#define EMPTY_PAGES 8u

static inline uint64_t mix(uint64_t value)
{
	value += 0x9e3779b97f4a7c15ull;
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
	value = (value ^ value >> 27) * 0x94d049bb133111ebull;
	return value ^ value >> 31;
}

/* No address is one of a window of 64 KiB, so that mappings begin in the middle of one. */
static inline uint64_t mapping_address(unsigned mapping)
{
	return 0x200000000000ull + ((uint64_t)mapping << 34) + (uint64_t)(mapping * 3 % 16) * PAGE_BYTES;
}

static inline uint64_t page_number(const struct scene *scene, unsigned process, unsigned mapping, uint64_t page)
{
	return ((uint64_t)process * scene->mappings + mapping) * scene->pages + page;
}

/* What a page has in it: zeros, noise, words, or what another page has too. */
static inline void make_page(const struct scene *scene, uint64_t number, uint8_t page[PAGE_BYTES])
{
	static const char *const words[] = { "torpor ", "suspends ", "desktop ", "applications ", "to ", "disk ", "and ", "\n" };
	uint64_t state = mix(scene->seed ^ mix(number));
	unsigned kind = (unsigned)(state % 10);
	uint64_t *values = (uint64_t *)page;

	if (scene->kinds)
		kind = scene->kinds[0] == 'r' ? 5 : 8;
	if (kind < 2) {
		for (size_t i = 0; i < PAGE_BYTES / 8; i++)
			values[i] = 0;
		return;
	}
	if (kind == 2)
		state = mix(scene->seed + state % 7);
	if (kind < 7) {
		for (size_t i = 0; i < PAGE_BYTES / 8; i++)
			values[i] = state = mix(state);
		return;
	}
	for (size_t at = 0; at < PAGE_BYTES;) {
		const char *word = words[(state = mix(state)) % 8];

		while (*word && at < PAGE_BYTES)
			page[at++] = (uint8_t)*word++;
	}
	values[0] = state;
}

#endif
