/* The userfaultfd side of torpor-pager's supervisor. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../common.h"
#include "pager-state.h"

enum outcome { OUTCOME_DONE, OUTCOME_LATER };

/*
 * Ends the supervisor, and so the workload: without this memory nobody could say any more what is missing where, and
 * zeros would be given for data.
 */
static void no_memory(void) __attribute__((noreturn));
static void no_memory(void)
{
	emit("{\"event\":\"failed\",\"what\":\"the pager has no memory\"}");
	_exit(1);
}

void process_gone(struct process *process)
{
	if (process->gone)
		return;
	process->gone = true;
	process->map.missing = 0;
	ring_release(process->uffd);
	close(process->uffd);
	process->uffd = -1;
}

void forget_ended(struct supervisor *all)
{
	struct process **link = &all->processes;

	while (*link) {
		struct process *each = *link;

		if (!each->gone) {
			link = &each->next;
			continue;
		}
		*link = each->next;
		for (unsigned i = 0; i < SLOTS; i++) {
			if (all->slots[i].process == each)
				all->slots[i].process = NULL;
		}
		map_close(&each->map);
		free(each->faults);
		free(each);
	}
}

static struct process *process_new(struct supervisor *all, int uffd, uint64_t dst_id)
{
	struct process *process = calloc(1, sizeof(*process));

	if (!process)
		no_memory();
	ring_hold(uffd);
	process->uffd = uffd;
	process->dst_id = dst_id;
	/* poll() on a descriptor that blocks says that it is broken. */
	fcntl(uffd, F_SETFL, fcntl(uffd, F_GETFL) | O_NONBLOCK);
	process->next = all->processes;
	all->processes = process;
	return process;
}

bool process_add(struct supervisor *all, int uffd, uint64_t dst_id)
{
	static const struct snapshot_image nothing = { 0 };
	const struct snapshot_image *image = snapshot_by_dst_id(&all->snapshot, dst_id);
	struct process *process = process_new(all, uffd, dst_id);

	/* One without an image has no pages: what it registered is all zeros. */
	if (!map_open(&process->map, image ? image : &nothing))
		no_memory();
	all->total += process->map.missing;
	watch(all, uffd);
	return image != NULL;
}

static void wake(const struct process *process, uint64_t address, uint64_t length)
{
	struct uffdio_range range = { .start = address, .len = length };

	ioctl(process->uffd, UFFDIO_WAKE, &range);
}

static void remember_fault(struct process *process, uint64_t address)
{
	for (size_t i = 0; i < process->fault_count; i++) {
		if (process->faults[i] == address)
			return;
	}
	if (process->fault_count == process->fault_room) {
		size_t room = process->fault_room ? process->fault_room * 2 : 16;
		uint64_t *more = realloc(process->faults, room * sizeof(*more));

		if (!more)
			no_memory();
		process->faults = more;
		process->fault_room = room;
	}
	process->faults[process->fault_count++] = address;
}

/*
 * Whether a process has memory of ours at an address: a copy of what cannot be read fails with EFAULT there, and with ENOENT
 * where there is nothing. EAGAIN: it cannot be known, since the process has changed something already.
 */
