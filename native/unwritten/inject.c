#include "inject.h"

#include "../common.h"
#include "pagemap-scan.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* linux/ptrace.h */
#define GET_RSEQ_CONFIGURATION 0x420f
#define GET_DISPATCH_CONFIGURATION 0x4211

#define SYSCALL_TRAP (SIGTRAP | 0x80)
#define EVENT_OF(status) ((status) >> 16)
/* The code segment of 64-bit programs. */
#define USER_CODE 0x33
/* It stops at once unless it waits in the kernel for a device. */
#define STOP_MS 200
#define VDSO_ROOM 16384

struct borrowed {
	pid_t pid;
	struct user_regs_struct own;
	uint64_t mask;
	uint64_t syscall_at;
	/* Came while it was not its own. */
	bool owes_stop;
};

/* linux/ptrace.h */
struct rseq_configuration {
	uint64_t pointer;
	uint32_t size;
	uint32_t signature;
	uint32_t flags;
	uint32_t padding;
};
struct dispatch_configuration {
	uint64_t mode;
	uint64_t selector;
	uint64_t offset;
	uint64_t length;
};
/* linux/rseq.h */
struct critical_section {
	uint32_t version;
	uint32_t flags;
	uint64_t start;
	uint64_t length;
	uint64_t abort;
};
#define RSEQ_SECTION_AT 8

static bool read_memory(pid_t pid, uint64_t address, void *into, size_t length)
{
	struct iovec own = { into, length }, other = { (void *)(uintptr_t)address, length };

	return process_vm_readv(pid, &own, 1, &other, 1, 0) == (ssize_t)length;
}

/*
 * Whether it can be taken away from where it is. In a restartable sequence (rseq(2)) it cannot: the kernel would take the
 * sequence for left, and the thread go on in it later as if nothing had come in between.
 */
static bool can_be_moved(pid_t pid, uint64_t at)
{
	struct rseq_configuration rseq = { 0 };
	struct critical_section section;
	uint64_t pointer = 0;

	if (ptrace(GET_RSEQ_CONFIGURATION, pid, sizeof(rseq), &rseq) < 0)
		return false;
	if (rseq.pointer == 0)
		return true;
	if (!read_memory(pid, rseq.pointer + RSEQ_SECTION_AT, &pointer, sizeof(pointer)))
		return false;
	if (pointer == 0)
		return true;
	return read_memory(pid, pointer, &section, sizeof(section)) && at - section.start >= section.length;
}

/* Whether the kernel gives its system calls to itself (PR_SET_SYSCALL_USER_DISPATCH), ours too then. */
static bool dispatches_calls(pid_t pid)
{
	struct dispatch_configuration dispatch = { 0 };

	return ptrace(GET_DISPATCH_CONFIGURATION, pid, sizeof(dispatch), &dispatch) != 0 || dispatch.mode != 0;
}

/* The address of a syscall instruction that every process has: the kernel maps it. 0 with errno where there is none. */
static uint64_t find_syscall(pid_t pid)
{
	CLEANUP_FREE char *maps_path = format_string("/proc/%d/maps", pid);
	CLEANUP_FREE char *memory_path = format_string("/proc/%d/mem", pid);
	CLEANUP_FD int memory = open(memory_path, O_RDONLY | O_CLOEXEC);
	FILE *maps = fopen(maps_path, "re");
	char line[512];
	unsigned char code[VDSO_ROOM];
	uint64_t start = 0, end = 0;
	bool found = false;

	while (maps && !found && fgets(line, sizeof(line), maps))
		found = strstr(line, "[vdso]") && sscanf(line, "%lx-%lx r-xp", &start, &end) == 2;
	if (maps)
		fclose(maps);
	if (!found || memory < 0) {
		errno = ENOTSUP;
		return 0;
	}
	ssize_t length = pread(memory, code, end - start < sizeof(code) ? end - start : sizeof(code), (off_t)start);
	const unsigned char *at = length > 0 ? memmem(code, (size_t)length, "\x0f\x05", 2) : NULL;

	if (!at) {
		errno = ENOTSUP;
		return 0;
	}
	return start + (uint64_t)(at - code);
}

