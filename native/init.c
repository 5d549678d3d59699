/*
 * torpor-init: pid 1 of a capsule. Starts X server, session bus, sound server and window manager as the user, then the application;
 * reaps; and ends the capsule when the application has ended. It holds no descriptor but /dev/null, so that CRIU finds
 * nothing that leads outside, and it waits only by sigtimedwait, which goes on after a restore as if nothing had been.
 *
 * When an application has ended. Its main process has ended, and
 *  - it had shown a window, or failed, or left no other process: then as soon as no window is left;
 *  - otherwise it was a launcher: then its windows are waited for a while, and the capsule ends with the last of them.
 * What the session bus was asked to start counts as left by it: gnome-terminal, for one, lives in such a process. But
 * only what has a window keeps a capsule; daemons do not.
 *
 * What it tells the engine are files in /run/torpor: `ready`, `window`, `failed`, `output`, `exit`.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common.h"
#include "identity.h"
#include "root.h"
#include "spec.h"
#include "x11.h"

#define LOG_FOLDER "/run/torpor-log"
#define SOUND_SERVER "/run/torpor-sound"
#define ALSA_SETTINGS "/run/torpor-log/alsa.conf"
#define READY_LIMIT_MS 20000
#define SOUND_LIMIT_MS 5000
/* One that cannot stay is not to be started again and again. */
#define SOUND_RESTART_MS 10000
#define LAUNCHER_LIMIT_MS 10000
/* The bus starts what it is asked for some milliseconds after who asked has ended. */
#define REQUEST_LIMIT_MS 200
#define TERMINATE_LIMIT_MS 5000
#define TICK_MS 20
#define WINDOW_CHECK_MS 500
#define WINDOW_WATCH_MS 60000
#define IDLE_MS 60000
#define LOG_TAIL 2000

struct service {
	const char *step; /* as `failed` names it */
	const char *log;
	pid_t pid;
	const char *cache; /* in place of the user's own, where it is set */
};

static struct service x_server = {"x-server", LOG_FOLDER "/x-server.log", 0, NULL};
static struct service bus = {"session-bus", LOG_FOLDER "/session-bus.log", 0, NULL};
static struct service sound = {"sound", LOG_FOLDER "/sound.log", 0, NULL};
static struct service window_manager = {"window-manager", LOG_FOLDER "/window-manager.log", 0, NULL};
static struct service application = {"application", LOG_FOLDER "/application.log", 0, NULL};

static struct spec spec;
static struct identity user;
static unsigned int display;
static char **user_environment;

static bool application_ended;
static int application_status;
static bool terminating;
static long long sound_started_at;

/* CLOCK_MONOTONIC, which the capsule's time namespace keeps going across a suspend. */
static long long now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* ---- telling the engine ---- */

static void tell(const char *name, const char *contents)
{
	CLEANUP_FREE char *path = format_string(RUN_IN_CAPSULE "/%s", name);
	CLEANUP_FREE char *temporary = format_string(RUN_IN_CAPSULE "/.%s", name);
	unlink(temporary);
	if (write_new_file(temporary, 0600, contents))
		rename(temporary, path);
}

/* The end of a log, on the heap. */
static char *tail_of(const char *path)
{
	char *text = calloc(1, LOG_TAIL + 1);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat info;
	if (!text || fd < 0 || fstat(fd, &info) < 0)
		return text;
	off_t start = info.st_size > LOG_TAIL ? info.st_size - LOG_TAIL : 0;
	ssize_t length = RETRY(pread(fd, text, LOG_TAIL, start));
	while (length > 0 && isspace((unsigned char)text[length - 1]))
		length--;
	text[length > 0 ? length : 0] = '\0';
	return text;
}

static void tell_failure(const char *step, const char *message)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);
	if (!stream)
		return;
	fputs("{\"step\":", stream);
	write_json_string(stream, step);
	fputs(",\"message\":", stream);
	write_json_string(stream, message);
	fputs("}\n", stream);
	fclose(stream);
	tell("failed", text);
	free(text);
}

static void tell_exit(void)
{
	CLEANUP_FREE char *output = tail_of(application.log);
	tell("output", output ? output : "");
	CLEANUP_FREE char *text = WIFSIGNALED(application_status)
					  ? format_string("{\"signal\":%d}\n", WTERMSIG(application_status))
					  : format_string("{\"code\":%d}\n", WEXITSTATUS(application_status));
	tell("exit", text);
}

/* ---- processes ---- */

