/*
 * libtorpor-trace.so, preloaded into a CRIU that dumps: hands CRIU's ptrace calls on the processes it dumps, and its
 * waits for them, to torpor-tracer, which outlives a CRIU that is killed (see docs/decisions/0006-tracer.md). What
 * CRIU traces for itself, to find out about the kernel, it begins otherwise than by PTRACE_SEIZE and keeps.
 */
#include "trace.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Largest pid of any Linux (PID_MAX_LIMIT). */
#define PID_LIMIT (4 * 1024 * 1024)
#define ARCH_SHSTK_STATUS 0x5005
/* Between two looks at children of CRIU's own, while it waits for them and for tracees alike. */
#define LOCAL_PAUSE_MS 5

static long (*real_ptrace)(enum __ptrace_request, ...);
static pid_t (*real_wait4)(pid_t, int *, int, struct rusage *);

static struct trace_mailbox *mailbox;
static int tracer = -1;
static bool lost;
/* The process that the tracer works for. Children of it share this memory, but are on their own. */
static pid_t owner;
static unsigned char routed[PID_LIMIT / 8];
static int routed_count;

__attribute__((constructor)) static void resolve(void)
{
	*(void **)&real_ptrace = dlsym(RTLD_NEXT, "ptrace");
	*(void **)&real_wait4 = dlsym(RTLD_NEXT, "wait4");
}

static bool is_routed(pid_t tid)
{
	return routed_count > 0 && tid > 0 && tid < PID_LIMIT && (routed[tid / 8] >> (tid % 8) & 1) && getpid() == owner;
}

static void set_routed(pid_t tid, bool on)
{
	unsigned char bit = (unsigned char)(1 << (tid % 8));
	if (on == !!(routed[tid / 8] & bit))
		return;
	routed[tid / 8] ^= bit;
	routed_count += on ? 1 : -1;
}

/* @returns the processor this process keeps to from here on, which is the one it is on; -1 where it may not choose. */
static int keep_to_processor(void)
{
	cpu_set_t one;
	int processor = sched_getcpu();
	CPU_ZERO(&one);
	if (processor < 0 || processor >= CPU_SETSIZE)
		return -1;
	CPU_SET(processor, &one);
	return sched_setaffinity(0, sizeof(one), &one) == 0 ? processor : -1;
}

static bool say_hello(int socket, int memory, int process)
{
	int fds[2] = { memory, process };
	struct trace_hello hello = {
		.criu = getpid(),
		.leads_group = getpgrp() == getpid(),
		.processor = keep_to_processor(),
	};
	struct iovec part = { &hello, sizeof(hello) };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(fds))];
	} control = { 0 };
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	control.header = (struct cmsghdr){ CMSG_LEN(sizeof(fds)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.header), fds, sizeof(fds));
	return sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)sizeof(hello);
}

/* Where there is no tracer, CRIU traces by itself, as it would without this library. */
static bool connect_tracer(void)
{
	if (mailbox)
		return getpid() == owner;
	const char *number = getenv(TRACE_SOCKET_VARIABLE);
	if (!number)
		return false;
	int memory = memfd_create("torpor-trace", MFD_CLOEXEC);
	int process = (int)syscall(SYS_pidfd_open, getpid(), 0);
	void *mapped = MAP_FAILED;
	if (memory >= 0 && process >= 0 && ftruncate(memory, sizeof(*mailbox)) == 0)
		mapped = mmap(NULL, sizeof(*mailbox), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memory, 0);
	bool connected = mapped != MAP_FAILED && say_hello(atoi(number), memory, process);
	if (connected) {
		mailbox = mapped;
		tracer = atoi(number);
		owner = getpid();
	} else if (mapped != MAP_FAILED) {
		munmap(mapped, sizeof(*mailbox));
	}
	if (memory >= 0)
		close(memory);
	if (process >= 0)
		close(process);
	return connected;
}

/* Sleeps until the tracer says something. @returns false with EINTR, or where it is gone. */
static bool sleep_for_tracer(void)
{
	char byte;
	ssize_t length = recv(tracer, &byte, 1, 0);
	if (length < 0 && errno == EINTR)
		return false;
	if (length > 0)
		return true;
	lost = true;
	errno = ESRCH;
	return false;
}

/* Has the request in the mailbox carried out. @returns false where the tracer is gone; no signal may come meanwhile. */
static bool transact(void)
{
	if (lost)
		return false;
	uint32_t before = atomic_load(&mailbox->answered);
	atomic_fetch_add(&mailbox->requested, 1);
	if (atomic_exchange(&mailbox->tracer_sleeps, 0))
		send(tracer, "", 1, MSG_NOSIGNAL);
	while (atomic_load(&mailbox->answered) == before) {
		atomic_store(&mailbox->criu_sleeps, 1);
		if (atomic_load(&mailbox->answered) == before && !sleep_for_tracer() && lost)
			return false;
	}
	return true;
}

