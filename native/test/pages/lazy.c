/*
 * lazy verify|change|race|slow LAZY OUT SEED PROCESSES MAPPINGS PAGES THREADS [random|text]
 *
 * Processes whose memory comes by userfaultfd, as if CRIU had just restored them: registers it, hands the descriptor over
 * at LAZY as CRIU does, and looks at every page. Lines go to OUT; "wrong ADDRESS ..." is what must never be there.
 *   verify: looks at all pages from several threads.
 *   change: moves, unmaps, drops, writes and forks in an order that the seed gives, while threads look at the rest.
 *   race:   forks in one thread while another unmaps and moves.
 *   slow:   looks at all pages for ever, with a rest; its processes have a pid namespace of their own. Prints its pid.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../common.h"
#include "scene.h"

#define ZEROS UINT64_MAX

static struct scene scene;
static const char *mode;
static unsigned process, thread_count;
static int out;
static atomic_ulong looked;
/* How long each page looked at is rested after. */
static unsigned rest_us;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* One system call, which needs none of the memory that is being looked at. */
static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
	char line[256];
	va_list list;

	va_start(list, format);
	int length = vsnprintf(line, sizeof(line), format, list);
	va_end(list);
	if (write(out, line, (size_t)length) != length)
		_exit(3);
}

static bool page_is(const uint8_t *address, uint64_t number)
{
	uint8_t expected[PAGE_BYTES] = { 0 };

	if (number != ZEROS)
		make_page(&scene, number, expected);
	atomic_fetch_add(&looked, 1);
	return memcmp(address, expected, PAGE_BYTES) == 0;
}

static void look(const uint8_t *address, uint64_t number)
{
	if (!page_is(address, number))
		say("wrong %p page %llu process %u pid %d\n", address, (unsigned long long)number, process, getpid());
	if (rest_us)
		usleep(rest_us);
}

static void *mapping_at(unsigned mapping)
{
	return (void *)(uintptr_t)mapping_address(mapping);
}

/* Memory without content, and CRIU's side of the protocol. */
static int make_memory(void)
{
	struct uffdio_api api = { .api = UFFD_API,
				  .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
					      UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE };
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) < 0)
		die_with_error("userfaultfd");
	for (unsigned mapping = 0; mapping < scene.mappings; mapping++) {
		size_t length = (scene.pages + EMPTY_PAGES) * PAGE_BYTES;
		struct uffdio_register range = { .range = { .start = mapping_address(mapping), .len = length },
						 .mode = UFFDIO_REGISTER_MODE_MISSING };

		if (mmap(mapping_at(mapping), length, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0) == MAP_FAILED ||
		    ioctl(uffd, UFFDIO_REGISTER, &range) < 0)
			die_with_error("registering mapping %u", mapping);
	}
	return uffd;
}

static void hand_over(int lazy, int uffd)
{
	int pid = (int)(FIRST_PID + process);
	char byte = 0;
	struct iovec part = { &byte, 1 };
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .header = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof(control.room) };

	memcpy(CMSG_DATA(&control.header), &uffd, sizeof(uffd));
	if (send(lazy, &pid, sizeof(pid), 0) != sizeof(pid) || sendmsg(lazy, &message, 0) != 1)
		die_with_error("handing the userfaultfd over");
	close(uffd);
}

struct looker {
	unsigned number, from, to; /* mappings */
	bool again;
};

/* All pages, each thread in an order of its own. */
static void *look_at_all(void *argument)
{
	const struct looker *looker = argument;
	uint64_t pages = scene.pages + EMPTY_PAGES, count = (looker->to - looker->from) * pages;
	uint64_t step = mix(scene.seed + looker->number) % count | 1;

	while (count % step == 0 && step > 1)
		step -= 2;
	/* A step without a common divisor comes by everywhere. */
	for (uint64_t a = count, b = step; b != 0;) {
		uint64_t r = a % b;

		a = b;
		b = r;
		if (b == 0 && a != 1) {
			step = 1;
			break;
		}
	}
	do {
		for (uint64_t i = 0, at = mix(looker->number) % count; i < count; i++, at = (at + step) % count) {
			unsigned mapping = looker->from + (unsigned)(at / pages);
			uint64_t page = at % pages;

			look((uint8_t *)mapping_at(mapping) + page * PAGE_BYTES,
			     page < scene.pages ? page_number(&scene, process, mapping, page) : ZEROS);
		}
	} while (looker->again);
	return NULL;
}

