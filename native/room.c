/*
 * torpor-room: where a job lives after a resume. A job was started by a shell in a terminal, and neither comes back with
 * it; a room stands in for them: a terminal of its own, a session leader, and an init that reaps. Where the job's pids
 * are taken, the room has a pid namespace of its own, in which the leader has the pid that the shell had.
 *   restore [OPTION...] [--keeper WORD]... -- CRIU ARG...   makes a room and runs CRIU in it, with the terminal as its input
 *   enter PID [--outlive] -- CMD ARG...                     runs a command in the namespaces of a room's init; it ends with
 *                                                           this program, unless it is to outlive that
 * Both end as the command did. A room tells the engine in files of its folder: `room` when it is there, `exit` when
 * the job has ended.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

#define EXIT_SIGNAL 128
/* A descriptor that the keeper of the terminal finds its master at. */
#define MASTER_FD 3
/* Tells a keeper that it is not the first one of its terminal. */
#define KEPT_BEFORE "TORPOR_TERMINAL_KEPT_BEFORE"
#define RESTART_PAUSE_US 100000
/* Pids that the kernel gives out itself start behind those that are to be restored. */
#define LAST_PID_FILE "/proc/sys/kernel/ns_last_pid"

struct room {
	const char *folder;
	/* Of the job; what holds the room has its own. */
	const char *job_cgroup;
	const char *room_cgroup;
	bool has_namespace;
	/* The pid that the session leader had, where that was not of the job. */
	pid_t leader;
	/* The first process of the job, as it counts itself. */
	pid_t root;
	pid_t last_pid;
	bool has_terminal;
	/* The leader is outside of the job: the terminal is its own, and the job inherits it. */
	bool leads;
	/* For CRIU, where the job has the leader: libtorpor-session.so. */
	const char *session_preload;
	/* The process group that has the terminal then, as the job counts it. */
	pid_t foreground;
	/* Whoever set the terminal as it was, such as a shell that reads a line, is not of the job. */
	bool fresh_settings;
	uid_t user;
	struct winsize size;
	char **keeper;
	char **criu;
};

static int number_of(const char *option, const char *text)
{
	char *end;
	errno = 0;
	long value = strtol(text, &end, 10);
	if (errno || *end || end == text || value < 0 || value > INT32_MAX)
		die("%s is no number for %s", text, option);
	return (int)value;
}

static struct room parse_room(char **words)
{
	struct room room = {.size = {.ws_row = 24, .ws_col = 80}};
	size_t count = 0;
	while (words[count])
		count++;
	room.keeper = calloc(count + 1, sizeof(char *));
	if (!room.keeper)
		die("out of memory");
	size_t keeper_words = 0;
	for (; *words && strcmp(*words, "--") != 0; words++) {
		const char *option = *words;
		if (strcmp(option, "--namespace") == 0) {
			room.has_namespace = true;
			continue;
		}
		if (strcmp(option, "--terminal") == 0) {
			room.has_terminal = true;
			continue;
		}
		if (strcmp(option, "--leads") == 0) {
			room.leads = true;
			continue;
		}
		if (strcmp(option, "--fresh-settings") == 0) {
			room.fresh_settings = true;
			continue;
		}
		const char *value = *++words;
		if (!value)
			die("the option %s has no value", option);
		if (strcmp(option, "--folder") == 0)
			room.folder = value;
		else if (strcmp(option, "--cgroup") == 0)
			room.job_cgroup = value;
		else if (strcmp(option, "--room-cgroup") == 0)
			room.room_cgroup = value;
		else if (strcmp(option, "--leader") == 0)
			room.leader = number_of(option, value);
		else if (strcmp(option, "--session-preload") == 0)
			room.session_preload = value;
		else if (strcmp(option, "--foreground") == 0)
			room.foreground = number_of(option, value);
		else if (strcmp(option, "--root") == 0)
			room.root = number_of(option, value);
		else if (strcmp(option, "--last-pid") == 0)
			room.last_pid = number_of(option, value);
		else if (strcmp(option, "--user") == 0)
			room.user = (uid_t)number_of(option, value);
		else if (strcmp(option, "--columns") == 0)
			room.size.ws_col = (unsigned short)number_of(option, value);
		else if (strcmp(option, "--rows") == 0)
			room.size.ws_row = (unsigned short)number_of(option, value);
		else if (strcmp(option, "--keeper") == 0)
			room.keeper[keeper_words++] = (char *)value;
		else
			die("unknown option %s", option);
	}
	if (!*words || !words[1])
		die("there is no command to run");
	if (!room.folder || !room.job_cgroup || !room.room_cgroup || !room.root)
		die("restore needs --folder, --cgroup, --room-cgroup and --root");
	room.criu = words + 1;
	return room;
}