static void hold_signals(sigset_t *before)
{
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, before);
}

static void release_signals(const sigset_t *before)
{
	int error = errno;
	sigprocmask(SIG_SETMASK, before, NULL);
	errno = error;
}

/* How much there is at `data`, and which way it goes. */
struct shape {
	bool known;
	bool in;
	bool out;
	size_t length;
};

static struct shape shape_of(long request, unsigned long address, unsigned long data)
{
	const struct shape in = { true, true, false, 0 }, out = { true, false, true, 0 }, none = { true, false, false, 0 };
	struct shape shape = { 0 };
	switch (request) {
	case PTRACE_SEIZE:
	case PTRACE_INTERRUPT:
	case PTRACE_CONT:
	case PTRACE_SYSCALL:
	case PTRACE_DETACH:
	case PTRACE_SETOPTIONS:
	case PTRACE_POKETEXT:
	case PTRACE_POKEDATA:
	case PTRACE_POKEUSER:
		return none;
	case PTRACE_PEEKTEXT:
	case PTRACE_PEEKDATA:
	case PTRACE_PEEKUSER:
		shape = out;
		shape.length = sizeof(long);
		break;
	case PTRACE_GETREGSET:
		shape = out;
		shape.length = ((const struct iovec *)data)->iov_len;
		break;
	case PTRACE_SETREGSET:
		shape = in;
		shape.length = ((const struct iovec *)data)->iov_len;
		break;
	case PTRACE_GETFPREGS:
		shape = out;
		shape.length = 512; /* an FXSAVE area */
		break;
	case PTRACE_SETFPREGS:
		shape = in;
		shape.length = 512;
		break;
	case PTRACE_GETSIGINFO:
		shape = out;
		shape.length = sizeof(siginfo_t);
		break;
	case PTRACE_GETSIGMASK:
		shape = out;
		shape.length = address;
		break;
	case PTRACE_SETSIGMASK:
		shape = in;
		shape.length = address;
		break;
	case PTRACE_GET_RSEQ_CONFIGURATION:
		shape = out;
		shape.length = address;
		break;
	case PTRACE_SECCOMP_GET_METADATA:
		shape = (struct shape){ true, true, true, address };
		break;
	case PTRACE_SECCOMP_GET_FILTER:
		shape = out;
		shape.length = data ? TRACE_BYTES : 0;
		break;
	case PTRACE_PEEKSIGINFO: {
		/* `data` is an array; the arguments, at `address`, go in by the same bytes. */
		const struct __ptrace_peeksiginfo_args *arguments = (const void *)address;
		shape = out;
		shape.length = arguments->nr > 0 ? (size_t)arguments->nr * sizeof(siginfo_t) : 0;
		break;
	}
	case PTRACE_GET_THREAD_AREA:
		shape = out;
		shape.length = 16; /* struct user_desc */
		break;
	case PTRACE_ARCH_PRCTL:
		/* Here the pointer is the address, and `data` the code. */
		if (data == ARCH_SHSTK_STATUS) {
			shape = out;
			shape.length = sizeof(long);
		}
		break;
	default:
		break;
	}
	if (shape.length > TRACE_BYTES)
		shape.known = false;
	return shape;
}

static void copy_in(long request, unsigned long address, unsigned long data, const struct shape *shape)
{
	mailbox->length = (uint32_t)shape->length;
	if (request == PTRACE_PEEKSIGINFO)
		memcpy(mailbox->bytes, (const void *)address, sizeof(struct __ptrace_peeksiginfo_args));
	else if (shape->in && request == PTRACE_SETREGSET)
		memcpy(mailbox->bytes, ((const struct iovec *)data)->iov_base, shape->length);
	else if (shape->in)
		memcpy(mailbox->bytes, (const void *)data, shape->length);
}

/* The tracer has put into `length` how much there is. */
static void copy_out(long request, unsigned long address, unsigned long data, const struct shape *shape)
{
	size_t length = mailbox->length < shape->length ? mailbox->length : shape->length;
	if (request == PTRACE_GETREGSET) {
		struct iovec *part = (struct iovec *)data;
		memcpy(part->iov_base, mailbox->bytes, length);
		part->iov_len = length;
	} else if (request == PTRACE_ARCH_PRCTL) {
		memcpy((void *)address, mailbox->bytes, length);
	} else {
		memcpy((void *)data, mailbox->bytes, length);
	}
}

