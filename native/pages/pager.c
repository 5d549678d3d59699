/*
 * torpor-pager --store STATE --snapshot DIR --mount DIR [--lazy PATH] [--control PATH] [--working-set FILE]
 *              [--threads N] [--cgroup DIR]
 *
 * Stands behind one workload that is being resumed (docs/decisions/0019-lazy-resume.md): gives CRIU the files pages-N.img
 * at --mount, and answers the faults of the processes whose userfaultfds CRIU hands over at --lazy. The engine talks to it
 * by lines at --control: status, load [INITPID], hold, unfetched FILE, continue, finish, end. It goes on where the
 * engine ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../common.h"
#include "crypt.h"
#include "files.h"
#include "pager-state.h"
#include "report.h"

/* CRIU's word for the end of a restore ("RSTF"); no pid is that high. */
#define RESTORE_FINISHED 0x52535446u
#define DST_PROCESS 1u
#define CONTROLS 8u
#define LINE_MOST 4352u
enum { TRACER, HOLDER, KEEPERS };
/* Between two events of progress, and between two workers where they die at once. */
#define PROGRESS_MS 200
#define WORKER_PAUSE_MS 500
#define WORKER_DEATHS_AT_ONCE 3u

struct control {
	int fd; /* -1: free */
	size_t length;
	char line[LINE_MOST];
};

static struct supervisor all;
static struct control controls[CONTROLS];
static struct keeper keepers[KEEPERS];
static struct keeper_orders *orders;

static const char *store, *snapshot_folder, *mount_point, *lazy_path, *control_path, *working_set;
static unsigned threads;
static int shared_fd = -1, fuse_fd = -1, lazy_listener = -1, lazy_fd = -1, control_listener = -1, signals_fd = -1;

static pid_t worker;
static unsigned worker_deaths; /* since the last answer of any */
static int64_t worker_pause;   /* no new one before this */
static bool was_ready;
static pid_t seized; /* the workload's init, while a keeper traces it */
static pid_t init_pid;

/* What CRIU has sent so far of a pid, and the pid whose descriptor comes next. */
static uint8_t lazy_word[4];
static unsigned lazy_length;
static int lazy_pid;

/* Commands that are answered later, by the number of their connection; -1: none. */
static int hold_asker = -1, unfetched_asker = -1, finish_asker = -1, end_asker = -1;
static char *unfetched_path;

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Never waits: an engine that does not read, or is gone, misses something. */
static void say(int fd, const char *text)
{
	struct pollfd room = { .fd = fd, .events = POLLOUT };
	size_t length = strlen(text);

	if (RETRY(send(fd, text, length, MSG_DONTWAIT | MSG_NOSIGNAL)) >= 0 || errno != ENOTSOCK)
		return;
	if (RETRY(poll(&room, 1, 0)) == 1 && RETRY(write(fd, text, length)) < 0)
		return;
}

static char *line_of(const char *format, va_list list)
{
	CLEANUP_FREE char *text = NULL;

	if (vasprintf(&text, format, list) < 0)
		_exit(1);
	return format_string("%s\n", text);
}

void emit(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	CLEANUP_FREE char *line = line_of(format, list);
	va_end(list);
	say(STDOUT_FILENO, line);
}

