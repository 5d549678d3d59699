/*
 * What the processes of torpor-pager are to each other (docs/decisions/0019-lazy-resume.md).
 *
 * The supervisor has the userfaultfds, the address maps and the connection to the engine, and fills pages in. The worker
 * has the store: it unpacks and checks what the supervisor asks for into slots of shared memory, and serves the mount.
 * It may die at any moment and is replaced. The keepers only watch.
 */
#ifndef TORPOR_PAGES_PAGER_H
#define TORPOR_PAGES_PAGER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "format.h"

/*
 * Slots of shared memory, and what the worker finds behind them: a place for the request that each thread is at, and a
 * count of the bytes that it has given as files.
 */
#define SLOTS 128u
#define FUSE_THREADS 4u
#define FUSE_REQUEST_BYTES 16384u
#define SERVED_AT ((size_t)SLOTS * CHUNK_BYTES + (size_t)FUSE_THREADS * FUSE_REQUEST_BYTES)
#define SHARED_BYTES (SERVED_AT + sizeof(uint64_t))

static inline uint8_t *slot_bytes(void *shared, unsigned slot)
{
	return (uint8_t *)shared + (size_t)slot * CHUNK_BYTES;
}

static inline uint8_t *fuse_request(void *shared, unsigned thread)
{
	return (uint8_t *)shared + (size_t)SLOTS * CHUNK_BYTES + (size_t)thread * FUSE_REQUEST_BYTES;
}

static inline uint64_t *fuse_served(void *shared)
{
	return (uint64_t *)((uint8_t *)shared + SERVED_AT);
}

/* To the worker, each in a message of its own: pages of the snapshot into a slot, those whose bits are in `wanted`. */
struct work {
	uint64_t first_page;
	uint32_t slot;
	uint32_t serial; /* comes back, so that an answer is told from a dead worker's */
	uint32_t wanted;
	uint32_t reserved;
};

enum answer_kind { ANSWER_READY, ANSWER_PAGES, ANSWER_TROUBLE };

/* From the worker. ANSWER_TROUBLE is followed by a sentence. */
struct answer {
	uint32_t kind;
	uint32_t slot;
	uint32_t serial;
	uint32_t zero; /* of the wanted pages, those that are zeros: nothing is in the slot for them */
	uint32_t bad;  /* and those that cannot be had */
	uint32_t reserved;
};

/* Descriptors that a worker is started with. */
enum { WORKER_SHARED_FD = 3, WORKER_URGENT_FD, WORKER_NORMAL_FD, WORKER_ANSWER_FD, WORKER_FUSE_FD, WORKER_KEY_FD,
       WORKER_FDS_END };

/* The process that is started anew as `torpor-pager worker STATE SNAPSHOT THREADS PARENT`. */
int worker_main(int argc, char **argv);

struct reader;
struct pool;

/* Serves requests of the mount in so many threads of its own; they never end. */
void fuse_start(struct reader *reader, struct pool *pool, int fd, void *shared);
/* Tells the supervisor that something cannot be read. */
void worker_trouble(const char *what);

/* Chunks that threads of the worker have unpacked, or are about to. */
struct record_reader;
/* A chunk's pages into `out`; gives how many, or -1 (the supervisor has been told). */
int pool_chunk(struct pool *pool, struct record_reader *thread, uint64_t chunk, uint8_t *out);
/* These will be asked for soon. */
void pool_ahead(struct pool *pool, uint64_t chunk);

/* A process that watches the supervisor: the tracer, or the holder, which shares its table of descriptors. */
struct keeper {
	pid_t pid; /* 0: not there */
	int pidfd;
	int socket;
	int theirs, supervisor; /* its end of the socket and its pidfd, which are in our table too */
};

enum keeper_command { KEEPER_SEIZE, KEEPER_DETACH, KEEPER_QUIT };
struct keeper_message {
	int32_t command;
	int32_t pid;
};

/* What a keeper must know to end the workload where the supervisor has died; in memory that they share. */
struct keeper_orders {
	int init_pidfd; /* -1: not known yet */
	int fuse_fd;
	char cgroup[4096]; /* of the workload; "" where it was not given */
	char mount[4096];
};

/* pager-ring.c: a userfaultfd that the kernel shall not let go of at once, whoever dies; and before it is closed. */
void ring_open(void);
void ring_hold(int fd);
void ring_release(int fd);

/* The holder where `holder` is NULL, else the tracer, which watches that one too. */
bool keeper_start(struct keeper *keeper, const struct keeper_orders *orders, const struct keeper *holder);
/* After it has ended. */
void keeper_close(struct keeper *keeper);
/* An errno. */
int keeper_ask(const struct keeper *keeper, enum keeper_command command, pid_t pid);
/* Sends SIGKILL to all of the workload that is known. */
void end_workload(const struct keeper_orders *orders);
/* Whether a process with this userfaultfd still exists. */
bool uffd_is_alive(int fd);
/* Whether any userfaultfd among our descriptors belongs to a process that still exists. */
bool any_uffd_is_alive(void);

#endif
