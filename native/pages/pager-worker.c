/*
 * The worker of torpor-pager: opens the store, unpacks and checks chunks. It is told what to do by messages and gives
 * bytes in shared memory; nobody's life depends on it. It holds no userfaultfd.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common.h"
#include "pager.h"
#include "reader.h"

/* 8 MiB of chunks that are used by several pages or have been read ahead. */
#define CACHED_CHUNKS 128u
#define AHEAD_MOST 64u
#define NO_CHUNK UINT64_MAX

enum cached_state { CACHED_EMPTY, CACHED_AHEAD, CACHED_BUSY, CACHED_READY };

struct cached {
	uint64_t chunk;
	enum cached_state state;
	unsigned users;
	unsigned pages;
	uint64_t used;
	uint8_t *bytes;
};

struct pool {
	struct reader *reader;
	void *shared;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct cached cached[CACHED_CHUNKS];
	uint64_t clock;
	uint64_t ahead[AHEAD_MOST];
	unsigned ahead_first, ahead_count;
	int ahead_fd;
	/* A slot goes from thread to thread by way of the supervisor; this is what orders their writing to it. */
	atomic_uint turns[SLOTS];
};

void worker_trouble(const char *what)
{
	union {
		struct answer answer;
		char bytes[2048];
	} message = { .answer = { .kind = ANSWER_TROUBLE } };
	size_t length = strlen(what);

	if (length > sizeof(message) - sizeof(message.answer))
		length = sizeof(message) - sizeof(message.answer);
	memcpy(message.bytes + sizeof(message.answer), what, length);
	RETRY(send(WORKER_ANSWER_FD, &message, sizeof(message.answer) + length, MSG_NOSIGNAL));
}

static int decode(struct reader *reader, struct record_reader *thread, uint64_t chunk, uint8_t *out)
{
	CLEANUP_FREE char *what = NULL;
	int pages = reader_chunk(reader, chunk, thread, out, &what);

	if (pages < 0)
		worker_trouble(what);
	return pages;
}

static struct cached *find_cached(struct pool *pool, uint64_t chunk)
{
	for (unsigned i = 0; i < CACHED_CHUNKS; i++) {
		if (pool->cached[i].chunk == chunk)
			return &pool->cached[i];
	}
	return NULL;
}

/* The place that was not used for longest and that nobody is at; NULL where all are busy. */
static struct cached *free_place(struct pool *pool)
{
	struct cached *oldest = NULL;

	for (unsigned i = 0; i < CACHED_CHUNKS; i++) {
		struct cached *each = &pool->cached[i];

		if (each->users == 0 && each->state != CACHED_BUSY && each->state != CACHED_AHEAD &&
		    (!oldest || each->used < oldest->used))
			oldest = each;
	}
	return oldest;
}

/* With the lock, which it lets go of meanwhile. */
static int fill_place(struct pool *pool, struct cached *place, uint64_t chunk, struct record_reader *thread)
{
	int pages;

	place->chunk = chunk;
	place->state = CACHED_BUSY;
	pthread_mutex_unlock(&pool->lock);
	pages = decode(pool->reader, thread, chunk, place->bytes);
	pthread_mutex_lock(&pool->lock);
	place->state = pages > 0 ? CACHED_READY : CACHED_EMPTY;
	place->pages = pages > 0 ? (unsigned)pages : 0;
	if (pages < 0)
		place->chunk = NO_CHUNK;
	place->used = ++pool->clock;
	pthread_cond_broadcast(&pool->changed);
	return pages;
}