static void answer(int control, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void answer(int control, const char *format, ...)
{
	va_list list;

	if (control < 0 || controls[control].fd < 0)
		return;
	va_start(list, format);
	CLEANUP_FREE char *line = line_of(format, list);
	va_end(list);
	say(controls[control].fd, line);
}

/* Why memory cannot be read, where that is so. */
static char *failure;

static void say_failed(const char *what)
{
	CLEANUP_FREE char *json = json_string(what);

	/* Many pages may lie in one chunk that cannot be read. */
	if (failure && strcmp(failure, what) == 0)
		return;
	free(failure);
	failure = format_string("%s", what);
	emit("{\"event\":\"failed\",\"what\":%s}", json);
}

void watch(struct supervisor *supervisor, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (epoll_ctl(supervisor->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		_exit(1);
}

/* A socket at a path however long: the folder is opened first. */
static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *slash = strrchr(path, '/');
	CLEANUP_FREE char *folder = slash ? format_string("%.*s", (int)(slash - path + 1), path) : format_string(".");
	CLEANUP_FD int folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FREE char *short_path = format_string("/proc/self/fd/%d/%s", folder_fd, slash ? slash + 1 : path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (folder_fd < 0 || fd < 0)
		fail_errno("listening at %s", path);
	if (strlen(short_path) >= sizeof(address.sun_path))
		fail("ENAMETOOLONG", "the name of the socket %s is too long", path);
	strcpy(address.sun_path, short_path);
	unlink(path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 8) < 0)
		fail_errno("listening at %s", path);
	watch(&all, fd);
	return fd;
}

/* ---- the worker ---- */

static void close_worker_sockets(void)
{
	struct answer buffer[64];

	/* What it said before it died is true. */
	while (all.answer_socket >= 0) {
		ssize_t length = RETRY(recv(all.answer_socket, buffer, sizeof(buffer), MSG_DONTWAIT));

		if (length < (ssize_t)sizeof(*buffer))
			break;
		if (buffer[0].kind == ANSWER_PAGES)
			take_answer(&all, &buffer[0]);
	}
	close_fd(&all.answer_socket);
	close_fd(&all.urgent_socket);
	close_fd(&all.normal_socket);
	all.answer_socket = all.urgent_socket = all.normal_socket = -1;
}

static void start_worker(void)
{
	int urgent[2], normal[2], answers[2];
	CLEANUP_FREE char *thread_count = format_string("%u", threads);
	CLEANUP_FREE char *parent = format_string("%d", (int)getpid());
	char *const words[] = { "torpor-pager", "worker",     (char *)store, (char *)snapshot_folder,
				thread_count,	parent, NULL };
	int kind = SOCK_SEQPACKET | SOCK_CLOEXEC;
	CLEANUP_FD int keys = keys_pass_on();

	if (socketpair(AF_UNIX, kind, 0, urgent) < 0 || socketpair(AF_UNIX, kind, 0, normal) < 0 ||
	    socketpair(AF_UNIX, kind, 0, answers) < 0 || keys < 0)
		_exit(1);
	worker = fork();
	if (worker == 0) {
		int given[] = { shared_fd, urgent[1], normal[1], answers[1], fuse_fd, keys };

		/* Out of the way of the numbers that they are to have. */
		for (unsigned i = 0; i < sizeof(given) / sizeof(*given); i++)
			given[i] = fcntl(given[i], F_DUPFD_CLOEXEC, 64);
		for (unsigned i = 0; i < sizeof(given) / sizeof(*given); i++) {
			if (dup2(given[i], WORKER_SHARED_FD + (int)i) < 0)
				_exit(1);
		}
		/* No userfaultfd goes with it. */
		if (syscall(SYS_close_range, WORKER_FDS_END, ~0u, 0) < 0)
			_exit(1);
		execv("/proc/self/exe", words);
		_exit(1);
	}
	close(urgent[1]);
	close(normal[1]);
	close(answers[1]);
	if (worker < 0) {
		worker = 0;
		close(urgent[0]);
		close(normal[0]);
		close(answers[0]);
		worker_pause = now_ms() + WORKER_PAUSE_MS;
		return;
	}
	all.urgent_socket = urgent[0];
	all.normal_socket = normal[0];
	all.answer_socket = answers[0];
	watch(&all, all.answer_socket);
	ask_again(&all);
}

static void worker_died(void)
{
	worker = 0;
	close_worker_sockets();
	if (++worker_deaths > WORKER_DEATHS_AT_ONCE)
		worker_pause = now_ms() + WORKER_PAUSE_MS;
}

static void take_answers(void)
{
	union {
		struct answer answer;
		char bytes[4096];
	} message;

	for (;;) {
		ssize_t length = RETRY(recv(all.answer_socket, &message, sizeof(message) - 1, MSG_DONTWAIT));

		if (length < (ssize_t)sizeof(message.answer))
			return;
		switch (message.answer.kind) {
		case ANSWER_READY:
			if (!was_ready)
				emit("{\"event\":\"ready\"}");
			was_ready = true;
			break;
		case ANSWER_PAGES:
			worker_deaths = 0;
			take_answer(&all, &message.answer);
			break;
		case ANSWER_TROUBLE:
			message.bytes[length] = '\0';
			all.failed = true;
			say_failed(message.bytes + sizeof(message.answer));
			break;
		}
	}
}

/* ---- keepers ---- */

static void start_keepers(void)
{
	if ((keepers[HOLDER].pid == 0 && !keeper_start(&keepers[HOLDER], orders, NULL)) ||
	    !keeper_start(&keepers[TRACER], orders, &keepers[HOLDER]))
		_exit(1);
}

/*
 * One of them has died, and what was traced is ended by the kernel. A tracer goes with its holder; the holder stays when a
 * tracer dies, since until all of the workload has ended somebody beside us must have its descriptors.
 */
static void replace_keepers(bool is_holder_dead)
{
	if (is_holder_dead) {
		kill(keepers[TRACER].pid, SIGKILL);
		RETRY(waitpid(keepers[TRACER].pid, NULL, 0));
		keeper_close(&keepers[HOLDER]);
	}
	keeper_close(&keepers[TRACER]);
	seized = 0;
	start_keepers();
}

static int seize(void)
{
	int error;

	if (init_pid == 0 || seized)
		return 0;
	error = keeper_ask(&keepers[TRACER], KEEPER_SEIZE, init_pid);
	if (error == 0)
		seized = init_pid;
	return error;
}

static void let_go(void)
{
	if (seized)
		keeper_ask(&keepers[TRACER], KEEPER_DETACH, seized);
	seized = 0;
}

static void reap(void)
{
	struct signalfd_siginfo info;
	pid_t pid;

	while (RETRY(read(signals_fd, &info, sizeof(info))) > 0)
		;
	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
		if (pid == worker)
			worker_died();
		if (pid == keepers[TRACER].pid || pid == keepers[HOLDER].pid)
			replace_keepers(pid == keepers[HOLDER].pid);
	}
}

/* ---- CRIU ---- */

/* CRIU has closed its connection. */
static bool lazy_lost;
static pid_t starter;

static void close_lazy(void)
{
	if (lazy_fd >= 0)
		close(lazy_fd);
	lazy_fd = -1;
	lazy_length = 0;
	lazy_pid = 0;
}

static bool is_uffd(int fd)
{
	CLEANUP_FREE char *path = format_string("/proc/self/fd/%d", fd);
	char target[64];
	ssize_t length = readlink(path, target, sizeof(target) - 1);

	return length > 0 && strncmp(target, "anon_inode:[userfaultfd]", (size_t)length) == 0;
}

static void take_lazy_byte(uint8_t byte, int fd)
{
	uint32_t word;

	if (lazy_pid > 0) {
		/* Any byte, which comes with the descriptor. */
		if (fd < 0 || !is_uffd(fd)) {
			say_failed("CRIU gave no userfaultfd with a process");
			all.failed = true;
			close_fd(&fd);
			close_lazy();
			return;
		}
		process_add(&all, fd, (uint64_t)lazy_pid << 8 | DST_PROCESS);
		lazy_pid = 0;
		return;
	}
	close_fd(&fd);
	lazy_word[lazy_length++] = byte;
	if (lazy_length < sizeof(lazy_word))
		return;
	lazy_length = 0;
	memcpy(&word, lazy_word, sizeof(word));
	if (word == RESTORE_FINISHED)
		all.restored = true;
	else if ((int32_t)word > 0)
		lazy_pid = (int32_t)word; /* a negative one is of a zombie, which has no memory */
}

static void lazy_ready(void)
{
	for (;;) {
		union {
			struct cmsghdr header;
			char room[CMSG_SPACE(sizeof(int))];
		} control;
		uint8_t byte;
		struct iovec part = { &byte, 1 };
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
					  .msg_controllen = sizeof(control) };
		struct cmsghdr *header;
		int fd = -1;
		ssize_t length;

		if (lazy_fd < 0)
			return;
		length = RETRY(recvmsg(lazy_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
		if (length < 0 && errno == EAGAIN)
			return;
		if (length <= 0) {
			lazy_lost = true;
			close_lazy();
			return;
		}
		for (header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
			if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
				memcpy(&fd, CMSG_DATA(header), sizeof(fd));
		}
		take_lazy_byte(byte, fd);
	}
}

/* ---- the engine ---- */

static const char *state_name(void)
{
	static const char *const names[] = { "waiting", "loading", "loading", "held", "complete" };

	return all.failed ? "failed" : names[all.state];
}

static uint64_t loaded_pages(void)
{
	uint64_t missing = missing_pages(&all, false);

	return all.total > missing ? all.total - missing : 0;
}

/* Where all is read before anything runs, what has been read. */
static uint64_t loaded_bytes(void)
{
	return lazy_path ? loaded_pages() * PAGE_BYTES : __atomic_load_n(fuse_served(all.shared), __ATOMIC_RELAXED);
}

static uint64_t total_bytes(void)
{
	return (lazy_path ? all.total : all.snapshot.pages) * PAGE_BYTES;
}

static void read_working_set(void)
{
	CLEANUP_FD int fd = working_set ? open(working_set, O_RDONLY | O_CLOEXEC) : -1;
	struct stat status;
	CLEANUP_FREE uint32_t *chunks = NULL;
	CLEANUP_FREE uint64_t *order = NULL;
	size_t count;

	/* A hint that is missing, cut or of another snapshot makes nothing wrong. */
	if (fd < 0 || fstat(fd, &status) < 0 || all.snapshot.chunk_count == 0 || all.early)
		return;
	count = (size_t)status.st_size / sizeof(*chunks);
	if (count > all.snapshot.chunk_count)
		count = all.snapshot.chunk_count;
	chunks = malloc(count * sizeof(*chunks) + 1);
	order = malloc(all.snapshot.chunk_count * sizeof(*order));
	all.early = malloc(count * sizeof(*all.early) + 1);
	if (!chunks || !order || !all.early || !pread_all(fd, chunks, count * sizeof(*chunks), 0)) {
		free(all.early);
		all.early = NULL;
		return;
	}
	/* The first page that each chunk has, of those that processes have. */
	memset(order, 0xff, all.snapshot.chunk_count * sizeof(*order));
	for (uint64_t page = all.snapshot.pages; page > 0; page--) {
		if (all.snapshot.places[page - 1] != PLACE_ZERO)
			order[all.snapshot.places[page - 1] / CHUNK_PAGES] = page - 1;
	}
	for (size_t i = 0; i < count; i++) {
		if (chunks[i] < all.snapshot.chunk_count && order[chunks[i]] != UINT64_MAX)
			all.early[all.early_count++] = order[chunks[i]];
	}
}

static void write_working_set(void)
{
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FD int fd = -1;

	if (!working_set)
		return;
	path = format_string("%s.new", working_set);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || !write_all(fd, all.used, all.used_count * sizeof(*all.used)) || rename(path, working_set) < 0)
		unlink(path);
}

static bool anything_in_flight(void)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		if (all.slots[i].is_used)
			return true;
	}
	return false;
}

