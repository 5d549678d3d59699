/*
 * torpor-tracer: traces for CRIU, by the requests that libtorpor-trace.so in CRIU sends it, the processes that are
 * dumped, so that they have a tracer also when CRIU is killed. Before CRIU first changes a thread, what it is to have
 * back is written down here; when CRIU has ended with threads still traced, they get it back and are detached. Then
 * this ends, too.
 *
 * A thread whose registers, memory or signal mask CRIU has changed is "borrowed": it stands at, or runs up to, an int3
 * behind code that is not its own. A leader that runs CRIU's daemon is not: the daemon puts everything back by
 * rt_sigreturn(2) when the connection to CRIU closes, and must only be let.
 */
#include "common.h"
#include "repair.h"
#include "trace.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SYSCALL_TRAP (SIGTRAP | 0x80)
/* The status of a signal's delivery where it is not to be delivered. */
#define NO_SIGNAL W_STOPCODE(0)
#define EVENT_OF(status) ((status) >> 16)
/* A borrowed thread gets this long to come to its int3 by itself, before it is interrupted where it is. */
#define NATURAL_MS 200
/* A daemon that has lost its CRIU has cured its process long before. */
#define CURE_MS 5000
#define LONGEST_PAUSE_MS 50
#define BUCKETS 1024
#define REGSETS 4
#define DEBUG_REGISTERS offsetof(struct user, u_debugreg)
#define DEBUG_CONTROL (DEBUG_REGISTERS + 7 * sizeof(long))
/* No thread has these blocked but one in which CRIU's code runs: all, except for SIGTRAP, SIGKILL and SIGSTOP. */
#define PARASITE_MASK (~(1ULL << (SIGTRAP - 1) | 1ULL << (SIGKILL - 1) | 1ULL << (SIGSTOP - 1)))

struct regset {
	int type;
	size_t length;
	unsigned char *bytes;
};

/* A word of code or data under something that was written over it. */
struct word {
	struct word *next;
	uint64_t address;
	long original;
};

enum phase {
	/* As it was. */
	OWN,
	BORROWED,
	DAEMON,
	/* Given back; still stopped and traced. */
	MENDED,
};

struct thread {
	struct thread *next;
	pid_t tid;
	enum phase phase;
	bool stopped;
	/* While it is stopped: how, as wait(2) says it. */
	int status;
	/* While it is mended: asked to stop, and not yet seen to. */
	bool interrupted;
	bool breakpoints;
	/* A signal that was taken away so that it goes on: a stop signal by CRIU, any while it is mended. */
	int owed;
	uint64_t mask;
	/* A SIGPIPE was on its way to it: any other that is found later is the daemon's. */
	bool had_pipe;
	/* While it is mended: the daemon's SIGPIPE is being taken from it, for which its mask is set aside. */
	bool draining;
	uint64_t own_mask;
	struct regset regsets[REGSETS];
	/* The latest first. */
	struct word *words;
};

static struct thread *buckets[BUCKETS];
static struct trace_mailbox *mailbox;
static struct trace_hello hello;
/* A pidfd. */
static int criu = -1;

static struct thread **find(pid_t tid)
{
	struct thread **at = &buckets[tid % BUCKETS];
	while (*at && (*at)->tid != tid)
		at = &(*at)->next;
	return at;
}

static void each(bool (*act)(struct thread *), bool *any)
{
	for (size_t index = 0; index < BUCKETS; index++)
		for (struct thread *thread = buckets[index]; thread; thread = thread->next)
			if (act(thread) && any)
				*any = true;
}

static void forget_journal(struct thread *thread)
{
	for (size_t index = 0; index < REGSETS; index++) {
		free(thread->regsets[index].bytes);
		thread->regsets[index] = (struct regset){ 0 };
	}
	while (thread->words) {
		struct word *word = thread->words;
		thread->words = word->next;
		free(word);
	}
}

static void forget(pid_t tid)
{
	struct thread **at = find(tid), *thread = *at;
	if (!thread)
		return;
	*at = thread->next;
	forget_journal(thread);
	free(thread);
}

static long trace(long request, pid_t tid, uint64_t address, uint64_t data)
{
	return syscall(SYS_ptrace, request, (long)tid, (long)address, (long)data);
}

/* Notes a change that wait(2) told. */
static void note(pid_t tid, int status)
{
	struct thread *thread = *find(tid);
	if (!thread)
		return;
	if (!WIFSTOPPED(status)) {
		forget(tid);
		return;
	}
	thread->stopped = true;
	thread->interrupted = false;
	thread->status = status;
}

