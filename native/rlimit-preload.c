/*
 * libtorpor-rlimit.so, preloaded into CRIU where root lacks CAP_SYS_RESOURCE: another user's limits cannot be read by
 * prlimit(2) then, but they stand in /proc/PID/limits. Only reading is answered for; setting is left to fail.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

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

int prlimit64(pid_t pid, enum __rlimit_resource resource, const struct rlimit64 *new_limit, struct rlimit64 *old_limit)
{
	static int (*original)(pid_t, enum __rlimit_resource, const struct rlimit64 *, struct rlimit64 *);
	if (!original)
		*(void **)&original = dlsym(RTLD_NEXT, "prlimit64");
	int result = original(pid, resource, new_limit, old_limit);
	if (result == 0 || errno != EPERM || new_limit || !old_limit || pid == 0)
		return result;
	if ((size_t)resource >= sizeof(names) / sizeof(names[0]) || !names[resource] ||
	    read_limits(pid, resource, old_limit) < 0) {
		errno = EPERM;
		return -1;
	}
	return 0;
}

int prlimit(pid_t pid, enum __rlimit_resource resource, const struct rlimit *new_limit, struct rlimit *old_limit)
{
	/* The two structures are the same on 64-bit machines, the only ones CRIU runs on. */
	return prlimit64(pid, resource, (const struct rlimit64 *)new_limit, (struct rlimit64 *)old_limit);
}