static int by_place(const void *left, const void *right)
{
	const struct unfetched_range *a = left, *b = right;

	if (a->dst_id != b->dst_id)
		return a->dst_id < b->dst_id ? -1 : 1;
	return a->vaddr < b->vaddr ? -1 : a->vaddr > b->vaddr;
}

static void write_unfetched(int asker, const char *path)
{
	CLEANUP_FREE struct unfetched_range *ranges = NULL;
	size_t count = 0, room = 0;
	uint64_t pages = 0;
	CLEANUP_FD int fd = -1;

	for (struct process *each = all.processes; each; each = each->next) {
		uint64_t address = 0, page;

		while (!each->gone && !each->forked && map_next_missing(&each->map, address, &address, &page)) {
			struct unfetched_range *last = count ? &ranges[count - 1] : NULL;

			if (last && last->dst_id == each->dst_id && last->vaddr + last->pages * PAGE_BYTES == address &&
			    last->first_page + last->pages == page) {
				last->pages++;
			} else {
				if (count == room) {
					struct unfetched_range *more;

					room = room ? room * 2 : 256;
					more = realloc(ranges, room * sizeof(*ranges));
					if (!more) {
						answer(asker, "{\"error\":\"the pager has no memory\"}");
						return;
					}
					ranges = more;
				}
				ranges[count++] = (struct unfetched_range){ each->dst_id, address, 1, page };
			}
			address += PAGE_BYTES;
			pages++;
		}
	}
	if (count)
		qsort(ranges, count, sizeof(*ranges), by_place);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || !write_all(fd, ranges, count * sizeof(*ranges))) {
		CLEANUP_FREE char *what = format_string("%s cannot be written: %s", path, strerror(errno));
		CLEANUP_FREE char *json = json_string(what);

		answer(asker, "{\"error\":%s}", json);
		return;
	}
	answer(asker, "{\"ranges\":%zu,\"pages\":%llu}", count, (unsigned long long)pages);
}

