#include "ordered.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "report.h"

struct ordered {
	struct ordered_options options;
	pthread_t *threads;
	uint8_t *slots;
	bool *worked;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* How many slots were filled, begun to be worked on, finished. */
	uint64_t filled;
	uint64_t taken;
	uint64_t finished;
	bool ended;
};

static void *slot_of(const struct ordered *ordered, uint64_t number)
{
	return ordered->slots + number % ordered->options.slots * ordered->options.slot_bytes;
}

static void *work(void *argument)
{
	struct ordered *ordered = argument;
	const struct ordered_options *options = &ordered->options;
	void *own = options->thread_begins(options->context);

	pthread_mutex_lock(&ordered->lock);
	for (;;) {
		while (ordered->taken == ordered->filled && !ordered->ended)
			pthread_cond_wait(&ordered->changed, &ordered->lock);
		if (ordered->taken == ordered->filled)
			break;
		uint64_t number = ordered->taken++;

		pthread_mutex_unlock(&ordered->lock);
		options->work(options->context, own, slot_of(ordered, number));
		pthread_mutex_lock(&ordered->lock);
		ordered->worked[number % options->slots] = true;
		pthread_cond_broadcast(&ordered->changed);
	}
	pthread_mutex_unlock(&ordered->lock);
	options->thread_ends(own);
	return NULL;
}

static void *finish(void *argument)
{
	struct ordered *ordered = argument;
	const struct ordered_options *options = &ordered->options;

	pthread_mutex_lock(&ordered->lock);
	for (;;) {
		uint64_t number = ordered->finished;
		bool *worked = &ordered->worked[number % options->slots];

		if (number == ordered->filled && !ordered->ended && options->idle) {
			pthread_mutex_unlock(&ordered->lock);
			options->idle(options->context);
			pthread_mutex_lock(&ordered->lock);
		}
		while (!*worked && !(ordered->ended && number == ordered->filled))
			pthread_cond_wait(&ordered->changed, &ordered->lock);
		if (!*worked)
			break;
		pthread_mutex_unlock(&ordered->lock);
		options->finish(options->context, slot_of(ordered, number));
		pthread_mutex_lock(&ordered->lock);
		*worked = false;
		ordered->finished++;
		pthread_cond_broadcast(&ordered->changed);
	}
	pthread_mutex_unlock(&ordered->lock);
	return NULL;
}

struct ordered *ordered_open(const struct ordered_options *options)
{
	struct ordered *ordered = calloc(1, sizeof(*ordered));

	if (!ordered || !(ordered->threads = calloc(options->threads + 1, sizeof(*ordered->threads))) ||
	    !(ordered->slots = calloc(options->slots, options->slot_bytes)) ||
	    !(ordered->worked = calloc(options->slots, sizeof(*ordered->worked))))
		fail("ENOMEM", "there is not enough memory for chunks in the making");
	ordered->options = *options;
	pthread_mutex_init(&ordered->lock, NULL);
	pthread_cond_init(&ordered->changed, NULL);
	for (unsigned i = 0; i <= options->threads; i++) {
		if (pthread_create(&ordered->threads[i], NULL, i < options->threads ? work : finish, ordered) != 0)
			fail("EAGAIN", "a thread cannot be started");
	}
	return ordered;
}

void *ordered_slot(struct ordered *ordered)
{
	pthread_mutex_lock(&ordered->lock);
	while (ordered->filled - ordered->finished == ordered->options.slots)
		pthread_cond_wait(&ordered->changed, &ordered->lock);
	pthread_mutex_unlock(&ordered->lock);
	return slot_of(ordered, ordered->filled);
}

void ordered_put(struct ordered *ordered)
{
	pthread_mutex_lock(&ordered->lock);
	ordered->filled++;
	pthread_cond_broadcast(&ordered->changed);
	pthread_mutex_unlock(&ordered->lock);
}

void ordered_end(struct ordered *ordered)
{
	pthread_mutex_lock(&ordered->lock);
	ordered->ended = true;
	pthread_cond_broadcast(&ordered->changed);
	pthread_mutex_unlock(&ordered->lock);
	for (unsigned i = 0; i <= ordered->options.threads; i++)
		pthread_join(ordered->threads[i], NULL);
	pthread_mutex_destroy(&ordered->lock);
	pthread_cond_destroy(&ordered->changed);
	free(ordered->threads);
	free(ordered->slots);
	free(ordered->worked);
	free(ordered);
}
