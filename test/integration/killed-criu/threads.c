/*
 * A target of several threads, each of which notices if something of it is lost: threads FILE. Writes to FILE, again
 * and again, the round it is in, how far each thread is, and what has gone wrong (0: nothing).
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic long sleeps, reads, sums, handled, blocked_rounds;
static _Atomic int wrong;
static int ends[2];

/* In a sleep that the kernel restarts by a restart block. */
static void *sleeper(void *unused)
{
	(void)unused;
	for (;; sleeps++) {
		struct timespec rest = { 0, 20 * 1000000L };
		while (nanosleep(&rest, &rest) < 0)
			if (errno != EINTR)
				wrong = 1;
	}
}

/* In a read, the bytes of which must come in order. */
static void *reader(void *unused)
{
	(void)unused;
	for (unsigned char expected = 0;; expected++, reads++) {
		unsigned char byte;
		if (read(ends[0], &byte, 1) != 1 || byte != expected)
			wrong = 2;
	}
}

/* In its own registers all the time: general, floating-point and vector. */
static void *computer(void *unused)
{
	(void)unused;
	for (;; sums++) {
		uint64_t pattern = 0x0123456789abcdefULL, vector, other, general, x87;
		__asm__ volatile("mov %[p], %%r12\n\t"
				 "movq %[p], %%xmm3\n\t"
				 "movq %[p], %%xmm15\n\t"
				 "fildll %[m]\n\t"
				 "mov $200000, %%rcx\n\t"
				 "1: dec %%rcx\n\t"
				 "jnz 1b\n\t"
				 "fistpll %[x]\n\t"
				 "movq %%xmm3, %[v]\n\t"
				 "movq %%xmm15, %[o]\n\t"
				 "mov %%r12, %[g]\n\t"
				 : [v] "=&r"(vector), [o] "=&r"(other), [g] "=&r"(general), [x] "=m"(x87)
				 : [p] "r"(pattern), [m] "m"(pattern)
				 : "rcx", "r12", "xmm3", "xmm15", "cc", "memory");
		if (vector != pattern || other != pattern || general != pattern || x87 != pattern)
			wrong = 3;
	}
}

static void on_signal(int signal)
{
	(void)signal;
	handled++;
}

/* Gets signals, each of which counts. */
static void *receiver(void *unused)
{
	(void)unused;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	for (;;)
		pause();
}

/* Has signals blocked, one of them pending, which must stay so. */
static void *blocker(void *unused)
{
	(void)unused;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	pthread_kill(pthread_self(), SIGUSR1);
	for (;; blocked_rounds++) {
		struct timespec rest = { 0, 5 * 1000000L };
		nanosleep(&rest, NULL);
		sigset_t pending;
		if (sigpending(&pending) < 0 || !sigismember(&pending, SIGUSR1))
			wrong = 4;
	}
}

int main(int count, char **arguments)
{
	if (count != 2 || pipe(ends) < 0)
		return 1;
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	sigaction(SIGRTMIN, &action, NULL);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	pthread_t threads[5];
	void *(*const bodies[])(void *) = { sleeper, reader, computer, receiver, blocker };
	for (int index = 0; index < 5; index++)
		if (pthread_create(&threads[index], NULL, bodies[index], NULL) != 0)
			return 1;
	int fd = open(arguments[1], O_WRONLY | O_CLOEXEC);
	for (long round = 1;; round++) {
		unsigned char byte = (unsigned char)(round - 1);
		pthread_sigqueue(threads[3], SIGRTMIN, (union sigval){ 0 });
		char line[256];
		int length = snprintf(line, sizeof(line), "%ld %ld %ld %ld %ld %ld %d\n", round, sleeps, reads, sums,
				      handled, blocked_rounds, wrong);
		if (write(ends[1], &byte, 1) != 1 || pwrite(fd, line, (size_t)length, 0) != length)
			return 1;
		struct timespec rest = { 0, 5 * 1000000L };
		nanosleep(&rest, NULL);
	}
}
