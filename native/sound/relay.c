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
#include <fcntl.h>
#include <poll.h>
#include <pulse/pulseaudio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common.h"
#include "sound.h"

#define RETRY_USEC 500000
/* A capsule that does not answer for so long has no sound server: an old one, or one where that has ended. */
#define QUICK_TRIES 40
#define SLOW_RETRY_USEC 10000000
#define REFUSED_RETRY_USEC 2000000
#define TIMING_USEC 50000
#define FILL_LIMIT_USEC 30000
/* After it was opened, a server may at first tell of another volume than the one it was asked for. */
#define SETTLED_USEC 300000
#define WATCH_USEC 5000000
/* Of a suspend, which goes on whatever the user's server does. */
#define CORK_LIMIT_USEC 500000
#define SETTLE_LIMIT_USEC 300000
#define SETTLE_STEP_USEC 15000
#define SEND_LIMIT_USEC 500000
/* Of what was recorded and a capsule does not take. */
#define UNSENT_MAX (4u << 20)

/* A client inside: what the mixer shows streams under. */
struct outer {
	struct outer *next;
	uint32_t client;
	pa_context *context;
};

struct carried {
	struct carried *next;
	uint32_t number;
	struct open_stream open;
	pa_proplist *properties;
	struct outer *outer;
	pa_stream *stream;
	bool allowed; /* to record */
	bool was_ready, flushing, asking_time, tried_default;
	bool filling;	   /* halted until its buffer is full, or nothing more comes */
	int64_t filled_at; /* when it starts at the latest; 0 before anything has come */
	int64_t full_at;   /* position */
	int64_t settled_at; /* from when what the mixer says counts */
	uint32_t epoch;
	int64_t base, following; /* position of the user's server's 0; of what comes next */
	int64_t heard;		 /* as last known */
	struct volume volume;
	bool muted, mixer_known;
	char device[DEVICE_MAX];
};

struct retry {
	struct retry *next;
	uint32_t number;
	int64_t at;
};

static const char *socket_path, *default_name, *default_icon;
static pa_mainloop *loop;
static pa_mainloop_api *api;
static pa_context *control;
static bool control_ready, control_lost, awaiting_watch;
static char *default_sink, *default_source;
static struct connection link_ = {.fd = -1};
static pa_io_event *link_event;
static struct outer *outers;
static struct carried *all;
static struct retry *retries;
static struct bytes told;
static bool suspending, suspend_wanted, suspended, quitting, told_of_no_server, first_try = true;
static int64_t try_at, time_at, watch_at;
static unsigned int failed_tries;

/* ---- telling the plugin ---- */

static void say(const char *event, const char *key, const char *value, uint32_t stream)
{
	printf("{\"event\":\"%s\",\"stream\":%u,\"%s\":", event, stream, key);
	write_json_string(stdout, value ? value : "");
	puts("}");
	fflush(stdout);
}

/* ---- streams ---- */

static void send_position(const struct carried *carried, enum message_kind kind, int64_t heard, uint64_t delay)
{
	struct timing timing = {heard, carried->epoch, 0, delay};
	send_message(&link_, kind, carried->number, &timing, sizeof(timing));
}