static int probe(const struct process *process, uint64_t address)
{
	static void *nothing;
	struct uffdio_copy copy = { .dst = address, .len = PAGE_BYTES };

	if (!nothing)
		nothing = mmap(NULL, PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	copy.src = (uint64_t)(uintptr_t)nothing;
	return ioctl(process->uffd, UFFDIO_COPY, &copy) < 0 ? errno : 0;
}

/* The child has the memory that its parent had when it forked, which may have been before changes that came first here. */
static bool fork_map(struct process *child, const struct process *parent)
{
	bool fine = map_fork(&child->map, &parent->map);

	for (size_t i = parent->map.past_count; i > 0 && fine; i--) {
		const struct map_range *range = &parent->map.past[i - 1];
		uint64_t address;
		int error = probe(child, range->address);

		/* In doubt it is where it was if it is nowhere else: what is not there is refused later. */
		if (error == EFAULT || (error == EAGAIN && !map_address(&child->map, range->page, &address)))
			fine = map_restore(&child->map, range);
	}
	return fine;
}

static void take_event(struct supervisor *all, struct process *process, const struct uffd_msg *event)
{
	struct process *child;
	uint64_t start, length;
	bool fine = true;

	switch (event->event) {
	case UFFD_EVENT_PAGEFAULT:
		remember_fault(process, event->arg.pagefault.address & ~(uint64_t)(PAGE_BYTES - 1));
		break;
	case UFFD_EVENT_FORK:
		child = process_new(all, (int)event->arg.fork.ufd, process->dst_id);
		child->forked = true;
		fine = fork_map(child, process);
		watch(all, child->uffd);
		break;
	case UFFD_EVENT_REMAP:
		start = event->arg.remap.from;
		length = event->arg.remap.len;
		fine = map_move(&process->map, start, event->arg.remap.to, length);
		/* Who waits at the old place would wait for ever. */
		wake(process, start, length);
		process->cursor = 0;
		break;
	case UFFD_EVENT_UNMAP:
	case UFFD_EVENT_REMOVE:
		start = event->arg.remove.start;
		length = event->arg.remove.end - start;
		fine = event->event == UFFD_EVENT_UNMAP ? map_unmap(&process->map, start, length)
							: map_remove(&process->map, start, length);
		wake(process, start, length);
		break;
	}
	if (!fine)
		no_memory();
}

void process_events(struct supervisor *all, struct process *process)
{
	struct uffd_msg events[16];

	while (!process->gone) {
		ssize_t length = RETRY(read(process->uffd, events, sizeof(events)));

		if (length <= 0)
			break;
		for (size_t i = 0; i < (size_t)length / sizeof(*events); i++)
			take_event(all, process, &events[i]);
	}
}

/*
 * An operation that was not refused for a change that has not been read: whatever happened before it has been reported, so
 * no fork can be older than what we know.
 */
static void is_quiet(struct process *process)
{
	map_forget_past(&process->map);
}

/* Pages into their place; `bytes` NULL for zeros. What does not work for the moment is left missing. */
static enum outcome put_pages(struct supervisor *all, struct process *process, uint64_t page, uint64_t address,
			      uint64_t count, uint8_t *bytes)
{
	uint64_t most = count;

	while (count > 0 && !process->gone) {
		struct uffdio_copy copy = { .dst = address,
					    .src = (uint64_t)(uintptr_t)bytes,
					    .len = (most < count ? most : count) * PAGE_BYTES };
		struct uffdio_zeropage zero = { .range = { .start = address, .len = copy.len } };
		int64_t done;
		int error = 0;

		if ((bytes ? ioctl(process->uffd, UFFDIO_COPY, &copy) : ioctl(process->uffd, UFFDIO_ZEROPAGE, &zero)) < 0)
			error = errno;
		done = bytes ? copy.copy : zero.zeropage;
		done = done > 0 ? done / (int64_t)PAGE_BYTES : 0;
		if (error != EAGAIN || done > 0)
			is_quiet(process);
		for (int64_t i = 0; i < done; i++)
			map_done(&process->map, page + (uint64_t)i);
		if (done == 0) {
			switch (error) {
			case EEXIST:
				/* Somebody may have begun to wait for it just before it came. */
				map_done(&process->map, page);
				wake(process, address, PAGE_BYTES);
				done = 1;
				break;
			case ENOENT:
			case EINVAL:
				/* Not all of it lies in one mapping; or this page lies in none. */
				if (most > 1 && count > 1) {
					most = (most < count ? most : count) / 2;
					continue;
				}
				if (!map_remove(&process->map, address, PAGE_BYTES))
					no_memory();
				wake(process, address, PAGE_BYTES);
				done = 1;
				break;
			case ESRCH:
			case ENOSPC:
				process_gone(process);
				return OUTCOME_DONE;
			default:
				/*
				 * EAGAIN: there is a report to be read first, or its process has not noticed yet that it was;
				 * ENOMEM: there may be memory later.
				 */
				all->stalled = true;
				return OUTCOME_LATER;
			}
		}
		page += (uint64_t)done;
		address += (uint64_t)done * PAGE_BYTES;
		count -= (uint64_t)done;
		if (bytes)
			bytes += (uint64_t)done * PAGE_BYTES;
	}
	return OUTCOME_DONE;
}

static bool is_bad(const struct supervisor *all, uint64_t page)
{
	return all->bad_bits && (all->bad_bits[page / 64] >> page % 64 & 1);
}

static void mark_bad(struct supervisor *all, uint64_t page)
{
	if (!all->bad_bits)
		all->bad_bits = calloc(all->snapshot.pages / 64 + 1, sizeof(uint64_t));
	if (!all->bad_bits)
		no_memory();
	all->bad_bits[page / 64] |= 1ull << page % 64;
	all->failed = true;
}

/* Gives a process what a slot has for it. */
static enum outcome apply_slot(struct supervisor *all, struct process *process, unsigned number)
{
	const struct slot *slot = &all->slots[number];
	uint32_t useful = slot->wanted & ~slot->bad;
	enum outcome outcome = OUTCOME_DONE;
	unsigned i = 0;

	while (i < CHUNK_PAGES && !process->gone && outcome == OUTCOME_DONE) {
		uint64_t page = slot->first_page + i, address, last, follow;
		bool zero = slot->zero >> i & 1;
		unsigned run = 1;

		if (!(useful >> i & 1) || page < process->map.first_page ||
		    page >= process->map.first_page + process->map.pages || !map_is_missing(&process->map, page) ||
		    !map_address(&process->map, page, &address) || !map_find(&process->map, address, &last, &follow)) {
			i++;
			continue;
		}
		/* What follows in the same range follows in memory too. */
		while (i + run < CHUNK_PAGES && run < follow && (useful >> (i + run) & 1) &&
		       (bool)(slot->zero >> (i + run) & 1) == zero && map_is_missing(&process->map, page + run))
			run++;
		outcome = put_pages(all, process, page, address, run,
				    zero ? NULL : slot_bytes(all->shared, number) + (size_t)i * PAGE_BYTES);
		i += run;
	}
	return outcome;
}

static void free_slot(struct supervisor *all, struct slot *slot)
{
	if (!slot->is_urgent)
		all->background--;
	*slot = (struct slot){ 0 };
}

/* A child that was forked before a page came lacks the same page: it gets it from the same slot. */
static void try_slot(struct supervisor *all, unsigned number)
{
	struct slot *slot = &all->slots[number];
	enum outcome outcome = OUTCOME_DONE;

	for (struct process *each = all->processes; each; each = each->next) {
		if (each->gone || each->map.missing == 0)
			continue;
		if (apply_slot(all, each, number) == OUTCOME_LATER)
			outcome = OUTCOME_LATER;
	}
	if (outcome == OUTCOME_DONE)
		free_slot(all, slot);
}

void take_answer(struct supervisor *all, const struct answer *answer)
{
	struct slot *slot;

	if (answer->slot >= SLOTS)
		return;
	slot = &all->slots[answer->slot];
	if (!slot->is_used || slot->is_answered || slot->serial != answer->serial)
		return;
	slot->is_answered = true;
	slot->zero = answer->zero & slot->wanted;
	slot->bad = answer->bad & slot->wanted;
	for (unsigned i = 0; i < CHUNK_PAGES; i++) {
		if (slot->bad >> i & 1)
			mark_bad(all, slot->first_page + i);
	}
	try_slot(all, answer->slot);
}

static bool send_work(const struct supervisor *all, unsigned number)
{
	const struct slot *slot = &all->slots[number];
	struct work work = { .first_page = slot->first_page,
			     .slot = number,
			     .serial = slot->serial,
			     .wanted = slot->wanted };

	return RETRY(send(slot->is_urgent ? all->urgent_socket : all->normal_socket, &work, sizeof(work),
			  MSG_DONTWAIT | MSG_NOSIGNAL)) == sizeof(work);
}

void ask_again(struct supervisor *all)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		if (all->slots[i].is_used && !all->slots[i].is_answered) {
			all->slots[i].serial = ++all->serial;
			send_work(all, i);
		}
	}
}

