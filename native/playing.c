/*
 * torpor-playing
 *
 * Which programs play and record with the user's sound server, PulseAudio or what speaks its protocol: lines of "plays PID" and
 * "records PID". To be run as that user, with the variables by which they find it (PULSE_SERVER, XDG_RUNTIME_DIR, HOME). What is
 * paused does neither. Starts no server, and makes no folder that it would be in.
 *
 * Exits with 4 where there is none, or none that answers within two seconds.
 */
#include <pulse/pulseaudio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"

#define NO_SERVER 4
#define LIMIT_SECONDS 2

static pa_mainloop *loop;
static int lists_left = 2;

static void finish_list(pa_context *context)
{
	if (--lists_left == 0)
		pa_context_disconnect(context);
}

/* Containers have pids of their own, of which only the server knows better. */
static void tell(const char *what, const pa_proplist *properties)
{
	const char *pid = pa_proplist_gets(properties, "pipewire.sec.pid");

	if (!pid)
		pid = pa_proplist_gets(properties, PA_PROP_APPLICATION_PROCESS_ID);
	if (pid && atoi(pid) > 0)
		printf("%s %d\n", what, atoi(pid));
}

static void on_input(pa_context *context, const pa_sink_input_info *info, int is_last, void *unused)
{
	(void)unused;
	if (is_last)
		finish_list(context);
	else if (!info->corked)
		tell("plays", info->proplist);
}

static void on_output(pa_context *context, const pa_source_output_info *info, int is_last, void *unused)
{
	(void)unused;
	if (is_last)
		finish_list(context);
	else if (!info->corked)
		tell("records", info->proplist);
}

static void on_state(pa_context *context, void *unused)
{
	(void)unused;
	switch (pa_context_get_state(context)) {
	case PA_CONTEXT_READY:
		pa_operation_unref(pa_context_get_sink_input_info_list(context, on_input, NULL));
		pa_operation_unref(pa_context_get_source_output_info_list(context, on_output, NULL));
		break;
	case PA_CONTEXT_FAILED:
		pa_mainloop_quit(loop, NO_SERVER);
		break;
	case PA_CONTEXT_TERMINATED:
		pa_mainloop_quit(loop, 0);
		break;
	default:
		break;
	}
}

static void too_late(int signal)
{
	(void)signal;
	_exit(NO_SERVER);
}

/*
 * The library makes the folder for what runs where it is missing, with those above it. Others go by whether it is there: GnuPG
 * moves its sockets into it.
 */
static int can_be_there(void)
{
	const char *folder = getenv("XDG_RUNTIME_DIR");
	struct stat status;

	return getenv("PULSE_SERVER") || (folder && stat(folder, &status) == 0 && S_ISDIR(status.st_mode));
}

int main(void)
{
	int status = NO_SERVER;

	if (!can_be_there())
		return NO_SERVER;
	signal(SIGALRM, too_late);
	alarm(LIMIT_SECONDS);
	loop = pa_mainloop_new();
	pa_context *context = loop ? pa_context_new(pa_mainloop_get_api(loop), "Torpor") : NULL;

	if (!context)
		die("no memory");
	pa_context_set_state_callback(context, on_state, NULL);
	if (pa_context_connect(context, NULL, PA_CONTEXT_NOAUTOSPAWN, NULL) < 0)
		return NO_SERVER;
	pa_mainloop_run(loop, &status);
	pa_context_unref(context);
	pa_mainloop_free(loop);
	return fflush(stdout) == 0 ? status : 1;
}