static void forget_outer(struct outer *outer)
{
	for (const struct carried *carried = all; carried; carried = carried->next)
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

static void forget(struct carried *carried)
{
	struct carried **place = &all;
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

static struct carried *find(uint32_t number)
{
	struct carried *carried = all;
	while (carried && carried->number != number)
		carried = carried->next;
	return carried;
}

static bool is_ready(const struct carried *carried)
{
	return carried->stream && pa_stream_get_state(carried->stream) == PA_STREAM_READY;
}

/* The user's server does not take it: the capsule goes on as if nobody heard, and it is tried again later. */
static void refuse(struct carried *carried)
{
	struct retry *retry = calloc(1, sizeof(*retry));
	if (!retry)
		die("out of memory");
	*retry = (struct retry){retries, carried->number, now_usec() + REFUSED_RETRY_USEC};
	retries = retry;
	if (carried->was_ready)
		send_position(carried, MESSAGE_LOST, carried->heard, 0);
	send_message(&link_, MESSAGE_REFUSED, carried->number, NULL, 0);
	forget(carried);
}

/* The server's own answers to these come as callbacks that outlive a stream; they know it by number. */
static void *as_data(const struct carried *carried)
{
	return (void *)(uintptr_t)carried->number;
}

static struct carried *from_data(void *data)
{
	return find((uint32_t)(uintptr_t)data);
}

static void run(pa_operation *operation)
{
	if (operation)
		pa_operation_unref(operation);
}

/* ---- the mixer ---- */

static pa_cvolume to_pulse(const struct volume *volume)
{
	pa_cvolume result = {.channels = volume->channels};
	memcpy(result.values, volume->values, sizeof(result.values));
	return result;
}

static void learn_mixer(struct carried *carried, const pa_cvolume *volume, bool muted)
{
	struct volume found = {.channels = volume->channels};
	memcpy(found.values, volume->values, sizeof(found.values[0]) * volume->channels);
	bool is_first = !carried->mixer_known;
	carried->mixer_known = true;
	if (!is_same_volume(&found, &carried->volume) || (is_first && !carried->open.volume_set))
		send_message(&link_, MESSAGE_VOLUME, carried->number, &found, sizeof(found));
	if (muted != carried->muted || (is_first && !carried->open.mute_set)) {
		uint32_t value = muted;
		send_message(&link_, MESSAGE_MUTE, carried->number, &value, sizeof(value));
	}
	carried->volume = found;
	carried->muted = muted;
}

static bool is_settled(const struct carried *carried)
{
	return !suspending && carried->settled_at == 0;
}

static void on_sink_input(pa_context *context, const pa_sink_input_info *info, int end, void *data)
{
	(void)context;
	struct carried *carried = from_data(data);
	if (!end && carried && info->has_volume && is_settled(carried))
		learn_mixer(carried, &info->volume, info->mute);
}

static void on_source_output(pa_context *context, const pa_source_output_info *info, int end, void *data)
{
	(void)context;
	struct carried *carried = from_data(data);
	if (!end && carried && info->has_volume && is_settled(carried))
		learn_mixer(carried, &info->volume, info->mute);
}

static void ask_mixer(struct carried *carried)
{
	uint32_t index = pa_stream_get_index(carried->stream);
	pa_context *context = carried->outer->context;
	run(carried->open.recording ? pa_context_get_source_output_info(context, index, on_source_output, as_data(carried))
				    : pa_context_get_sink_input_info(context, index, on_sink_input, as_data(carried)));
}

static void set_volume(struct carried *carried, const struct volume *volume)
{
	carried->open.volume = carried->volume = *volume;
	carried->open.volume_set = true;
	if (!is_ready(carried))
		return;
	pa_cvolume value = to_pulse(volume);
	uint32_t index = pa_stream_get_index(carried->stream);
	pa_context *context = carried->outer->context;
	run(carried->open.recording ? pa_context_set_source_output_volume(context, index, &value, NULL, NULL)
				    : pa_context_set_sink_input_volume(context, index, &value, NULL, NULL));
}

static void set_mute(struct carried *carried, bool muted)
{
	carried->open.muted = carried->muted = muted;
	carried->open.mute_set = true;
	if (!is_ready(carried))
		return;
	uint32_t index = pa_stream_get_index(carried->stream);
	pa_context *context = carried->outer->context;
	run(carried->open.recording ? pa_context_set_source_output_mute(context, index, muted, NULL, NULL)
				    : pa_context_set_sink_input_mute(context, index, muted, NULL, NULL));
}

/*
 * The device that the user put it on; none where that is the usual one, so that the stream goes along when the usual one
 * becomes another.
 */
static void tell_device(struct carried *carried)
{
	const char *usual = carried->open.recording ? default_source : default_sink;
	const char *device = is_ready(carried) ? pa_stream_get_device_name(carried->stream) : NULL;
	if (!device || !usual)
		return;
	if (strcmp(device, usual) == 0 || strlen(device) >= DEVICE_MAX)
		device = "";
	if (strcmp(device, carried->device) == 0)
		return;
	strcpy(carried->device, device);
	send_message(&link_, MESSAGE_DEVICE, carried->number, device, strlen(device));
}

/* ---- what is played ---- */

static void tell_wanted(struct carried *carried)
{
	const pa_buffer_attr *sizes = is_ready(carried) && !carried->flushing ? pa_stream_get_buffer_attr(carried->stream) : NULL;
	size_t writable = sizes ? pa_stream_writable_size(carried->stream) : 0;
	if (!sizes || writable == (size_t)-1)
		return;
	struct wanted wanted = {carried->following + (int64_t)writable, carried->epoch, sizes->tlength};
	if (carried->filling && carried->filled_at == 0)
		carried->full_at = wanted.until;
	send_message(&link_, MESSAGE_WANTED, carried->number, &wanted, sizeof(wanted));
}

static void on_writable(pa_stream *stream, size_t size, void *data)
{
	(void)stream;
	(void)size;
	struct carried *carried = from_data(data);
	if (carried && !suspending)
		tell_wanted(carried);
}

/* Takes over what the user's server has told. Returns whether it told anything. */
static bool learn_time(struct carried *carried)
{
	const pa_timing_info *info = is_ready(carried) ? pa_stream_get_timing_info(carried->stream) : NULL;
	if (!info || info->read_index_corrupt || info->read_index < 0)
		return false;
	int64_t heard = carried->base + info->read_index;
	carried->heard = heard < carried->following ? heard : carried->following;
	return true;
}

static void on_time(pa_stream *stream, int success, void *data)
{
	(void)stream;
	struct carried *carried = from_data(data);
	if (!carried)
		return;
	carried->asking_time = false;
	if (!success || carried->flushing || !learn_time(carried) || suspending)
		return;
	const pa_timing_info *info = pa_stream_get_timing_info(carried->stream);
	send_position(carried, MESSAGE_TIMING, carried->heard, info->sink_usec + info->transport_usec);
}

static void ask_time(struct carried *carried)
{
	if (carried->asking_time || !is_ready(carried))
		return;
	pa_operation *operation = pa_stream_update_timing_info(carried->stream, on_time, as_data(carried));
	carried->asking_time = operation != NULL;
	run(operation);
}

static void on_underflow(pa_stream *stream, void *data)
{
	(void)stream;
	struct carried *carried = from_data(data);
	if (carried)
		ask_time(carried);
}

static void on_flush_settled(pa_stream *stream, int success, void *data)
{
	struct carried *carried = from_data(data);
	const pa_timing_info *info = carried && success ? pa_stream_get_timing_info(stream) : NULL;
	if (!carried || carried->stream != stream)
		return;
	carried->flushing = false;
	if (info)
		carried->base = carried->following - info->write_index;
	tell_wanted(carried);
}

static void flush_stream(struct carried *carried, const struct samples *at)
{
	carried->epoch = at->epoch;
	carried->following = carried->heard = at->position;
	if (!is_ready(carried)) {
		carried->open.start = carried->base = at->position;
		return;
	}
	carried->flushing = true;
	run(pa_stream_flush(carried->stream, NULL, NULL));
	run(pa_stream_update_timing_info(carried->stream, on_flush_settled, as_data(carried)));
}

static void start(struct carried *carried)
{
	carried->filling = false;
	if (!carried->open.corked)
		run(pa_stream_cork(carried->stream, 0, NULL, NULL));
}

static void play(struct carried *carried, const struct samples *samples, const uint8_t *data, size_t length)
{
	if (samples->epoch != carried->epoch || !is_ready(carried))
		return;
	int64_t offset = samples->position - carried->following;
	if (pa_stream_write(carried->stream, data, length, NULL, offset, PA_SEEK_RELATIVE) < 0)
		return;
	carried->following = samples->position + (int64_t)length;
	if (carried->filling && carried->filled_at == 0)
		carried->filled_at = now_usec() + FILL_LIMIT_USEC;
	if (carried->filling && carried->following >= carried->full_at)
		start(carried);
}

/* ---- what is recorded ---- */

static void on_readable(pa_stream *stream, size_t size, void *data)
{
	(void)size;
	struct carried *carried = from_data(data);
	const void *samples;
	size_t length;
	while (pa_stream_readable_size(stream) > 0 && pa_stream_peek(stream, &samples, &length) == 0 && length > 0) {
		for (size_t at = 0; carried && samples && !suspending && link_.out.length < UNSENT_MAX && at < length; at += MESSAGE_MAX) {
			size_t part = length - at < MESSAGE_MAX ? length - at : MESSAGE_MAX;
			send_message(&link_, MESSAGE_SAMPLES, carried->number, (const uint8_t *)samples + at, part);
		}
		pa_stream_drop(stream);
	}
}

/* ---- opening streams on the user's server ---- */

static void on_stream_state(pa_stream *stream, void *data);

static void on_moved(pa_stream *stream, void *data)
{
	(void)stream;
	struct carried *carried = from_data(data);
	if (carried && !suspending)
		tell_device(carried);
}

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
	carried->stream = pa_stream_new_with_proplist(carried->outer->context, title ? title : default_name, &spec,
						      pa_channel_map_compatible(&map, &spec) ? &map : NULL, carried->properties);
	if (!carried->stream) {
		refuse(carried);
		return;
	}
	pa_stream_set_state_callback(carried->stream, on_stream_state, as_data(carried));
	pa_stream_set_write_callback(carried->stream, on_writable, as_data(carried));
	pa_stream_set_read_callback(carried->stream, on_readable, as_data(carried));
	pa_stream_set_moved_callback(carried->stream, on_moved, as_data(carried));
	pa_stream_set_underflow_callback(carried->stream, on_underflow, as_data(carried));
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
		send_message(&link_, MESSAGE_LIVE, carried->number, &live, sizeof(live));
	} else {
		tell_wanted(carried);
	}
}

