/* The streams that are carried: opened on the user's server as they are inside, until either side ends them. */
#include <stdlib.h>
#include <string.h>

#include "../common.h"
#include "relay.h"

#define REFUSED_RETRY_USEC 2000000
/* A server that ends may end its streams first, its connections next. A little later it is known which of them went. */
#define JUDGE_USEC 1000000
/* For each capsule. A server takes 64 connections of all programs, and PulseAudio 256 streams on a device. */
#define OUTERS_MAX 16
#define CARRIED_MAX 64
#define RETRIES_MAX 256
/* For each client: more than this is never kept for a server that does not take it. */
#define UNANSWERED_MAX (4u << 20)
/* What an operation takes beside its contents, about. */
#define OPERATION_SIZE 256
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
	/* Whoever is halting the streams must not lose them from under its hands. */
	if (relay.suspending)
		return;
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

void refuse_number(uint32_t number)
{
	send_message(&relay.link, MESSAGE_REFUSED, number, NULL, 0);
	size_t count = 0;
	for (const struct retry *retry = retries; retry; retry = retry->next, count++)
		if (retry->number == number)
			return;
	struct retry *retry = count < RETRIES_MAX ? calloc(1, sizeof(*retry)) : NULL;
	if (!retry)
		return;
	*retry = (struct retry){retries, number, now_usec() + REFUSED_RETRY_USEC};
	retries = retry;
}

/* The user's server does not take it. */
static void refuse(struct carried *carried)
{
	refuse_number(carried->number);
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

static void open_stream(struct carried *carried);

static void on_source(pa_context *context, const pa_source_info *info, int end, void *data)
{
	(void)context;
	struct carried *carried = from_data(data);
	if (!carried || !carried->seeking_device)
		return;
	/* By its name, not by another or an index. */
	if (!end && info->monitor_of_sink == PA_INVALID_INDEX && strcmp(info->name, carried->open.device) == 0)
		carried->tried_default = false;
	if (!end)
		return;
	carried->seeking_device = false;
	if (!carried->stream && !relay.suspending)
		open_stream(carried);
}

/*
 * A device to record from is the user's choice, but it is told from inside, where somebody might name what the speakers
 * play. Returns whether it is known by now which one to take.
 */
static bool has_sought_device(struct carried *carried)
{
	if (!carried->open.recording || !carried->open.device[0] || carried->has_sought)
		return !carried->seeking_device;
	carried->has_sought = carried->seeking_device = carried->tried_default = true;
	run(pa_context_get_source_info_by_name(carried->outer->context, carried->open.device, on_source, as_data(carried)));
	return false;
}

static void open_stream(struct carried *carried)
{
	const struct open_stream *open = &carried->open;
	if ((open->recording && !carried->allowed) || !has_sought_device(carried))
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
		for (struct carried *carried = relay.carried, *next; carried; carried = next) {
			next = carried->next;
			if (carried->outer == outer && !carried->stream)
				open_stream(carried);
		}
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

bool is_behind(void)
{
	for (const struct outer *outer = outers; outer; outer = outer->next)
		if (outer->unanswered > UNANSWERED_MAX)
			return true;
	return false;
}

static void probe(struct outer *outer);

static void on_answer(pa_context *context, const pa_server_info *info, void *data)
{
	(void)info, (void)data;
	struct outer *outer = outer_with(context);
	if (!outer)
		return;
	outer->unanswered -= outer->probed;
	outer->probed = 0;
	probe(outer);
}

/* It answers in turn, so what was said before has been taken. */
static void probe(struct outer *outer)
{
	if (outer->probed > 0 || outer->unanswered < UNANSWERED_MAX / 2)
		return;
	outer->probed = outer->unanswered;
	run(pa_context_get_server_info(outer->context, on_answer, NULL));
}

void note_passed_on(struct carried *carried, size_t length)
{
	if (!is_ready(carried))
		return;
	carried->outer->unanswered += length + OPERATION_SIZE;
	probe(carried->outer);
}

/* NULL where there are too many. */
static struct outer *outer_of(uint32_t client, const pa_proplist *properties)
{
	struct outer *outer = outers;
	/* The streams of one that has ended are about to be judged; those that come now need another. */
	while (outer && (outer->client != client || !PA_CONTEXT_IS_GOOD(pa_context_get_state(outer->context))))
		outer = outer->next;
	if (outer)
		return outer;
	size_t count = 0;
	for (const struct outer *each = outers; each; each = each->next)
		count++;
	outer = count < OUTERS_MAX ? calloc(1, sizeof(*outer)) : NULL;
	if (!outer)
		return NULL;
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
	size_t count = 0;
	for (const struct carried *each = relay.carried; each; each = each->next)
		count++;
	struct outer *outer = count < CARRIED_MAX ? outer_of(open->client, properties) : NULL;
	struct carried *carried = outer ? calloc(1, sizeof(*carried)) : NULL;
	if (!carried) {
		pa_proplist_free(properties);
		refuse_number(number);
		return;
	}
	carried->open = *open;
	carried->open.device[DEVICE_MAX - 1] = '\0';
	carried->number = number;
	carried->epoch = open->epoch;
	carried->base = carried->following = carried->heard = carried->first = open->start;
	carried->volume = open->volume;
	carried->muted = open->muted;
	memcpy(carried->device, carried->open.device, DEVICE_MAX);
	carried->properties = properties;
	carried->outer = outer;
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