static bool wait_stop(pid_t pid, int *status, unsigned limit_ms)
{
	for (unsigned waited = 0;; waited++) {
		pid_t got = RETRY(waitpid(pid, status, __WALL | (limit_ms ? WNOHANG : 0)));

		if (got == pid && WIFSTOPPED(*status))
			return true;
		if (got != 0) {
			errno = ESRCH;
			return false;
		}
		if (waited >= limit_ms) {
			errno = EBUSY;
			return false;
		}
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}

/* Lets it go on to the next stop at a system call's begin or end. */
static bool to_syscall_stop(struct borrowed *borrowed)
{
	int status;

	for (;;) {
		if (ptrace(PTRACE_SYSCALL, borrowed->pid, NULL, NULL) != 0 || !wait_stop(borrowed->pid, &status, 0))
			return false;
		if (WSTOPSIG(status) == SYSCALL_TRAP)
			return true;
		/* All but SIGSTOP are blocked. */
		if (EVENT_OF(status) == 0 && WSTOPSIG(status) == SIGSTOP)
			borrowed->owes_stop = true;
	}
}

/* -1 with errno where the call fails; -1 with ESRCH where the process ends in it. */
static long call_in(struct borrowed *borrowed, long number, uint64_t argument)
{
	struct user_regs_struct registers = borrowed->own;

	registers.rip = borrowed->syscall_at;
	registers.rax = (unsigned long)number;
	registers.orig_rax = (unsigned long)-1;
	registers.rdi = argument;
	if (ptrace(PTRACE_SETREGS, borrowed->pid, NULL, &registers) != 0 || !to_syscall_stop(borrowed) ||
	    !to_syscall_stop(borrowed) || ptrace(PTRACE_GETREGS, borrowed->pid, NULL, &registers) != 0) {
		errno = ESRCH;
		return -1;
	}
	long result = (long)registers.rax;

	if (result < 0) {
		errno = (int)-result;
		return -1;
	}
	return result;
}

uint64_t seccomp_filters(pid_t pid)
{
	CLEANUP_FREE char *path = format_string("/proc/%d/status", pid);
	FILE *status = fopen(path, "re");
	char line[512];
	uint64_t mode = 0, filters = UINT64_MAX;

	while (status && fgets(line, sizeof(line), status)) {
		sscanf(line, "Seccomp: %lu", &mode);
		sscanf(line, "Seccomp_filters: %lu", &filters);
	}
	if (status)
		fclose(status);
	return mode == SECCOMP_MODE_STRICT ? UINT64_MAX : filters;
}

static bool borrow(struct borrowed *borrowed, pid_t pid, uint64_t filters)
{
	int status;

	*borrowed = (struct borrowed){ .pid = pid, .syscall_at = find_syscall(pid) };
	if (borrowed->syscall_at == 0)
		return false;
	if (ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACESYSGOOD) != 0)
		return false;
	/* What is seized and does not stop is let go by the end of this process only: who calls runs in one of its own. */
	if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) != 0 || !wait_stop(pid, &status, STOP_MS))
		return false;
	if (EVENT_OF(status) != PTRACE_EVENT_STOP || WSTOPSIG(status) != SIGTRAP) {
		/* A signal, which it gets; or it has been stopped by one. */
		ptrace(PTRACE_DETACH, pid, NULL, EVENT_OF(status) ? 0 : (long)WSTOPSIG(status));
		errno = EAGAIN;
		return false;
	}
	uint64_t all = ~(UINT64_C(1) << (SIGKILL - 1) | UINT64_C(1) << (SIGSTOP - 1));

	if (ptrace(PTRACE_GETREGS, pid, NULL, &borrowed->own) != 0 || borrowed->own.cs != USER_CODE ||
	    seccomp_filters(pid) != filters || dispatches_calls(pid) || !can_be_moved(pid, borrowed->own.rip) ||
	    ptrace(PTRACE_GETSIGMASK, pid, sizeof(borrowed->mask), &borrowed->mask) != 0 ||
	    ptrace(PTRACE_SETSIGMASK, pid, sizeof(all), &all) != 0) {
		ptrace(PTRACE_DETACH, pid, NULL, 0);
		errno = ENOTSUP;
		return false;
	}
	return true;
}

/*
 * It stands at the end of a system call. Going on from there it would take the result of its own one, which was
 * interrupted, as it is; so it is stopped once more where the kernel sees to that (arch_do_signal_or_restart).
 */
static void give_back(struct borrowed *borrowed)
{
	int status;

	ptrace(PTRACE_SETREGS, borrowed->pid, NULL, &borrowed->own);
	ptrace(PTRACE_INTERRUPT, borrowed->pid, NULL, NULL);
	do {
		if (ptrace(PTRACE_CONT, borrowed->pid, NULL, NULL) != 0 || !wait_stop(borrowed->pid, &status, 0))
			return;
		if (EVENT_OF(status) == 0 && WSTOPSIG(status) == SIGSTOP)
			borrowed->owes_stop = true;
	} while (EVENT_OF(status) != PTRACE_EVENT_STOP);
	ptrace(PTRACE_SETSIGMASK, borrowed->pid, sizeof(borrowed->mask), &borrowed->mask);
	ptrace(PTRACE_DETACH, borrowed->pid, NULL, 0);
	if (borrowed->owes_stop)
		kill(borrowed->pid, SIGSTOP);
}

/* Whether it is what was asked for: other threads have run meanwhile. */
static bool is_userfaultfd(int fd)
{
	CLEANUP_FREE char *path = format_string("/proc/self/fd/%d", fd);
	char link[64] = "";

	return readlink(path, link, sizeof(link) - 1) > 0 && strcmp(link, "anon_inode:[userfaultfd]") == 0;
}

static int take_descriptor(pid_t pid, int fd)
{
	CLEANUP_FD int process = (int)syscall(SYS_pidfd_open, pid, 0);
	int taken = process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, fd, 0);

	if (taken < 0 || is_userfaultfd(taken))
		return taken;
	close(taken);
	errno = EAGAIN;
	return -1;
}

int take_userfaultfd(pid_t pid, uint64_t filters)
{
	struct borrowed borrowed;

	if (!borrow(&borrowed, pid, filters))
		return -1;
	int taken = -1;
	long made = call_in(&borrowed, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	int number = errno;

	if (made >= 0) {
		taken = take_descriptor(pid, (int)made);
		number = errno;
		/* What another thread has put there meanwhile is not ours to close. */
		if (taken >= 0 || number != EAGAIN)
			call_in(&borrowed, SYS_close, (uint64_t)made);
	}
	give_back(&borrowed);
	errno = number;
	return taken;
}
