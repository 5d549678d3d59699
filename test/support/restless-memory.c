/*
 * Memory that changes all the time, in every way that memory can: by writes of its own threads, of the kernel and of
 * another process, moved, removed, protected, forked. Each page says what was written there last, and a table says what
 * that should be; so one that is old, or another one's, shows.
 *
 * restless-memory FOLDER SLOTS: two threads, each with so many slots of 2 MiB. Writes FOLDER/ready when all is filled, and
 * for each file FOLDER/ask-N (from 1) looks at everything and writes FOLDER/answer-N: "right", or what is wrong.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096u
#define SLOT (2u << 20)
#define PAGES (SLOT / PAGE)
#define WORDS (PAGE / sizeof(uint64_t))
#define OPERATIONS_AT_REST 20
#define THREADS 2

struct owner {
	unsigned slots;
	uint64_t random;
	uint64_t latest;
	char *memory;
	/* Of each page what is in all its words, but for their numbers; 0: it was never written since it is there. */
	uint64_t *written;
};

static struct owner owners[THREADS];
static pthread_barrier_t looking;
static volatile bool is_asked;
static char *folder;

static uint64_t draw(struct owner *owner, uint64_t below)
{
	owner->random ^= owner->random << 13;
	owner->random ^= owner->random >> 7;
	owner->random ^= owner->random << 17;
	return owner->random % below;
}

static char *slot_at(struct owner *owner, uint64_t slot)
{
	return owner->memory + slot * SLOT;
}

static void must(bool is_good, const char *what)
{
	if (is_good)
		return;
	perror(what);
	abort();
}

static void fill(uint64_t *page, uint64_t mark)
{
	for (unsigned i = 0; i < WORDS; i++)
		page[i] = mark + i;
}

static void write_pages(struct owner *owner, uint64_t slot)
{
	uint64_t first = draw(owner, PAGES), count = 1 + draw(owner, 4);

	for (uint64_t page = first; page < first + count && page < PAGES; page++) {
		uint64_t mark = (owner->latest += WORDS);

		owner->written[slot * PAGES + page] = mark;
		fill((uint64_t *)(slot_at(owner, slot) + page * PAGE), mark);
	}
}

/* By the kernel, from a pipe; or by a child of this process. */
static void have_written(struct owner *owner, uint64_t slot, bool by_child)
{
	uint64_t page = draw(owner, PAGES), mark = (owner->latest += WORDS), bytes[WORDS];
	void *target = slot_at(owner, slot) + page * PAGE;
	int ends[2];

	fill(bytes, mark);
	owner->written[slot * PAGES + page] = mark;
	if (by_child) {
		pid_t parent = getpid(), child = fork();

		if (child == 0) {
			struct iovec own = { bytes, PAGE }, other = { target, PAGE };

			_exit(process_vm_writev(parent, &own, 1, &other, 1, 0) == PAGE ? 0 : 1);
		}
		int status;

		must(child > 0 && waitpid(child, &status, 0) == child && status == 0, "process_vm_writev");
		return;
	}
	must(pipe(ends) == 0 && write(ends[1], bytes, PAGE) == PAGE && read(ends[0], target, PAGE) == PAGE, "pipe");
	close(ends[0]);
	close(ends[1]);
}