static void on_stream_state(pa_stream *stream, void *data)
{
	struct carried *carried = from_data(data);
	pa_stream_state_t state = pa_stream_get_state(stream);
	if (!carried || suspending)
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
		send_message(&link_, MESSAGE_KILLED, carried->number, NULL, 0);
		forget(carried);
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
	for (struct carried *carried = all; carried; carried = carried->next)
		if (carried->outer && carried->outer->context == context && carried->open.recording == recording &&
		    is_ready(carried) && pa_stream_get_index(carried->stream) == index)
			ask_mixer(carried);
}

/* Forgetting one may make others of the list go too, so the search begins anew each time. */
static struct carried *first_of(const struct outer *outer, bool unopened)
{
	struct carried *carried = all;
	while (carried && (carried->outer != outer ||
			   (unopened && (carried->stream || (carried->open.recording && !carried->allowed)))))
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
	if (!outer || suspending)
		return;
	if (state == PA_CONTEXT_READY) {
		run(pa_context_subscribe(context, PA_SUBSCRIPTION_MASK_SINK_INPUT | PA_SUBSCRIPTION_MASK_SOURCE_OUTPUT, NULL,
					 NULL));
		for (struct carried *carried; (carried = first_of(outer, true));)
			open_stream(carried);
	} else if (!PA_CONTEXT_IS_GOOD(state) && control_ready) {
		for (struct carried *carried; outer_with(context) == outer && (carried = first_of(outer, false));)
			refuse(carried);
	}
}