/*
 * Asks for a page and for what belongs to its window, as far as that is missing. The window begins where the page's chunk
 * does, so that a chunk which is a window is unpacked in place. False where no slot is free or nothing is to be had.
 */
static bool request(struct supervisor *all, struct process *process, uint64_t page, uint64_t address, bool is_urgent,
		    uint64_t *last)
{
	page_place place = all->snapshot.places[page];
	uint64_t before = place == PLACE_ZERO ? address / PAGE_BYTES % CHUNK_PAGES : place % CHUNK_PAGES;
	uint64_t first = page >= before ? page - before : 0;
	struct slot *slot = NULL;
	unsigned number;
	uint32_t wanted = 0;

	for (unsigned i = 0; i < CHUNK_PAGES; i++) {
		uint64_t each = first + i, there, known, follow;

		if (each < process->map.first_page || each >= process->map.first_page + process->map.pages)
			continue;
		there = address + (each - page) * PAGE_BYTES;
		/* Only where it is in memory what it is in the image. */
		if (map_is_missing(&process->map, each) && !is_bad(all, each) &&
		    map_find(&process->map, there, &known, &follow) && known == each)
			wanted |= 1u << i;
	}
	if (wanted == 0)
		return false;
	for (number = 0; number < SLOTS; number++) {
		if (!all->slots[number].is_used) {
			slot = &all->slots[number];
			break;
		}
	}
	if (!slot)
		return false;
	*slot = (struct slot){ .process = process,
			       .is_used = true,
			       .is_urgent = is_urgent,
			       .first_page = first,
			       .serial = ++all->serial,
			       .wanted = wanted };
	if (!send_work(all, number)) {
		*slot = (struct slot){ 0 };
		return false;
	}
	if (!is_urgent)
		all->background++;
	if (last)
		*last = first + 31 - (unsigned)__builtin_clz(wanted);
	return true;
}

