/*
 * libtorpor-rlimit.so, preloaded into CRIU where root lacks CAP_SYS_RESOURCE: another user's limits cannot be read by
 * prlimit(2) then, but they stand in /proc/PID/limits. Only reading is answered for; setting is left to fail.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As the lines of /proc/PID/limits begin (proc(5)), by resource number. */
static const char *const names[] = {
	[RLIMIT_CPU] = "Max cpu time",
	[RLIMIT_FSIZE] = "Max file size",
	[RLIMIT_DATA] = "Max data size",
	[RLIMIT_STACK] = "Max stack size",
	[RLIMIT_CORE] = "Max core file size",
	[RLIMIT_RSS] = "Max resident set",
	[RLIMIT_NPROC] = "Max processes",
	[RLIMIT_NOFILE] = "Max open files",
	[RLIMIT_MEMLOCK] = "Max locked memory",
	[RLIMIT_AS] = "Max address space",
	[RLIMIT_LOCKS] = "Max file locks",
	[RLIMIT_SIGPENDING] = "Max pending signals",
	[RLIMIT_MSGQUEUE] = "Max msgqueue size",
	[RLIMIT_NICE] = "Max nice priority",
	[RLIMIT_RTPRIO] = "Max realtime priority",
	[RLIMIT_RTTIME] = "Max realtime timeout",
};

static rlim64_t parse_limit(const char **text)
{
	*text += strspn(*text, " ");
	if (strncmp(*text, "unlimited", 9) == 0) {
		*text += 9;
		return RLIM64_INFINITY;
	}
	char *end;
	rlim64_t value = strtoull(*text, &end, 10);
	*text = end;
	return value;
}

static int read_limits(pid_t pid, unsigned int resource, struct rlimit64 *limit)
{
	char path[64], line[256];
	snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return -1;
	int found = -1;
	size_t length = strlen(names[resource]);
	while (found < 0 && fgets(line, sizeof(line), file)) {
		if (strncmp(line, names[resource], length) != 0 || line[length] != ' ')
			continue;
		const char *at = line + length;
		limit->rlim_cur = parse_limit(&at);
		limit->rlim_max = parse_limit(&at);
		found = 0;
	}
	fclose(file);
	return found;
}

static long (*real_syscall(void))(long, ...)
{
	static long (*original)(long, ...);
	if (!original)
		*(void **)&original = dlsym(RTLD_NEXT, "syscall");
	return original;
}

static long prlimit_or_proc(pid_t pid, unsigned int resource, const struct rlimit64 *new_limit, struct rlimit64 *old_limit)
{
	long result = real_syscall()(SYS_prlimit64, (long)pid, (long)resource, (long)new_limit, (long)old_limit);
	if (result == 0 || errno != EPERM || new_limit || !old_limit || pid == 0)
		return result;
	if (resource >= sizeof(names) / sizeof(names[0]) || !names[resource] ||
	    read_limits(pid, resource, old_limit) < 0) {
		errno = EPERM;
		return -1;
	}
	return 0;
}

/* CRIU 4.2 asks by syscall(2) itself; other versions by the library's function. */
int prlimit64(pid_t pid, enum __rlimit_resource resource, const struct rlimit64 *new_limit, struct rlimit64 *old_limit)
{
	return (int)prlimit_or_proc(pid, (unsigned int)resource, new_limit, old_limit);
}

long syscall(long number, ...)
{
	long arguments[6];
	va_list list;
	va_start(list, number);
	for (size_t index = 0; index < sizeof(arguments) / sizeof(arguments[0]); index++)
		arguments[index] = va_arg(list, long);
	va_end(list);
	if (number == SYS_prlimit64)
		return prlimit_or_proc((pid_t)arguments[0], (unsigned int)arguments[1],
				       (const struct rlimit64 *)arguments[2], (struct rlimit64 *)arguments[3]);
	return real_syscall()(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}