static void leave(void) __attribute__((noreturn));
static void leave(void)
{
	umount2(mount_point, MNT_DETACH);
	if (worker > 0) {
		kill(worker, SIGKILL);
		RETRY(waitpid(worker, NULL, 0));
	}
	if (lazy_path)
		unlink(lazy_path);
	if (control_path)
		unlink(control_path);
	for (unsigned i = 0; i < KEEPERS; i++) {
		keeper_ask(&keepers[i], KEEPER_QUIT, 0);
		RETRY(waitpid(keepers[i].pid, NULL, 0));
	}
	_exit(0);
}

static void read_all_events(void)
{
	for (struct process *each = all.processes; each; each = each->next)
		process_events(&all, each);
}

/* Everything is there: nobody needs us any more. */
static void complete(void)
{
	all.state = STATE_COMPLETE;
	let_go();
	/* The one table of descriptors: the keepers have none of them either now. */
	for (struct process *each = all.processes; each; each = each->next)
		process_gone(each);
	write_working_set();
	emit("{\"event\":\"loaded\",\"bytes\":%llu,\"total\":%llu}", (unsigned long long)(all.total * PAGE_BYTES),
	     (unsigned long long)(all.total * PAGE_BYTES));
	emit("{\"event\":\"complete\"}");
	answer(finish_asker, "{\"state\":\"complete\"}");
	leave();
}

