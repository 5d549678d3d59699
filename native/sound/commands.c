/* What clients ask for, in PulseAudio's native protocol: https://gitlab.freedesktop.org/pulseaudio/pulseaudio, PROTOCOL. */
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "../common.h"
#include "server.h"

enum {
	COMMAND_CREATE_PLAYBACK_STREAM = 3,
	COMMAND_DELETE_PLAYBACK_STREAM = 4,
	COMMAND_CREATE_RECORD_STREAM = 5,
	COMMAND_DELETE_RECORD_STREAM = 6,
	COMMAND_AUTH = 8,
	COMMAND_SET_CLIENT_NAME = 9,
	COMMAND_DRAIN_PLAYBACK_STREAM = 12,
	COMMAND_GET_PLAYBACK_LATENCY = 14,
	COMMAND_PLAY_SAMPLE = 18,
	COMMAND_SUBSCRIBE = 35,
	COMMAND_SET_SINK_VOLUME = 36,
	COMMAND_SET_SINK_INPUT_VOLUME = 37,
	COMMAND_SET_SOURCE_VOLUME = 38,
	COMMAND_SET_SINK_MUTE = 39,
	COMMAND_SET_SOURCE_MUTE = 40,
	COMMAND_CORK_PLAYBACK_STREAM = 41,
	COMMAND_FLUSH_PLAYBACK_STREAM = 42,
	COMMAND_TRIGGER_PLAYBACK_STREAM = 43,
	COMMAND_SET_DEFAULT_SINK = 44,
	COMMAND_SET_DEFAULT_SOURCE = 45,
	COMMAND_SET_PLAYBACK_STREAM_NAME = 46,
	COMMAND_SET_RECORD_STREAM_NAME = 47,
	COMMAND_KILL_SINK_INPUT = 49,
	COMMAND_KILL_SOURCE_OUTPUT = 50,
	COMMAND_GET_RECORD_LATENCY = 57,
	COMMAND_CORK_RECORD_STREAM = 58,
	COMMAND_FLUSH_RECORD_STREAM = 59,
	COMMAND_PREBUF_PLAYBACK_STREAM = 60,
	COMMAND_MOVE_SINK_INPUT = 67,
	COMMAND_MOVE_SOURCE_OUTPUT = 68,
	COMMAND_SET_SINK_INPUT_MUTE = 69,
	COMMAND_SUSPEND_SINK = 70,
	COMMAND_SUSPEND_SOURCE = 71,
	COMMAND_SET_PLAYBACK_STREAM_BUFFER_ATTR = 72,
	COMMAND_SET_RECORD_STREAM_BUFFER_ATTR = 73,
	COMMAND_UPDATE_PLAYBACK_STREAM_SAMPLE_RATE = 74,
	COMMAND_UPDATE_RECORD_STREAM_SAMPLE_RATE = 75,
	COMMAND_UPDATE_RECORD_STREAM_PROPLIST = 80,
	COMMAND_UPDATE_PLAYBACK_STREAM_PROPLIST = 81,
	COMMAND_UPDATE_CLIENT_PROPLIST = 82,
	COMMAND_REMOVE_RECORD_STREAM_PROPLIST = 83,
	COMMAND_REMOVE_PLAYBACK_STREAM_PROPLIST = 84,
	COMMAND_REMOVE_CLIENT_PROPLIST = 85,
	COMMAND_EXTENSION = 87,
	COMMAND_SET_SOURCE_OUTPUT_VOLUME = 98,
	COMMAND_SET_SOURCE_OUTPUT_MUTE = 99,
};

#define MASK_OF(facility) (1u << (facility))

struct bytes begin_command(uint32_t command, uint32_t tag)
{
	struct bytes message = {0};
	put_u32(&message, command);
	put_u32(&message, tag);
	return message;
}

void send_command(struct client *client, struct bytes *command)
{
	/* Length, channel (none), offset and flags, all big-endian. */
	uint8_t frame[20] = {(uint8_t)(command->length >> 24), (uint8_t)(command->length >> 16),
			     (uint8_t)(command->length >> 8),  (uint8_t)command->length,
			     0xff, 0xff, 0xff, 0xff};
	append(&client->connection.out, frame, sizeof(frame));
	append(&client->connection.out, command->data, command->length);
	free(command->data);
	*command = (struct bytes){0};
}