static struct outer *outer_of(uint32_t client, const pa_proplist *properties)
{
	struct outer *outer = outers;
	while (outer && outer->client != client)
		outer = outer->next;
	if (outer)
		return outer;
	outer = calloc(1, sizeof(*outer));
	const char *name = pa_proplist_gets(properties, PA_PROP_APPLICATION_NAME);
	outer->client = client;
	outer->context = pa_context_new_with_proplist(api, name ? name : default_name, properties);
	outer->next = outers;
	outers = outer;
	pa_context_set_state_callback(outer->context, on_outer_state, NULL);
	pa_context_set_subscribe_callback(outer->context, on_outer_event, NULL);
	pa_context_connect(outer->context, NULL, PA_CONTEXT_NOAUTOSPAWN, NULL);
	return outer;
}

/* Names and values as the server writes them. What says something of processes or windows inside is left out. */
static pa_proplist *read_proplist(const uint8_t *data, size_t length)
{
	pa_proplist *properties = pa_proplist_new();
	for (size_t at = 0; at < length;) {
		const char *name = (const char *)data + at;
		size_t name_length = strnlen(name, length - at) + 1;
		const char *value = name + name_length;
		if (at + name_length >= length)
			break;
		size_t value_length = strnlen(value, length - at - name_length) + 1;
		at += name_length + value_length;
		if (at > length)
			break;
		if (strncmp(name, "application.process.id", 22) != 0 && strncmp(name, "window.x11.", 11) != 0)
			pa_proplist_sets(properties, name, value);
	}
	if (!pa_proplist_contains(properties, PA_PROP_APPLICATION_NAME))
		pa_proplist_sets(properties, PA_PROP_APPLICATION_NAME, default_name);
	if (*default_icon && !pa_proplist_contains(properties, PA_PROP_APPLICATION_ICON_NAME))
		pa_proplist_sets(properties, PA_PROP_APPLICATION_ICON_NAME, default_icon);
	return properties;
}

