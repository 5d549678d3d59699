#include "seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

/* These have the same number on every architecture (asm-generic, since 5.1). */
#define NR_IO_URING_SETUP 425
#define NR_IO_URING_REGISTER 427
#define NR_CLONE3 435

#define NESTED (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP)

/* A machine's own programs, and the 32-bit ones it can run, whose numbers differ (the kernel's syscall tables). */
#if defined(__x86_64__)
#define OWN_ARCHITECTURE AUDIT_ARCH_X86_64
#define COMPAT_ARCHITECTURE AUDIT_ARCH_I386
#define NR_COMPAT_CLONE 120
#define NR_COMPAT_UNSHARE 310
#elif defined(__aarch64__)
#define OWN_ARCHITECTURE AUDIT_ARCH_AARCH64
#define COMPAT_ARCHITECTURE AUDIT_ARCH_ARM
#define NR_COMPAT_CLONE 120
#define NR_COMPAT_UNSHARE 337
#else
#error "the capsule's system call filter does not know this architecture"
#endif

/* Set in the numbers of x86-64's x32 programs, which are the own architecture's otherwise; in no other number. */
#define X32_BIT 0x40000000u

#define ARCHITECTURE offsetof(struct seccomp_data, arch)
#define NUMBER offsetof(struct seccomp_data, nr)
/* The low half of the first argument, on the little-endian machines that Torpor runs on. */
#define FIRST_ARGUMENT offsetof(struct seccomp_data, args[0])

#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (offset))
#define IF_EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (yes), (no))
#define IF_AT_LEAST(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (value), (yes), (no))
#define IF_ANY_BIT(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (value), (yes), (no))
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, (value))
#define FAIL_WITH(number) RETURN(SECCOMP_RET_ERRNO | (number))

/* The rules for one architecture; every path through them ends in a return. */
#define RULES(nr_clone, nr_unshare)                                                                                    \
	LOAD(NUMBER), BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~X32_BIT),                                                   \
	IF_AT_LEAST(NR_IO_URING_SETUP, 0, 2),                                                                          \
	IF_AT_LEAST(NR_IO_URING_REGISTER + 1, 1, 0),                                                                   \
	FAIL_WITH(ENOSYS),                                                                                             \
	/* Its flags lie behind a pointer, so it does not exist; libraries then use clone. */                          \
	IF_EQUAL(NR_CLONE3, 0, 1),                                                                                     \
	FAIL_WITH(ENOSYS),                                                                                             \
	IF_EQUAL(nr_clone, 1, 0),                                                                                      \
	IF_EQUAL(nr_unshare, 2, 5),                                                                                    \
	LOAD(FIRST_ARGUMENT),                                                                                          \
	IF_ANY_BIT(NESTED, 2, 3),                                                                                      \
	LOAD(FIRST_ARGUMENT),                                                                                          \
	IF_ANY_BIT(NESTED | CLONE_NEWTIME, 0, 1),                                                                      \
	FAIL_WITH(EPERM),                                                                                              \
	RETURN(SECCOMP_RET_ALLOW)
#define RULES_LENGTH 15

void install_capsule_filter(void)
{
	struct sock_filter program[] = {
		LOAD(ARCHITECTURE),
		IF_EQUAL(OWN_ARCHITECTURE, 0, RULES_LENGTH),
		RULES(SYS_clone, SYS_unshare),
		IF_EQUAL(COMPAT_ARCHITECTURE, 1, 0),
		FAIL_WITH(ENOSYS),
		RULES(NR_COMPAT_CLONE, NR_COMPAT_UNSHARE),
	};
	_Static_assert(sizeof(program) / sizeof(program[0]) == 4 + 2 * RULES_LENGTH, "the first jump is as long as the rules");
	struct sock_fprog filter = {sizeof(program) / sizeof(program[0]), program};
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0)
		die_with_error("installing the capsule's system call filter");
}