int pool_chunk(struct pool *pool, struct record_reader *thread, uint64_t chunk, uint8_t *out)
{
	struct cached *place;
	int pages;

	pthread_mutex_lock(&pool->lock);
	while ((place = find_cached(pool, chunk)) && place->state == CACHED_BUSY)
		pthread_cond_wait(&pool->changed, &pool->lock);
	if (!place || place->state == CACHED_AHEAD) {
		if (!place)
			place = free_place(pool);
		if (!place) {
			pthread_mutex_unlock(&pool->lock);
			return decode(pool->reader, thread, chunk, out);
		}
		if (fill_place(pool, place, chunk, thread) < 0) {
			pthread_mutex_unlock(&pool->lock);
			return -1;
		}
	}
	place->users++;
	place->used = ++pool->clock;
	pages = (int)place->pages;
	pthread_mutex_unlock(&pool->lock);
	memcpy(out, place->bytes, (size_t)pages * PAGE_BYTES);
	pthread_mutex_lock(&pool->lock);
	place->users--;
	pthread_mutex_unlock(&pool->lock);
	return pages;
}

void pool_ahead(struct pool *pool, uint64_t chunk)
{
	struct cached *place;
	uint64_t one = 1;

	pthread_mutex_lock(&pool->lock);
	if (pool->ahead_count < AHEAD_MOST && !find_cached(pool, chunk) && (place = free_place(pool))) {
		place->chunk = chunk;
		place->state = CACHED_AHEAD;
		pool->ahead[(pool->ahead_first + pool->ahead_count++) % AHEAD_MOST] = chunk;
		RETRY(write(pool->ahead_fd, &one, sizeof(one)));
	}
	pthread_mutex_unlock(&pool->lock);
}

static void read_ahead(struct pool *pool, struct record_reader *thread)
{
	struct cached *place;
	uint64_t chunk;

	pthread_mutex_lock(&pool->lock);
	if (pool->ahead_count > 0) {
		chunk = pool->ahead[pool->ahead_first];
		pool->ahead_first = (pool->ahead_first + 1) % AHEAD_MOST;
		pool->ahead_count--;
		place = find_cached(pool, chunk);
		/* Whoever could not wait has done it already. */
		if (place && place->state == CACHED_AHEAD)
			fill_place(pool, place, chunk, thread);
	}
	pthread_mutex_unlock(&pool->lock);
}

/* Whether every wanted page lies in its chunk where it lies in the window: the chunk can be unpacked in place. */
static bool is_one_chunk(const struct snapshot *snapshot, const struct work *work, uint64_t *chunk)
{
	*chunk = NO_CHUNK;
	for (unsigned i = 0; i < CHUNK_PAGES; i++) {
		page_place place;

		if (!(work->wanted >> i & 1))
			continue;
		place = snapshot->places[work->first_page + i];
		if (place == PLACE_ZERO || place % CHUNK_PAGES != i || (*chunk != NO_CHUNK && *chunk != place / CHUNK_PAGES))
			return false;
		*chunk = place / CHUNK_PAGES;
	}
	return *chunk != NO_CHUNK;
}

static void do_work(struct pool *pool, struct record_reader *thread, uint8_t *spare, const struct work *work)
{
	const struct snapshot *snapshot = &pool->reader->snapshot;
	struct answer answer = { .kind = ANSWER_PAGES, .slot = work->slot, .serial = work->serial };
	uint8_t *slot = slot_bytes(pool->shared, work->slot);
	uint64_t chunk, have = NO_CHUNK;
	int pages = 0;

	atomic_fetch_add(&pool->turns[work->slot], 1);
	if (is_one_chunk(snapshot, work, &chunk)) {
		pages = decode(pool->reader, thread, chunk, slot);
		for (unsigned i = 0; i < CHUNK_PAGES; i++) {
			if ((work->wanted >> i & 1) && (int)i >= pages)
				answer.bad |= 1u << i;
		}
	} else {
		for (unsigned i = 0; i < CHUNK_PAGES; i++) {
			page_place place;

			if (!(work->wanted >> i & 1))
				continue;
			place = snapshot->places[work->first_page + i];
			if (place == PLACE_ZERO) {
				answer.zero |= 1u << i;
				continue;
			}
			if (place / CHUNK_PAGES != have) {
				have = place / CHUNK_PAGES;
				pages = pool_chunk(pool, thread, have, spare);
			}
			if ((int)(place % CHUNK_PAGES) >= pages)
				answer.bad |= 1u << i;
			else
				memcpy(slot + (size_t)i * PAGE_BYTES, spare + (size_t)(place % CHUNK_PAGES) * PAGE_BYTES,
				       PAGE_BYTES);
		}
	}
	atomic_fetch_add(&pool->turns[work->slot], 1);
	RETRY(send(WORKER_ANSWER_FD, &answer, sizeof(answer), MSG_NOSIGNAL));
}

