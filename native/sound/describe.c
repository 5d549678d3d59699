/* What clients can look at: one sink, one source, the clients and their streams. No module, card or sample. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server.h"

enum {
	COMMAND_LOOKUP_SINK = 10,
	COMMAND_LOOKUP_SOURCE = 11,
	COMMAND_STAT = 13,
	COMMAND_GET_SERVER_INFO = 20,
	COMMAND_GET_SINK_INFO = 21,
	COMMAND_GET_SINK_INFO_LIST = 22,
	COMMAND_GET_SOURCE_INFO = 23,
	COMMAND_GET_SOURCE_INFO_LIST = 24,
	COMMAND_GET_MODULE_INFO = 25,
	COMMAND_GET_MODULE_INFO_LIST = 26,
	COMMAND_GET_CLIENT_INFO = 27,
	COMMAND_GET_CLIENT_INFO_LIST = 28,
	COMMAND_GET_SINK_INPUT_INFO = 29,
	COMMAND_GET_SINK_INPUT_INFO_LIST = 30,
	COMMAND_GET_SOURCE_OUTPUT_INFO = 31,
	COMMAND_GET_SOURCE_OUTPUT_INFO_LIST = 32,
	COMMAND_GET_SAMPLE_INFO = 33,
	COMMAND_GET_SAMPLE_INFO_LIST = 34,
	COMMAND_GET_CARD_INFO = 88,
	COMMAND_GET_CARD_INFO_LIST = 89,
};

#define DRIVER "torpor"
#define STATE_RUNNING 0

static const struct sample_spec usual_spec = {48000, FORMAT_S16LE, 2};

static bool is_device(const char *name, const char *own, const char *usual)
{
	return !name || strcmp(name, own) == 0 || strcmp(name, usual) == 0;
}

/* A sink and a source are told alike. */
static void put_device(struct bytes *reply, const struct client *client, bool is_source)
{
	struct channel_map map = default_map(usual_spec.channels);
	struct volume volume = {2, {NORMAL_VOLUME, NORMAL_VOLUME}};
	struct properties properties = {0};
	set_text_property(&properties, "device.class", "sound");
	set_text_property(&properties, "device.description", is_source ? "Microphone" : "Speakers");
	set_text_property(&properties, "device.icon_name", is_source ? "audio-input-microphone" : "audio-speakers");
	put_u32(reply, 0);
	put_string(reply, is_source ? SOURCE_NAME : SINK_NAME);
	put_string(reply, is_source ? "Microphone" : "Speakers");
	put_spec(reply, &usual_spec);
	put_map(reply, &map);
	put_u32(reply, INVALID);
	put_volume(reply, &volume);
	put_bool(reply, false);
	put_u32(reply, INVALID); /* no monitor: what others play is not to be listened to */
	put_string(reply, NULL);
	put_usec(reply, 0);
	put_string(reply, DRIVER);
	put_u32(reply, 0x0002); /* can tell its latency */
	put_properties(reply, &properties);
	put_usec(reply, 0);
	if (client->version >= 15) {
		put_base_volume(reply, NORMAL_VOLUME);
		put_u32(reply, STATE_RUNNING);
		put_u32(reply, NORMAL_VOLUME + 1);
		put_u32(reply, INVALID);
	}
	if (client->version >= 16) {
		put_u32(reply, 0);
		put_string(reply, NULL);
	}
	if (client->version >= (is_source ? 22 : 21)) {
		put_u8(reply, 1);
		put_format(reply, &usual_spec, &map);
	}
	free_properties(&properties);
}

static void put_client(struct bytes *reply, const struct client *about)
{
	const char *name = property_text(&about->properties, "application.name");
	put_u32(reply, about->number);
	put_string(reply, name ? name : "");
	put_u32(reply, INVALID);
	put_string(reply, DRIVER);
	put_properties(reply, &about->properties);
}

static void put_stream(struct bytes *reply, const struct client *client, const struct stream *stream)
{
	const char *name = property_text(&stream->properties, "media.name");
	put_u32(reply, stream->number);
	put_string(reply, name ? name : "");
	put_u32(reply, INVALID);
	put_u32(reply, stream->client->number);
	put_u32(reply, 0);
	put_spec(reply, &stream->spec);
	put_map(reply, &stream->map);
	if (!stream->recording)
		put_volume(reply, &stream->volume);
	put_usec(reply, stream->recording ? 0 : (uint64_t)usec_of_bytes(&stream->spec, stream->written - heard_now(stream)));
	put_usec(reply, (uint64_t)stream->delay_usec);
	put_string(reply, NULL);
	put_string(reply, DRIVER);
	if (!stream->recording)
		put_bool(reply, stream->muted);
	put_properties(reply, &stream->properties);
	if (client->version >= 19)
		put_bool(reply, stream->corked);
	if (!stream->recording && client->version >= 20) {
		put_bool(reply, true);
		put_bool(reply, true);
	}
	if (stream->recording && client->version >= 22) {
		put_volume(reply, &stream->volume);
		put_bool(reply, stream->muted);
		put_bool(reply, true);
		put_bool(reply, true);
	}
	if (client->version >= (stream->recording ? 22 : 21))
		put_format(reply, &stream->spec, &stream->map);
}