/* --- The journal --- */

static bool save_regset(struct thread *thread, int type)
{
	struct regset *free_one = NULL;
	for (size_t index = 0; index < REGSETS; index++) {
		struct regset *set = &thread->regsets[index];
		if (set->bytes && set->type == type)
			return true;
		if (!set->bytes && !free_one)
			free_one = set;
	}
	static unsigned char room[65536];
	struct iovec part = { room, sizeof(room) };
	if (!free_one || trace(PTRACE_GETREGSET, thread->tid, (uint64_t)type, (uint64_t)&part) < 0)
		return false;
	free_one->bytes = malloc(part.iov_len);
	if (!free_one->bytes)
		return false;
	memcpy(free_one->bytes, room, part.iov_len);
	free_one->type = type;
	free_one->length = part.iov_len;
	return true;
}

static const struct regset *saved_regset(const struct thread *thread, int type)
{
	for (size_t index = 0; index < REGSETS; index++)
		if (thread->regsets[index].bytes && thread->regsets[index].type == type)
			return &thread->regsets[index];
	return NULL;
}

/* Whether a signal is on its way to this thread alone. */
static bool has_pending(const struct thread *thread, int signal)
{
	struct __ptrace_peeksiginfo_args arguments = { .off = 0, .flags = 0, .nr = 16 };
	siginfo_t found[16];
	long count;
	while ((count = trace(PTRACE_PEEKSIGINFO, thread->tid, (uint64_t)&arguments, (uint64_t)found)) > 0) {
		for (long index = 0; index < count; index++)
			if (found[index].si_signo == signal)
				return true;
		arguments.off += (uint64_t)count;
	}
	return false;
}

/* Before anything of it is changed. @returns false with errno where it cannot be written down: then nothing may be. */
static bool borrow(struct thread *thread)
{
	if (thread->phase == BORROWED)
		return true;
	forget_journal(thread);
	if (!save_regset(thread, NT_PRSTATUS) ||
	    trace(PTRACE_GETSIGMASK, thread->tid, sizeof(thread->mask), (uint64_t)&thread->mask) < 0)
		return false;
	/* A processor without it has no such registers. */
	if (!save_regset(thread, NT_X86_XSTATE) && errno != ENODEV && errno != EINVAL)
		return false;
	thread->had_pipe = has_pending(thread, SIGPIPE);
	thread->phase = BORROWED;
	return true;
}

/* Writes down what is at `address`; only the first time, until it is back. */
static bool save_word(struct thread *thread, uint64_t address)
{
	for (struct word *word = thread->words; word; word = word->next)
		if (word->address == address)
			return true;
	long original;
	if (trace(PTRACE_PEEKDATA, thread->tid, address, (uint64_t)&original) < 0)
		return false;
	struct word *word = malloc(sizeof(*word));
	if (!word)
		return false;
	*word = (struct word){ thread->words, address, original };
	thread->words = word;
	return true;
}

static void drop_word_if_back(struct thread *thread, uint64_t address, long now)
{
	for (struct word **at = &thread->words; *at; at = &(*at)->next) {
		struct word *word = *at;
		if (word->address != address || word->original != now)
			continue;
		*at = word->next;
		free(word);
		return;
	}
}

/* --- Requests --- */

static bool is_leader(pid_t tid)
{
	return syscall(SYS_tgkill, (long)tid, (long)tid, 0L) == 0;
}

static bool is_signal_stop(const struct thread *thread)
{
	return thread->stopped && EVENT_OF(thread->status) == 0 && WSTOPSIG(thread->status) != SYSCALL_TRAP;
}

static long seize(pid_t tid, uint64_t options)
{
	struct thread *thread = calloc(1, sizeof(*thread));
	if (!thread)
		return -1;
	thread->tid = tid;
	if (trace(PTRACE_SEIZE, tid, 0, options) < 0) {
		int error = errno;
		free(thread);
		errno = error;
		return -1;
	}
	/* One of that number may have ended without anybody having asked. */
	forget(tid);
	thread->next = buckets[tid % BUCKETS];
	buckets[tid % BUCKETS] = thread;
	return 0;
}

