/* The link to the relay, which carries the streams to the user's own sound server. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server.h"

/* How long streams stand still for a relay that has gone: a restart of the user's sound server takes less. */
#define PATIENCE_USEC 10000000

void open_at_relay(struct stream *stream)
{
	struct open_stream open = {
		.version = RELAY_VERSION,
		.client = stream->client->number,
		.epoch = ++stream->epoch,
		.recording = stream->recording,
		.corked = stream->corked,
		.volume_set = stream->volume_set,
		.mute_set = stream->mute_set,
		.muted = stream->muted,
		.adjust_latency = stream->adjust_latency,
		.early_requests = stream->early_requests,
		.variable_rate = stream->variable_rate,
		.start = stream->sent,
		.spec = stream->spec,
		.map = stream->map,
		.volume = stream->volume,
		.sizes = stream->wished,
	};
	memcpy(open.device, stream->device, sizeof(open.device));
	stream->carrier = CARRIER_RELAY;
	stream->refused = false;
	stream->heard = stream->wanted_until = stream->sent;
	stream->wanted_capacity = 0;
	/* What was told of time was told by another server. */
	stream->carried_from = stream->out = stream->sent;
	stream->heard_at = stream->out_at = stream->delay_usec = 0;
	struct bytes properties = {0};
	write_properties(&properties, &stream->properties);
	/* Without them rather than not at all. */
	if (properties.length > MESSAGE_MAX)
		properties.length = 0;
	send_message_parts(&server.relay, MESSAGE_OPEN, stream->number, &open, sizeof(open), properties.data,
			   properties.length);
	free(properties.data);
}

void send_properties(const struct stream *stream)
{
	struct bytes properties = {0};
	write_properties(&properties, &stream->properties);
	if (properties.length <= MESSAGE_MAX)
		send_message(&server.relay, MESSAGE_PROPERTIES, stream->number, properties.data, properties.length);
	free(properties.data);
}

void relay_came(int fd)
{
	/* The newer one is right: the other may have been lost with the engine that started it. */
	if (server.relay.fd >= 0)
		relay_went();
	server.relay.fd = fd;
	for (struct stream *stream = server.streams; stream; stream = stream->next)
		open_at_relay(stream);
}

/* Goes on from what is known to have been heard; samples that were sent since then are sent again. */
static void rewind_to(struct stream *stream, int64_t heard)
{
	if (heard > stream->sent)
		heard = stream->sent;
	if (heard < stream->first_kept)
		heard = stream->first_kept;
	stream->heard = stream->sent = heard;
	stream->carrier = CARRIER_NONE;
	stream->live = false;
	stream->delay_usec = 0;
	stream->clock_at = now_usec();
}

void relay_went(void)
{
	disconnect(&server.relay);
	server.patience_until = now_usec() + PATIENCE_USEC;
	for (struct stream *stream = server.streams; stream; stream = stream->next)
		if (stream->carrier == CARRIER_RELAY)
			rewind_to(stream, out_now(stream));
}

/* Copies what a message holds; returns false where it is of another length. */
static bool copy(void *target, size_t size, const struct message *message, const uint8_t *contents)
{
	if (message->length != size)
		return false;
	memcpy(target, contents, size);
	return true;
}

static bool hear_of_wishes(struct stream *stream, const struct message *message, const uint8_t *contents)
{
	struct wanted wanted;
	if (!copy(&wanted, sizeof(wanted), message, contents))
		return false;
	if (!is_position(wanted.until))
		return false;
	if (wanted.epoch != stream->epoch)
		return true;
	stream->wanted_until = wanted.until;
	stream->wanted_capacity = wanted.capacity;
	tell_target(stream);
	return true;
}

static bool hear_of_time(struct stream *stream, const struct message *message, const uint8_t *contents)
{
	struct timing timing;
	if (!copy(&timing, sizeof(timing), message, contents))
		return false;
	if (!is_position(timing.heard) || timing.delay_usec > (uint64_t)FARTHEST)
		return false;
	if (timing.epoch != stream->epoch || stream->carrier != CARRIER_RELAY)
		return true;
	if (message->kind == MESSAGE_LOST) {
		rewind_to(stream, timing.heard);
		return true;
	}
	learn_time(stream, timing.heard, (int64_t)timing.delay_usec);
	return true;
}

static bool hear_of_mixer(struct stream *stream, const struct message *message, const uint8_t *contents)
{
	uint32_t muted = stream->muted;
	if (message->kind == MESSAGE_VOLUME) {
		struct volume volume;
		if (!copy(&volume, sizeof(volume), message, contents) || volume.channels > CHANNELS_MAX)
			return false;
		/* The user's server would not take it back. */
		if (volume.channels != stream->spec.channels)
			return true;
		stream->volume = volume;
		stream->volume_set = true;
	} else {
		if (!copy(&muted, sizeof(muted), message, contents))
			return false;
		stream->muted = muted != 0;
		stream->mute_set = true;
	}
	tell_change(stream);
	return true;
}

void kill_stream(struct stream *stream)
{
	struct bytes message =
		begin_command(stream->recording ? COMMAND_RECORD_STREAM_KILLED : COMMAND_PLAYBACK_STREAM_KILLED, NO_TAG);
	put_u32(&message, stream->channel);
	send_command(stream->client, &message);
	end_stream(stream);
}

static bool hear_of_stream(struct stream *stream, const struct message *message, const uint8_t *contents)
{
	uint32_t value = 0;
	switch (message->kind) {
	case MESSAGE_WANTED:
		return hear_of_wishes(stream, message, contents);
	case MESSAGE_TIMING:
	case MESSAGE_LOST:
		return hear_of_time(stream, message, contents);
	case MESSAGE_VOLUME:
	case MESSAGE_MUTE:
		return hear_of_mixer(stream, message, contents);
	case MESSAGE_REFUSED:
		if (stream->carrier == CARRIER_RELAY)
			rewind_to(stream, out_now(stream));
		stream->refused = true;
		return true;
	case MESSAGE_AGAIN:
		if (stream->carrier != CARRIER_RELAY)
			open_at_relay(stream);
		return true;
	case MESSAGE_DEVICE:
		if (message->length >= sizeof(stream->device))
			return false;
		memset(stream->device, 0, sizeof(stream->device));
		memcpy(stream->device, contents, message->length);
		return true;
	case MESSAGE_LIVE:
		if (!copy(&value, sizeof(value), message, contents))
			return false;
		stream->live = value != 0;
		return true;
	case MESSAGE_SAMPLES:
		if (stream->recording && stream->live && !stream->corked)
			append(&stream->recorded, contents, message->length);
		return true;
	default:
		return false;
	}
}

bool hear_relay(void)
{
	const struct message *message;
	const uint8_t *contents;
	bool malformed = false;
	while ((message = next_message(&server.relay, &contents, &malformed))) {
		struct stream *stream = find_numbered(message->stream, true);
		if (!stream)
			stream = find_numbered(message->stream, false);
		if (stream && message->kind == MESSAGE_KILLED)
			kill_stream(stream);
		else if (stream && !hear_of_stream(stream, message, contents))
			return false;
		else if (stream)
			advance(stream, now_usec());
		done_with_message(&server.relay);
	}
	return !malformed;
}
