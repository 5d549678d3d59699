/*
 * torpor-capsule: the host's side of a capsule.
 *   start SPEC                                    makes a capsule; prints {"pid":N} of its init
 *   exec PID [options] -- CMD ARG...              runs a command in the capsule of init PID
 *   windows PID [options] -- list | activate ID | close | icon ID | idle
 *                                                 sees and moves the windows of the application in the capsule
 *   with-root ROOT MOUNTPOINT [--bind PATH]... [--cgroup DIR]... -- CMD ARG...
 *                                                 runs a command that sees ROOT mounted, and PATHs of the host in it
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"
#include "identity.h"
#include "root.h"
#include "spec.h"
#include "windows.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND 127
#define EXIT_SIGNAL 128

static int open_cgroup(const char *folder)
{
	CLEANUP_FREE char *path = format_string("%s/cgroup.procs", folder);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		die_with_error("opening the cgroup %s", folder);
	return fd;
}

static void join_open_cgroup(int fd)
{
	if (RETRY(write(fd, "0", 1)) != 1)
		die_with_error("joining a cgroup");
}

static void join_cgroup(const char *folder)
{
	CLEANUP_FD int fd = open_cgroup(folder);
	join_open_cgroup(fd);
}

/* ---- start ---- */

static void become_init(const struct spec *spec)
{
	if (setsid() < 0)
		die_with_error("starting a session");
	const char *hostname = spec_required(spec, "hostname");
	if (sethostname(hostname, strlen(hostname)) < 0)
		die_with_error("setting the host name");
	umask(022);
	enter_capsule_root(spec);
	int null = open("/dev/null", O_RDWR);
	if (null < 0)
		die_with_error("opening the capsule's /dev/null");
	for (int fd = 0; fd <= 2; fd++)
		if (dup2(null, fd) < 0)
			die_with_error("opening the capsule's /dev/null");
	/* All others close as init is executed; the engine sees the end of its pipe and knows that it was. */
	if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		die_with_error("closing descriptors");
	char *arguments[] = {"torpor-init", NULL};
	execve(INIT_IN_CAPSULE, arguments, spec->records);
	die_with_error("executing the capsule's init");
}