static long resume(struct thread *thread, long request, uint64_t signal)
{
	int was = WSTOPSIG(thread->status);
	bool takes_stop = is_signal_stop(thread) && signal == 0 && (was == SIGSTOP || was == SIGTSTP);
	/* A leader without code written into its own is set going in the daemon. */
	bool becomes_daemon = thread->phase == BORROWED && !thread->words && is_leader(thread->tid);
	/* First, for it may be stopped again before this returns. */
	enum phase phase = thread->phase;
	if (becomes_daemon)
		thread->phase = DAEMON;
	thread->stopped = false;
	long result = trace(request, thread->tid, 0, signal);
	if (result < 0) {
		thread->phase = phase;
		thread->stopped = true;
	} else if (takes_stop) {
		thread->owed = was;
	}
	return result;
}

static long poke(struct thread *thread, long request, uint64_t address, uint64_t data)
{
	/* A leader in which something is written after the daemon has left it, as it was before. */
	if (!borrow(thread) || !save_word(thread, address))
		return -1;
	long result = trace(request, thread->tid, address, data);
	if (result == 0)
		drop_word_if_back(thread, address, (long)data);
	return result;
}

static long poke_user(struct thread *thread, uint64_t offset, uint64_t data)
{
	if (offset < DEBUG_REGISTERS || offset > DEBUG_CONTROL) {
		errno = EIO;
		return -1;
	}
	thread->breakpoints = true;
	long result = trace(PTRACE_POKEUSER, thread->tid, offset, data);
	if (result == 0 && offset == DEBUG_CONTROL && data == 0)
		thread->breakpoints = false;
	return result;
}

static long set_regset(struct thread *thread, long request, uint64_t type)
{
	if (thread->phase != DAEMON) {
		if (!borrow(thread) || !save_regset(thread, (int)type))
			return -1;
	}
	struct iovec part = { mailbox->bytes, mailbox->length };
	return trace(request, thread->tid, type, (uint64_t)&part);
}

static long get_regset(struct thread *thread, uint64_t type)
{
	struct iovec part = { mailbox->bytes, mailbox->length };
	long result = trace(PTRACE_GETREGSET, thread->tid, type, (uint64_t)&part);
	mailbox->length = (uint32_t)part.iov_len;
	return result;
}

static long peek_siginfo(struct thread *thread)
{
	struct __ptrace_peeksiginfo_args arguments;
	memcpy(&arguments, mailbox->bytes, sizeof(arguments));
	if (arguments.nr < 0 || (size_t)arguments.nr > TRACE_BYTES / sizeof(siginfo_t)) {
		errno = EINVAL;
		return -1;
	}
	long count = trace(PTRACE_PEEKSIGINFO, thread->tid, (uint64_t)&arguments, (uint64_t)mailbox->bytes);
	mailbox->length = count > 0 ? (uint32_t)((size_t)count * sizeof(siginfo_t)) : 0;
	return count;
}

static long get_filter(struct thread *thread, uint64_t index)
{
	uint64_t room = mailbox->length ? (uint64_t)mailbox->bytes : 0;
	long count = trace(PTRACE_SECCOMP_GET_FILTER, thread->tid, index, room);
	mailbox->length = count > 0 && room ? (uint32_t)count * 8 : 0;
	return count;
}

/* Carries out what is in the mailbox. Only what is known is let through: of the rest nothing could be mended. */
static long serve_ptrace(void)
{
	long request = mailbox->request;
	pid_t tid = mailbox->pid;
	uint64_t address = mailbox->address, data = mailbox->data, bytes = (uint64_t)mailbox->bytes;
	if (mailbox->length > TRACE_BYTES) {
		errno = EIO;
		return -1;
	}
	if (request == PTRACE_SEIZE)
		return seize(tid, data);
	struct thread *thread = *find(tid);
	if (!thread) {
		errno = ESRCH;
		return -1;
	}
	long result;
	switch (request) {
	case PTRACE_INTERRUPT:
	case PTRACE_SETOPTIONS:
		return trace(request, tid, address, data);
	case PTRACE_CONT:
	case PTRACE_SYSCALL:
		return resume(thread, request, data);
	case PTRACE_DETACH:
		result = trace(request, tid, address, data);
		if (result == 0)
			forget(tid);
		return result;
	case PTRACE_POKETEXT:
	case PTRACE_POKEDATA:
		return poke(thread, request, address, data);
	case PTRACE_POKEUSER:
		return poke_user(thread, address, data);
	case PTRACE_SETREGSET:
		return set_regset(thread, request, address);
	case PTRACE_SETFPREGS:
	case PTRACE_SETSIGMASK:
		if (thread->phase != DAEMON && !borrow(thread))
			return -1;
		return trace(request, tid, address, bytes);
	case PTRACE_GETREGSET:
		return get_regset(thread, address);
	case PTRACE_PEEKSIGINFO:
		return peek_siginfo(thread);
	case PTRACE_SECCOMP_GET_FILTER:
		return get_filter(thread, address);
	case PTRACE_ARCH_PRCTL:
		return trace(request, tid, bytes, data);
	case PTRACE_PEEKTEXT:
	case PTRACE_PEEKDATA:
	case PTRACE_PEEKUSER:
	case PTRACE_GETFPREGS:
	case PTRACE_GETSIGINFO:
	case PTRACE_GETSIGMASK:
	case PTRACE_GET_RSEQ_CONFIGURATION:
	case PTRACE_SECCOMP_GET_METADATA:
	case PTRACE_GET_THREAD_AREA:
		return trace(request, tid, address, bytes);
	default:
		errno = EIO;
		return -1;
	}
}