void acknowledge(struct client *client, uint32_t tag)
{
	struct bytes reply = begin_command(COMMAND_REPLY, tag);
	send_command(client, &reply);
}

void refuse(struct client *client, uint32_t tag, enum error error)
{
	struct bytes reply = begin_command(COMMAND_ERROR, tag);
	put_u32(&reply, (uint32_t)error);
	send_command(client, &reply);
}

void tell_subscribers(enum facility facility, enum event event, uint32_t number)
{
	for (struct client *client = server.clients; client; client = client->next) {
		if (!(client->events & MASK_OF(facility)))
			continue;
		struct bytes message = begin_command(COMMAND_SUBSCRIBE_EVENT, NO_TAG);
		put_u32(&message, (uint32_t)facility | (uint32_t)event);
		put_u32(&message, number);
		send_command(client, &message);
	}
}

void tell_change(const struct stream *stream)
{
	tell_subscribers(stream->recording ? FACILITY_RECORDING : FACILITY_PLAYBACK, EVENT_CHANGE, stream->number);
}

/* ---- greeting ---- */

static void authorise(struct client *client, uint32_t tag, struct reader *reader)
{
	/* The upper half asks for shared memory, which could not be suspended by itself. Who reaches the socket is the user. */
	uint32_t version = read_u32(reader) & 0xffff;
	skip_arbitrary(reader);
	if (reader->failed || version < 13) {
		refuse(client, tag, ERROR_ACCESS);
		return;
	}
	client->version = version < PROTOCOL_VERSION ? version : PROTOCOL_VERSION;
	client->authorised = true;
	struct bytes reply = begin_command(COMMAND_REPLY, tag);
	put_u32(&reply, PROTOCOL_VERSION);
	send_command(client, &reply);
}

static void name_client(struct client *client, uint32_t tag, struct reader *reader)
{
	read_properties(reader, &client->properties);
	struct bytes reply = begin_command(COMMAND_REPLY, tag);
	put_u32(&reply, client->number);
	send_command(client, &reply);
	tell_subscribers(FACILITY_CLIENT, EVENT_NEW, client->number);
}

/* ---- streams ---- */

/* Of the formats a client can give, the first that is plain samples. */
static void read_formats(struct reader *reader, struct stream *stream)
{
	bool found = false;
	for (unsigned int left = read_u8(reader); left > 0 && !reader->failed; left--) {
		struct properties properties = {0};
		uint8_t encoding = read_format(reader, &properties);
		if (encoding == ENCODING_PCM && !found) {
			found = true;
			if (!is_valid_spec(&stream->spec))
				stream->spec = (struct sample_spec){48000, FORMAT_S16LE, 2};
			read_format_properties(&properties, &stream->spec, &stream->map);
		}
		free_properties(&properties);
	}
}

/* no_remap, no_remix, fix_format, fix_rate, fix_channels, no_move: for a server that mixes. Then: a rate that can change. */
static void read_stream_flags(struct reader *reader, struct stream *stream)
{
	for (int index = 0; index < 6; index++)
		read_bool(reader);
	stream->variable_rate = read_bool(reader);
}

static struct stream *new_stream(struct client *client, bool recording)
{
	struct stream *stream = calloc(1, sizeof(*stream));
	if (!stream)
		die("out of memory");
	stream->client = client;
	stream->recording = recording;
	stream->wished = (struct buffer_sizes){INVALID, INVALID, INVALID, INVALID, INVALID};
	/* A stream has the name and picture of its program, unless it has one of its own. */
	update_properties(&stream->properties, UPDATE_REPLACE, &client->properties);
	return stream;
}

static void forget_stream(struct stream *stream)
{
	free_properties(&stream->properties);
	free(stream);
}

/* Fills in what the client left open. Returns false where it makes no sense. */
static bool complete_stream(struct stream *stream)
{
	if (!is_valid_spec(&stream->spec))
		return false;
	if (stream->map.channels != stream->spec.channels)
		stream->map = default_map(stream->spec.channels);
	if (stream->volume.channels != stream->spec.channels) {
		stream->volume_set = false;
		stream->volume = (struct volume){.channels = stream->spec.channels};
		for (unsigned int index = 0; index < stream->spec.channels; index++)
			stream->volume.values[index] = NORMAL_VOLUME;
	}
	adjust_sizes(stream);
	stream->channel = stream->client->next_channel++;
	stream->number = server.next_stream++;
	return true;
}