static void unshare_namespaces(void)
{
	/* CLOCK_MONOTONIC starts anew with each boot; in a time namespace CRIU lets it go on where it was. */
	if (unshare(CLONE_NEWTIME) < 0 && errno != EINVAL)
		die_with_error("making a time namespace");
	if (unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		die_with_error("making namespaces");
}

static int start(const char *spec_path)
{
	struct spec spec = read_spec(spec_path);
	check_spec(&spec);
	CLEANUP_FREE char **cgroups = spec_values(&spec, "cgroup");
	for (char **cgroup = cgroups; *cgroup; cgroup++)
		join_cgroup(*cgroup);
	int report[2];
	if (pipe2(report, O_CLOEXEC) < 0)
		die_with_error("making a pipe");
	unshare_namespaces();
	pid_t pid = fork();
	if (pid < 0)
		die_with_error("starting the capsule's init");
	if (pid == 0) {
		close(report[0]);
		error_stream = fdopen(report[1], "w");
		become_init(&spec);
	}
	close(report[1]);
	char answer[4096];
	ssize_t length = RETRY(read(report[0], answer, sizeof(answer) - 1));
	if (length != 0) {
		answer[length > 0 ? length : 0] = '\0';
		fputs(answer, stdout);
		waitpid(pid, NULL, 0);
		return 1;
	}
	printf("{\"pid\":%d}\n", pid);
	return 0;
}

/* ---- exec ---- */

struct exec_options {
	struct identity identity;
	const char *cwd;
	const char *cgroup;
	unsigned int display;
	char **environment;
};

/* A descriptor, or -1 where the kernel has no namespaces of that kind. */
static int open_namespace(const char *pid, const char *name)
{
	CLEANUP_FREE char *path = format_string("/proc/%s/ns/%s", pid, name);
	CLEANUP_FREE char *own = format_string("/proc/self/ns/%s", name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && access(own, F_OK) == 0)
		die_with_error("opening %s", path);
	return fd;
}

static void join_namespaces(const char *pid)
{
	/* All are opened before the first is joined: afterwards /proc is another. */
	static const char *const names[] = {"ipc", "uts", "pid", "time", "mnt"};
	int fds[sizeof(names) / sizeof(names[0])];
	for (size_t index = 0; index < sizeof(names) / sizeof(names[0]); index++)
		fds[index] = open_namespace(pid, names[index]);
	for (size_t index = 0; index < sizeof(names) / sizeof(names[0]); index++)
		if (fds[index] >= 0 && setns(fds[index], 0) < 0)
			die_with_error("joining the capsule's %s namespace", names[index]);
}

static pid_t running_child;

static void pass_on(int signal_number)
{
	kill(running_child, signal_number);
}

static int wait_for(pid_t pid)
{
	running_child = pid;
	struct sigaction action = {.sa_handler = pass_on};
	static const int passed[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
	for (size_t index = 0; index < sizeof(passed) / sizeof(passed[0]); index++)
		sigaction(passed[index], &action, NULL);
	int status;
	if (RETRY(waitpid(pid, &status, 0)) < 0)
		die_with_error("waiting for the command");
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SIGNAL + WTERMSIG(status);
}

static struct exec_options parse_exec_options(char **words, char ***command)
{
	struct exec_options options = {.cwd = "/"};
	size_t count = 0;
	for (char **word = words; *word; word++)
		count++;
	options.environment = calloc(count + 1, sizeof(char *));
	if (!options.environment)
		die("out of memory");
	size_t variables = 0;
	for (; *words && strcmp(*words, "--") != 0; words += 2) {
		const char *value = words[1];
		if (!value)
			die("the option %s has no value", *words);
		size_t numbers;
		if (strcmp(*words, "--uid") == 0)
			options.identity.uid = *spec_number_list(value, &numbers);
		else if (strcmp(*words, "--gid") == 0)
			options.identity.gid = *spec_number_list(value, &numbers);
		else if (strcmp(*words, "--groups") == 0)
			options.identity.groups = spec_number_list(value, &options.identity.group_count);
		else if (strcmp(*words, "--display") == 0)
			options.display = *spec_number_list(value, &numbers);
		else if (strcmp(*words, "--cwd") == 0)
			options.cwd = value;
		else if (strcmp(*words, "--cgroup") == 0)
			options.cgroup = value;
		else if (strcmp(*words, "--env") == 0)
			options.environment[variables++] = (char *)value;
		else
			die("unknown option %s", *words);
	}
	if (!*words || !words[1])
		die("there is no command to run");
	*command = words + 1;
	return options;
}

static int execute(char **arguments)
{
	const char *pid = arguments[0];
	if (!pid || strspn(pid, "0123456789") != strlen(pid))
		die("exec needs the pid of a capsule's init");
	char **command;
	struct exec_options options = parse_exec_options(arguments + 1, &command);
	/* The command alone belongs to the capsule, not its waiting parent; and from inside no cgroup is to be seen. */
	CLEANUP_FD int cgroup = options.cgroup ? open_cgroup(options.cgroup) : -1;
	join_namespaces(pid);
	pid_t child = fork();
	if (child < 0)
		die_with_error("starting the command");
	if (child > 0)
		return wait_for(child);
	if (cgroup >= 0)
		join_open_cgroup(cgroup);
	if (setsid() < 0)
		die_with_error("starting a session");
	/* Nothing of the caller but its standard streams. */
	if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		die_with_error("closing descriptors");
	become(&options.identity);
	if (chdir(options.cwd) < 0 && chdir("/") < 0)
		die_with_error("changing to a folder");
	environ = options.environment;
	execvp(command[0], command);
	int reason = errno;
	fprintf(stderr, "%s: %s\n", command[0], strerror(reason));
	_exit(reason == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
}

/* ---- windows ---- */

/*
 * Only the capsule's files are entered, as its user, for the socket of its X server: the server is the user's, and what
 * it answers is not to be read with more rights than that. To the processes of the capsule this one is not there.
 */
static int windows(char **arguments)
{
	const char *pid = arguments[0];
	if (!pid || strspn(pid, "0123456789") != strlen(pid))
		die("windows needs the pid of a capsule's init");
	char **request;
	struct exec_options options = parse_exec_options(arguments + 1, &request);
	CLEANUP_FD int files = open_namespace(pid, "mnt");
	if (files < 0 || setns(files, CLONE_NEWNS) < 0)
		die_with_error("joining the capsule's mnt namespace");
	become(&options.identity);
	return ask_of_windows(options.display, request);
}

/* ---- with-root ---- */

static int with_root(char **arguments)
{
	if (!arguments[0] || !arguments[1])
		die("with-root needs a root folder and a mount point");
	/* The mount ends with the last process that sees it, so nothing is left behind whatever happens. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		die_with_error("making a mount namespace");
	CLEANUP_FD int root = bind_root(arguments[0], arguments[1]);
	char **word = arguments + 2;
	for (; *word && strcmp(*word, "--") != 0; word += 2) {
		if (!word[1])
			die("the option %s has no value", *word);
		if (strcmp(*word, "--cgroup") == 0)
			join_cgroup(word[1]);
		else if (strcmp(*word, "--bind") == 0)
			bind_host_mount(root, word[1]);
		else
			die("unknown option %s", *word);
	}
	if (!*word || !word[1])
		die("there is no command to run");
	execvp(word[1], word + 1);
	die_with_error("executing %s", word[1]);
}

int main(int count, char **arguments)
{
	const char *task = count > 1 ? arguments[1] : "";
	if (strcmp(task, "start") == 0 && count == 3) {
		error_stream = stdout;
		return start(arguments[2]);
	}
	if (strcmp(task, "exec") == 0)
		return execute(arguments + 2);
	if (strcmp(task, "windows") == 0)
		return windows(arguments + 2);
	if (strcmp(task, "with-root") == 0)
		return with_root(arguments + 2);
	fputs("usage: torpor-capsule start SPEC | exec PID [OPTION...] -- CMD... | windows PID [OPTION...] -- TASK | with-root ROOT MOUNTPOINT [OPTION...] -- CMD...\n",
	      stderr);
	return 2;
}
