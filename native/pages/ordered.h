/*
 * Work that threads do at once and that is finished in order: the caller fills slots, threads work on whichever is next,
 * and one more thread finishes them in the order in which they were filled. All failures end the process (report.h).
 */
#ifndef TORPOR_PAGES_ORDERED_H
#define TORPOR_PAGES_ORDERED_H

#include <stddef.h>

struct ordered;

struct ordered_options {
	unsigned threads;
	unsigned slots;
	size_t slot_bytes;
	void *context;
	/* What each thread has of its own. */
	void *(*thread_begins)(void *context);
	void (*thread_ends)(void *own);
	void (*work)(void *context, void *own, void *slot);
	void (*finish)(void *context, void *slot);
	/* Nothing is there to be finished for now. May be NULL. */
	void (*idle)(void *context);
};

struct ordered *ordered_open(const struct ordered_options *options);
/* The slot to fill next, as soon as it is free; it has what was in it before. */
void *ordered_slot(struct ordered *ordered);
/* It is filled. */
void ordered_put(struct ordered *ordered);
/* Comes back when all are finished; frees everything. */
void ordered_end(struct ordered *ordered);

#endif