static void start_lookers(pthread_t *threads, struct looker *lookers, unsigned from, unsigned to, bool again)
{
	for (unsigned i = 0; i < thread_count; i++) {
		lookers[i] = (struct looker){ i, from, to, again };
		pthread_create(&threads[i], NULL, look_at_all, &lookers[i]);
	}
}

/* ---- change ---- */

struct area {
	uint8_t *address;
	uint64_t pages;
	uint64_t *content; /* numbers of pages, or ZEROS */
};

static struct area areas[512];
static unsigned area_count;
static uint64_t dice_state, next_number;
static uint8_t *next_place = (uint8_t *)0x500000000000ull;

static uint64_t dice(uint64_t sides)
{
	return (dice_state = mix(dice_state)) % sides;
}

static void look_at_area(const struct area *area)
{
	for (uint64_t page = 0; page < area->pages; page++)
		look(area->address + page * PAGE_BYTES, area->content[page]);
}

static void add_area(uint8_t *address, uint64_t pages, const uint64_t *content)
{
	struct area *area = &areas[area_count];

	if (pages == 0)
		return;
	if (area_count == sizeof(areas) / sizeof(*areas)) {
		munmap(address, pages * PAGE_BYTES);
		return;
	}
	area_count++;
	*area = (struct area){ address, pages, malloc(pages * sizeof(*content)) };
	memcpy(area->content, content, pages * sizeof(*content));
}

static void drop_area(unsigned number)
{
	free(areas[number].content);
	areas[number] = areas[--area_count];
}

/* A child that sees what its parent saw, and may outlive it. */
static void fork_one(bool outlives)
{
	pid_t pid = fork();

	if (pid == 0) {
		dice_state ^= (uint64_t)getpid();
		if (outlives)
			usleep(20000);
		if (dice(4) == 0 && area_count > 0) {
			struct area *area = &areas[dice(area_count)];

			madvise(area->address, area->pages * PAGE_BYTES, MADV_DONTNEED);
			for (uint64_t page = 0; page < area->pages; page++)
				area->content[page] = ZEROS;
		}
		if (dice(6) == 0) {
			pid_t grandchild = fork();

			if (grandchild == 0) {
				for (unsigned i = 0; i < area_count; i++)
					look_at_area(&areas[i]);
				_exit(0);
			}
		}
		if (!outlives && dice(5) == 0)
			execl("/bin/true", "true", NULL);
		for (unsigned i = 0; i < area_count; i++) {
			if (dice(3) != 0)
				look_at_area(&areas[i]);
		}
		if (outlives)
			say("outlived\n");
		_exit(0);
	}
	if (!outlives && dice(2) == 0)
		waitpid(pid, NULL, 0);
}

