/*
 * The two small processes beside the supervisor, which only watch it and end the workload where it has died.
 *
 * The holder shares the supervisor's table of descriptors (CLONE_FILES). While it lives the kernel lets go of no
 * userfaultfd, also not of one that a fork's report has just brought; so what has faulted goes on waiting.
 *
 * The tracer has the workload's init by PTRACE_O_EXITKILL while pages are missing, so that the kernel ends the workload
 * where all are killed at once. It has hardly any descriptors: what a process closes at its end delays the kernel's
 * signal. It ends with the supervisor and with the holder, and the workload with it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common.h"
#include "pager.h"

bool uffd_is_alive(int fd)
{
	/*
	 * Nothing is ever registered for write protection, so that this is refused with ENOENT, or EAGAIN while a report waits
	 * to be read. Where the memory is gone for good it is ESRCH.
	 */
	struct uffdio_writeprotect probe = { .range = { .start = 1ull << 20, .len = PAGE_BYTES } };

	return ioctl(fd, UFFDIO_WRITEPROTECT, &probe) == 0 || errno != ESRCH;
}

bool any_uffd_is_alive(void)
{
	DIR *folder = opendir("/proc/self/fd");
	struct dirent *entry;
	bool alive = false;

	/* Not to be known is no reason to let go. */
	if (!folder)
		return true;
	while (!alive && (entry = readdir(folder))) {
		char target[64];
		ssize_t length = readlinkat(dirfd(folder), entry->d_name, target, sizeof(target) - 1);

		if (length <= 0)
			continue;
		target[length] = '\0';
		if (strcmp(target, "anon_inode:[userfaultfd]") == 0)
			alive = uffd_is_alive(atoi(entry->d_name));
	}
	closedir(folder);
	return alive;
}

void end_workload(const struct keeper_orders *orders)
{
	if (orders->cgroup[0]) {
		CLEANUP_FREE char *path = format_string("%s/cgroup.kill", orders->cgroup);
		CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

		if (fd >= 0)
			RETRY(write(fd, "1", 1));
	}
	if (orders->init_pidfd >= 0)
		syscall(SYS_pidfd_send_signal, orders->init_pidfd, SIGKILL, NULL, 0);
}

/* The supervisor is gone: nobody will bring the pages that are missing. */
static void take_over(const struct keeper_orders *orders, bool is_tracer) __attribute__((noreturn));
static void take_over(const struct keeper_orders *orders, bool is_tracer)
{
	/* It has nothing to hold; by its end the kernel ends what it traces. */
	if (is_tracer) {
		end_workload(orders);
		_exit(0);
	}
	/* Whoever reads from the mount gets an error instead of waiting for ever: CRIU, whose restore fails. */
	umount2(orders->mount, MNT_DETACH);
	if (orders->fuse_fd >= 0)
		close(orders->fuse_fd);
	while (any_uffd_is_alive()) {
		end_workload(orders);
		usleep(2000);
	}
	_exit(0);
}

/* What a traced process stopped for is none of our business: it goes on as it would have. */
static void pass_stops(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0) {
		if (!WIFSTOPPED(status))
			continue;
		if (status >> 16 != PTRACE_EVENT_STOP) {
			ptrace(PTRACE_CONT, pid, 0, (long)WSTOPSIG(status));
			continue;
		}
		switch (WSTOPSIG(status)) {
		case SIGSTOP:
		case SIGTSTP:
		case SIGTTIN:
		case SIGTTOU:
			ptrace(PTRACE_LISTEN, pid, 0, 0);
			break;
		default:
			ptrace(PTRACE_CONT, pid, 0, 0);
		}
	}
}

static int detach(pid_t pid)
{
	int status;

	if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0)
		return errno;
	for (;;) {
		if (RETRY(waitpid(pid, &status, __WALL)) < 0)
			return errno;
		if (!WIFSTOPPED(status))
			return ESRCH;
		/* A signal that it was about to get goes with it. */
		if (ptrace(PTRACE_DETACH, pid, 0, status >> 16 ? 0L : (long)WSTOPSIG(status)) == 0)
			return 0;
		if (errno != EINTR)
			return errno;
	}
}

/*
 * The rest of the workload ends only when its init has: on a busy machine that must not wait for a processor either.
 * Whatever it starts meanwhile is as it would be otherwise.
 */
static int seize(pid_t pid, int *nice)
{
	const struct sched_param none = { 0 };

	if (ptrace(PTRACE_SEIZE, pid, 0, (long)PTRACE_O_EXITKILL) < 0)
		return errno;
	if (sched_getscheduler(pid) == SCHED_OTHER) {
		*nice = getpriority(PRIO_PROCESS, (id_t)pid);
		sched_setscheduler(pid, SCHED_OTHER | SCHED_RESET_ON_FORK, &none);
		setpriority(PRIO_PROCESS, (id_t)pid, -20);
	}
	return 0;
}