/* Whoever is inside may have said it, and not the server that belongs there. */
static bool is_valid_opening(const struct open_stream *open)
{
	return open->version == RELAY_VERSION && is_valid_spec(&open->spec) && open->map.channels <= CHANNELS_MAX &&
	       open->volume.channels <= CHANNELS_MAX && is_position(open->start);
}

static void hear_of_opening(uint32_t number, const uint8_t *contents, size_t length)
{
	struct open_stream open;
	memcpy(&open, contents, sizeof(open));
	if (!is_valid_opening(&open)) {
		send_message(&link_, MESSAGE_REFUSED, number, NULL, 0);
		return;
	}
	struct carried *carried = calloc(1, sizeof(*carried));
	if (!carried)
		die("out of memory");
	carried->open = open;
	carried->open.device[DEVICE_MAX - 1] = '\0';
	carried->number = number;
	carried->epoch = carried->open.epoch;
	carried->base = carried->following = carried->heard = carried->open.start;
	carried->volume = carried->open.volume;
	carried->muted = carried->open.muted;
	memcpy(carried->device, carried->open.device, DEVICE_MAX);
	carried->properties = read_proplist(contents + sizeof(carried->open), length - sizeof(carried->open));
	carried->outer = outer_of(carried->open.client, carried->properties);
	carried->next = all;
	all = carried;
	if (!PA_CONTEXT_IS_GOOD(pa_context_get_state(carried->outer->context)))
		refuse(carried);
	else if (carried->open.recording)
		say("asks-microphone", "application", pa_proplist_gets(carried->properties, PA_PROP_APPLICATION_NAME), number);
	else if (pa_context_get_state(carried->outer->context) == PA_CONTEXT_READY)
		open_stream(carried);
}

/* ---- what the capsule's server says ---- */

static void hear_of_sizes(struct carried *carried, const struct buffer_sizes *sizes)
{
	carried->open.sizes = *sizes;
	pa_buffer_attr wished = {sizes->maximum, sizes->target, (uint32_t)frame_size(&carried->open.spec), sizes->request,
				 sizes->fragment};
	if (is_ready(carried))
		run(pa_stream_set_buffer_attr(carried->stream, &wished, NULL, NULL));
}

static void hear_of_rate(struct carried *carried, uint32_t rate)
{
	struct sample_spec spec = carried->open.spec;
	spec.rate = rate;
	if (!is_valid_spec(&spec))
		return;
	carried->open.spec = spec;
	if (is_ready(carried))
		run(pa_stream_update_sample_rate(carried->stream, rate, NULL, NULL));
}

static void hear_of_properties(struct carried *carried, const uint8_t *contents, size_t length)
{
	pa_proplist_free(carried->properties);
	carried->properties = read_proplist(contents, length);
	if (is_ready(carried))
		run(pa_stream_proplist_update(carried->stream, PA_UPDATE_REPLACE, carried->properties, NULL, NULL));
}

/* Of which length a message must be at least, by its kind. */
static size_t least_length(enum message_kind kind)
{
	switch (kind) {
	case MESSAGE_OPEN:
		return sizeof(struct open_stream);
	case MESSAGE_SAMPLES:
	case MESSAGE_FLUSH:
		return sizeof(struct samples);
	case MESSAGE_VOLUME:
		return sizeof(struct volume);
	case MESSAGE_SIZES:
		return sizeof(struct buffer_sizes);
	case MESSAGE_CORK:
	case MESSAGE_MUTE:
	case MESSAGE_RATE:
		return sizeof(uint32_t);
	default:
		return 0;
	}
}