static void load(int asker, const char *words)
{
	pid_t pid = (pid_t)strtol(words, NULL, 10);
	int error;

	if (pid > 0 && pid != init_pid) {
		close_fd(&orders->init_pidfd);
		orders->init_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		init_pid = pid;
	}
	error = seize();
	if (error != 0) {
		CLEANUP_FREE char *what = format_string("process %d cannot be watched over: %s", (int)pid, strerror(error));
		CLEANUP_FREE char *json = json_string(what);

		init_pid = 0;
		answer(asker, "{\"error\":%s}", json);
		return;
	}
	if (all.state == STATE_WAITING)
		read_working_set();
	all.state = STATE_LOADING;
	if (asker >= 0)
		answer(asker, "{\"state\":\"%s\"}", state_name());
}

static void obey(int asker, char *line)
{
	char *words = strchr(line, ' ');

	if (words)
		*words++ = '\0';
	else
		words = line + strlen(line);
	if (strcmp(line, "status") == 0) {
		CLEANUP_FREE char *what = json_string(failure ? failure : "");

		answer(asker, "{\"state\":\"%s\",\"loadedBytes\":%llu,\"totalBytes\":%llu,\"pid\":%d,\"what\":%s}",
		       state_name(), (unsigned long long)loaded_bytes(), (unsigned long long)total_bytes(),
		       (int)getpid(), what);
	} else if (strcmp(line, "load") == 0) {
		load(asker, words);
	} else if (strcmp(line, "hold") == 0) {
		all.state = STATE_HOLDING;
		hold_asker = asker;
	} else if (strcmp(line, "unfetched") == 0 && words[0] && all.state == STATE_HELD) {
		free(unfetched_path);
		unfetched_path = format_string("%s", words);
		unfetched_asker = asker;
	} else if (strcmp(line, "continue") == 0) {
		load(asker, "");
	} else if (strcmp(line, "finish") == 0) {
		finish_asker = asker;
		load(-1, "");
	} else if (strcmp(line, "end") == 0) {
		end_asker = asker;
	} else {
		answer(asker, "{\"error\":\"this is no command of the pager, or not one for its present state\"}");
	}
}

static void forget_control(unsigned number)
{
	int each = (int)number;

	close_fd(&controls[number].fd);
	controls[number] = (struct control){ .fd = -1 };
	hold_asker = hold_asker == each ? -1 : hold_asker;
	finish_asker = finish_asker == each ? -1 : finish_asker;
	unfetched_asker = unfetched_asker == each ? -1 : unfetched_asker;
}