static void renew(struct owner *owner, uint64_t slot, bool by_advice)
{
	char *at = slot_at(owner, slot);

	if (by_advice)
		must(madvise(at, SLOT, MADV_DONTNEED) == 0, "madvise");
	else
		must(munmap(at, SLOT) == 0 && mmap(at, SLOT, PROT_READ | PROT_WRITE,
						   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at, "mmap");
	memset(&owner->written[slot * PAGES], 0, PAGES * sizeof(uint64_t));
	write_pages(owner, slot);
}

static void swap_slots(struct owner *owner, uint64_t one, uint64_t other)
{
	/* Beyond all slots there is room for one. */
	char *a = slot_at(owner, one), *b = slot_at(owner, other), *spare = slot_at(owner, owner->slots);
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;

	if (one == other)
		return;
	must(mremap(a, SLOT, SLOT, flags, spare) == spare && mremap(b, SLOT, SLOT, flags, a) == a &&
	     mremap(spare, SLOT, SLOT, flags, b) == b, "mremap");
	for (unsigned page = 0; page < PAGES; page++) {
		uint64_t mark = owner->written[one * PAGES + page];

		owner->written[one * PAGES + page] = owner->written[other * PAGES + page];
		owner->written[other * PAGES + page] = mark;
	}
}

static void protect_and_back(struct owner *owner, uint64_t slot)
{
	must(mprotect(slot_at(owner, slot), SLOT, PROT_READ) == 0 &&
	     mprotect(slot_at(owner, slot), SLOT, PROT_READ | PROT_WRITE) == 0, "mprotect");
	write_pages(owner, slot);
}

static void do_something(struct owner *owner)
{
	uint64_t slot = draw(owner, owner->slots), which = draw(owner, 1000);

	if (which < 2)
		renew(owner, slot, which == 0);
	else if (which < 4)
		swap_slots(owner, slot, draw(owner, owner->slots));
	else if (which < 8)
		protect_and_back(owner, slot);
	else if (which < 10)
		have_written(owner, slot, true);
	else if (which < 100)
		have_written(owner, slot, false);
	else
		write_pages(owner, slot);
}

static void look(struct owner *owner, char *said, size_t room)
{
	for (uint64_t page = 0; page < (uint64_t)owner->slots * PAGES; page++) {
		const uint64_t *words = (const uint64_t *)(owner->memory + page * PAGE);
		uint64_t mark = owner->written[page];

		for (unsigned i = 0; i < WORDS; i++) {
			if (words[i] == (mark ? mark + i : 0))
				continue;
			snprintf(said, room, "page %lu of thread %ld has %lx at %u, not %lx + %u", page, (long)(owner - owners),
				 words[i], i, mark, i);
			return;
		}
	}
}

static void write_answer(const char *name, unsigned number, const char *text)
{
	char path[512], made[512];

	snprintf(path, sizeof(path), "%s/%s-%u.new", folder, name, number);
	snprintf(made, sizeof(made), "%s/%s-%u", folder, name, number);
	FILE *file = fopen(path, "w");

	must(file && fputs(text, file) >= 0 && fclose(file) == 0 && rename(path, made) == 0, made);
}

static void *live(void *argument)
{
	struct owner *owner = argument;
	unsigned number = 1;

	for (;;) {
		for (unsigned i = 0; i < OPERATIONS_AT_REST; i++)
			do_something(owner);
		if (owner == owners) {
			char path[512];

			snprintf(path, sizeof(path), "%s/ask-%u", folder, number);
			is_asked = access(path, F_OK) == 0;
		}
		pthread_barrier_wait(&looking);
		if (is_asked && owner == owners) {
			char said[200] = "right";

			for (unsigned i = 0; i < THREADS; i++)
				look(&owners[i], said, sizeof(said));
			write_answer("answer", number++, said);
		}
		pthread_barrier_wait(&looking);
		usleep(10000);
	}
	return NULL;
}

int main(int count, char **arguments)
{
	pthread_t thread;

	must(count == 3, "usage");
	folder = arguments[1];
	pthread_barrier_init(&looking, NULL, THREADS);
	for (unsigned i = 0; i < THREADS; i++) {
		struct owner *owner = &owners[i];

		owner->slots = (unsigned)atoi(arguments[2]);
		owner->random = 88172645463325252u + i;
		owner->written = calloc((size_t)owner->slots * PAGES, sizeof(uint64_t));
		owner->memory = mmap(NULL, (size_t)(owner->slots + 1) * SLOT, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		must(owner->written && owner->memory != MAP_FAILED, "memory");
		for (uint64_t page = 0; page < (uint64_t)owner->slots * PAGES; page++) {
			owner->written[page] = (owner->latest += WORDS);
			fill((uint64_t *)(owner->memory + page * PAGE), owner->latest);
		}
	}
	write_answer("answer", 0, "ready");
	pthread_create(&thread, NULL, live, &owners[1]);
	live(&owners[0]);
	return 0;
}