static void reap(void)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == application.pid) {
			application_ended = true;
			application_status = status;
		}
		struct service *services[] = {&x_server, &bus, &sound, &window_manager};
		for (size_t index = 0; index < sizeof(services) / sizeof(services[0]); index++)
			if (services[index]->pid == pid)
				services[index]->pid = 0;
	}
}

/* Waits for a child's end or for the time to pass, and notes what happened. */
static void wait_a_tick(int milliseconds)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	struct timespec limit = {milliseconds / 1000, (milliseconds % 1000) * 1000000L};
	if (sigtimedwait(&set, NULL, &limit) == SIGTERM)
		terminating = true;
	reap();
}

static bool other_processes_exist(void)
{
	return kill(-1, 0) == 0;
}

/* Ends everything else in the capsule: in order first, then by force. */
static void end_all(void)
{
	kill(-1, SIGTERM);
	kill(-1, SIGCONT);
	long long limit = now_ms() + TERMINATE_LIMIT_MS;
	while (other_processes_exist() && now_ms() < limit)
		wait_a_tick(TICK_MS);
	kill(-1, SIGKILL);
	while (other_processes_exist())
		wait_a_tick(TICK_MS);
}

static void fail(const char *step, const char *message)
{
	tell_failure(step, message);
	end_all();
	exit(1);
}

/* Whether the user can see it in any folder that commands are looked for in. */
static bool is_in_path(const char *name)
{
	CLEANUP_FREE char *folders = strdup(getenv("PATH") ? getenv("PATH") : "");
	char *rest = folders;
	for (char *folder; rest && (folder = strsep(&rest, ":"));) {
		CLEANUP_FREE char *path = format_string("%s/%s", folder, name);
		if (access(path, F_OK) == 0)
			return true;
	}
	return false;
}

static void exec_child(const struct service *service, const char *cwd, char *const *arguments, int report)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	int log = open(service->log, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
	if (log >= 0) {
		dup2(log, 1);
		dup2(log, 2);
	}
	become(&user);
	if (chdir(cwd) < 0 && chdir(spec_required(&spec, "home")) < 0 && chdir("/") < 0)
		die_with_error("changing to a folder");
	environ = user_environment;
	if (service->cache)
		setenv("XDG_CACHE_HOME", service->cache, 1);
	execvp(arguments[0], arguments);
	int reason = errno;
	/* That is also the answer where one of these folders may not be entered, as another user's own. */
	if (reason == EACCES && !strchr(arguments[0], '/') && !is_in_path(arguments[0]))
		reason = ENOENT;
	if (write(report, &reason, sizeof(reason)) < 0)
		_exit(126);
	_exit(127);
}