static void hear(const struct message *message, const uint8_t *contents)
{
	struct carried *carried = find(message->stream);
	if (message->length < least_length(message->kind))
		return;
	if (message->kind == MESSAGE_OPEN) {
		if (carried)
			forget(carried);
		hear_of_opening(message->stream, contents, message->length);
		return;
	}
	if (!carried)
		return;
	union {
		uint32_t value;
		struct samples samples;
		struct volume volume;
		struct buffer_sizes sizes;
	} head;
	memcpy(&head, contents, least_length(message->kind));
	switch (message->kind) {
	case MESSAGE_CLOSE:
		forget(carried);
		break;
	case MESSAGE_SAMPLES:
		if (is_position(head.samples.position))
			play(carried, &head.samples, contents + sizeof(head.samples), message->length - sizeof(head.samples));
		break;
	case MESSAGE_FLUSH:
		if (is_position(head.samples.position))
			flush_stream(carried, &head.samples);
		break;
	case MESSAGE_CORK:
		carried->open.corked = head.value != 0;
		if (is_ready(carried) && !carried->filling)
			run(pa_stream_cork(carried->stream, head.value != 0, NULL, NULL));
		break;
	case MESSAGE_VOLUME:
		if (head.volume.channels <= CHANNELS_MAX)
			set_volume(carried, &head.volume);
		break;
	case MESSAGE_MUTE:
		set_mute(carried, head.value != 0);
		break;
	case MESSAGE_PROPERTIES:
		hear_of_properties(carried, contents, message->length);
		break;
	case MESSAGE_RATE:
		hear_of_rate(carried, head.value);
		break;
	case MESSAGE_SIZES:
		hear_of_sizes(carried, &head.sizes);
		break;
	default:
		break;
	}
}

/* ---- the link ---- */

static void close_link(void)
{
	if (link_event)
		api->io_free(link_event);
	link_event = NULL;
	disconnect(&link_);
	while (all)
		forget(all);
	while (retries) {
		struct retry *next = retries->next;
		free(retries);
		retries = next;
	}
}

static void on_link(pa_mainloop_api *ignored, pa_io_event *event, int fd, pa_io_event_flags_t flags, void *data)
{
	(void)ignored, (void)event, (void)fd, (void)data;
	bool is_there = !(flags & (PA_IO_EVENT_INPUT | PA_IO_EVENT_HANGUP | PA_IO_EVENT_ERROR)) || receive(&link_);
	const struct message *message;
	const uint8_t *contents;
	bool malformed = false;
	while (link_.fd >= 0 && (message = next_message(&link_, &contents, &malformed))) {
		/* Handling it may forget it. */
		struct message copy = *message;
		hear(&copy, contents);
		done_with_message(&link_);
	}
	if (!is_there || malformed) {
		close_link();
		try_at = now_usec() + RETRY_USEC;
	}
}