static void put_server(struct bytes *reply, const struct client *client)
{
	char host[256] = "";
	gethostname(host, sizeof(host) - 1);
	struct channel_map map = default_map(usual_spec.channels);
	put_string(reply, "torpor");
	/* Some programs ask for features by PulseAudio's own version. */
	put_string(reply, "16.1");
	put_string(reply, "");
	put_string(reply, host);
	put_spec(reply, &usual_spec);
	put_string(reply, SINK_NAME);
	put_string(reply, SOURCE_NAME);
	put_u32(reply, 0x746f7270);
	if (client->version >= 15)
		put_map(reply, &map);
}

static void describe_device(struct client *client, uint32_t tag, struct reader *reader, bool is_source, bool by_index)
{
	uint32_t index = by_index ? read_u32(reader) : INVALID;
	const char *name = read_string(reader);
	bool found = index == 0 || (index == INVALID && is_device(name, is_source ? SOURCE_NAME : SINK_NAME,
								  is_source ? "@DEFAULT_SOURCE@" : "@DEFAULT_SINK@"));
	if (!found) {
		refuse(client, tag, ERROR_NO_ENTITY);
		return;
	}
	struct bytes reply = begin_command(COMMAND_REPLY, tag);
	if (by_index)
		put_device(&reply, client, is_source);
	else
		put_u32(&reply, 0);
	send_command(client, &reply);
}

static void describe_stream(struct client *client, uint32_t tag, struct reader *reader, bool recording)
{
	const struct stream *stream = find_numbered(read_u32(reader), recording);
	if (!stream) {
		refuse(client, tag, ERROR_NO_ENTITY);
		return;
	}
	struct bytes reply = begin_command(COMMAND_REPLY, tag);
	put_stream(&reply, client, stream);
	send_command(client, &reply);
}

static void describe_client(struct client *client, uint32_t tag, struct reader *reader)
{
	uint32_t number = read_u32(reader);
	for (const struct client *about = server.clients; about; about = about->next) {
		if (about->number != number)
			continue;
		struct bytes reply = begin_command(COMMAND_REPLY, tag);
		put_client(&reply, about);
		send_command(client, &reply);
		return;
	}
	refuse(client, tag, ERROR_NO_ENTITY);
}

static void put_streams(struct bytes *reply, const struct client *client, bool recording)
{
	for (const struct stream *stream = server.streams; stream; stream = stream->next)
		if (stream->recording == recording)
			put_stream(reply, client, stream);
}

/* Fills in the reply to a question without arguments. Returns false where it is none. */
static bool answer(struct bytes *reply, const struct client *client, uint32_t command)
{
	switch (command) {
	case COMMAND_STAT:
		for (int index = 0; index < 5; index++)
			put_u32(reply, 0);
		return true;
	case COMMAND_GET_SERVER_INFO:
		put_server(reply, client);
		return true;
	case COMMAND_GET_SINK_INFO_LIST:
	case COMMAND_GET_SOURCE_INFO_LIST:
		put_device(reply, client, command == COMMAND_GET_SOURCE_INFO_LIST);
		return true;
	case COMMAND_GET_CLIENT_INFO_LIST:
		for (const struct client *about = server.clients; about; about = about->next)
			put_client(reply, about);
		return true;
	case COMMAND_GET_SINK_INPUT_INFO_LIST:
	case COMMAND_GET_SOURCE_OUTPUT_INFO_LIST:
		put_streams(reply, client, command == COMMAND_GET_SOURCE_OUTPUT_INFO_LIST);
		return true;
	case COMMAND_GET_MODULE_INFO_LIST:
	case COMMAND_GET_SAMPLE_INFO_LIST:
	case COMMAND_GET_CARD_INFO_LIST:
		return true;
	default:
		return false;
	}
}

bool describe(struct client *client, uint32_t command, uint32_t tag, struct reader *reader)
{
	switch (command) {
	case COMMAND_LOOKUP_SINK:
	case COMMAND_LOOKUP_SOURCE:
		describe_device(client, tag, reader, command == COMMAND_LOOKUP_SOURCE, false);
		return true;
	case COMMAND_GET_SINK_INFO:
	case COMMAND_GET_SOURCE_INFO:
		describe_device(client, tag, reader, command == COMMAND_GET_SOURCE_INFO, true);
		return true;
	case COMMAND_GET_SINK_INPUT_INFO:
	case COMMAND_GET_SOURCE_OUTPUT_INFO:
		describe_stream(client, tag, reader, command == COMMAND_GET_SOURCE_OUTPUT_INFO);
		return true;
	case COMMAND_GET_CLIENT_INFO:
		describe_client(client, tag, reader);
		return true;
	case COMMAND_GET_MODULE_INFO:
	case COMMAND_GET_SAMPLE_INFO:
	case COMMAND_GET_CARD_INFO:
		refuse(client, tag, ERROR_NO_ENTITY);
		return true;
	}
	struct bytes reply = begin_command(COMMAND_REPLY, tag);
	bool known = answer(&reply, client, command);
	if (known)
		send_command(client, &reply);
	else
		free(reply.data);
	return known;
}
