#include "chunklist.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "report.h"

/* A place has 28 bits for the number of its chunk, and all ones are taken (PLACE_ZERO). */
#define CHUNKS_MOST ((1ull << 28) - 1)
#define GROWTH (1ull << 15) /* chunks; 1 MiB */

static uint32_t *make_table(uint64_t places)
{
	void *table = mmap(NULL, places * sizeof(uint32_t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (table == MAP_FAILED)
		fail_errno("no memory for the snapshot's list of chunks");
	return table;
}

void chunk_list_open(struct chunk_list *list, char *path)
{
	list->path = path;
	list->count = 0;
	list->grown = 0;
	list->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (list->fd < 0)
		fail_errno("%s cannot be made", path);
	/* Addresses for all that it can ever be; only what the file has is touched. */
	list->ids = mmap(NULL, (CHUNKS_MOST + 1) * CHUNK_ID_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			 list->fd, 0);
	if (list->ids == MAP_FAILED)
		fail_errno("%s cannot be mapped", path);
	list->places = 4096;
	list->table = make_table(list->places);
	pthread_mutex_init(&list->lock, NULL);
}

/* The place in the table where the id's number is, or belongs. */
static uint64_t find(const struct chunk_list *list, const uint8_t id[CHUNK_ID_BYTES])
{
	uint64_t place;

	memcpy(&place, id, sizeof(place));
	place &= list->places - 1;
	while (list->table[place] &&
	       memcmp(list->ids + (uint64_t)(list->table[place] - 1) * CHUNK_ID_BYTES, id, CHUNK_ID_BYTES) != 0)
		place = (place + 1) & (list->places - 1);
	return place;
}

bool chunk_list_has(struct chunk_list *list, const uint8_t id[CHUNK_ID_BYTES])
{
	bool found;

	pthread_mutex_lock(&list->lock);
	found = list->table[find(list, id)] != 0;
	pthread_mutex_unlock(&list->lock);
	return found;
}

static void grow_table(struct chunk_list *list)
{
	munmap(list->table, list->places * sizeof(*list->table));
	list->places *= 2;
	list->table = make_table(list->places);
	for (uint64_t i = 0; i < list->count; i++)
		list->table[find(list, list->ids + i * CHUNK_ID_BYTES)] = (uint32_t)i + 1;
}

uint32_t chunk_list_add(struct chunk_list *list, const uint8_t id[CHUNK_ID_BYTES], bool *added)
{
	pthread_mutex_lock(&list->lock);
	uint64_t place = find(list, id);

	*added = list->table[place] == 0;
	if (*added) {
		if (list->count == CHUNKS_MOST)
			fail("EFBIG", "the snapshot has more than %llu chunks", CHUNKS_MOST);
		if (list->count == list->grown) {
			/* Allocated, not only lengthened: a full disk must be an error and not a signal. */
			int number = posix_fallocate(list->fd, (off_t)(list->grown * CHUNK_ID_BYTES),
						     (off_t)(GROWTH * CHUNK_ID_BYTES));

			if (number != 0) {
				errno = number;
				fail_errno("%s cannot be written", list->path);
			}
			list->grown += GROWTH;
		}
		memcpy(list->ids + list->count * CHUNK_ID_BYTES, id, CHUNK_ID_BYTES);
		list->table[place] = (uint32_t)++list->count;
		if (list->count * 3 > list->places * 2) {
			grow_table(list);
			place = find(list, id);
		}
	}
	uint32_t number = list->table[place] - 1;

	pthread_mutex_unlock(&list->lock);
	return number;
}

void chunk_list_close(struct chunk_list *list)
{
	munmap(list->ids, (CHUNKS_MOST + 1) * CHUNK_ID_BYTES);
	munmap(list->table, list->places * sizeof(*list->table));
	if (ftruncate(list->fd, (off_t)(list->count * CHUNK_ID_BYTES)) != 0 || fsync(list->fd) != 0)
		fail_errno("%s cannot be written", list->path);
	close(list->fd);
	free(list->path);
	pthread_mutex_destroy(&list->lock);
}
