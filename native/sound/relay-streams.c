/* The streams that are carried: opened on the user's server as they are inside, until either side ends them. */
#include <stdlib.h>
#include <string.h>

#include "../common.h"
#include "relay.h"

#define REFUSED_RETRY_USEC 2000000
/* A server that ends may end its streams first, its connections next. A little later it is known which of them went. */
#define JUDGE_USEC 1000000
/* After it was opened, a server may at first tell of another volume than the one it was asked for. */
#define SETTLED_USEC 300000

struct retry {
	struct retry *next;
	uint32_t number;
	int64_t at;
};

static struct outer *outers;
static struct retry *retries;

void send_position(const struct carried *carried, enum message_kind kind, int64_t heard, uint64_t delay)
{
	struct timing timing = {heard, carried->epoch, 0, delay};
	send_message(&relay.link, kind, carried->number, &timing, sizeof(timing));
}

static void forget_outer(struct outer *outer)
{
	for (const struct carried *carried = relay.carried; carried; carried = carried->next)
		if (carried->outer == outer)
			return;
	struct outer **place = &outers;
	while (*place != outer)
		place = &(*place)->next;
	*place = outer->next;
	pa_context_set_state_callback(outer->context, NULL, NULL);
	pa_context_set_subscribe_callback(outer->context, NULL, NULL);
	pa_context_disconnect(outer->context);
	pa_context_unref(outer->context);
	free(outer);
}

static void drop_stream(struct carried *carried)
{
	if (!carried->stream)
		return;
	pa_stream_set_state_callback(carried->stream, NULL, NULL);
	pa_stream_set_write_callback(carried->stream, NULL, NULL);
	pa_stream_set_read_callback(carried->stream, NULL, NULL);
	pa_stream_set_moved_callback(carried->stream, NULL, NULL);
	pa_stream_set_underflow_callback(carried->stream, NULL, NULL);
	pa_stream_disconnect(carried->stream);
	pa_stream_unref(carried->stream);
	carried->stream = NULL;
}

void forget(struct carried *carried)
{
	struct carried **place = &relay.carried;
	while (*place != carried)
		place = &(*place)->next;
	*place = carried->next;
	drop_stream(carried);
	struct outer *outer = carried->outer;
	pa_proplist_free(carried->properties);
	free(carried);
	if (outer)
		forget_outer(outer);
}

struct carried *find(uint32_t number)
{
	struct carried *carried = relay.carried;
	while (carried && carried->number != number)
		carried = carried->next;
	return carried;
}

bool is_ready(const struct carried *carried)
{
	return carried->stream && pa_stream_get_state(carried->stream) == PA_STREAM_READY;
}

int64_t came_out(const struct carried *carried)
{
	int64_t left = carried->delay_usec - (now_usec() - carried->heard_at);
	int64_t position = carried->heard - (left > 0 ? bytes_in_usec(&carried->open.spec, left) : 0);
	return position > carried->first ? position : carried->first;
}

/* It ended on the user's server, and stands still inside until it is known why. */
static void lose(struct carried *carried, bool ended_alone)
{
	send_position(carried, MESSAGE_LOST, came_out(carried), 0);
	drop_stream(carried);
	carried->ended_alone = ended_alone;
	carried->judged_at = now_usec() + JUDGE_USEC;
}

void judge_ended(void)
{
	for (struct carried *carried = relay.carried, *next; carried; carried = next) {
		next = carried->next;
		if (!carried->questioned)
			continue;
		bool has_device = carried->open.recording ? relay.default_source : relay.default_sink;
		bool by_user = carried->ended_alone && has_device;
		send_message(&relay.link, by_user ? MESSAGE_KILLED : MESSAGE_AGAIN, carried->number, NULL, 0);
		forget(carried);
	}
}

/* The user's server does not take it: the capsule goes on as if nobody heard, and it is tried again later. */
static void refuse(struct carried *carried)
{
	struct retry *retry = calloc(1, sizeof(*retry));
	if (!retry)
		die("out of memory");
	*retry = (struct retry){retries, carried->number, now_usec() + REFUSED_RETRY_USEC};
	retries = retry;
	send_message(&relay.link, MESSAGE_REFUSED, carried->number, NULL, 0);
	forget(carried);
}

void *as_data(const struct carried *carried)
{
	return (void *)(uintptr_t)carried->number;
}

struct carried *from_data(void *data)
{
	return find((uint32_t)(uintptr_t)data);
}

void run(pa_operation *operation)
{
	if (operation)
		pa_operation_unref(operation);
}

static void try_refused(int64_t now)
{
	for (struct retry **place = &retries; *place;) {
		struct retry *retry = *place;
		if (retry->at > now) {
			place = &retry->next;
			continue;
		}
		send_message(&relay.link, MESSAGE_AGAIN, retry->number, NULL, 0);
		*place = retry->next;
		free(retry);
	}
}