static void create_playback(struct client *client, uint32_t tag, struct reader *reader)
{
	struct stream *stream = new_stream(client, false);
	stream->spec = read_spec_value(reader);
	stream->map = read_map(reader);
	read_u32(reader); /* which sink: there is one */
	read_string(reader);
	stream->wished.maximum = read_u32(reader);
	stream->corked = read_bool(reader);
	stream->wished.target = read_u32(reader);
	stream->wished.prebuffer = read_u32(reader);
	stream->wished.request = read_u32(reader);
	read_u32(reader); /* with which others it is in step */
	stream->volume = read_volume(reader);
	read_stream_flags(reader, stream);
	stream->muted = read_bool(reader);
	stream->adjust_latency = read_bool(reader);
	read_properties(reader, &stream->properties);
	if (client->version >= 14) {
		stream->volume_set = read_bool(reader);
		stream->early_requests = read_bool(reader);
	}
	if (client->version >= 15) {
		stream->mute_set = read_bool(reader);
		read_bool(reader); /* dont_inhibit_auto_suspend */
		read_bool(reader); /* fail_on_suspend */
	}
	if (client->version >= 17)
		read_bool(reader); /* relative_volume */
	if (client->version >= 18)
		read_bool(reader); /* passthrough */
	if (client->version >= 21)
		read_formats(reader, stream);
	if (reader->failed || !complete_stream(stream)) {
		forget_stream(stream);
		refuse(client, tag, ERROR_INVALID);
		return;
	}
	stream->requested = stream->sizes.target;
	struct bytes reply = begin_command(COMMAND_REPLY, tag);
	put_u32(&reply, stream->channel);
	put_u32(&reply, stream->number);
	put_u32(&reply, stream->sizes.target);
	put_u32(&reply, stream->sizes.maximum);
	put_u32(&reply, stream->sizes.target);
	put_u32(&reply, stream->sizes.prebuffer);
	put_u32(&reply, stream->sizes.request);
	put_spec(&reply, &stream->spec);
	put_map(&reply, &stream->map);
	put_u32(&reply, 0);
	put_string(&reply, SINK_NAME);
	put_bool(&reply, false);
	put_usec(&reply, 0);
	if (client->version >= 21)
		put_format(&reply, &stream->spec, &stream->map);
	send_command(client, &reply);
	start_stream(stream);
	advance(stream, now_usec());
}

/* Of what is played there is nothing to be heard: neither of a device, nor, as a level, of one stream. */
static bool is_monitor(const char *source, uint32_t stream)
{
	static const char ending[] = ".monitor";
	size_t length = source ? strlen(source) : 0;
	return stream != INVALID || (source && strcmp(source, "@DEFAULT_MONITOR@") == 0) ||
	       (length >= sizeof(ending) - 1 && strcmp(source + length - (sizeof(ending) - 1), ending) == 0);
}

static void create_record(struct client *client, uint32_t tag, struct reader *reader)
{
	struct stream *stream = new_stream(client, true);
	stream->spec = read_spec_value(reader);
	stream->map = read_map(reader);
	read_u32(reader); /* which source: there is one */
	const char *source = read_string(reader);
	stream->wished.maximum = read_u32(reader);
	stream->corked = read_bool(reader);
	stream->wished.fragment = read_u32(reader);
	read_stream_flags(reader, stream);
	read_bool(reader); /* peak_detect */
	stream->adjust_latency = read_bool(reader);
	read_properties(reader, &stream->properties);
	bool of_monitor = is_monitor(source, read_u32(reader));
	if (client->version >= 14)
		stream->early_requests = read_bool(reader);
	if (client->version >= 15) {
		read_bool(reader);
		read_bool(reader);
	}
	if (client->version >= 22) {
		read_formats(reader, stream);
		stream->volume = read_volume(reader);
		stream->muted = read_bool(reader);
		stream->volume_set = read_bool(reader);
		stream->mute_set = read_bool(reader);
		read_bool(reader);
		read_bool(reader);
	}
	if (reader->failed || of_monitor || !complete_stream(stream)) {
		forget_stream(stream);
		refuse(client, tag, !reader->failed && of_monitor ? ERROR_NO_ENTITY : ERROR_INVALID);
		return;
	}
	struct bytes reply = begin_command(COMMAND_REPLY, tag);
	put_u32(&reply, stream->channel);
	put_u32(&reply, stream->number);
	put_u32(&reply, stream->sizes.maximum);
	put_u32(&reply, stream->sizes.fragment);
	put_spec(&reply, &stream->spec);
	put_map(&reply, &stream->map);
	put_u32(&reply, 0);
	put_string(&reply, SOURCE_NAME);
	put_bool(&reply, false);
	put_usec(&reply, 0);
	if (client->version >= 22)
		put_format(&reply, &stream->spec, &stream->map);
	send_command(client, &reply);
	start_stream(stream);
	advance(stream, now_usec());
}