static void control_ready(unsigned number)
{
	struct control *control = &controls[number];

	for (;;) {
		char *end;
		ssize_t length = RETRY(recv(control->fd, control->line + control->length,
					    sizeof(control->line) - 1 - control->length, MSG_DONTWAIT));

		if (length < 0 && errno == EAGAIN)
			return;
		if (length <= 0) {
			forget_control(number);
			return;
		}
		control->length += (size_t)length;
		control->line[control->length] = '\0';
		while ((end = memchr(control->line, '\n', control->length))) {
			size_t used = (size_t)(end - control->line) + 1;

			*end = '\0';
			obey((int)number, control->line);
			memmove(control->line, control->line + used, control->length - used);
			control->length -= used;
		}
		if (control->length == sizeof(control->line) - 1) {
			answer((int)number, "{\"error\":\"this line is too long\"}");
			forget_control(number);
			return;
		}
	}
}

static void accept_control(void)
{
	int fd = accept4(control_listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	for (unsigned i = 0; fd >= 0 && i < CONTROLS; i++) {
		if (controls[i].fd < 0) {
			controls[i] = (struct control){ .fd = fd };
			watch(&all, fd);
			return;
		}
	}
	close_fd(&fd);
}

/* ---- all of it ---- */

static void ready(int fd)
{
	if (fd == signals_fd) {
		reap();
	} else if (fd == all.answer_socket) {
		take_answers();
	} else if (fd == lazy_listener) {
		int accepted = accept4(lazy_listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (lazy_fd >= 0) {
			close_fd(&accepted);
		} else if (accepted >= 0) {
			lazy_fd = accepted;
			watch(&all, lazy_fd);
		}
	} else if (fd == lazy_fd) {
		lazy_ready();
	} else if (fd == control_listener) {
		accept_control();
	} else {
		for (unsigned i = 0; i < CONTROLS; i++) {
			if (controls[i].fd == fd) {
				control_ready(i);
				return;
			}
		}
		for (struct process *each = all.processes; each; each = each->next) {
			if (each->uffd == fd) {
				process_events(&all, each);
				return;
			}
		}
	}
}

/* The engine that started this is gone; another one comes by the control socket, if there is a workload. */
static bool is_alone(void)
{
	struct pollfd reader = { .fd = STDOUT_FILENO };

	return getppid() != starter || (poll(&reader, 1, 0) == 1 && (reader.revents & (POLLERR | POLLHUP)) != 0);
}

/* What a state waits for may have come. */
static void advance(void)
{
	static int64_t next_progress, next_look;
	static uint64_t said = UINT64_MAX;
	int64_t now = now_ms();

	if (worker == 0 && now >= worker_pause)
		start_worker();
	if (now >= next_look) {
		/* Nothing tells of the end of a process; only who has to do with it notices. */
		for (struct process *each = all.processes; each; each = each->next) {
			if (!each->gone && !uffd_is_alive(each->uffd))
				process_gone(each);
		}
		forget_ended(&all);
		next_look = now + (end_asker >= 0 ? 5 : 500);
	}
	if (all.state == STATE_HOLDING) {
		read_all_events();
		if (!anything_in_flight() && forks_are_settled(&all)) {
			let_go();
			all.state = STATE_HELD;
			answer(hold_asker, "{\"state\":\"held\"}");
			hold_asker = -1;
		}
	}
	if (all.state == STATE_HELD && unfetched_path) {
		read_all_events();
		if (!anything_in_flight() && forks_are_settled(&all)) {
			write_unfetched(unfetched_asker, unfetched_path);
			free(unfetched_path);
			unfetched_path = NULL;
		}
	}
	/* Who restored has ended half-way; or who started this has, and there is nobody to be served. */
	if (!all.processes && ((lazy_lost && !all.restored) || is_alone()))
		leave();
	if (end_asker >= 0) {
		if (!all.processes) {
			answer(end_asker, "{\"state\":\"ended\"}");
			leave();
		}
		/* It cannot go on without what is missing. */
		end_workload(orders);
	}
	if (all.state != STATE_LOADING)
		return;
	if (now >= next_progress && said != loaded_pages()) {
		said = loaded_pages();
		next_progress = now + PROGRESS_MS;
		emit("{\"event\":\"loaded\",\"bytes\":%llu,\"total\":%llu}", (unsigned long long)(said * PAGE_BYTES),
		     (unsigned long long)(all.total * PAGE_BYTES));
	}
	if ((all.restored || !lazy_path) && missing_pages(&all, false) == 0 && missing_pages(&all, true) == 0) {
		read_all_events();
		if (missing_pages(&all, false) == 0 && missing_pages(&all, true) == 0)
			complete();
	}
}

static void mount_files(void)
{
	CLEANUP_FREE char *options = NULL;

	fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fuse_fd < 0)
		fail_errno("opening /dev/fuse");
	options = format_string("fd=%d,rootmode=40000,user_id=%u,group_id=%u,allow_other,default_permissions,max_read=%u",
				fuse_fd, getuid(), getgid(), 1024u * 1024u);
	if (mount("torpor-pages", mount_point, "fuse.torpor-pages", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY,
		  options) < 0)
		fail_errno("mounting the pages at %s", mount_point);
}

static void set_up(void)
{
	struct rlimit files;
	sigset_t child;
	char *what;
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	setsid();
	umask(077);
	prctl(PR_SET_NAME, "torpor-pager");
	for (unsigned i = 0; i < 4; i++)
		signal((int[]){ SIGHUP, SIGINT, SIGTERM, SIGPIPE }[i], SIG_IGN);
	/* Somebody waits for whatever this process does. */
	setpriority(PRIO_PROCESS, 0, -10);
	/* Whoever is to give back memory, this is not it: the workload would have to go with it. */
	if (fd >= 0) {
		RETRY(write(fd, "-1000", 5));
		close(fd);
	}
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	for (unsigned i = 0; i < CONTROLS; i++)
		controls[i].fd = -1;
	all.answer_socket = all.urgent_socket = all.normal_socket = -1;
	if (snapshot_open(&all.snapshot, snapshot_folder, &what) < 0)
		fail("EINVAL", "%s", what);
	all.used_bits = calloc(all.snapshot.chunk_count / 64 + 1, sizeof(uint64_t));
	all.background_most = 2 * threads + 2;
	shared_fd = memfd_create("torpor-pager", MFD_CLOEXEC);
	if (shared_fd < 0 || ftruncate(shared_fd, SHARED_BYTES) < 0)
		fail_errno("making the memory that is shared with the worker");
	all.shared = mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, shared_fd, 0);
	orders = mmap(NULL, sizeof(*orders), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	all.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (all.shared == MAP_FAILED || orders == MAP_FAILED || all.epoll < 0 || !all.used_bits)
		fail_errno("making what the pager needs");
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	signals_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	watch(&all, signals_fd);
}

int main(int argc, char **argv)
{
	struct arguments arguments = { argc - 1, argv + 1 };
	const char *cgroup, *thread_count;
	cpu_set_t processors;

	if (argc > 1 && strcmp(argv[1], "worker") == 0)
		return worker_main(argc - 1, argv + 1);
	store = argument_needed(&arguments, "--store");
	snapshot_folder = argument_needed(&arguments, "--snapshot");
	mount_point = argument_needed(&arguments, "--mount");
	lazy_path = argument(&arguments, "--lazy");
	control_path = argument(&arguments, "--control");
	working_set = argument(&arguments, "--working-set");
	cgroup = argument(&arguments, "--cgroup");
	thread_count = argument(&arguments, "--threads");
	keys_argument(&arguments);
	arguments_end(&arguments);
	threads = thread_count ? (unsigned)atoi(thread_count)
		: sched_getaffinity(0, sizeof(processors), &processors) == 0 ? (unsigned)CPU_COUNT(&processors)
									     : 2;
	if (threads < 1 || threads > 32)
		threads = threads < 1 ? 1 : 32;
	if ((cgroup && strlen(cgroup) >= sizeof(orders->cgroup)) || strlen(mount_point) >= sizeof(orders->mount))
		fail("ENAMETOOLONG", "a folder's name is too long");
	starter = getppid();
	set_up();
	mount_files();
	orders->init_pidfd = -1;
	orders->fuse_fd = fuse_fd;
	strcpy(orders->cgroup, cgroup ? cgroup : "");
	strcpy(orders->mount, mount_point);
	ring_open();
	start_keepers();
	if (lazy_path)
		lazy_listener = listen_at(lazy_path);
	if (control_path)
		control_listener = listen_at(control_path);
	for (;;) {
		struct epoll_event events[64];
		int count;

		fill(&all);
		advance();
		/* Something that the kernel refused for the moment is tried again soon. */
		count = epoll_wait(all.epoll, events, 64, all.stalled ? 1 : all.processes || worker == 0 ? 100 : 1000);
		for (int i = 0; i < count; i++)
			ready(events[i].data.fd);
	}
}
