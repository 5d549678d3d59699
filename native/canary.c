/*
 * torpor-canary ROOT: a small process that knows whether it has been restored as it was. It lives as the process of a capsule does, in
 * pid, mount, ipc and uts namespaces of its own, its root a bind of the machine's on the empty folder ROOT, and has one
 * of each kind of thing that depends on the kernel. Prints the pid by which the machine knows it, once it is complete.
 *
 * At SIGUSR1 it looks at all it has, and writes what came of it to /dev/answer in its own file system: "sound", or what is wrong.
 * The engine checkpoints one before the machine jumps to another kernel, and asks it there.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

#define MEMORY_BYTES (1024 * 1024)
#define FAR_AWAY_SECONDS (365L * 24 * 3600)
#define THREAD_TICK_NS 1000000L
#define THREAD_LIMIT_TICKS 5000
#define SOCKET_PATH "/dev/canary.socket"
#define ANSWER_PATH "/dev/answer"
#define COPY_PATH "/dev/torpor-canary"
#define READY_FD 3

static const char message[] = "torpor";
static atomic_uint ticks;

struct belongings {
	unsigned char *memory;
	int deleted;
	int in_memory;
	int queue[2];
	int channel[2];
	int listening;
	int event;
	int poll;
	int timer;
	int watch;
	int terminal;
};

static void tick_once(void)
{
	struct timespec pause = {.tv_nsec = THREAD_TICK_NS};
	nanosleep(&pause, NULL);
}

static void *tick(void *unused)
{
	(void)unused;
	for (;;) {
		atomic_fetch_add(&ticks, 1);
		tick_once();
	}
	return NULL;
}

static unsigned char pattern(size_t at)
{
	return (unsigned char)(at * 2654435761u >> 13);
}

static int or_die(int result, const char *what)
{
	if (result < 0)
		die_with_error("%s", what);
	return result;
}

/* As a capsule's: only the root's own file system, with a /proc and a /dev of its own. */
static void enter_root(const char *root)
{
	or_die(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "making the mounts its own");
	or_die(mount("/", root, NULL, MS_BIND, NULL), "binding its root");
	or_die(chdir(root), "entering its root");
	or_die(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "mounting /proc");
	or_die(mount("dev", "dev", "tmpfs", MS_NOSUID, "mode=0755"), "mounting /dev");
	or_die(mkdir("dev/pts", 0755), "making /dev/pts");
	or_die(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"),
	       "mounting /dev/pts");
	or_die(mknod("dev/null", S_IFCHR | 0666, (dev_t)(1 << 8 | 3)), "making /dev/null");
	or_die((int)syscall(SYS_pivot_root, ".", "."), "changing its root");
	or_die(umount2(".", MNT_DETACH), "leaving the machine's mounts");
	or_die(chdir("/"), "entering its root");
}

static int holding(int fd)
{
	if (write(fd, message, sizeof(message)) != (ssize_t)sizeof(message))
		die_with_error("writing");
	return fd;
}

static struct belongings acquire(void)
{
	struct belongings all;
	all.memory = malloc(MEMORY_BYTES);
	if (!all.memory)
		die_with_error("getting memory");
	for (size_t at = 0; at < MEMORY_BYTES; at++)
		all.memory[at] = pattern(at);
	all.deleted = holding(or_die(open("/dev/deleted", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), "making a file"));
	or_die(unlink("/dev/deleted"), "deleting a file");
	all.in_memory = holding(or_die(memfd_create("canary", MFD_CLOEXEC), "making a file in memory"));
	or_die(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, all.queue), "making a pair of sockets");
	holding(all.queue[0]);
	or_die(pipe2(all.channel, O_CLOEXEC), "making a pipe");
	holding(all.channel[1]);
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SOCKET_PATH};
	all.listening = or_die(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "making a socket");
	or_die(bind(all.listening, (struct sockaddr *)&address, sizeof(address)), "naming a socket");
	or_die(listen(all.listening, 1), "listening");
	all.event = or_die(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK), "making an eventfd");
	all.poll = or_die(epoll_create1(EPOLL_CLOEXEC), "making an epoll");
	struct epoll_event wanted = {.events = EPOLLIN, .data.fd = all.event};
	or_die(epoll_ctl(all.poll, EPOLL_CTL_ADD, all.event, &wanted), "waiting for an eventfd");
	all.timer = or_die(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "making a timer");
	struct itimerspec far_away = {.it_value.tv_sec = FAR_AWAY_SECONDS};
	or_die(timerfd_settime(all.timer, 0, &far_away, NULL), "setting a timer");
	all.watch = or_die(inotify_init1(IN_CLOEXEC | IN_NONBLOCK), "making a watch");
	or_die(inotify_add_watch(all.watch, "/dev", IN_CREATE), "watching a folder");
	all.terminal = or_die(open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), "making a terminal");
	or_die(unlockpt(all.terminal), "unlocking a terminal");
	pthread_t thread;
	errno = pthread_create(&thread, NULL, tick, NULL);
	if (errno)
		die_with_error("starting a thread");
	return all;
}