void look_after_ended(int64_t now)
{
	try_refused(now);
	bool is_due = false;
	for (struct carried *carried = relay.carried; carried; carried = carried->next) {
		if (carried->judged_at == 0 || carried->judged_at > now || carried->questioned || !relay.control_ready)
			continue;
		carried->questioned = is_due = true;
	}
	if (is_due)
		ask_server();
}

int64_t ended_until(void)
{
	int64_t until = INT64_MAX;
	for (const struct carried *carried = relay.carried; carried; carried = carried->next)
		if (carried->judged_at > 0 && !carried->questioned && relay.control_ready && carried->judged_at < until)
			until = carried->judged_at;
	for (const struct retry *retry = retries; retry; retry = retry->next)
		if (retry->at < until)
			until = retry->at;
	return until;
}

void forget_all(void)
{
	while (relay.carried)
		forget(relay.carried);
	while (retries) {
		struct retry *next = retries->next;
		free(retries);
		retries = next;
	}
}

/* ---- opening them on the user's server ---- */

static void on_stream_state(pa_stream *stream, void *data);

static int connect_stream(struct carried *carried)
{
	const struct open_stream *open = &carried->open;
	pa_stream_flags_t flags = PA_STREAM_AUTO_TIMING_UPDATE;
	/* It starts with a full buffer: one that runs dry at once has the server take ahead and give back again and again. */
	carried->filling = !open->recording;
	carried->filled_at = 0;
	flags |= open->corked || carried->filling ? PA_STREAM_START_CORKED : 0;
	flags |= open->adjust_latency ? PA_STREAM_ADJUST_LATENCY : 0;
	flags |= open->early_requests && !open->adjust_latency ? PA_STREAM_EARLY_REQUESTS : 0;
	flags |= open->variable_rate ? PA_STREAM_VARIABLE_RATE : 0;
	if (open->mute_set)
		flags |= open->muted ? PA_STREAM_START_MUTED : PA_STREAM_START_UNMUTED;
	pa_buffer_attr sizes = {
		.maxlength = open->sizes.maximum,
		.tlength = open->sizes.target,
		/* The server inside has waited until there was enough. */
		.prebuf = (uint32_t)frame_size(&open->spec),
		.minreq = open->sizes.request,
		.fragsize = open->sizes.fragment,
	};
	pa_cvolume volume = to_pulse(&open->volume);
	const char *device = open->device[0] && !carried->tried_default ? open->device : NULL;
	return open->recording ? pa_stream_connect_record(carried->stream, device, &sizes, flags)
			       : pa_stream_connect_playback(carried->stream, device, &sizes, flags,
							    open->volume_set ? &volume : NULL, NULL);
}

static void open_stream(struct carried *carried)
{
	const struct open_stream *open = &carried->open;
	if (open->recording && !carried->allowed)
		return;
	pa_sample_spec spec = {(pa_sample_format_t)open->spec.format, open->spec.rate, open->spec.channels};
	pa_channel_map map = {.channels = open->map.channels};
	for (unsigned int index = 0; index < open->map.channels; index++)
		map.map[index] = (pa_channel_position_t)open->map.positions[index];
	const char *title = pa_proplist_gets(carried->properties, PA_PROP_MEDIA_NAME);
	carried->stream = pa_stream_new_with_proplist(carried->outer->context, title ? title : relay.default_name, &spec,
						      pa_channel_map_compatible(&map, &spec) ? &map : NULL, carried->properties);
	if (!carried->stream) {
		refuse(carried);
		return;
	}
	pa_stream_set_state_callback(carried->stream, on_stream_state, as_data(carried));
	watch_samples(carried);
	watch_device(carried);
	if (connect_stream(carried) < 0)
		refuse(carried);
}

static void stream_is_ready(struct carried *carried)
{
	carried->was_ready = true;
	carried->settled_at = now_usec() + SETTLED_USEC;
	if (carried->open.volume_set)
		set_volume(carried, &carried->open.volume);
	if (carried->open.mute_set)
		set_mute(carried, carried->open.muted);
	tell_device(carried);
	if (carried->open.recording) {
		uint32_t live = 1;
		send_message(&relay.link, MESSAGE_LIVE, carried->number, &live, sizeof(live));
	} else {
		tell_wanted(carried);
	}
}

static void on_stream_state(pa_stream *stream, void *data)
{
	struct carried *carried = from_data(data);
	pa_stream_state_t state = pa_stream_get_state(stream);
	if (!carried || relay.suspending)
		return;
	if (state == PA_STREAM_READY) {
		stream_is_ready(carried);
		return;
	}
	if (state != PA_STREAM_FAILED && state != PA_STREAM_TERMINATED)
		return;
	/* The end of the whole server is told by the context's state. */
	if (pa_context_get_state(carried->outer->context) != PA_CONTEXT_READY)
		return;
	if (carried->was_ready) {
		lose(carried, true);
	} else if (carried->open.device[0] && !carried->tried_default) {
		/* The device has gone. */
		carried->tried_default = true;
		drop_stream(carried);
		open_stream(carried);
	} else {
		refuse(carried);
	}
}

