/* The user's sound server: whether it is there, and which devices are the usual ones. */
#include <stdlib.h>
#include <string.h>

#include "relay.h"

#define WATCH_USEC 5000000

static bool control_lost, awaiting_watch;
static int64_t watch_at;
static unsigned int failed_tries;

void close_control(const char *reason)
{
	if (!relay.control)
		return;
	relay.control_ready = awaiting_watch = false;
	/* Whoever is halting the streams must not lose them from under its hands. */
	control_lost = relay.suspending;
	if (relay.suspending)
		return;
	for (const struct carried *carried = relay.carried; carried; carried = carried->next)
		if (carried->was_ready && !carried->open.recording && carried->judged_at == 0)
			send_position(carried, MESSAGE_LOST, came_out(carried), 0);
	send_all();
	close_link();
	pa_context_set_state_callback(relay.control, NULL, NULL);
	pa_context_set_subscribe_callback(relay.control, NULL, NULL);
	pa_context_disconnect(relay.control);
	pa_context_unref(relay.control);
	relay.control = NULL;
	relay.try_at = now_usec() + (++failed_tries < QUICK_TRIES ? RETRY_USEC : SLOW_RETRY_USEC);
	if (!relay.told_of_no_server)
		say("no-server", "reason", reason, 0);
	relay.told_of_no_server = true;
}

/* What begins so is no name, but what PipeWire says where there is no device. */
static char *name_of(const char *device)
{
	return device && device[0] != '@' ? strdup(device) : NULL;
}

static void on_server(pa_context *context, const pa_server_info *info, void *data)
{
	(void)context, (void)data;
	awaiting_watch = false;
	if (!info)
		return;
	free(relay.default_sink);
	free(relay.default_source);
	relay.default_sink = name_of(info->default_sink_name);
	relay.default_source = name_of(info->default_source_name);
	judge_ended();
	for (struct carried *carried = relay.carried; carried; carried = carried->next)
		tell_device(carried);
}

void ask_server(void)
{
	run(pa_context_get_server_info(relay.control, on_server, NULL));
}

static void on_control_event(pa_context *context, pa_subscription_event_type_t event, uint32_t index, void *data)
{
	(void)context, (void)event, (void)index, (void)data;
	ask_server();
}

static void on_control_state(pa_context *context, void *data)
{
	(void)data;
	pa_context_state_t state = pa_context_get_state(context);
	if (state == PA_CONTEXT_READY) {
		relay.control_ready = true;
		run(pa_context_subscribe(context, PA_SUBSCRIPTION_MASK_SERVER, NULL, NULL));
		ask_server();
		failed_tries = 0;
		watch_at = now_usec() + WATCH_USEC;
		relay.try_at = 0;
	} else if (state == PA_CONTEXT_FAILED || state == PA_CONTEXT_TERMINATED) {
		close_control(pa_strerror(pa_context_errno(context)));
	}
}

void open_control(void)
{
	relay.control = pa_context_new(relay.api, "Torpor");
	pa_context_set_state_callback(relay.control, on_control_state, NULL);
	pa_context_set_subscribe_callback(relay.control, on_control_event, NULL);
	watch_at = now_usec() + WATCH_USEC;
	/* A server that this would start ends with the plugin, for all other programs too. */
	if (pa_context_connect(relay.control, NULL, PA_CONTEXT_NOAUTOSPAWN, NULL) < 0)
		close_control(pa_strerror(pa_context_errno(relay.control)));
}

void watch_control(int64_t now)
{
	if (!relay.control || now < watch_at)
		return;
	watch_at = now + WATCH_USEC;
	if (awaiting_watch || !relay.control_ready) {
		close_control("it does not answer");
		return;
	}
	awaiting_watch = true;
	ask_server();
}

int64_t watched_until(void)
{
	return relay.control ? watch_at : INT64_MAX;
}

void end_lost_control(void)
{
	if (control_lost)
		close_control("it has ended");
}
