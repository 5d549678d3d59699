/*
 * torpor-sound-relay: carries the sound of one capsule to its user's own sound server, outside and as the user. Every
 * stream inside is a stream of the same kind on that server, under the same name and picture; volume and mute are kept
 * equal on both sides. The audio plugin starts one for each capsule and speaks with it in lines (plugins/audio/relay.ts).
 *
 * It is connected to the capsule only while the user's server can be reached. Whatever is known of a stream is known
 * inside, so this program may end at any time.
 *
 * usage: torpor-sound-relay RELAY_SOCKET NAME ICON
 *
 * It is told, a line each:   suspend | resume | microphone STREAM yes|no
 * It tells, a line of JSON:  {"event": "connected" | "no-server" | "asks-microphone" | "suspended", ...}
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../common.h"
#include "relay.h"

#define TIMING_USEC 50000
#define IDLE_USEC 5000000
/* Of a suspend, which goes on whatever the user's server does. */
#define CORK_LIMIT_USEC 500000
#define SETTLE_LIMIT_USEC 300000
#define SETTLE_STEP_USEC 15000

struct relay relay = {.link = {.fd = -1}};
static pa_mainloop *loop;
static struct bytes told;
static bool suspend_wanted, quitting;
static int64_t time_at;

/* ---- telling the plugin ---- */

void say(const char *event, const char *key, const char *value, uint32_t stream)
{
	printf("{\"event\":\"%s\",\"stream\":%u,\"%s\":", event, stream, key);
	write_json_string(stdout, value ? value : "");
	puts("}");
	fflush(stdout);
}

/* ---- suspend ---- */

static void iterate(int64_t until)
{
	int64_t left = until - now_usec();
	if (pa_mainloop_prepare(loop, left > 0 ? (int)left : 0) < 0 || pa_mainloop_poll(loop) < 0)
		return;
	pa_mainloop_dispatch(loop);
}

static bool is_running(const struct carried *carried)
{
	return is_ready(carried) && !carried->open.recording;
}

static unsigned int outstanding;

static void on_corked(pa_stream *stream, int success, void *data)
{
	(void)stream, (void)success, (void)data;
	outstanding--;
}

/* Halts everything on the user's server and learns up to where it was heard: what it had taken ahead it gives back. */
static void halt_all(void)
{
	outstanding = 0;
	for (struct carried *carried = relay.carried; carried; carried = carried->next) {
		pa_operation *operation = is_running(carried) ? pa_stream_cork(carried->stream, 1, on_corked, NULL) : NULL;
		outstanding += operation != NULL;
		run(operation);
	}
	if (outstanding == 0)
		return;
	for (int64_t limit = now_usec() + CORK_LIMIT_USEC; outstanding > 0 && relay.control_ready && now_usec() < limit;)
		iterate(limit);
	/* The giving back happens in a thread of the server's: it is over when two answers are the same. */
	int64_t limit = now_usec() + SETTLE_LIMIT_USEC;
	for (bool changed = true; changed && relay.control_ready && now_usec() < limit;) {
		changed = false;
		int64_t step = now_usec() + SETTLE_STEP_USEC;
		while (now_usec() < step)
			iterate(step);
		for (struct carried *carried = relay.carried; carried; carried = carried->next) {
			int64_t before = carried->heard;
			if (!is_running(carried))
				continue;
			ask_time(carried);
			while (carried->asking_time && relay.control_ready && now_usec() < limit)
				iterate(limit);
			changed |= carried->heard != before;
		}
	}
}

static void tell_suspended(void)
{
	unsigned int playing = 0, recording = 0;
	for (const struct carried *carried = relay.carried; carried; carried = carried->next) {
		playing += !carried->open.recording;
		recording += carried->open.recording;
	}
	printf("{\"event\":\"suspended\",\"streams\":[");
	for (const struct carried *carried = relay.carried; carried; carried = carried->next) {
		const struct open_stream *open = &carried->open;
		printf("{\"recording\":%s,\"rate\":%u,\"channels\":%u,\"volume\":%u,\"muted\":%s,\"position\":%lld,\"device\":",
		       open->recording ? "true" : "false", open->spec.rate, open->spec.channels,
		       carried->volume.channels ? carried->volume.values[0] : 0, carried->muted ? "true" : "false",
		       (long long)carried->heard);
		write_json_string(stdout, carried->device);
		printf(carried->next ? "}," : "}");
	}
	printf("]}\n");
	fflush(stdout);
}