static bool holds(int fd, bool from_start)
{
	char found[sizeof(message)];
	if (from_start && lseek(fd, 0, SEEK_SET) < 0)
		return false;
	return read(fd, found, sizeof(found)) == (ssize_t)sizeof(found) && memcmp(found, message, sizeof(message)) == 0;
}

static bool has_memory(const unsigned char *memory)
{
	for (size_t at = 0; at < MEMORY_BYTES; at++)
		if (memory[at] != pattern(at))
			return false;
	return true;
}

static bool has_thread(void)
{
	unsigned before = atomic_load(&ticks);
	for (int waited = 0; waited < THREAD_LIMIT_TICKS; waited++) {
		if (atomic_load(&ticks) != before)
			return true;
		tick_once();
	}
	return false;
}

static bool listens(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SOCKET_PATH};
	int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool connected = client >= 0 && connect(client, (struct sockaddr *)&address, sizeof(address)) == 0;
	if (client >= 0)
		close(client);
	return connected;
}

static bool has_timer(int timer)
{
	struct itimerspec left;
	return timerfd_gettime(timer, &left) == 0 && left.it_value.tv_sec > FAR_AWAY_SECONDS / 2;
}

static bool is_watched(int watch)
{
	struct inotify_event event[8];
	int made = open("/dev/made", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (made < 0)
		return false;
	close(made);
	return read(watch, event, sizeof(event)) > 0;
}

static bool has_event(int poll, int event)
{
	struct epoll_event found;
	return epoll_wait(poll, &found, 1, 0) == 1 && found.data.fd == event;
}

static const char *wrong(const struct belongings *all)
{
	char other_side[64];
	if (!has_memory(all->memory))
		return "its memory";
	if (!has_thread())
		return "its second thread";
	if (!holds(all->deleted, true))
		return "a deleted file";
	if (!holds(all->in_memory, true))
		return "a file in memory";
	if (!holds(all->queue[1], false))
		return "a pair of sockets";
	if (!holds(all->channel[0], false))
		return "a pipe";
	if (!listens())
		return "a socket that listens";
	if (!has_event(all->poll, all->event))
		return "an epoll";
	if (!has_timer(all->timer))
		return "a timer";
	if (!is_watched(all->watch))
		return "a watched folder";
	if (ptsname_r(all->terminal, other_side, sizeof(other_side)) != 0)
		return "a terminal";
	return NULL;
}

static void answer(const struct belongings *all)
{
	const char *what = wrong(all);
	FILE *file = fopen(ANSWER_PATH ".new", "we");
	if (!file)
		die_with_error("answering");
	fprintf(file, "%s\n", what ? what : "sound");
	if (fclose(file) != 0 || rename(ANSWER_PATH ".new", ANSWER_PATH) < 0)
		die_with_error("answering");
}

/* Until now it runs from a file system that it has no mount of any more, which CRIU could not name. */
static void run_inside(const char *root, int ready)
{
	CLEANUP_FD int itself = or_die(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), "opening its own program");
	or_die(setsid(), "getting a session of its own");
	enter_root(root);
	struct stat status;
	or_die(fstat(itself, &status), "looking at its own program");
	int copy = or_die(open(COPY_PATH, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700), "copying itself");
	if (sendfile(copy, itself, NULL, (size_t)status.st_size) != status.st_size)
		die_with_error("copying itself");
	close(copy);
	or_die(dup2(ready, READY_FD), "keeping its pipe");
	execl(COPY_PATH, COPY_PATH, (char *)NULL);
	die_with_error("starting its copy");
}

static void live(int ready)
{
	int null = or_die(open("/dev/null", O_RDWR | O_CLOEXEC), "opening /dev/null");
	sigset_t wake;
	sigemptyset(&wake);
	sigaddset(&wake, SIGUSR1);
	sigprocmask(SIG_BLOCK, &wake, NULL);
	struct belongings all = acquire();
	holding(ready);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		or_die(dup2(null, fd), "letting go of its outputs");
	close(ready);
	close(null);
	int signal;
	while (sigwait(&wake, &signal) == 0)
		answer(&all);
}

int main(int count, char **arguments)
{
	error_stream = stderr;
	if (count == 1 && strcmp(arguments[0], COPY_PATH) == 0) {
		live(READY_FD);
		return 1;
	}
	if (count != 2)
		die("usage: torpor-canary ROOT");
	or_die((int)syscall(SYS_close_range, 3u, ~0u, 0), "closing what is not its own");
	int ready[2];
	or_die(pipe2(ready, O_CLOEXEC), "making a pipe");
	or_die(unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS), "getting namespaces of its own");
	pid_t child = or_die(fork(), "starting it");
	if (child == 0) {
		close(ready[0]);
		run_inside(arguments[1], ready[1]);
	}
	close(ready[1]);
	char word[sizeof(message)];
	if (read(ready[0], word, sizeof(word)) != (ssize_t)sizeof(word))
		die("it has ended before it was complete");
	printf("%d\n", child);
	return 0;
}