static long serve_wait(void)
{
	int status = 0;
	pid_t tid = waitpid(mailbox->pid, &status, (int)mailbox->request | WNOHANG | __WALL);
	mailbox->status = status;
	if (tid > 0)
		note(tid, status);
	return tid;
}

static void serve(void)
{
	errno = 0;
	mailbox->result = mailbox->kind == TRACE_WAIT ? serve_wait() : serve_ptrace();
	mailbox->error = errno;
	atomic_fetch_add(&mailbox->answered, 1);
}

static void wake_criu(void)
{
	if (atomic_exchange(&mailbox->criu_sleeps, 0))
		send(TRACER_SOCKET, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* A tracee has stopped or ended. CRIU, which would have got this signal as its tracer, relies on it for the daemon. */
static void on_child(int signal)
{
	(void)signal;
	int error = errno;
	if (mailbox) {
		atomic_fetch_add(&mailbox->events, 1);
		wake_criu();
		syscall(SYS_pidfd_send_signal, (long)criu, (long)SIGCHLD, NULL, 0L);
	}
	errno = error;
}

/* Until CRIU has ended. */
static void serve_all(void)
{
	uint32_t done = 0;
	int socket = TRACER_SOCKET;
	for (;;) {
		while (atomic_load(&mailbox->requested) != done) {
			done++;
			serve();
			wake_criu();
		}
		atomic_store(&mailbox->tracer_sleeps, 1);
		if (atomic_load(&mailbox->requested) != done)
			continue;
		struct pollfd either[] = { { .fd = socket, .events = POLLIN }, { .fd = criu, .events = POLLIN } };
		if (poll(either, 2, -1) < 0)
			continue;
		if (either[1].revents)
			return;
		char byte;
		if (recv(TRACER_SOCKET, &byte, 1, MSG_DONTWAIT) == 0)
			socket = -1;
	}
}

/* --- Mending --- */

static void take_news(void)
{
	int status;
	pid_t tid;
	while ((tid = waitpid(-1, &status, WNOHANG | __WALL)) > 0)
		note(tid, status);
}

static int64_t cure_end;

static void pause_ms(int milliseconds)
{
	nanosleep(&(struct timespec){ milliseconds / 1000, milliseconds % 1000 * 1000000L }, NULL);
}

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Only once until it has stopped: what is asked of a stopped thread stops it again before it has moved at all. */
static bool interrupt(struct thread *thread)
{
	if (!thread->stopped && !thread->interrupted)
		thread->interrupted = trace(PTRACE_INTERRUPT, thread->tid, 0, 0) == 0;
	return thread->interrupted;
}

static bool interrupt_daemon(struct thread *thread)
{
	return thread->phase == DAEMON && interrupt(thread);
}

static bool interrupt_borrowed(struct thread *thread)
{
	return thread->phase == BORROWED && interrupt(thread);
}

/* Lets it go to the next stop, which comes before any instruction of its own. */
static void step_on(struct thread *thread)
{
	if (is_signal_stop(thread) && WSTOPSIG(thread->status) != SIGTRAP && thread->status != NO_SIGNAL)
		thread->owed = WSTOPSIG(thread->status);
	thread->stopped = false;
	trace(PTRACE_CONT, thread->tid, 0, 0);
}

/*
 * Leaves a system call that CRIU's tracing of them has stopped it at, without the call being made, for a stop at which
 * the kernel still decides about restarting the thread's own.
 */
static void leave_syscall(struct thread *thread)
{
	struct user_regs_struct registers;
	struct iovec part = { &registers, sizeof(registers) };
	if (trace(PTRACE_GETREGSET, thread->tid, NT_PRSTATUS, (uint64_t)&part) == 0 && part.iov_len == sizeof(registers)) {
		registers.orig_rax = (unsigned long long)-1;
		trace(PTRACE_SETREGSET, thread->tid, NT_PRSTATUS, (uint64_t)&part);
	}
	thread->interrupted = trace(PTRACE_INTERRUPT, thread->tid, 0, 0) == 0;
	step_on(thread);
}

static void give_back(struct thread *thread)
{
	for (struct word *word = thread->words; word; word = word->next)
		trace(PTRACE_POKEDATA, thread->tid, word->address, (uint64_t)word->original);
	for (size_t index = 0; index < REGSETS; index++) {
		struct regset *set = &thread->regsets[index];
		struct iovec part = { set->bytes, set->length };
		if (set->bytes && set->type != NT_PRSTATUS)
			trace(PTRACE_SETREGSET, thread->tid, (uint64_t)set->type, (uint64_t)&part);
	}
	const struct regset *general = saved_regset(thread, NT_PRSTATUS);
	struct iovec part = { general->bytes, general->length };
	trace(PTRACE_SETREGSET, thread->tid, NT_PRSTATUS, (uint64_t)&part);
	trace(PTRACE_SETSIGMASK, thread->tid, sizeof(thread->mask), (uint64_t)&thread->mask);
}

static bool runs_parasite(const struct thread *thread)
{
	uint64_t mask = 0;
	trace(PTRACE_GETSIGMASK, thread->tid, sizeof(mask), (uint64_t)&mask);
	return mask == PARASITE_MASK;
}

/*
 * A daemon that finds the connection to CRIU closed gets a SIGPIPE, which would end the application as soon as that has
 * its own signal mask back. It is let through where only it can come, and taken where it is delivered.
 * @returns whether there is more to do for this.
 */
static bool drain_pipe(struct thread *thread)
{
	if (thread->had_pipe)
		return false;
	bool arrived = is_signal_stop(thread) && WSTOPSIG(thread->status) == SIGPIPE;
	if (!arrived && has_pending(thread, SIGPIPE)) {
		const uint64_t all_but_pipe = ~(1ULL << (SIGPIPE - 1));
		if (!thread->draining)
			trace(PTRACE_GETSIGMASK, thread->tid, sizeof(uint64_t), (uint64_t)&thread->own_mask);
		thread->draining = true;
		trace(PTRACE_SETSIGMASK, thread->tid, sizeof(all_but_pipe), (uint64_t)&all_but_pipe);
		step_on(thread);
		return true;
	}
	if (thread->draining)
		trace(PTRACE_SETSIGMASK, thread->tid, sizeof(uint64_t), (uint64_t)&thread->own_mask);
	if (arrived)
		thread->status = NO_SIGNAL;
	return false;
}

static bool mend_daemon(struct thread *thread)
{
	if (!thread->draining && runs_parasite(thread)) {
		/* All others are blocked in it, except for those by which it would crash. */
		if (is_signal_stop(thread) && WSTOPSIG(thread->status) != SIGSTOP)
			thread->status = NO_SIGNAL;
		if (now_ms() < cure_end) {
			step_on(thread);
			return true;
		}
		/* It has crashed or hangs: what its leader had before is there to be given back. */
		give_back(thread);
	}
	return drain_pipe(thread);
}

/* @returns whether there is more to do for this thread. */
static bool mend(struct thread *thread)
{
	if (thread->phase == MENDED || (thread->phase == OWN && !thread->breakpoints))
		return false;
	if (!thread->stopped)
		return true;
	if (thread->breakpoints && trace(PTRACE_POKEUSER, thread->tid, DEBUG_CONTROL, 0) == 0)
		thread->breakpoints = false;
	/* Its SIGTRAP is taken where it is delivered. */
	bool is_foreign = thread->phase == BORROWED || (thread->phase == DAEMON && !thread->draining && runs_parasite(thread));
	if (is_foreign && is_signal_stop(thread) && WSTOPSIG(thread->status) == SIGTRAP) {
		thread->status = NO_SIGNAL;
	} else if (is_foreign && has_pending(thread, SIGTRAP)) {
		step_on(thread);
		return true;
	}
	if (thread->phase == DAEMON && mend_daemon(thread))
		return true;
	if (thread->phase == BORROWED) {
		if (EVENT_OF(thread->status) == 0 && WSTOPSIG(thread->status) == SYSCALL_TRAP) {
			leave_syscall(thread);
			return true;
		}
		give_back(thread);
	}
	thread->phase = MENDED;
	return false;
}

/* While it stands still: in repair mode its reads and writes would fail. */
static bool mend_connections(struct thread *thread)
{
	return thread->stopped && is_leader(thread->tid) && end_repair_mode(thread->tid) > 0;
}

static bool detach(struct thread *thread)
{
	if (!thread->stopped)
		return false;
	int signal = is_signal_stop(thread) ? WSTOPSIG(thread->status) : 0;
	if (thread->owed)
		kill(thread->tid, thread->owed);
	trace(PTRACE_DETACH, thread->tid, 0, (uint64_t)signal);
	thread->stopped = false;
	return true;
}

static bool count_foreign(struct thread *thread)
{
	return thread->phase != OWN || thread->breakpoints;
}

/*
 * Gives every thread back what is its own. All memory and registers first, then all are let go: a thread that runs may
 * use the code that stands in another's way.
 */
static void mend_all(void)
{
	bool foreign = false;
	take_news();
	each(count_foreign, &foreign);
	cure_end = now_ms() + CURE_MS;
	int64_t since = now_ms();
	int pause = 1;
	for (;;) {
		bool more = false;
		take_news();
		each(mend, &more);
		if (!more)
			break;
		/* Over and over: one that has been let go on to its trap may not get there. */
		if (now_ms() - since > NATURAL_MS) {
			each(interrupt_borrowed, NULL);
			since = now_ms();
		}
		/* Longer each time: on a busy machine what has been let go on has not moved yet. */
		pause_ms(pause);
		pause = pause < LONGEST_PAUSE_MS ? pause * 2 : pause;
		each(interrupt_daemon, NULL);
	}
	take_news();
	each(mend_connections, NULL);
	/* Those that have not been stopped the kernel detaches at the end, and passes on what reached them meanwhile. */
	each(detach, NULL);
	if (foreign)
		fprintf(stderr, "CRIU ended in the middle of a dump; its traces were removed from the application\n");
}

/* --- */

/* Waits for CRIU's first request. @returns false where it has ended without one. */
static bool greet(void)
{
	int fds[2];
	struct iovec part = { &hello, sizeof(hello) };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(fds))];
	} control;
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	ssize_t length = RETRY(recvmsg(TRACER_SOCKET, &message, MSG_CMSG_CLOEXEC));
	if (length == 0 || (length < 0 && errno == ECONNRESET))
		return false;
	if (length < 0)
		die_with_error("waiting for CRIU");
	if (length != sizeof(hello) || message.msg_controllen < CMSG_LEN(sizeof(fds)))
		die("CRIU did not introduce itself as expected");
	memcpy(fds, CMSG_DATA(&control.header), sizeof(fds));
	void *mapped = mmap(NULL, sizeof(*mailbox), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fds[0], 0);
	if (mapped == MAP_FAILED)
		die_with_error("mapping the mailbox");
	close(fds[0]);
	cpu_set_t one;
	CPU_ZERO(&one);
	if (hello.processor >= 0 && hello.processor < CPU_SETSIZE) {
		CPU_SET(hello.processor, &one);
		/* Only slower where it may not. */
		sched_setaffinity(0, sizeof(one), &one);
	}
	criu = fds[1];
	mailbox = mapped;
	return true;
}

/* Nothing but SIGKILL may end the tracer before its time, and the kernel's choice for that shall fall on others. */
static void harden(void)
{
	setsid();
	for (int signal = 1; signal < SIGRTMIN; signal++)
		if (signal != SIGCHLD && signal != SIGKILL && signal != SIGSTOP && signal != SIGSEGV && signal != SIGBUS &&
		    signal != SIGILL && signal != SIGFPE && signal != SIGABRT)
			sigaction(signal, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
	sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = on_child, .sa_flags = SA_RESTART }, NULL);
	CLEANUP_FD int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	/* Root without CAP_SYS_RESOURCE may not: then it stays as it is. */
	if (fd >= 0 && write(fd, "-1000", 5) != 5 && errno != EACCES)
		fprintf(stderr, "oom_score_adj: %s\n", strerror(errno));
}

int main(void)
{
	harden();
	if (!greet())
		return 0;
	serve_all();
	bool left = false;
	each(count_foreign, &left);
	/* What CRIU forked for itself may hold the sockets by whose end its daemons see that it is gone. */
	if (left && hello.leads_group)
		kill(-hello.criu, SIGKILL);
	mend_all();
	return 0;
}