static void on_outer_event(pa_context *context, pa_subscription_event_type_t event, uint32_t index, void *data)
{
	(void)data;
	bool recording = (event & PA_SUBSCRIPTION_EVENT_FACILITY_MASK) == PA_SUBSCRIPTION_EVENT_SOURCE_OUTPUT;
	if ((event & PA_SUBSCRIPTION_EVENT_TYPE_MASK) != PA_SUBSCRIPTION_EVENT_CHANGE)
		return;
	for (struct carried *carried = relay.carried; carried; carried = carried->next)
		if (carried->outer && carried->outer->context == context && carried->open.recording == recording &&
		    is_ready(carried) && pa_stream_get_index(carried->stream) == index)
			ask_mixer(carried);
}

/* Forgetting one may make others of the list go too, so the search begins anew each time. */
static struct carried *first_unopened(const struct outer *outer)
{
	struct carried *carried = relay.carried;
	while (carried && (carried->outer != outer || carried->stream || (carried->open.recording && !carried->allowed)))
		carried = carried->next;
	return carried;
}

static struct outer *outer_with(const pa_context *context)
{
	struct outer *outer = outers;
	while (outer && outer->context != context)
		outer = outer->next;
	return outer;
}

static void on_outer_state(pa_context *context, void *data)
{
	(void)data;
	struct outer *outer = outer_with(context);
	pa_context_state_t state = pa_context_get_state(context);
	if (!outer || relay.suspending)
		return;
	if (state == PA_CONTEXT_READY) {
		run(pa_context_subscribe(context, PA_SUBSCRIPTION_MASK_SINK_INPUT | PA_SUBSCRIPTION_MASK_SOURCE_OUTPUT, NULL,
					 NULL));
		for (struct carried *carried; (carried = first_unopened(outer));)
			open_stream(carried);
	} else if (!PA_CONTEXT_IS_GOOD(state) && relay.control_ready) {
		for (struct carried *carried = relay.carried, *next; carried; carried = next) {
			next = carried->next;
			if (carried->outer != outer || carried->judged_at > 0)
				continue;
			if (carried->was_ready)
				lose(carried, false);
			else
				refuse(carried);
		}
	}
}

static struct outer *outer_of(uint32_t client, const pa_proplist *properties)
{
	struct outer *outer = outers;
	/* The streams of one that has ended are about to be judged; those that come now need another. */
	while (outer && (outer->client != client || !PA_CONTEXT_IS_GOOD(pa_context_get_state(outer->context))))
		outer = outer->next;
	if (outer)
		return outer;
	outer = calloc(1, sizeof(*outer));
	if (!outer)
		die("out of memory");
	const char *name = pa_proplist_gets(properties, PA_PROP_APPLICATION_NAME);
	outer->client = client;
	outer->context = pa_context_new_with_proplist(relay.api, name ? name : relay.default_name, properties);
	outer->next = outers;
	outers = outer;
	pa_context_set_state_callback(outer->context, on_outer_state, NULL);
	pa_context_set_subscribe_callback(outer->context, on_outer_event, NULL);
	pa_context_connect(outer->context, NULL, PA_CONTEXT_NOAUTOSPAWN, NULL);
	return outer;
}

void carry(uint32_t number, const struct open_stream *open, pa_proplist *properties)
{
	struct carried *carried = calloc(1, sizeof(*carried));
	if (!carried)
		die("out of memory");
	carried->open = *open;
	carried->open.device[DEVICE_MAX - 1] = '\0';
	carried->number = number;
	carried->epoch = open->epoch;
	carried->base = carried->following = carried->heard = carried->first = open->start;
	carried->volume = open->volume;
	carried->muted = open->muted;
	memcpy(carried->device, carried->open.device, DEVICE_MAX);
	carried->properties = properties;
	carried->outer = outer_of(open->client, properties);
	carried->next = relay.carried;
	relay.carried = carried;
	if (!PA_CONTEXT_IS_GOOD(pa_context_get_state(carried->outer->context)))
		refuse(carried);
	else if (carried->open.recording)
		say("asks-microphone", "application", pa_proplist_gets(properties, PA_PROP_APPLICATION_NAME), number);
	else if (pa_context_get_state(carried->outer->context) == PA_CONTEXT_READY)
		open_stream(carried);
}

void allow(struct carried *carried)
{
	if (carried->allowed)
		return;
	carried->allowed = true;
	if (!relay.suspending && pa_context_get_state(carried->outer->context) == PA_CONTEXT_READY)
		open_stream(carried);
}