/* As ptrace(2), the system call. */
static long trace_remotely(long request, pid_t tid, unsigned long address, unsigned long data)
{
	struct shape shape = shape_of(request, address, data);
	if (!shape.known || tid <= 0 || tid >= PID_LIMIT) {
		errno = EIO;
		return -1;
	}
	sigset_t before;
	hold_signals(&before);
	mailbox->kind = TRACE_PTRACE;
	mailbox->request = request;
	mailbox->pid = tid;
	mailbox->address = address;
	mailbox->data = data;
	copy_in(request, address, data, &shape);
	long result = -1;
	if (transact()) {
		result = mailbox->result;
		errno = mailbox->error;
		if (result >= 0 && shape.out)
			copy_out(request, address, data, &shape);
	} else {
		errno = ESRCH;
	}
	if (result >= 0 && request == PTRACE_SEIZE)
		set_routed(tid, true);
	if (result >= 0 && request == PTRACE_DETACH)
		set_routed(tid, false);
	release_signals(&before);
	return result;
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list list;
	va_start(list, request);
	pid_t tid = va_arg(list, pid_t);
	unsigned long address = va_arg(list, unsigned long);
	unsigned long data = va_arg(list, unsigned long);
	va_end(list);
	if (request == PTRACE_SEIZE ? !connect_tracer() : !is_routed(tid))
		return real_ptrace(request, tid, address, data);
	if (request != PTRACE_PEEKTEXT && request != PTRACE_PEEKDATA && request != PTRACE_PEEKUSER)
		return trace_remotely(request, tid, address, data);
	/* The library's function returns the word where the system call stores it. */
	long word = 0;
	if (trace_remotely(request, tid, address, (unsigned long)&word) < 0)
		return -1;
	errno = 0;
	return word;
}

/* Asks once. @returns the tid, 0 where nothing has happened, -1 and errno. */
static pid_t wait_remotely_once(pid_t tid, int *status, int options)
{
	sigset_t before;
	hold_signals(&before);
	mailbox->kind = TRACE_WAIT;
	mailbox->request = options;
	mailbox->pid = tid;
	pid_t found = -1;
	if (transact()) {
		found = (pid_t)mailbox->result;
		errno = mailbox->error;
	} else {
		errno = ECHILD;
	}
	if (found > 0) {
		*status = mailbox->status;
		if (WIFEXITED(*status) || WIFSIGNALED(*status))
			set_routed(found, false);
	}
	release_signals(&before);
	return found;
}

/* Until something has happened to a tracee since `seen`. @returns false with errno as wait4(2) would have it. */
static bool sleep_for_event(uint32_t seen)
{
	atomic_store(&mailbox->criu_sleeps, 1);
	if (atomic_load(&mailbox->events) != seen || sleep_for_tracer())
		return true;
	if (lost)
		errno = ECHILD;
	return false;
}

static pid_t wait_remotely(pid_t tid, int *status, int options)
{
	for (;;) {
		uint32_t seen = atomic_load(&mailbox->events);
		pid_t found = wait_remotely_once(tid, status, options);
		if (found != 0 || (options & WNOHANG))
			return found;
		if (!sleep_for_event(seen))
			return -1;
	}
}

/* For any child or tracee: both kinds are asked. */
static pid_t wait_for_any(int *status, int options, struct rusage *usage)
{
	for (;;) {
		uint32_t seen = atomic_load(&mailbox->events);
		pid_t found = wait_remotely_once(-1, status, options);
		if (found > 0)
			return found;
		bool no_tracee = found < 0;
		if (no_tracee && errno != ECHILD)
			return -1;
		found = real_wait4(-1, status, no_tracee ? options : options | WNOHANG, usage);
		bool no_child = found < 0 && errno == ECHILD;
		if (found > 0 || no_tracee || (found < 0 && !no_child))
			return found;
		if (options & WNOHANG)
			return 0;
		if (no_child) {
			if (!sleep_for_event(seen))
				return -1;
		} else if (poll(NULL, 0, LOCAL_PAUSE_MS) < 0) {
			return -1;
		}
	}
}

pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
	int ignored;
	bool any = pid == -1 && routed_count > 0 && getpid() == owner;
	if (!any && !is_routed(pid))
		return real_wait4(pid, status, options, usage);
	if (!status)
		status = &ignored;
	if (usage)
		memset(usage, 0, sizeof(*usage));
	return any ? wait_for_any(status, options, usage) : wait_remotely(pid, status, options);
}

pid_t waitpid(pid_t pid, int *status, int options)
{
	return wait4(pid, status, options, NULL);
}