static bool is_asked_urgently(const struct supervisor *all, const struct process *process, uint64_t page)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		const struct slot *slot = &all->slots[i];

		if (slot->is_used && slot->is_urgent && slot->process == process && page >= slot->first_page &&
		    page < slot->first_page + CHUNK_PAGES && (slot->wanted >> (page - slot->first_page) & 1))
			return true;
	}
	return false;
}

static void note_use(struct supervisor *all, uint64_t page)
{
	page_place place = all->snapshot.places[page];
	uint64_t chunk = place / CHUNK_PAGES;

	if (place == PLACE_ZERO || !all->used_bits || (all->used_bits[chunk / 64] >> chunk % 64 & 1))
		return;
	if (all->used_count == all->used_room) {
		size_t room = all->used_room ? all->used_room * 2 : 1024;
		uint32_t *more = realloc(all->used, room * sizeof(*more));

		/* It is only a hint for the next time. */
		if (!more)
			return;
		all->used = more;
		all->used_room = room;
	}
	all->used_bits[chunk / 64] |= 1ull << chunk % 64;
	all->used[all->used_count++] = (uint32_t)chunk;
}

/* Whether nothing more is to be done about a fault. */
static bool answer_fault(struct supervisor *all, struct process *process, uint64_t address)
{
	uint64_t page, follow;

	if (!map_find(&process->map, address, &page, &follow) || !map_is_missing(&process->map, page)) {
		struct uffdio_zeropage zero = { .range = { .start = address, .len = PAGE_BYTES } };

		if (ioctl(process->uffd, UFFDIO_ZEROPAGE, &zero) == 0) {
			is_quiet(process);
			return true;
		}
		switch (errno) {
		case EAGAIN:
		case ENOMEM:
			all->stalled = true;
			return false;
		case ESRCH:
		case ENOSPC:
			process_gone(process);
			return true;
		default:
			/* It is there already, or what was there is gone: whoever waits shall look again. */
			is_quiet(process);
			wake(process, address, PAGE_BYTES);
			return true;
		}
	}
	note_use(all, page);
	/* One that cannot be read stays unanswered: its process waits. */
	return is_bad(all, page) || is_asked_urgently(all, process, page) ||
	       request(all, process, page, address, true, NULL);
}

