/*
 * libtorpor-chromium-sandbox.so, preloaded into applications made with Chromium where their user has agreed to it.
 *
 * Chromium's sandbox has two layers. The outer one is namespaces, made by itself or by its set-user-id helper; in a
 * capsule neither can be, since CRIU could not save them, and without an outer layer Chromium gives up the inner one as
 * well, the seccomp filters that keep web pages from files, sockets and other processes. This library stands in for the
 * helper: it speaks the helper's side of their protocol without making namespaces, so that the filters stay.
 *
 * What Chromium does with its helper (sandbox/linux/suid in its sources): it looks at the file chrome-sandbox beside its
 * own, executes that with the zygote's command, and the zygote asks by the socket SBX_D to have its file system taken
 * away, is answered, waits for the end of SBX_HELPER_PID, and sees whether it can still open its own executable.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HELPER_NAME "/chrome-sandbox"
#define API_VERSION "1"
#define MESSAGE_CHROOT 'C'
#define MESSAGE_DONE 'O'
/* Of the environment that the zygote gets. */
#define MOST_VARIABLES 4096

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static bool is_helper(const char *path)
{
	size_t length = path ? strlen(path) : 0, of_name = strlen(HELPER_NAME);
	return length >= of_name && strcmp(path + length - of_name, HELPER_NAME) == 0;
}

/* ---- the helper's file, wherever it is looked for: there, root's, and set-user-id ---- */

int access(const char *path, int mode)
{
	return is_helper(path) ? 0 : NEXT(access)(path, mode);
}

#define DESCRIBE_HELPER(info)                                                                                          \
	do {                                                                                                           \
		memset((info), 0, sizeof(*(info)));                                                                    \
		(info)->st_mode = S_IFREG | S_ISUID | 0755;                                                            \
		(info)->st_nlink = 1;                                                                                  \
	} while (0)

/*
 * By the system call, whose structure is glibc's on 64-bit machines: dlsym does not find the old functions, which are
 * there only for programs that were linked to them.
 */
#define DESCRIBE(path, info)                                                                                           \
	do {                                                                                                           \
		if (!is_helper(path))                                                                                  \
			return (int)syscall(SYS_newfstatat, AT_FDCWD, (path), (info), 0);                              \
		DESCRIBE_HELPER(info);                                                                                 \
		return 0;                                                                                              \
	} while (0)

#define STAT(name, type)                                                                                               \
	int name(const char *restrict path, struct type *restrict info)                                                \
	{                                                                                                              \
		DESCRIBE(path, info);                                                                                  \
	}

/* As programs call it that were built with a glibc before 2.33. */
#define VERSIONED_STAT(name, type)                                                                                     \
	int name(int version, const char *path, struct type *info);                                                    \
	int name(int version, const char *path, struct type *info)                                                     \
	{                                                                                                              \
		(void)version;                                                                                         \
		DESCRIBE(path, info);                                                                                  \
	}

STAT(stat, stat)
STAT(stat64, stat64)
VERSIONED_STAT(__xstat, stat)
VERSIONED_STAT(__xstat64, stat64)

/* ---- the helper itself, in the process that was to execute it ---- */

/* Answers the zygote, and ends. */
static void answer(int fd)
{
	char message;
	ssize_t length;
	do
		length = read(fd, &message, 1);
	while (length < 0 && errno == EINTR);
	if (length == 1 && message == MESSAGE_CHROOT) {
		message = MESSAGE_DONE;
		if (write(fd, &message, 1) != 1)
			_exit(1);
	}
	_exit(0);
}

static bool is_of_sandbox(const char *variable)
{
	return strncmp(variable, "SBX_", 4) == 0;
}

static int execute_as_helper(char *const *arguments, char *const *environment)
{
	if (!arguments[0] || !arguments[1])
		_exit(1);
	if (strcmp(arguments[1], "--get-api") == 0)
		_exit(write(1, API_VERSION "\n", 2) == 2 ? 0 : 1);
	/* What else it has options for (a process' share of blame for lack of memory) an ordinary user may not do. */
	if (arguments[1][0] == '-')
		_exit(0);

	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
		return -1;
	pid_t helper = fork();
	if (helper < 0)
		return -1;
	if (helper == 0) {
		close(ends[0]);
		answer(ends[1]);
	}
	close(ends[1]);

	char *with_sandbox[MOST_VARIABLES + 4];
	char socket_variable[32], helper_variable[32];
	size_t count = 0;
	for (; *environment && count < MOST_VARIABLES; environment++)
		if (!is_of_sandbox(*environment))
			with_sandbox[count++] = *environment;
	snprintf(socket_variable, sizeof(socket_variable), "SBX_D=%d", ends[0]);
	snprintf(helper_variable, sizeof(helper_variable), "SBX_HELPER_PID=%d", (int)helper);
	with_sandbox[count++] = socket_variable;
	with_sandbox[count++] = helper_variable;
	with_sandbox[count++] = "SBX_CHROME_API_PRV=" API_VERSION;
	with_sandbox[count] = NULL;
	return NEXT(execve)(arguments[1], arguments + 1, with_sandbox);
}

int execve(const char *path, char *const arguments[], char *const environment[])
{
	if (is_helper(path))
		return execute_as_helper(arguments, environment);
	return NEXT(execve)(path, arguments, environment);
}

int execv(const char *path, char *const arguments[])
{
	return is_helper(path) ? execute_as_helper(arguments, environ) : NEXT(execv)(path, arguments);
}

int execvp(const char *path, char *const arguments[])
{
	return is_helper(path) ? execute_as_helper(arguments, environ) : NEXT(execvp)(path, arguments);
}

/* ---- the zygote's check that it has no files any more: it has, its children's filters keep them from using any ---- */

static bool is_the_check(const char *path)
{
	return path && strcmp(path, "/proc/self/exe") == 0 && getenv("SBX_D");
}

#define OPEN(name)                                                                                                     \
	int name(const char *path, int flags, ...)                                                                     \
	{                                                                                                              \
		int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);                                         \
		if (is_the_check(path)) {                                                                              \
			errno = EACCES;                                                                                \
			return -1;                                                                                     \
		}                                                                                                      \
		va_list rest;                                                                                          \
		va_start(rest, flags);                                                                                 \
		mode_t mode = (flags & (O_CREAT | __O_TMPFILE)) ? va_arg(rest, mode_t) : 0;                            \
		va_end(rest);                                                                                          \
		return next(path, flags, mode);                                                                        \
	}

OPEN(open)
OPEN(open64)