static void suspend_all(void)
{
	relay.suspending = true;
	/* A capsule that goes meanwhile must not have the streams forgotten from under their hands who halt them. */
	stop_hearing();
	halt_all();
	for (const struct carried *carried = relay.carried; carried; carried = carried->next)
		if (carried->was_ready && !carried->open.recording)
			send_position(carried, MESSAGE_LOST, carried->heard, 0);
	send_all();
	if (!quitting)
		tell_suspended();
	close_link();
	relay.suspending = false;
	relay.suspended = true;
	end_lost_control();
}

/* ---- what the plugin says ---- */

static void obey(const char *line)
{
	unsigned int number;
	char answer[4];
	if (strcmp(line, "suspend") == 0) {
		suspend_wanted = true;
	} else if (strcmp(line, "resume") == 0) {
		relay.suspended = suspend_wanted = false;
		try_link_at_once();
	} else if (sscanf(line, "microphone %u %3s", &number, answer) == 2) {
		struct carried *carried = find(number);
		if (carried && strcmp(answer, "yes") == 0)
			allow(carried);
	}
}

static void on_told(pa_mainloop_api *ignored, pa_io_event *event, int fd, pa_io_event_flags_t flags, void *data)
{
	(void)ignored, (void)event, (void)flags, (void)data;
	char chunk[512];
	ssize_t count = RETRY(read(fd, chunk, sizeof(chunk)));
	if (count <= 0) {
		quitting = suspend_wanted = true;
		return;
	}
	append(&told, chunk, (size_t)count);
	for (char *end; told.length > 0 && (end = memchr(told.data, '\n', told.length));) {
		*end = '\0';
		obey((const char *)told.data);
		consume(&told, (size_t)(end - (char *)told.data) + 1);
	}
}

/* ---- time ---- */

static void ask_all_times(int64_t now)
{
	time_at = now + TIMING_USEC;
	for (struct carried *carried = relay.carried; carried; carried = carried->next)
		if (is_running(carried) && !carried->open.corked && !carried->flushing)
			ask_time(carried);
}

/* Streams that have just been opened. */
static void look_after_new(int64_t now)
{
	for (struct carried *carried = relay.carried; carried; carried = carried->next) {
		if (carried->settled_at == 0 || carried->settled_at > now || !is_ready(carried))
			continue;
		carried->settled_at = 0;
		ask_mixer(carried);
	}
	for (struct carried *carried = relay.carried; carried; carried = carried->next)
		if (carried->filling && carried->filled_at > 0 && carried->filled_at <= now && is_ready(carried))
			start(carried);
}

static int64_t earlier(int64_t one, int64_t other)
{
	return one < other ? one : other;
}

/* Does what is due, and returns until when nothing is. */
static int64_t take_care(void)
{
	int64_t now = now_usec();
	watch_control(now);
	if (!relay.suspended && now >= relay.try_at) {
		if (!relay.control)
			open_control();
		else if (relay.control_ready && relay.link.fd < 0)
			open_link();
	}
	if (now >= time_at)
		ask_all_times(now);
	look_after_new(now);
	look_after_ended(now);
	serve_link();
	int64_t next = earlier(earlier(now + IDLE_USEC, watched_until()), ended_until());
	if (!relay.suspended && relay.link.fd < 0 && (!relay.control || relay.control_ready))
		next = earlier(next, relay.try_at);
	for (const struct carried *carried = relay.carried; carried; carried = carried->next) {
		if (is_running(carried) && !carried->open.corked)
			next = earlier(next, time_at);
		if (carried->settled_at > 0 && is_ready(carried))
			next = earlier(next, carried->settled_at);
		if (carried->filling && carried->filled_at > 0)
			next = earlier(next, carried->filled_at);
	}
	return next;
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: torpor-sound-relay RELAY_SOCKET NAME ICON\n");
		return 2;
	}
	relay.socket_path = argv[1];
	relay.default_name = argv[2];
	relay.default_icon = argv[3];
	prctl(PR_SET_NAME, "torpor-sound-re");
	signal(SIGPIPE, SIG_IGN);
	loop = pa_mainloop_new();
	relay.api = loop ? pa_mainloop_get_api(loop) : NULL;
	if (!relay.api || !relay.api->io_new(relay.api, STDIN_FILENO, PA_IO_EVENT_INPUT | PA_IO_EVENT_HANGUP, on_told, NULL))
		die("libpulse gives no main loop");
	while (!quitting) {
		iterate(take_care());
		if (suspend_wanted)
			suspend_all();
		suspend_wanted = false;
	}
	return 0;
}