/* Whether a message is one that the supervisor could have sent; nothing beyond the snapshot is ever looked at. */
static bool work_is_sane(const struct snapshot *snapshot, const struct work *work)
{
	return work->slot < SLOTS && work->wanted != 0 && work->wanted < 1u << CHUNK_PAGES &&
	       work->first_page < snapshot->pages &&
	       31 - (unsigned)__builtin_clz(work->wanted) < snapshot->pages - work->first_page;
}

static bool take_work(struct pool *pool, struct record_reader *thread, uint8_t *spare, int fd)
{
	struct work work;
	ssize_t length = RETRY(recv(fd, &work, sizeof(work), MSG_DONTWAIT));

	if (length == 0)
		_exit(0);
	if (length != sizeof(work))
		return false;
	if (work_is_sane(&pool->reader->snapshot, &work))
		do_work(pool, thread, spare, &work);
	return true;
}

static void *decode_thread(void *argument)
{
	struct pool *pool = argument;
	struct record_reader thread;
	uint8_t *spare = malloc(CHUNK_BYTES);

	if (!spare)
		_exit(1);
	record_reader_open(&thread, 1);
	for (;;) {
		struct pollfd fds[] = { { .fd = WORKER_URGENT_FD, .events = POLLIN },
					{ .fd = WORKER_NORMAL_FD, .events = POLLIN },
					{ .fd = pool->ahead_fd, .events = POLLIN } };
		uint64_t count;

		RETRY(poll(fds, 3, -1));
		/* What a process waits for goes before what it may want later. */
		if (take_work(pool, &thread, spare, WORKER_URGENT_FD) || take_work(pool, &thread, spare, WORKER_NORMAL_FD))
			continue;
		if (RETRY(read(pool->ahead_fd, &count, sizeof(count))) == sizeof(count))
			read_ahead(pool, &thread);
	}
	return NULL;
}

int worker_main(int argc, char **argv)
{
	static struct reader reader;
	static struct pool pool;
	struct answer ready = { .kind = ANSWER_READY };
	pthread_attr_t attributes;
	char *what;

	if (argc != 5)
		return 2;
	/* It ends with the supervisor, which may be gone already. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != (pid_t)atoi(argv[4]))
		return 1;
	prctl(PR_SET_NAME, "torpor-pager-w");
	setpriority(PRIO_PROCESS, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	if (reader_open(&reader, argv[1], argv[2], &what) < 0) {
		worker_trouble(what);
		return 1;
	}
	pool.reader = &reader;
	pool.shared = mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, WORKER_SHARED_FD, 0);
	pool.ahead_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
	if (pool.shared == MAP_FAILED || pool.ahead_fd < 0) {
		worker_trouble("the pager's worker has no memory");
		return 1;
	}
	pthread_mutex_init(&pool.lock, NULL);
	pthread_cond_init(&pool.changed, NULL);
	for (unsigned i = 0; i < CACHED_CHUNKS; i++) {
		pool.cached[i].chunk = NO_CHUNK;
		pool.cached[i].bytes = malloc(CHUNK_BYTES);
		if (!pool.cached[i].bytes)
			return 1;
	}
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 256 * 1024);
	for (int i = atoi(argv[3]); i > 0; i--) {
		pthread_t thread;

		if (pthread_create(&thread, &attributes, decode_thread, &pool) != 0)
			return 1;
	}
	fuse_start(&reader, &pool, WORKER_FUSE_FD, pool.shared);
	RETRY(send(WORKER_ANSWER_FD, &ready, sizeof(ready), MSG_NOSIGNAL));
	for (;;)
		pause();
}