static void tell_latency(struct stream *stream, uint32_t tag, struct reader *reader)
{
	uint32_t asked_at[2];
	read_time(reader, asked_at);
	struct timeval wall;
	gettimeofday(&wall, NULL);
	advance(stream, now_usec());
	uint32_t now[2] = {(uint32_t)wall.tv_sec, (uint32_t)wall.tv_usec};
	bool playing = stream->recording ? !stream->corked : is_playing(stream);
	struct bytes reply = begin_command(COMMAND_REPLY, tag);
	put_usec(&reply, stream->recording ? 0 : (uint64_t)stream->delay_usec);
	put_usec(&reply, 0);
	put_bool(&reply, playing);
	put_time(&reply, asked_at);
	put_time(&reply, now);
	put_s64(&reply, stream->recording ? stream->delivered + (int64_t)stream->recorded.length : stream->written);
	put_s64(&reply, stream->recording ? stream->delivered : heard_now(stream));
	if (!stream->recording) {
		put_u64(&reply, playing ? 0 : UINT64_MAX);
		put_u64(&reply, playing ? (uint64_t)(heard_now(stream) - stream->playing_since) : 0);
	}
	send_command(stream->client, &reply);
}

static void change_sizes(struct stream *stream, uint32_t tag, struct reader *reader)
{
	stream->wished.maximum = read_u32(reader);
	if (stream->recording) {
		stream->wished.fragment = read_u32(reader);
	} else {
		stream->wished.target = read_u32(reader);
		stream->wished.prebuffer = read_u32(reader);
		stream->wished.request = read_u32(reader);
	}
	stream->adjust_latency = read_bool(reader);
	if (stream->client->version >= 14)
		stream->early_requests = read_bool(reader);
	adjust_sizes(stream);
	send_message(&server.relay, MESSAGE_SIZES, stream->number, &stream->wished, sizeof(stream->wished));
	struct bytes reply = begin_command(COMMAND_REPLY, tag);
	put_u32(&reply, stream->sizes.maximum);
	if (stream->recording) {
		put_u32(&reply, stream->sizes.fragment);
	} else {
		put_u32(&reply, stream->sizes.target);
		put_u32(&reply, stream->sizes.prebuffer);
		put_u32(&reply, stream->sizes.request);
	}
	put_usec(&reply, 0);
	send_command(stream->client, &reply);
}

static void change_properties(struct stream *stream)
{
	send_properties(stream);
	tell_change(stream);
}

static void update_stream_properties(struct stream *stream, struct reader *reader)
{
	enum update update = read_u32(reader);
	struct properties properties = {0};
	read_properties(reader, &properties);
	update_properties(&stream->properties, update, &properties);
	free_properties(&properties);
	change_properties(stream);
}

static void remove_named(struct properties *properties, struct reader *reader)
{
	for (const char *name; (name = read_string(reader));)
		remove_property(properties, name);
}