static void change_once(void)
{
	unsigned number = (unsigned)dice(area_count);
	struct area area = areas[number];
	uint64_t first = dice(area.pages), count = 1 + dice(area.pages - first);
	uint8_t *start = area.address + first * PAGE_BYTES;
	uint64_t *content = malloc((area.pages + count) * sizeof(*content));
	uint8_t *moved;

	memcpy(content, area.content, area.pages * sizeof(*content));
	switch (dice(9)) {
	case 0:
		munmap(start, count * PAGE_BYTES);
		drop_area(number);
		add_area(area.address, first, content);
		add_area(start + count * PAGE_BYTES, area.pages - first - count, content + first + count);
		break;
	case 1:
	case 2:
		moved = next_place;
		next_place += (count + 5) * PAGE_BYTES;
		if (mremap(start, count * PAGE_BYTES, count * PAGE_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, moved) != moved)
			die_with_error("mremap");
		drop_area(number);
		add_area(area.address, first, content);
		add_area(start + count * PAGE_BYTES, area.pages - first - count, content + first + count);
		add_area(moved, count, content + first);
		break;
	case 3:
		madvise(start, count * PAGE_BYTES, MADV_DONTNEED);
		for (uint64_t page = 0; page < count; page++)
			areas[number].content[first + page] = ZEROS;
		break;
	case 4:
	case 5:
		for (uint64_t page = 0; page < count && page < 20; page++) {
			uint8_t fresh[PAGE_BYTES];

			areas[number].content[first + page] = next_number;
			make_page(&scene, next_number++, fresh);
			/* The end only, at first: what is before must have come from the snapshot, or be overwritten. */
			memcpy(start + page * PAGE_BYTES, fresh, PAGE_BYTES);
		}
		break;
	case 6:
		fork_one(false);
		break;
	case 7:
		/* Longer than it was: what is new is zeros. */
		moved = next_place;
		next_place += (area.pages + count + 5) * PAGE_BYTES;
		if (mremap(area.address, area.pages * PAGE_BYTES, (area.pages + count) * PAGE_BYTES,
			   MREMAP_MAYMOVE | MREMAP_FIXED, moved) != moved) {
			if (errno != EFAULT)
				die_with_error("mremap to more");
			break; /* parts of it are of several mappings by now */
		}
		for (uint64_t page = 0; page < count; page++)
			content[area.pages + page] = ZEROS;
		drop_area(number);
		add_area(moved, area.pages + count, content);
		break;
	default:
		for (uint64_t page = 0; page < count; page++)
			look(start + page * PAGE_BYTES, area.content[first + page]);
	}
	free(content);
	if (area_count == 0)
		say("nothing left\n");
}

static void change(void)
{
	unsigned half = (scene.mappings + 1) / 2;
	pthread_t threads[64];
	struct looker lookers[64];

	dice_state = mix(scene.seed ^ process);
	next_number = 1ull << 40;
	for (unsigned mapping = 0; mapping < half; mapping++) {
		uint64_t *content = malloc((scene.pages + EMPTY_PAGES) * sizeof(*content));

		for (uint64_t page = 0; page < scene.pages + EMPTY_PAGES; page++)
			content[page] = page < scene.pages ? page_number(&scene, process, mapping, page) : ZEROS;
		add_area(mapping_at(mapping), scene.pages + EMPTY_PAGES, content);
		free(content);
	}
	start_lookers(threads, lookers, half, scene.mappings, false);
	for (unsigned i = 0; i < 300 && area_count > 0; i++)
		change_once();
	for (unsigned i = 0; i < area_count; i++)
		look_at_area(&areas[i]);
	for (unsigned i = 0; i < thread_count; i++)
		pthread_join(threads[i], NULL);
	fork_one(true);
}

/* ---- race ---- */

static sigjmp_buf nothing_there;

static void on_segv(int number)
{
	(void)number;
	siglongjmp(nothing_there, 1);
}

/* Data or nothing: zeros would be a lie. */
static void look_if_there(const uint8_t *address, uint64_t number)
{
	if (sigsetjmp(nothing_there, 1) == 0)
		look(address, number);
}

#define RACE_PAGES 4u
#define RACE_OFFSET 0x100000000000ull

static atomic_uint race_at;

static void *race_changes(void *argument)
{
	(void)argument;
	for (unsigned i = 0; (i + 1) * RACE_PAGES <= scene.pages; i++) {
		uint8_t *start = (uint8_t *)mapping_at(0) + (uint64_t)i * RACE_PAGES * PAGE_BYTES;

		atomic_store(&race_at, i);
		/* Long enough for some forks, short enough to be made during many. */
		usleep(100 + (unsigned)(mix(i) % 400));
		if (i % 2)
			munmap(start, RACE_PAGES * PAGE_BYTES);
		else
			mremap(start, RACE_PAGES * PAGE_BYTES, RACE_PAGES * PAGE_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED,
			       start + RACE_OFFSET);
	}
	return NULL;
}

