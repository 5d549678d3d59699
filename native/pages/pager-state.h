/* What the supervisor of torpor-pager knows. It has one thread, so that nothing here is ever half changed. */
#ifndef TORPOR_PAGES_PAGER_STATE_H
#define TORPOR_PAGES_PAGER_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pager-map.h"
#include "pager.h"
#include "snapshot.h"

/* The memory of a process: of one that CRIU restores, or of a child that it forked since. */
struct process {
	struct process *next;
	int uffd;
	uint64_t dst_id;
	bool forked;
	bool gone; /* to be freed once nothing refers to it */
	struct page_map map;
	uint64_t cursor; /* where the background fetch is */
	uint64_t *faults; /* addresses that somebody waits at */
	size_t fault_count, fault_room;
};

struct slot {
	struct process *process; /* NULL: free, or its process is gone */
	bool is_used;
	bool is_urgent;
	bool is_answered;
	uint64_t first_page;
	uint32_t serial;
	uint32_t wanted, zero, bad;
};

enum pager_state { STATE_WAITING, STATE_LOADING, STATE_HOLDING, STATE_HELD, STATE_COMPLETE };

struct supervisor {
	struct snapshot snapshot;
	struct process *processes;
	struct slot slots[SLOTS];
	unsigned background; /* slots that are used and not urgent */
	unsigned background_most;
	void *shared;
	uint32_t serial;
	bool stalled; /* something has to be tried again soon */

	enum pager_state state;
	bool restored; /* CRIU has said so */
	bool failed;
	uint64_t total; /* pages that were missing when CRIU handed the processes over */
	uint64_t *bad_bits; /* of pages that cannot be read; NULL while there are none */

	/* Chunks in the order of their first use, this time; and pages in that of the last time, to be fetched first. */
	uint32_t *used;
	size_t used_count, used_room;
	uint64_t *used_bits;
	uint64_t *early;
	size_t early_count, early_next;

	int epoll;
	int urgent_socket, normal_socket, answer_socket;
};

/* pager-fill.c: takes over the memory of a process. False where the snapshot has none of that id. */
bool process_add(struct supervisor *all, int uffd, uint64_t dst_id);
/* Reads what the kernel reports of a process. */
void process_events(struct supervisor *all, struct process *process);
/* Answers faults, fills in what the worker has brought, asks for more. */
void fill(struct supervisor *all);
/* The worker's answer to what was asked of it. */
void take_answer(struct supervisor *all, const struct answer *answer);
/* Asks a new worker for what the last one has not brought. */
void ask_again(struct supervisor *all);
/* Pages still missing, of processes that CRIU restored, or of children that were forked since. */
uint64_t missing_pages(const struct supervisor *all, bool forked);
/* Whether all that can be fetched of forked children is there. */
bool forks_are_settled(const struct supervisor *all);
/* The process has ended, or has all of its memory: its userfaultfd is closed. */
void process_gone(struct process *process);
void forget_ended(struct supervisor *all);

/* pager.c: tells the engine, as far as it listens. */
void emit(const char *format, ...) __attribute__((format(printf, 1, 2)));
void watch(struct supervisor *all, int fd);

#endif