static void join_cgroup(const char *folder)
{
	CLEANUP_FREE char *path = format_string("%s/cgroup.procs", folder);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || RETRY(write(fd, "0", 1)) != 1)
		die_with_error("joining the cgroup %s", folder);
}

/* The file appears whole or not at all. */
static void tell(const char *folder, const char *name, const char *text)
{
	CLEANUP_FREE char *path = format_string("%s/%s", folder, name);
	CLEANUP_FREE char *new_path = format_string("%s.new", path);
	unlink(new_path);
	if (!write_new_file(new_path, 0644, text) || rename(new_path, path) < 0)
		die_with_error("writing %s", path);
}

/* ---- the terminal ---- */

struct terminal {
	int master;
	int slave;
	char name[64];
	/* As a new terminal has them. */
	struct termios settings;
};

static struct terminal open_terminal(const struct room *room)
{
	struct terminal terminal = {.master = -1, .slave = -1};
	if (!room->has_terminal)
		return terminal;
	terminal.master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (terminal.master < 0 || grantpt(terminal.master) < 0 || unlockpt(terminal.master) < 0 ||
	    ptsname_r(terminal.master, terminal.name, sizeof(terminal.name)) != 0)
		die_with_error("making a terminal");
	terminal.slave = open(terminal.name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (terminal.slave < 0 || tcgetattr(terminal.slave, &terminal.settings) < 0 ||
	    ioctl(terminal.slave, TIOCSWINSZ, &room->size) < 0)
		die_with_error("opening the terminal %s", terminal.name);
	/* As login(1) leaves a terminal to its user; the group stays the one that grantpt gave it. */
	if (fchown(terminal.slave, room->user, (gid_t)-1) < 0)
		die_with_error("giving the terminal to its user");
	return terminal;
}

static void become_daemon(void)
{
	if (setsid() < 0 || chdir("/") < 0)
		die_with_error("starting a session");
	int null = open("/dev/null", O_RDWR);
	if (null < 0)
		die_with_error("opening /dev/null");
	for (int fd = 0; fd <= 2; fd++)
		if (dup2(null, fd) < 0)
			die_with_error("opening /dev/null");
	if (null > 2)
		close(null);
}

static pid_t run_keeper(const struct room *room, const sigset_t *signals)
{
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	sigprocmask(SIG_SETMASK, signals, NULL);
	execvp(room->keeper[0], room->keeper);
	die_with_error("executing %s", room->keeper[0]);
}

/* Whoever ends the keeper must not end the job with its terminal: that stays open here, and another keeper takes it. */
static void __attribute__((noreturn)) guard_terminal(const struct room *room)
{
	sigset_t awaited, before;
	sigemptyset(&awaited);
	sigaddset(&awaited, SIGCHLD);
	sigaddset(&awaited, SIGTERM);
	sigprocmask(SIG_BLOCK, &awaited, &before);
	for (;;) {
		pid_t keeper = run_keeper(room, &before);
		if (keeper < 0)
			die_with_error("starting the terminal's keeper");
		int status;
		while (waitpid(keeper, &status, WNOHANG) != keeper) {
			int received;
			if (sigwait(&awaited, &received) == 0 && received == SIGTERM)
				kill(keeper, SIGTERM);
		}
		/* It ends by itself when the terminal has hung up, or when it was asked to. */
		if (WIFEXITED(status) || WTERMSIG(status) == SIGTERM)
			_exit(0);
		setenv(KEPT_BEFORE, "1", 1);
		usleep(RESTART_PAUSE_US);
	}
}

/* The keeper holds the master, so that the terminal outlives the engine and whoever looks at it. */
static pid_t start_keeper(const struct room *room, const struct terminal *terminal)
{
	if (!room->has_terminal || !room->keeper[0])
		return 0;
	pid_t pid = fork();
	if (pid < 0)
		die_with_error("starting the terminal's keeper");
	if (pid > 0)
		return pid;
	join_cgroup(room->room_cgroup);
	become_daemon();
	CLEANUP_FREE char *log = format_string("%s/keeper.log", room->folder);
	int words = open(log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);
	if (words >= 0)
		dup2(words, 2);
	if (dup2(terminal->master, MASTER_FD) < 0 || close_range(MASTER_FD + 1, ~0U, 0) < 0)
		die_with_error("passing the terminal on");
	if (terminal->master == MASTER_FD)
		fcntl(MASTER_FD, F_SETFD, 0);
	guard_terminal(room);
}

/* ---- the session leader ---- */

static pid_t fork_with_pid(pid_t wanted)
{
	struct clone_args arguments = {.exit_signal = SIGCHLD};
	if (wanted > 0) {
		arguments.set_tid = (uintptr_t)&wanted;
		arguments.set_tid_size = 1;
	}
	return (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
}

static void give_terminal_to_leader(const struct room *room, const struct terminal *terminal)
{
	const char *before = getenv("LD_PRELOAD");
	CLEANUP_FREE char *preloads = format_string("%s%s%s", before ? before : "", before ? ":" : "",
						    room->session_preload);
	CLEANUP_FREE char *leader = format_string("%d", room->root);
	setenv("LD_PRELOAD", preloads, true);
	setenv("TORPOR_SESSION_LEADER", leader, true);
	setenv("TORPOR_SESSION_TERMINAL", terminal->name, true);
}

static void run_criu(const struct room *room, const struct terminal *terminal)
{
	signal(SIGHUP, SIG_DFL);
	/* A group of its own: a job whose first process leads none inherits it. */
	if (setpgid(0, 0) < 0)
		die_with_error("starting a process group");
	join_cgroup(room->job_cgroup);
	/* Twice: what CRIU hands on to the job it has no longer itself, and it needs one. */
	if (room->has_terminal && (dup2(terminal->slave, 0) < 0 || dup2(terminal->slave, 1) < 0))
		die_with_error("passing the terminal on");
	if (room->session_preload && room->has_terminal && !room->leads)
		give_terminal_to_leader(room, terminal);
	execvp(room->criu[0], room->criu);
	die_with_error("executing %s", room->criu[0]);
}

static int exit_code(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SIGNAL + WTERMSIG(status);
}

static bool give_terminal(const struct room *room, const struct terminal *terminal)
{
	if (room->fresh_settings && tcsetattr(terminal->slave, TCSANOW, &terminal->settings) < 0)
		return false;
	return !room->foreground || tcsetpgrp(terminal->slave, room->foreground) == 0;
}

/*
 * CRIU gives the terminal to the group of the first process, before anything runs, and the settings that it had; the
 * group that had it may be another, such as that of a shell which su has started, and the settings may be of a shell
 * outside. Both are set right as soon as CRIU has done that, and once only: what the job does to its terminal from then
 * on is not to be disturbed. Returns CRIU's status.
 */
static int wait_for_criu(const struct room *room, const struct terminal *terminal, pid_t criu)
{
	const struct timespec moment = {.tv_nsec = 500 * 1000};
	bool given = !room->leads || !room->has_terminal;
	int status;
	pid_t ended = 0;
	while (!given && (ended = RETRY(waitpid(criu, &status, WNOHANG))) == 0) {
		given = tcgetpgrp(terminal->slave) != getpgrp() && give_terminal(room, terminal);
		if (!given)
			nanosleep(&moment, NULL);
	}
	if (ended == 0)
		ended = RETRY(waitpid(criu, &status, 0));
	if (ended < 0)
		die_with_error("waiting for CRIU");
	/* CRIU has not met the terminal: the job has it as its controlling one only. */
	if (!given)
		give_terminal(room, terminal);
	return status;
}

/* Leads the session for as long as the room is there; tells through the pipe how CRIU ended. */
static void lead(const struct room *room, const struct terminal *terminal, int report)
{
	if (setsid() < 0)
		die_with_error("starting a session");
	/* What a terminal that closes sends to its session is for the job, which gets it by itself. */
	signal(SIGHUP, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	if (room->leads && room->has_terminal && ioctl(terminal->slave, TIOCSCTTY, 0) < 0)
		die_with_error("taking the terminal");
	pid_t criu = fork();
	if (criu < 0)
		die_with_error("starting CRIU");
	if (criu == 0)
		run_criu(room, terminal);
	int code = exit_code(wait_for_criu(room, terminal, criu));
	/* Nothing of the engine's stays open here, and of the terminal just the slave that keeps it from hanging up. */
	int kept = room->leads ? terminal->slave : -1;
	for (int fd = 0; fd < 3; fd++)
		close(fd);
	if (RETRY(write(report, &code, sizeof(code))) != sizeof(code))
		_exit(1);
	if (kept >= 0) {
		dup2(kept, 0);
		close_range(1, ~0U, 0);
	} else {
		close_range(0, ~0U, 0);
	}
	for (;;)
		pause();
}

/* ---- init ---- */

static void end_job(const struct room *room)
{
	CLEANUP_FREE char *path = format_string("%s/cgroup.procs", room->job_cgroup);
	FILE *members = fopen(path, "re");
	if (!members)
		return;
	int pid;
	while (fscanf(members, "%d", &pid) == 1) {
		/* As the end of a login session does, and then as a user would. */
		kill(pid, SIGHUP);
		kill(pid, SIGTERM);
		kill(pid, SIGCONT);
	}
	fclose(members);
}

static void tell_exit(const struct room *room, int status)
{
	CLEANUP_FREE char *text = WIFEXITED(status) ? format_string("{\"code\":%d}\n", WEXITSTATUS(status)) :
						       format_string("{\"signal\":%d}\n", WTERMSIG(status));
	tell(room->folder, "exit", text);
}

static bool has_other_children(pid_t leader)
{
	FILE *children = fopen("/proc/thread-self/children", "re");
	if (!children)
		return false;
	int pid;
	bool found = false;
	while (!found && fscanf(children, "%d", &pid) == 1)
		found = pid != leader;
	fclose(children);
	return found;
}

/* Reaped here, it leaves no number taken to whoever would inherit it. */
static void end_leader(pid_t leader)
{
	kill(leader, SIGKILL);
	RETRY(waitpid(leader, NULL, 0));
}

/* Reaps until nothing of the job is left. */
static void reap(const struct room *room, pid_t leader, int signals)
{
	int exit_status = 0;
	bool ended = false;
	for (;;) {
		struct signalfd_siginfo info;
		if (RETRY(read(signals, &info, sizeof(info))) != sizeof(info))
			continue;
		if (info.ssi_signo == SIGTERM) {
			end_job(room);
			continue;
		}
		int status;
		pid_t pid;
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			if (pid == room->root) {
				exit_status = status;
				ended = true;
			}
			if (pid == leader)
				leader = 0;
		}
		if (ended && !has_other_children(leader))
			break;
	}
	tell_exit(room, exit_status);
	if (leader > 0)
		end_leader(leader);
	_exit(0);
}

static void mount_own_proc(void)
{
	/* What the host mounts later is to be seen here too. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
	    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		die_with_error("mounting /proc");
}

static void skip_pids(pid_t last)
{
	CLEANUP_FREE char *text = format_string("%d", last);
	CLEANUP_FD int fd = open(LAST_PID_FILE, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || RETRY(write(fd, text, strlen(text))) < 0)
		die_with_error("setting the last pid");
}

static void become_init(const struct room *room, const struct terminal *terminal, int report)
{
	join_cgroup(room->room_cgroup);
	if (setsid() < 0 || chdir("/") < 0)
		die_with_error("starting a session");
	if (room->has_namespace)
		mount_own_proc();
	else if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		die_with_error("becoming the one that reaps");
	sigset_t blocked, before;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCHLD);
	sigaddset(&blocked, SIGTERM);
	sigprocmask(SIG_BLOCK, &blocked, &before);
	int signals = signalfd(-1, &blocked, SFD_CLOEXEC);
	int relay[2];
	if (signals < 0 || pipe2(relay, O_CLOEXEC) < 0)
		die_with_error("making a pipe");
	pid_t leader = fork_with_pid(room->has_namespace && room->leads ? room->leader : 0);
	if (leader < 0)
		die_with_error("starting the session leader");
	if (leader == 0) {
		sigprocmask(SIG_SETMASK, &before, NULL);
		close(relay[0]);
		if (room->has_namespace && room->last_pid > 0)
			skip_pids(room->last_pid);
		lead(room, terminal, relay[1]);
	}
	close(relay[1]);
	/* Whoever waits for the report may have been killed; the job is there all the same. */
	signal(SIGPIPE, SIG_IGN);
	int code = 1;
	if (RETRY(read(relay[0], &code, sizeof(code))) != sizeof(code))
		code = 1;
	if (code != 0) {
		/* Whoever asked for it sees to what may be left of the job. */
		end_leader(leader);
		RETRY(write(report, &code, sizeof(code)));
		_exit(1);
	}
	RETRY(write(report, &code, sizeof(code)));
	/* Nothing of the engine's stays open but this. */
	const int kept = 0;
	if (dup2(signals, kept) < 0)
		_exit(1);
	close_range(kept + 1, ~0U, 0);
	reap(room, leader, kept);
}

static int restore(char **words)
{
	struct room room = parse_room(words);
	struct terminal terminal = open_terminal(&room);
	pid_t keeper = start_keeper(&room, &terminal);
	if (terminal.master >= 0)
		close(terminal.master);
	int report[2], go[2];
	if (pipe2(report, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0)
		die_with_error("making a pipe");
	if (room.has_namespace && unshare(CLONE_NEWPID) < 0)
		die_with_error("making a pid namespace");
	pid_t init = fork();
	if (init < 0)
		die_with_error("starting the room's init");
	if (init == 0) {
		close(report[0]);
		close(go[1]);
		char byte;
		/* Only when the engine can know of it. */
		if (RETRY(read(go[0], &byte, 1)) != 1)
			_exit(1);
		close(go[0]);
		become_init(&room, &terminal, report[1]);
	}
	close(report[1]);
	close(go[0]);
	CLEANUP_FREE char *text = format_string("{\"init\":%d,\"keeper\":%d,\"terminal\":\"%s\"}\n", init, keeper,
						terminal.name);
	tell(room.folder, "room", text);
	if (RETRY(write(go[1], "", 1)) != 1)
		die_with_error("starting the room");
	int code = 1;
	if (RETRY(read(report[0], &code, sizeof(code))) != sizeof(code))
		code = 1;
	/* Whoever sees the end of this program and finds an init knows that the job runs. */
	if (code != 0)
		RETRY(waitpid(init, NULL, 0));
	return code;
}

/* ---- enter ---- */

static int open_namespace(const char *pid, const char *name)
{
	CLEANUP_FREE char *path = format_string("/proc/%s/ns/%s", pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die_with_error("opening %s", path);
	return fd;
}

static int enter(char **words)
{
	if (!words[0] || strspn(words[0], "0123456789") != strlen(words[0]))
		die("enter needs the pid of a room's init");
	bool outlives = words[1] && strcmp(words[1], "--outlive") == 0;
	char **command = words + (outlives ? 2 : 1);
	if (!*command || strcmp(*command++, "--") != 0 || !*command)
		die("enter needs a command");
	int pids = open_namespace(words[0], "pid");
	int mounts = open_namespace(words[0], "mnt");
	if (setns(pids, CLONE_NEWPID) < 0 || setns(mounts, CLONE_NEWNS) < 0)
		die_with_error("joining the room");
	pid_t child = fork();
	if (child < 0)
		die_with_error("starting the command");
	if (child == 0) {
		/* What ends this program, from which the command was asked for, ends the command. */
		if (!outlives && prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
			die_with_error("binding the command to its caller");
		execvp(*command, command);
		die_with_error("executing %s", *command);
	}
	close_range(3, ~0U, 0);
	int status;
	if (RETRY(waitpid(child, &status, 0)) < 0)
		die_with_error("waiting for the command");
	return exit_code(status);
}

/* As the command did: what ended that by a signal has not let it say why. */
static int end_as(int code)
{
	int ended_by = code - EXIT_SIGNAL;
	if (ended_by > 0 && ended_by < SIGRTMIN) {
		signal(ended_by, SIG_DFL);
		raise(ended_by);
	}
	return code;
}

int main(int count, char **arguments)
{
	const char *task = count > 1 ? arguments[1] : "";
	if (strcmp(task, "restore") == 0)
		return end_as(restore(arguments + 2));
	if (strcmp(task, "enter") == 0)
		return end_as(enter(arguments + 2));
	fputs("usage: torpor-room restore OPTION... -- CRIU ARG... | enter PID [--outlive] -- CMD ARG...\n", stderr);
	return 2;
}
