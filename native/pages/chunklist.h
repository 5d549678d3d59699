/*
 * The chunks that a snapshot in the making needs, each once: the file pages/chunks, which is mapped and grows, and a
 * table of 4 bytes a place to find an id in it. All failures end the process.
 */
#ifndef TORPOR_PAGES_CHUNKLIST_H
#define TORPOR_PAGES_CHUNKLIST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "format.h"

struct chunk_list {
	char *path;
	int fd;
	uint8_t *ids;
	uint64_t count;
	uint64_t grown; /* the file has room for so many */
	uint32_t *table;
	uint64_t places;
	pthread_mutex_t lock;
};

void chunk_list_open(struct chunk_list *list, char *path);
bool chunk_list_has(struct chunk_list *list, const uint8_t id[CHUNK_ID_BYTES]);
/* The chunk's number; *added is whether it is new here. */
uint32_t chunk_list_add(struct chunk_list *list, const uint8_t id[CHUNK_ID_BYTES], bool *added);
/* Gives the file its true length and syncs it. */
void chunk_list_close(struct chunk_list *list);

#endif