static void race(void)
{
	struct sigaction action = { .sa_handler = on_segv, .sa_flags = SA_NODEFER };
	pthread_t changer;
	unsigned forks = 0;

	sigaction(SIGSEGV, &action, NULL);
	pthread_create(&changer, NULL, race_changes, NULL);
	while (pthread_tryjoin_np(changer, NULL) != 0) {
		unsigned at = atomic_load(&race_at);
		pid_t pid = fork();

		if (pid == 0) {
			unsigned first = at > 2 ? at - 2 : 0;

			for (uint64_t page = first * RACE_PAGES; page < scene.pages && page < (at + 40) * RACE_PAGES; page++) {
				uint8_t *address = (uint8_t *)mapping_at(0) + page * PAGE_BYTES;
				uint64_t number = page_number(&scene, process, 0, page);

				look_if_there(address, number);
				if (page / RACE_PAGES % 2 == 0)
					look_if_there(address + RACE_OFFSET, number);
			}
			_exit(0);
		}
		waitpid(pid, NULL, 0);
		forks++;
	}
	say("forked %u\n", forks);
}

static void run(int lazy, int ready, int go)
{
	pthread_t threads[64];
	struct looker lookers[64];
	char byte = 0;
	double start, first;

	hand_over(lazy, make_memory());
	if (write(ready, &byte, 1) != 1 || read(go, &byte, 1) != 1)
		_exit(3);
	start = now();
	look(mapping_at(scene.mappings - 1), page_number(&scene, process, scene.mappings - 1, 0));
	first = now();
	if (strcmp(mode, "change") == 0) {
		change();
	} else if (strcmp(mode, "race") == 0) {
		race();
	} else {
		bool slow = strcmp(mode, "slow") == 0;

		rest_us = slow ? 300 : 0;
		start_lookers(threads, lookers, 0, scene.mappings, slow);
		for (unsigned i = 0; i < thread_count; i++)
			pthread_join(threads[i], NULL);
	}
	say("done process %u firstUs %.0f allMs %.1f looked %lu\n", process, (first - start) * 1e6, (now() - start) * 1e3,
	    atomic_load(&looked));
	/* Its children shall not be the last to have the memory. */
	while (strcmp(mode, "change") != 0 && wait(NULL) > 0)
		;
	_exit(0);
}

static int run_all(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int lazy = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int ready[2], go[2];
	uint32_t finished = 0x52535446u;
	char bytes[64] = { 0 };
	int zombie = -7;

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (connect(lazy, (struct sockaddr *)&address, sizeof(address)) < 0 || pipe(ready) < 0 || pipe(go) < 0)
		die_with_error("connecting to %s", path);
	for (process = 0; process < scene.processes; process++) {
		if (fork() == 0)
			run(lazy, ready[1], go[0]);
		if (read(ready[0], bytes, 1) != 1)
			return 3;
	}
	if (send(lazy, &zombie, sizeof(zombie), 0) != sizeof(zombie) ||
	    send(lazy, &finished, sizeof(finished), 0) != sizeof(finished) ||
	    write(go[1], bytes, scene.processes) != (ssize_t)scene.processes)
		return 3;
	close(lazy);
	/* Also orphans, as an init does. */
	while (wait(NULL) > 0 || errno == EINTR)
		;
	say("end\n");
	return 0;
}

static int inside(void *path)
{
	/* Not with whoever started it: as a capsule, which the engine does not take with it. */
	_exit(run_all(path));
}

int main(int argc, char **argv)
{
	static char stack[65536] __attribute__((aligned(16)));

	if (argc < 9)
		die("usage: lazy MODE LAZY OUT SEED PROCESSES MAPPINGS PAGES THREADS [random|text]");
	mode = argv[1];
	scene = (struct scene){ strtoull(argv[4], NULL, 10), (unsigned)atoi(argv[5]), (unsigned)atoi(argv[6]),
				strtoull(argv[7], NULL, 10), argc > 9 ? argv[9] : NULL };
	thread_count = (unsigned)atoi(argv[8]);
	out = open(argv[3], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (out < 0 || thread_count > 64)
		die_with_error("opening %s", argv[3]);
	if (strcmp(mode, "slow") == 0) {
		pid_t pid = clone(inside, stack + sizeof(stack), CLONE_NEWPID | SIGCHLD, argv[2]);

		if (pid < 0)
			die_with_error("making a pid namespace");
		printf("%d\n", pid);
		fflush(stdout);
		return waitpid(pid, NULL, 0) == pid ? 0 : 1;
	}
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return run_all(argv[2]);
}