/* What concerns one stream by its number on this connection. */
static bool act_on_stream(struct client *client, uint32_t command, uint32_t tag, struct reader *reader)
{
	static const uint8_t recording_commands[] = {
		COMMAND_DELETE_RECORD_STREAM,	       COMMAND_SET_RECORD_STREAM_NAME,
		COMMAND_GET_RECORD_LATENCY,	       COMMAND_CORK_RECORD_STREAM,
		COMMAND_FLUSH_RECORD_STREAM,	       COMMAND_SET_RECORD_STREAM_BUFFER_ATTR,
		COMMAND_UPDATE_RECORD_STREAM_SAMPLE_RATE, COMMAND_UPDATE_RECORD_STREAM_PROPLIST,
		COMMAND_REMOVE_RECORD_STREAM_PROPLIST};
	static const uint8_t playback_commands[] = {
		COMMAND_DELETE_PLAYBACK_STREAM,	    COMMAND_SET_PLAYBACK_STREAM_NAME,
		COMMAND_GET_PLAYBACK_LATENCY,	    COMMAND_CORK_PLAYBACK_STREAM,
		COMMAND_FLUSH_PLAYBACK_STREAM,	    COMMAND_SET_PLAYBACK_STREAM_BUFFER_ATTR,
		COMMAND_UPDATE_PLAYBACK_STREAM_SAMPLE_RATE, COMMAND_UPDATE_PLAYBACK_STREAM_PROPLIST,
		COMMAND_REMOVE_PLAYBACK_STREAM_PROPLIST, COMMAND_DRAIN_PLAYBACK_STREAM,
		COMMAND_TRIGGER_PLAYBACK_STREAM,    COMMAND_PREBUF_PLAYBACK_STREAM};
	bool recording = command < 256 && memchr(recording_commands, (int)command, sizeof(recording_commands));
	if (!recording && (command > 255 || !memchr(playback_commands, (int)command, sizeof(playback_commands))))
		return false;
	struct stream *stream = find_stream(client, read_u32(reader), recording);
	if (!stream) {
		refuse(client, tag, ERROR_NO_ENTITY);
		return true;
	}
	switch (command) {
	case COMMAND_GET_PLAYBACK_LATENCY:
	case COMMAND_GET_RECORD_LATENCY:
		tell_latency(stream, tag, reader);
		return true;
	case COMMAND_SET_PLAYBACK_STREAM_BUFFER_ATTR:
	case COMMAND_SET_RECORD_STREAM_BUFFER_ATTR:
		change_sizes(stream, tag, reader);
		return true;
	case COMMAND_DRAIN_PLAYBACK_STREAM:
		drain_stream(stream, tag);
		return true;
	case COMMAND_DELETE_PLAYBACK_STREAM:
	case COMMAND_DELETE_RECORD_STREAM:
		end_stream(stream);
		break;
	case COMMAND_CORK_PLAYBACK_STREAM:
	case COMMAND_CORK_RECORD_STREAM:
		cork_stream(stream, read_bool(reader));
		break;
	case COMMAND_FLUSH_PLAYBACK_STREAM:
	case COMMAND_FLUSH_RECORD_STREAM:
		flush_stream(stream);
		break;
	case COMMAND_TRIGGER_PLAYBACK_STREAM:
		set_prebuffering(stream, false);
		advance(stream, now_usec());
		break;
	case COMMAND_PREBUF_PLAYBACK_STREAM:
		set_prebuffering(stream, stream->sizes.prebuffer > 0);
		break;
	case COMMAND_SET_PLAYBACK_STREAM_NAME:
	case COMMAND_SET_RECORD_STREAM_NAME: {
		const char *name = read_string(reader);
		set_text_property(&stream->properties, "media.name", name ? name : "");
		change_properties(stream);
		break;
	}
	case COMMAND_UPDATE_PLAYBACK_STREAM_SAMPLE_RATE:
	case COMMAND_UPDATE_RECORD_STREAM_SAMPLE_RATE: {
		struct sample_spec changed = stream->spec;
		changed.rate = read_u32(reader);
		if (!is_valid_spec(&changed)) {
			refuse(client, tag, ERROR_INVALID);
			return true;
		}
		stream->spec = changed;
		send_message(&server.relay, MESSAGE_RATE, stream->number, &changed.rate, sizeof(changed.rate));
		tell_change(stream);
		break;
	}
	case COMMAND_UPDATE_PLAYBACK_STREAM_PROPLIST:
	case COMMAND_UPDATE_RECORD_STREAM_PROPLIST:
		update_stream_properties(stream, reader);
		break;
	default:
		remove_named(&stream->properties, reader);
		change_properties(stream);
	}
	acknowledge(client, tag);
	return true;
}