static void answer_faults(struct supervisor *all, struct process *process)
{
	size_t left = 0;

	for (size_t i = 0; i < process->fault_count; i++) {
		if (process->gone)
			return;
		if (!answer_fault(all, process, process->faults[i]))
			process->faults[left++] = process->faults[i];
	}
	process->fault_count = left;
}

/* Asks for one window that is missing; false where there is none that could be had. */
static bool fetch_next(struct supervisor *all, struct process *process)
{
	uint64_t address, page, last;

	while (map_next_missing(&process->map, process->cursor, &address, &page)) {
		if (is_bad(all, page)) {
			process->cursor = address + PAGE_BYTES;
			continue;
		}
		if (!request(all, process, page, address, false, &last))
			return false;
		process->cursor = address + (last - page + 1) * PAGE_BYTES;
		return true;
	}
	/* The next time round are those that could not be filled in meanwhile. */
	if (all->background == 0)
		process->cursor = 0;
	return false;
}

static bool is_fetched_now(const struct supervisor *all, const struct process *process)
{
	return !process->gone && process->map.missing > 0 &&
	       (all->state == STATE_LOADING || (process->forked && all->state != STATE_WAITING));
}

static void fetch_early(struct supervisor *all)
{
	while (all->state == STATE_LOADING && all->early_next < all->early_count &&
	       all->background < all->background_most) {
		uint64_t page = all->early[all->early_next], address;
		bool asked = true;

		for (struct process *each = all->processes; each; each = each->next) {
			if (!each->gone && page >= each->map.first_page && page < each->map.first_page + each->map.pages &&
			    map_is_missing(&each->map, page) && !is_bad(all, page) &&
			    map_address(&each->map, page, &address))
				asked = request(all, each, page, address, false, NULL) && asked;
		}
		if (!asked)
			return;
		all->early_next++;
	}
}

static void fetch_background(struct supervisor *all)
{
	bool asked = true;

	fetch_early(all);
	while (asked && all->background < all->background_most) {
		asked = false;
		for (struct process *each = all->processes; each && all->background < all->background_most;
		     each = each->next) {
			if (is_fetched_now(all, each))
				asked = fetch_next(all, each) || asked;
		}
	}
}

void fill(struct supervisor *all)
{
	bool stalled = all->stalled;

	all->stalled = false;
	for (struct process *each = all->processes; each; each = each->next) {
		if (stalled || each->map.past_count > 0)
			process_events(all, each);
	}
	for (unsigned i = 0; i < SLOTS; i++) {
		if (all->slots[i].is_used && all->slots[i].is_answered)
			try_slot(all, i);
	}
	for (struct process *each = all->processes; each; each = each->next) {
		if (each->gone)
			continue;
		answer_faults(all, each);
		/* Nobody may touch it for a long time. */
		if (!each->gone && each->map.past_count > 0) {
			struct uffdio_writeprotect question = { .range = { .start = 1ull << 20, .len = PAGE_BYTES } };

			if (ioctl(each->uffd, UFFDIO_WRITEPROTECT, &question) == 0 || errno != EAGAIN)
				is_quiet(each);
			else
				all->stalled = true;
		}
	}
	forget_ended(all);
	fetch_background(all);
}

uint64_t missing_pages(const struct supervisor *all, bool forked)
{
	uint64_t missing = 0;

	for (const struct process *each = all->processes; each; each = each->next) {
		if (!each->gone && each->forked == forked)
			missing += each->map.missing;
	}
	return missing;
}

bool forks_are_settled(const struct supervisor *all)
{
	for (const struct process *each = all->processes; each; each = each->next) {
		if (!each->gone && each->forked && each->map.missing > 0)
			return false;
	}
	return all->background == 0;
}