/* Starts a program as the user; its output goes to its log. Returns 0, or the errno of the exec. */
static int start_service(struct service *service, const char *cwd, char *const *arguments)
{
	CLEANUP_FD int log = open(service->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (log < 0 || fchown(log, user.uid, user.gid) < 0)
		return errno;
	int report[2];
	if (pipe2(report, O_CLOEXEC) < 0)
		return errno;
	pid_t pid = fork();
	if (pid == 0) {
		close(report[0]);
		exec_child(service, cwd, arguments, report[1]);
	}
	int reason = pid < 0 ? errno : 0;
	close(report[1]);
	if (pid > 0 && RETRY(read(report[0], &reason, sizeof(reason))) <= 0)
		reason = 0;
	close(report[0]);
	service->pid = reason ? 0 : pid;
	return reason;
}

/* ---- readiness ---- */

static bool accepts_connections(const char *path)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	return fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

static bool x_server_is_ready(void)
{
	CLEANUP_FREE char *path = format_string(X_SOCKET_OF_DISPLAY, display);
	return accepts_connections(path);
}

static char *bus_path, *sound_path;

static bool bus_is_ready(void)
{
	return accepts_connections(bus_path);
}

static bool window_manager_is_ready(void)
{
	struct x_state state;
	return ask_x_server(display, &state) == 0 && state.has_window_manager;
}

static void start_and_await(struct service *service, char *const *arguments, bool (*is_ready)(void))
{
	int reason = start_service(service, "/", arguments);
	if (reason) {
		CLEANUP_FREE char *message = format_string("%s cannot be started: %s", arguments[0], strerror(reason));
		fail(service->step, message);
	}
	long long limit = now_ms() + READY_LIMIT_MS;
	while (!is_ready()) {
		if (service->pid == 0 || now_ms() > limit) {
			CLEANUP_FREE char *said = tail_of(service->log);
			bool is_silent = !said || !*said;
			CLEANUP_FREE char *message =
				format_string("%s %s%s%s", arguments[0],
					      service->pid ? "did not come up in time" : "ended at once",
					      is_silent ? "" : ". It said: ", is_silent ? "" : said);
			fail(service->step, message);
		}
		if (terminating)
			fail(service->step, "it was ended while starting");
		wait_a_tick(TICK_MS);
	}
}

static void start_x_server(void)
{
	CLEANUP_FREE char *name = format_string(":%u", display);
	char *arguments[] = {"Xvnc",
			     name,
			     "-nolisten",
			     "tcp",
			     "-nolisten",
			     "local",
			     "-rfbunixpath",
			     RUN_IN_CAPSULE "/screen/rfb",
			     "-rfbunixmode",
			     "0600",
			     "-rfbport",
			     "-1",
			     "-SecurityTypes",
			     "None",
			     "-AlwaysShared",
			     "-AcceptSetDesktopSize",
			     /* A viewer's clipboard is the clipboard, not what happens to be marked: taking that over unmarks it. */
			     "-SendPrimary=0",
			     "-SetPrimary=0",
			     "-noreset",
			     "-depth",
			     "24",
			     "-geometry",
			     (char *)spec_required(&spec, "geometry"),
			     NULL};
	start_and_await(&x_server, arguments, x_server_is_ready);
}

static void start_bus(void)
{
	char *arguments[] = {"dbus-daemon", "--config-file=" RUN_IN_CAPSULE "/session/bus.conf", "--nofork",
			     "--nopidfile", "--nosyslog", NULL};
	start_and_await(&bus, arguments, bus_is_ready);
}

/* An application can do without sound, so nothing that goes wrong here ends the capsule. */
static void start_sound(void)
{
	if (access(SOUND_SERVER, X_OK) != 0)
		return;
	char *arguments[] = {SOUND_SERVER, sound_path, NULL};
	sound_started_at = now_ms();
	if (start_service(&sound, "/", arguments) != 0)
		return;
	for (long long limit = now_ms() + SOUND_LIMIT_MS;
	     sound.pid && !terminating && now_ms() < limit && !accepts_connections(sound_path);)
		wait_a_tick(TICK_MS);
}

/* Programs that can will connect again. Returns when to look after it again, in milliseconds from now. */
static int look_after_sound(void)
{
	long long early = sound_started_at + SOUND_RESTART_MS - now_ms();
	if (sound.pid || access(SOUND_SERVER, X_OK) != 0)
		return IDLE_MS;
	if (early > 0)
		return (int)early;
	start_sound();
	return SOUND_RESTART_MS;
}

static void start_window_manager(void)
{
	char *arguments[] = {"openbox", "--sm-disable", "--config-file", RUN_IN_CAPSULE "/session/openbox.xml", NULL};
	/* Its log lies in its cache: the user's is the same for all capsules, and each unlinks that of the one before. */
	window_manager.cache = format_string("/run/user/%u/cache", user.uid);
	start_and_await(&window_manager, arguments, window_manager_is_ready);
}

/* The user's own X resources, where there are any. */
static void load_x_resources(void)
{
	CLEANUP_FREE char *resources = format_string("%s/.Xresources", spec_required(&spec, "home"));
	struct service loader = {"x-resources", LOG_FOLDER "/x-resources.log", 0, NULL};
	char *arguments[] = {"xrdb", "-merge", resources, NULL};
	if (access(resources, R_OK) != 0 || start_service(&loader, "/", arguments) != 0)
		return;
	for (long long limit = now_ms() + 2000; kill(loader.pid, 0) == 0 && now_ms() < limit;)
		wait_a_tick(TICK_MS);
}

static void start_application(void)
{
	char **arguments = spec_values(&spec, "arg");
	if (!arguments[0])
		fail(application.step, "there is no command");
	int reason = start_service(&application, spec_required(&spec, "cwd"), arguments);
	if (reason == ENOENT) {
		CLEANUP_FREE char *message = format_string("there is no command %s", arguments[0]);
		fail(application.step, message);
	}
	if (reason) {
		CLEANUP_FREE char *message = format_string("%s cannot be executed: %s", arguments[0], strerror(reason));
		fail(application.step, message);
	}
	CLEANUP_FREE char *ready = format_string("{\"appPid\":%d}\n", application.pid);
	tell("ready", ready);
}

/* ---- surroundings of the application ---- */

static void make_user_folder(const char *path, mode_t mode)
{
	if ((mkdir(path, mode) < 0 && errno != EEXIST) || chmod(path, mode) < 0 || chown(path, user.uid, user.gid) < 0)
		fail("capsule", format_string("cannot make %s: %s", path, strerror(errno)));
}

/* The session bus is reached from outside too, by plugins of the user: its socket is in the run folder. */
static void link_to_bus(const char *path)
{
	if (symlink(RUN_IN_CAPSULE "/bus/session", path) < 0)
		fail("capsule", format_string("cannot make %s: %s", path, strerror(errno)));
}

static void make_folders(const char *runtime)
{
	make_user_folder(runtime, 0700);
	CLEANUP_FREE char *pulse = format_string("%s/pulse", runtime);
	make_user_folder(pulse, 0700);
	link_to_bus(bus_path);
	/* It stands for the system bus too, of which it has what the bridge passes on. */
	if (mkdir("/run/dbus", 0755) < 0)
		fail("capsule", format_string("cannot make /run/dbus: %s", strerror(errno)));
	link_to_bus("/run/dbus/system_bus_socket");
	if (mkdir(LOG_FOLDER, 0755) < 0)
		fail("capsule", format_string("cannot make %s: %s", LOG_FOLDER, strerror(errno)));
	static const char *const shared[] = {"/tmp/.X11-unix", "/tmp/.ICE-unix"};
	for (size_t index = 0; index < sizeof(shared) / sizeof(shared[0]); index++)
		if (mkdir(shared[index], 01777) < 0 || chmod(shared[index], 01777) < 0)
			fail("capsule", format_string("cannot make %s: %s", shared[index], strerror(errno)));
}

static bool is_set(char *const *environment, const char *variable)
{
	size_t length = (size_t)(strchr(variable, '=') - variable) + 1;
	for (; *environment; environment++)
		if (strncmp(*environment, variable, length) == 0)
			return true;
	return false;
}

/* Of ALSA's plugin for PulseAudio, which machines have or have not. */
static bool has_alsa_plugin(void)
{
	glob_t found;
	bool is_there = glob("/usr/lib*/{,*/}alsa-lib/libasound_module_pcm_pulse.so", GLOB_BRACE, NULL, &found) == 0;
	globfree(&found);
	return is_there;
}

/* What the engine chose, what the capsule imposes, and defaults where nothing was chosen. */
static void make_environment(const char *runtime)
{
	char *imposed[] = {format_string("XDG_RUNTIME_DIR=%s", runtime), format_string("DISPLAY=:%u", display),
			   format_string("DBUS_SESSION_BUS_ADDRESS=unix:path=%s", bus_path), "XDG_SESSION_TYPE=x11",
			   /* Else the user's settings could name a server outside. */
			   format_string("PULSE_SERVER=unix:%s", sound_path)};
	static char *const defaults[] = {
		"GDK_BACKEND=x11", "QT_QPA_PLATFORM=xcb",
		/* No graphics device is to be had, and looking for one costs time. */
		"LIBGL_ALWAYS_SOFTWARE=1",
		/* Its index is in memory of every program with OpenGL, and any other of them changes it: no resume then. */
		"MESA_SHADER_CACHE_DISABLE=true",
		/* No screen reader sees into a capsule. */
		"NO_AT_BRIDGE=1", "GTK_A11Y=none",
		/* FUSE cannot be checkpointed. */
		"GVFS_DISABLE_FUSE=1"};
	/* What knows only ALSA plays through the capsule's sound server, too. */
	static char alsa[] = "ALSA_CONFIG_PATH=/usr/share/alsa/alsa.conf:" ALSA_SETTINGS;
	bool has_alsa = has_alsa_plugin() && write_new_file(ALSA_SETTINGS, 0644, "pcm.!default { type pulse }\nctl.!default { type pulse }\n");
	CLEANUP_FREE char **chosen = spec_values(&spec, "env");
	size_t count = 0;
	while (chosen[count])
		count++;
	size_t imposed_count = sizeof(imposed) / sizeof(imposed[0]);
	size_t default_count = sizeof(defaults) / sizeof(defaults[0]);
	user_environment = calloc(count + imposed_count + default_count + 2, sizeof(char *));
	if (!user_environment)
		fail("capsule", "out of memory");
	size_t at = 0;
	for (size_t index = 0; index < imposed_count; index++)
		if (!is_set(chosen, imposed[index]))
			user_environment[at++] = imposed[index];
	for (size_t index = 0; index < default_count; index++)
		if (!is_set(chosen, defaults[index]))
			user_environment[at++] = defaults[index];
	if (has_alsa && !is_set(chosen, alsa))
		user_environment[at++] = alsa;
	for (size_t index = 0; index < count; index++)
		user_environment[at++] = chosen[index];
}

/* ---- until the end ---- */

static int count_windows(void)
{
	struct x_state state;
	return ask_x_server(display, &state) == 0 ? state.client_windows : 0;
}

/* Tells once that a window is there. Returns whether one was ever seen. */
static bool note_window(bool seen)
{
	if (seen || count_windows() == 0)
		return seen;
	tell("window", "{}\n");
	return true;
}

/* The parent of a process, or 0 where there is none. */
static pid_t parent_of(pid_t pid)
{
	CLEANUP_FREE char *path = format_string("/proc/%d/stat", pid);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[512];
	ssize_t length = fd < 0 ? -1 : RETRY(read(fd, text, sizeof(text) - 1));
	if (length <= 0)
		return 0;
	text[length] = '\0';
	/* A name may hold anything, brackets too: the state and the parent follow the last of them. */
	const char *name_end = strrchr(text, ')');
	int parent;
	return name_end && sscanf(name_end + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

/* The services are there with or without an application, with what the X server and the window manager start. */
static bool is_of_services(pid_t pid)
{
	if (pid == bus.pid || pid == sound.pid)
		return true;
	for (; pid > 1; pid = parent_of(pid))
		if (pid == x_server.pid || pid == window_manager.pid)
			return true;
	return false;
}

/* Whether any process of the application is there, or of what it had the session bus start. */
static bool left_processes(void)
{
	DIR *proc = opendir("/proc");
	if (!proc)
		return false;
	bool found = false;
	for (struct dirent *entry; !found && (entry = readdir(proc));) {
		pid_t pid = atoi(entry->d_name);
		found = pid > 1 && !is_of_services(pid);
	}
	closedir(proc);
	return found;
}

/* The application's main process has ended: whether what it has left, or has just asked the bus for, goes on. */
static bool goes_on(bool window_seen, long long waited_ms)
{
	bool is_launcher = !window_seen && WIFEXITED(application_status) && WEXITSTATUS(application_status) == 0;
	if (!left_processes())
		return is_launcher && waited_ms < REQUEST_LIMIT_MS;
	return count_windows() > 0 || (is_launcher && waited_ms < LAUNCHER_LIMIT_MS);
}

static void watch_application(void)
{
	bool window_seen = false;
	long long started_at = now_ms(), ended_at = 0;
	for (;;) {
		if (terminating)
			return;
		if (x_server.pid == 0) {
			tell_failure(x_server.step, "the X server of the capsule ended");
			return;
		}
		if (window_manager.pid == 0)
			start_window_manager();
		int idle_ms = look_after_sound();
		if (application_ended) {
			if (ended_at == 0)
				ended_at = now_ms();
			long long waited_ms = now_ms() - ended_at;
			if (!goes_on(window_seen, waited_ms))
				return;
			window_seen = note_window(window_seen);
			wait_a_tick(waited_ms < REQUEST_LIMIT_MS ? TICK_MS : WINDOW_CHECK_MS);
		} else if (!window_seen && now_ms() - started_at < WINDOW_WATCH_MS) {
			window_seen = note_window(window_seen);
			wait_a_tick(now_ms() - started_at < 3000 ? TICK_MS * 2 : WINDOW_CHECK_MS);
		} else {
			wait_a_tick(idle_ms);
		}
	}
}

int main(void)
{
	/* The environment is taken along, since it is replaced for children. */
	spec.records = environ;
	prctl(PR_SET_NAME, "torpor-init");
	sigset_t waited;
	sigemptyset(&waited);
	sigaddset(&waited, SIGCHLD);
	sigaddset(&waited, SIGTERM);
	sigprocmask(SIG_BLOCK, &waited, NULL);
	/* Pid 1 ignores what it does not handle; a writer whose reader has gone gets an error instead of a signal. */
	signal(SIGPIPE, SIG_IGN);
	umask(022);

	display = spec_value(&spec, "display") ? spec_number(&spec, "display") : 0;
	user.uid = spec_number(&spec, "uid");
	user.gid = spec_number(&spec, "gid");
	user.groups = spec_number_list(spec_required(&spec, "groups"), &user.group_count);
	CLEANUP_FREE char *runtime = format_string("/run/user/%u", user.uid);
	bus_path = format_string("%s/bus", runtime);
	sound_path = format_string("%s/pulse/native", runtime);
	make_folders(runtime);
	make_environment(runtime);

	start_x_server();
	start_bus();
	start_sound();
	start_window_manager();
	load_x_resources();
	start_application();
	watch_application();
	end_all();
	tell_exit();
	return 0;
}