/* What concerns one stream by the number that everybody sees. */
static bool act_on_numbered(struct client *client, uint32_t command, uint32_t tag, struct reader *reader)
{
	bool is_volume = command == COMMAND_SET_SINK_INPUT_VOLUME || command == COMMAND_SET_SOURCE_OUTPUT_VOLUME;
	bool is_mute = command == COMMAND_SET_SINK_INPUT_MUTE || command == COMMAND_SET_SOURCE_OUTPUT_MUTE;
	bool is_kill = command == COMMAND_KILL_SINK_INPUT || command == COMMAND_KILL_SOURCE_OUTPUT;
	if (!is_volume && !is_mute && !is_kill)
		return false;
	bool recording = command == COMMAND_SET_SOURCE_OUTPUT_VOLUME || command == COMMAND_SET_SOURCE_OUTPUT_MUTE ||
			 command == COMMAND_KILL_SOURCE_OUTPUT;
	struct stream *stream = find_numbered(read_u32(reader), recording);
	if (!stream) {
		refuse(client, tag, ERROR_NO_ENTITY);
		return true;
	}
	if (is_kill) {
		kill_stream(stream);
	} else if (is_volume) {
		struct volume volume = read_volume(reader);
		/* One value is for all channels. */
		for (unsigned int index = volume.channels; volume.channels == 1 && index < stream->spec.channels; index++)
			volume.values[index] = volume.values[0];
		if (volume.channels == 1)
			volume.channels = stream->spec.channels;
		if (reader->failed || volume.channels != stream->spec.channels) {
			refuse(client, tag, ERROR_INVALID);
			return true;
		}
		set_stream_volume(stream, &volume);
	} else {
		set_stream_mute(stream, read_bool(reader));
	}
	acknowledge(client, tag);
	return true;
}

static void update_client(struct client *client, struct reader *reader)
{
	enum update update = read_u32(reader);
	struct properties properties = {0};
	read_properties(reader, &properties);
	update_properties(&client->properties, update, &properties);
	free_properties(&properties);
	tell_subscribers(FACILITY_CLIENT, EVENT_CHANGE, client->number);
}

static void act(struct client *client, uint32_t command, uint32_t tag, struct reader *reader)
{
	switch (command) {
	case COMMAND_SET_CLIENT_NAME:
		name_client(client, tag, reader);
		return;
	case COMMAND_CREATE_PLAYBACK_STREAM:
		create_playback(client, tag, reader);
		return;
	case COMMAND_CREATE_RECORD_STREAM:
		create_record(client, tag, reader);
		return;
	case COMMAND_SUBSCRIBE:
		client->events = read_u32(reader);
		break;
	case COMMAND_UPDATE_CLIENT_PROPLIST:
		update_client(client, reader);
		break;
	case COMMAND_REMOVE_CLIENT_PROPLIST:
		remove_named(&client->properties, reader);
		break;
	case COMMAND_PLAY_SAMPLE:
		/* None was uploaded: who asks has the sound itself and plays it as a stream. */
		refuse(client, tag, ERROR_NO_ENTITY);
		return;
	case COMMAND_EXTENSION:
		refuse(client, tag, ERROR_NO_EXTENSION);
		return;
	/* There is one device inside; the user chooses and adjusts the real one outside. */
	case COMMAND_SET_SINK_VOLUME:
	case COMMAND_SET_SOURCE_VOLUME:
	case COMMAND_SET_SINK_MUTE:
	case COMMAND_SET_SOURCE_MUTE:
	case COMMAND_SET_DEFAULT_SINK:
	case COMMAND_SET_DEFAULT_SOURCE:
	case COMMAND_MOVE_SINK_INPUT:
	case COMMAND_MOVE_SOURCE_OUTPUT:
	case COMMAND_SUSPEND_SINK:
	case COMMAND_SUSPEND_SOURCE:
		break;
	default:
		if (!act_on_stream(client, command, tag, reader) && !act_on_numbered(client, command, tag, reader) &&
		    !describe(client, command, tag, reader))
			refuse(client, tag, ERROR_NOT_IMPLEMENTED);
		return;
	}
	acknowledge(client, tag);
}

void handle_command(struct client *client, const uint8_t *data, size_t length)
{
	struct reader reader = {.data = data, .length = length};
	uint32_t command = read_u32(&reader), tag = read_u32(&reader);
	if (reader.failed) {
		client->doomed = true;
		return;
	}
	if (command == COMMAND_AUTH)
		authorise(client, tag, &reader);
	else if (client->authorised)
		act(client, command, tag, &reader);
	else
		refuse(client, tag, ERROR_ACCESS);
}