/* The path may be longer than a socket's address can be; that of its folder's descriptor is not. */
static int connect_to(const char *path)
{
	CLEANUP_FREE char *folder = strdup(path);
	char *name = strrchr(folder, '/');
	if (!name)
		return -1;
	*name++ = '\0';
	CLEANUP_FD int place = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", place, name);
	int fd = place < 0 ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void open_link(void)
{
	link_.fd = connect_to(socket_path);
	if (link_.fd < 0) {
		try_at = now_usec() + (++failed_tries < QUICK_TRIES ? RETRY_USEC : SLOW_RETRY_USEC);
		return;
	}
	failed_tries = 0;
	link_event = api->io_new(api, link_.fd, PA_IO_EVENT_INPUT | PA_IO_EVENT_HANGUP, on_link, NULL);
	told_of_no_server = false;
	say("connected", "server", pa_context_get_server(control), 0);
}

/* ---- the user's server ---- */

static void close_control(const char *reason)
{
	if (!control)
		return;
	control_ready = awaiting_watch = false;
	/* Whoever is halting the streams must not lose them from under its hands. */
	control_lost = suspending;
	if (suspending)
		return;
	/* How far what was sent has been heard, the server inside reckons by itself. */
	close_link();
	pa_context_set_state_callback(control, NULL, NULL);
	pa_context_set_subscribe_callback(control, NULL, NULL);
	pa_context_disconnect(control);
	pa_context_unref(control);
	control = NULL;
	try_at = now_usec() + RETRY_USEC;
	if (!told_of_no_server)
		say("no-server", "reason", reason, 0);
	told_of_no_server = true;
}

static void on_server(pa_context *context, const pa_server_info *info, void *data)
{
	(void)context, (void)data;
	awaiting_watch = false;
	if (!info)
		return;
	free(default_sink);
	free(default_source);
	default_sink = info->default_sink_name ? strdup(info->default_sink_name) : NULL;
	default_source = info->default_source_name ? strdup(info->default_source_name) : NULL;
	for (struct carried *carried = all; carried; carried = carried->next)
		tell_device(carried);
}

static void on_control_event(pa_context *context, pa_subscription_event_type_t event, uint32_t index, void *data)
{
	(void)event, (void)index, (void)data;
	run(pa_context_get_server_info(context, on_server, NULL));
}

static void on_control_state(pa_context *context, void *data)
{
	(void)data;
	pa_context_state_t state = pa_context_get_state(context);
	if (state == PA_CONTEXT_READY) {
		control_ready = true;
		run(pa_context_subscribe(context, PA_SUBSCRIPTION_MASK_SERVER, NULL, NULL));
		run(pa_context_get_server_info(context, on_server, NULL));
		watch_at = now_usec() + WATCH_USEC;
		try_at = 0;
	} else if (state == PA_CONTEXT_FAILED || state == PA_CONTEXT_TERMINATED) {
		close_control(pa_strerror(pa_context_errno(context)));
	}
}

static void open_control(void)
{
	control = pa_context_new(api, "Torpor");
	pa_context_set_state_callback(control, on_control_state, NULL);
	pa_context_set_subscribe_callback(control, on_control_event, NULL);
	/* Whoever has sound started only when it is needed has it started once. */
	pa_context_flags_t flags = first_try ? PA_CONTEXT_NOFLAGS : PA_CONTEXT_NOAUTOSPAWN;
	first_try = false;
	watch_at = now_usec() + WATCH_USEC;
	if (pa_context_connect(control, NULL, flags, NULL) < 0)
		close_control(pa_strerror(pa_context_errno(control)));
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
	for (struct carried *carried = all; carried; carried = carried->next) {
		pa_operation *operation = is_running(carried) ? pa_stream_cork(carried->stream, 1, on_corked, NULL) : NULL;
		outstanding += operation != NULL;
		run(operation);
	}
	if (outstanding == 0)
		return;
	for (int64_t limit = now_usec() + CORK_LIMIT_USEC; outstanding > 0 && control_ready && now_usec() < limit;)
		iterate(limit);
	/* The giving back happens in a thread of the server's: it is over when two answers are the same. */
	int64_t limit = now_usec() + SETTLE_LIMIT_USEC;
	for (bool changed = true; changed && control_ready && now_usec() < limit;) {
		changed = false;
		int64_t step = now_usec() + SETTLE_STEP_USEC;
		while (now_usec() < step)
			iterate(step);
		for (struct carried *carried = all; carried; carried = carried->next) {
			int64_t before = carried->heard;
			if (!is_running(carried))
				continue;
			ask_time(carried);
			while (carried->asking_time && control_ready && now_usec() < limit)
				iterate(limit);
			changed |= carried->heard != before;
		}
	}
}

static void send_all(void)
{
	for (int64_t limit = now_usec() + SEND_LIMIT_USEC; link_.fd >= 0 && link_.out.length > 0 && now_usec() < limit;) {
		if (!transmit(&link_))
			return;
		struct pollfd polled = {.fd = link_.fd, .events = POLLOUT};
		if (link_.out.length > 0)
			poll(&polled, 1, 50);
	}
}

static void tell_suspended(void)
{
	unsigned int playing = 0, recording = 0;
	for (const struct carried *carried = all; carried; carried = carried->next) {
		playing += !carried->open.recording;
		recording += carried->open.recording;
	}
	printf("{\"event\":\"suspended\",\"streams\":[");
	for (const struct carried *carried = all; carried; carried = carried->next) {
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
	suspending = true;
	/* An event that is only switched off still tells of a hangup, which would forget the streams meanwhile. */
	if (link_event)
		api->io_free(link_event);
	link_event = NULL;
	halt_all();
	for (const struct carried *carried = all; carried; carried = carried->next)
		if (carried->was_ready && !carried->open.recording)
			send_position(carried, MESSAGE_LOST, carried->heard, 0);
	send_all();
	if (!quitting)
		tell_suspended();
	close_link();
	suspending = false;
	suspended = true;
	if (control_lost)
		close_control("it has ended");
}

/* ---- what the plugin says ---- */

static void obey(const char *line)
{
	unsigned int number;
	char answer[4];
	if (strcmp(line, "suspend") == 0) {
		suspend_wanted = true;
	} else if (strcmp(line, "resume") == 0) {
		suspended = suspend_wanted = false;
		failed_tries = 0;
		try_at = 0;
	} else if (sscanf(line, "microphone %u %3s", &number, answer) == 2) {
		struct carried *carried = find(number);
		if (!carried || strcmp(answer, "yes") != 0 || carried->allowed)
			return;
		carried->allowed = true;
		if (!suspending && pa_context_get_state(carried->outer->context) == PA_CONTEXT_READY)
			open_stream(carried);
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
	for (struct carried *carried = all; carried; carried = carried->next)
		if (is_running(carried) && !carried->open.corked && !carried->flushing)
			ask_time(carried);
}

/* Streams that have just been opened. */
static void look_after_new(int64_t now)
{
	for (struct carried *carried = all; carried; carried = carried->next) {
		if (carried->settled_at == 0 || carried->settled_at > now || !is_ready(carried))
			continue;
		carried->settled_at = 0;
		ask_mixer(carried);
	}
	for (struct carried *carried = all; carried; carried = carried->next)
		if (carried->filling && carried->filled_at > 0 && carried->filled_at <= now && is_ready(carried))
			start(carried);
}

static void try_refused(int64_t now)
{
	for (struct retry **place = &retries; *place;) {
		struct retry *retry = *place;
		if (retry->at > now) {
			place = &retry->next;
			continue;
		}
		send_message(&link_, MESSAGE_AGAIN, retry->number, NULL, 0);
		*place = retry->next;
		free(retry);
	}
}

/* A server that does not answer is none. */
static void watch_control(int64_t now)
{
	if (!control || now < watch_at)
		return;
	watch_at = now + WATCH_USEC;
	if (awaiting_watch || !control_ready) {
		close_control("it does not answer");
		return;
	}
	awaiting_watch = true;
	run(pa_context_get_server_info(control, on_server, NULL));
}

/* Does what is due, and returns until when nothing is. */
static int64_t take_care(void)
{
	int64_t now = now_usec();
	watch_control(now);
	if (!suspended && now >= try_at) {
		if (!control)
			open_control();
		else if (control_ready && link_.fd < 0)
			open_link();
	}
	if (now >= time_at)
		ask_all_times(now);
	look_after_new(now);
	try_refused(now);
	if (link_event) {
		if (!transmit(&link_))
			api->io_enable(link_event, PA_IO_EVENT_INPUT | PA_IO_EVENT_HANGUP);
		else
			api->io_enable(link_event, PA_IO_EVENT_INPUT | PA_IO_EVENT_HANGUP |
							  (link_.out.length > 0 ? PA_IO_EVENT_OUTPUT : PA_IO_EVENT_NULL));
	}
	int64_t next = control ? watch_at : INT64_MAX;
	if (!suspended && link_.fd < 0 && (!control || control_ready) && try_at < next)
		next = try_at > now ? try_at : now;
	for (const struct carried *carried = all; carried; carried = carried->next)
		if (is_running(carried) && !carried->open.corked && time_at < next)
			next = time_at;
	for (const struct carried *carried = all; carried; carried = carried->next)
		if (carried->settled_at > 0 && is_ready(carried) && carried->settled_at < next)
			next = carried->settled_at;
	for (const struct carried *carried = all; carried; carried = carried->next)
		if (carried->filling && carried->filled_at > 0 && carried->filled_at < next)
			next = carried->filled_at;
	for (const struct retry *retry = retries; retry; retry = retry->next)
		if (retry->at < next)
			next = retry->at;
	return next == INT64_MAX ? now + WATCH_USEC : next;
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: torpor-sound-relay RELAY_SOCKET NAME ICON\n");
		return 2;
	}
	socket_path = argv[1];
	default_name = argv[2];
	default_icon = argv[3];
	prctl(PR_SET_NAME, "torpor-sound-re");
	signal(SIGPIPE, SIG_IGN);
	loop = pa_mainloop_new();
	api = loop ? pa_mainloop_get_api(loop) : NULL;
	if (!api || !api->io_new(api, STDIN_FILENO, PA_IO_EVENT_INPUT | PA_IO_EVENT_HANGUP, on_told, NULL))
		die("libpulse gives no main loop");
	while (!quitting) {
		iterate(take_care());
		if (suspend_wanted)
			suspend_all();
		suspend_wanted = false;
	}
	return 0;
}