static void calm(pid_t pid, int nice)
{
	const struct sched_param none = { 0 };

	if (sched_getscheduler(pid) == (SCHED_OTHER | SCHED_RESET_ON_FORK)) {
		sched_setscheduler(pid, SCHED_OTHER, &none);
		setpriority(PRIO_PROCESS, (id_t)pid, nice);
	}
}

static void nothing(int signal)
{
	(void)signal;
}

static void keep(int socket, int supervisor, const struct keeper_orders *orders, const struct keeper *holder)
	__attribute__((noreturn));
static void keep(int socket, int supervisor, const struct keeper_orders *orders, const struct keeper *holder)
{
	bool is_tracer = holder != NULL;
	int other = -1;
	struct sigaction interrupt = { .sa_handler = nothing };
	sigset_t all_but_child;
	int nice = 0;

	prctl(PR_SET_NAME, is_tracer ? "torpor-pager-t" : "torpor-pager-k");
	if (is_tracer) {
		const struct sched_param first = { .sched_priority = 1 };

		/* Its end must not wait for a processor. */
		sched_setscheduler(0, SCHED_FIFO, &first);
		socket = dup2(socket, 0);
		supervisor = dup2(supervisor, 1);
		other = dup2(holder->pidfd, 2);
		syscall(SYS_close_range, 3, ~0u, 0);
	}
	sigaction(SIGCHLD, &interrupt, NULL);
	/* SIGCHLD comes only while this waits, so that none is missed. */
	sigemptyset(&all_but_child);
	for (;;) {
		struct pollfd fds[] = { { .fd = supervisor, .events = POLLIN },
					{ .fd = other, .events = POLLIN },
					{ .fd = socket, .events = POLLIN } };
		struct keeper_message message;
		int answer = 0;

		ppoll(fds, 3, NULL, &all_but_child);
		pass_stops();
		/* Of two that die at once, the one that is not the last to have the descriptors is through first. */
		if (fds[0].revents || fds[1].revents)
			take_over(orders, is_tracer);
		if (RETRY(recv(socket, &message, sizeof(message), MSG_DONTWAIT)) != sizeof(message))
			continue;
		if (message.command == KEEPER_QUIT)
			_exit(0);
		if (message.command == KEEPER_SEIZE) {
			answer = seize(message.pid, &nice);
		} else {
			calm(message.pid, nice);
			answer = detach(message.pid);
		}
		RETRY(send(socket, &answer, sizeof(answer), MSG_NOSIGNAL));
	}
}

bool keeper_start(struct keeper *keeper, const struct keeper_orders *orders, const struct keeper *holder)
{
	unsigned long flags = holder ? SIGCHLD : CLONE_FILES | SIGCHLD;
	int sockets[2], supervisor = (int)syscall(SYS_pidfd_open, getpid(), 0);
	sigset_t child, before;

	if (supervisor < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		return false;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, &before);
	/* As fork; the holder with one table of descriptors, so that what the supervisor gets later is there at once. */
	keeper->pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);
	if (keeper->pid == 0)
		keep(sockets[1], supervisor, orders, holder);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (keeper->pid < 0)
		return false;
	keeper->pidfd = (int)syscall(SYS_pidfd_open, keeper->pid, 0);
	keeper->socket = sockets[0];
	keeper->theirs = sockets[1];
	keeper->supervisor = supervisor;
	return keeper->pidfd >= 0;
}

void keeper_close(struct keeper *keeper)
{
	close(keeper->pidfd);
	close(keeper->socket);
	close(keeper->theirs);
	close(keeper->supervisor);
	keeper->pid = 0;
}

int keeper_ask(const struct keeper *keeper, enum keeper_command command, pid_t pid)
{
	struct keeper_message message = { command, pid };
	int answer;

	if (RETRY(send(keeper->socket, &message, sizeof(message), MSG_NOSIGNAL)) != sizeof(message))
		return errno;
	for (;;) {
		/* Both ends are in our own table, so that a keeper that has died hangs up nothing. */
		struct pollfd fds[] = { { .fd = keeper->socket, .events = POLLIN }, { .fd = keeper->pidfd, .events = POLLIN } };

		RETRY(poll(fds, 2, -1));
		if (RETRY(recv(keeper->socket, &answer, sizeof(answer), MSG_DONTWAIT)) == sizeof(answer))
			return answer;
		if (fds[1].revents)
			return command == KEEPER_QUIT ? 0 : ESRCH;
	}
}
