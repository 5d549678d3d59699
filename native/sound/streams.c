/*
 * The streams: what was written, what was sent to the relay, and what was heard. Nothing is mixed or converted here, the
 * user's own server does that. Samples that were sent are kept until they have been heard, and for a while longer, since
 * the user's server can give back what it had taken: so the server can go on from any sample with whoever plays next.
 */
#include <stdlib.h>
#include <string.h>

#include "../common.h"
#include "server.h"

#define MAXIMUM_BYTES (4u << 20)
#define DEFAULT_TARGET_USEC 2000000
#define DEFAULT_REQUEST_USEC 20000
#define DEFAULT_FRAGMENT_USEC 100000
/* What a sound card may take ahead and give back: PulseAudio and PipeWire take no more than two seconds. */
#define KEPT_USEC 2500000
/* Where nobody hears, or nothing is recorded, time passes in no smaller steps. */
#define TICK_USEC 10000
#define CHUNK (MESSAGE_MAX - sizeof(struct samples))

enum seek { SEEK_RELATIVE = 0, SEEK_ABSOLUTE = 1, SEEK_RELATIVE_ON_READ = 2, SEEK_RELATIVE_END = 3 };

static int64_t whole_frames(const struct stream *stream, int64_t bytes)
{
	int64_t frame = (int64_t)frame_size(&stream->spec);
	return bytes / frame * frame;
}

static uint32_t wish_or(const struct stream *stream, uint32_t wish, int64_t usec)
{
	return wish == INVALID ? (uint32_t)bytes_in_usec(&stream->spec, usec) : wish;
}

static uint32_t between(int64_t least, int64_t value, int64_t most)
{
	return (uint32_t)(value > most ? most : value < least ? least : value);
}

void adjust_sizes(struct stream *stream)
{
	const struct buffer_sizes *wished = &stream->wished;
	int64_t frame = (int64_t)frame_size(&stream->spec);
	int64_t most = whole_frames(stream, MAXIMUM_BYTES);
	struct buffer_sizes sizes = {0};
	sizes.maximum = between(frame * 2, whole_frames(stream, wished->maximum), most);
	sizes.fragment = wish_or(stream, wished->fragment, DEFAULT_FRAGMENT_USEC);
	sizes.fragment = between(frame, whole_frames(stream, sizes.fragment), sizes.maximum);
	sizes.target = wish_or(stream, wished->target, DEFAULT_TARGET_USEC);
	sizes.target = between(frame * 2, whole_frames(stream, sizes.target), sizes.maximum);
	sizes.request = wish_or(stream, wished->request, DEFAULT_REQUEST_USEC);
	sizes.request = between(frame, whole_frames(stream, sizes.request), whole_frames(stream, sizes.target / 2));
	int64_t fullest = (int64_t)sizes.target + frame - sizes.request;
	sizes.prebuffer = between(0, whole_frames(stream, wished->prebuffer), fullest);
	stream->sizes = sizes;
	stream->told_target = sizes.target;
}

struct stream *find_stream(const struct client *client, uint32_t channel, bool recording)
{
	for (struct stream *stream = server.streams; stream; stream = stream->next)
		if (stream->client == client && stream->channel == channel && stream->recording == recording)
			return stream;
	return NULL;
}

struct stream *find_numbered(uint32_t number, bool recording)
{
	for (struct stream *stream = server.streams; stream; stream = stream->next)
		if (stream->number == number && stream->recording == recording)
			return stream;
	return NULL;
}

void start_stream(struct stream *stream)
{
	stream->prebuffering = stream->sizes.prebuffer > 0;
	stream->next = server.streams;
	server.streams = stream;
	stream->carrier = CARRIER_NONE;
	stream->clock_at = now_usec();
	if (server.relay.fd >= 0)
		open_at_relay(stream);
	tell_subscribers(stream->recording ? FACILITY_RECORDING : FACILITY_PLAYBACK, EVENT_NEW, stream->number);
}

void end_stream(struct stream *stream)
{
	struct stream **place = &server.streams;
	while (*place != stream)
		place = &(*place)->next;
	*place = stream->next;
	if (stream->draining)
		refuse(stream->client, stream->drain_tag, ERROR_NO_ENTITY);
	send_message(&server.relay, MESSAGE_CLOSE, stream->number, NULL, 0);
	tell_subscribers(stream->recording ? FACILITY_RECORDING : FACILITY_PLAYBACK, EVENT_REMOVE, stream->number);
	free_properties(&stream->properties);
	free(stream->ring);
	free(stream->recorded.data);
	free(stream);
}

/* ---- the ring ---- */

/* Makes room for everything from `first_kept` to `end`; what lies too far back is given up. */
static void make_room(struct stream *stream, int64_t end)
{
	int64_t kept = stream->heard - bytes_in_usec(&stream->spec, KEPT_USEC);
	if (kept > stream->first_kept)
		stream->first_kept = kept;
	int64_t needed = end - stream->first_kept;
	if (needed <= stream->ring_size)
		return;
	int64_t size = stream->ring_size > 0 ? stream->ring_size : 65536;
	while (size < needed)
		size *= 2;
	uint8_t *ring = malloc((size_t)size);
	if (!ring)
		die("out of memory");
	for (int64_t at = stream->first_kept; at < stream->written;) {
		int64_t length = stream->written - at;
		int64_t from = at % stream->ring_size, to = at % size;
		if (length > stream->ring_size - from)
			length = stream->ring_size - from;
		if (length > size - to)
			length = size - to;
		memcpy(ring + to, stream->ring + from, (size_t)length);
		at += length;
	}
	free(stream->ring);
	stream->ring = ring;
	stream->ring_size = size;
}

/* Puts samples into the ring, silence where there are none. */
static void put_samples(struct stream *stream, int64_t position, const uint8_t *data, int64_t length)
{
	while (length > 0) {
		int64_t to = position % stream->ring_size;
		int64_t part = length < stream->ring_size - to ? length : stream->ring_size - to;
		if (data) {
			memcpy(stream->ring + to, data, (size_t)part);
			data += part;
		} else {
			memset(stream->ring + to, silence_of(&stream->spec), (size_t)part);
		}
		position += part;
		length -= part;
	}
}

/* ---- what the client is told ---- */

static void tell_client(struct stream *stream, uint32_t command)
{
	struct bytes message = begin_command(command, NO_TAG);
	put_u32(&message, stream->channel);
	if (command == COMMAND_UNDERFLOW && stream->client->version >= 23)
		put_s64(&message, stream->heard);
	send_command(stream->client, &message);
}

/* How far the buffer that the client fills has been emptied: what the user's server holds of it counts as in it. */
static int64_t emptied_to(const struct stream *stream)
{
	if (stream->carrier != CARRIER_RELAY || stream->wanted_capacity == 0)
		return stream->sent;
	int64_t position = stream->wanted_until - stream->wanted_capacity;
	return position < stream->sent ? position : stream->sent;
}

/* How much the buffer holds: a device that takes much at a time runs dry where the user's server is given less. */
static uint32_t target_of(const struct stream *stream)
{
	int64_t capacity = stream->carrier == CARRIER_RELAY ? whole_frames(stream, stream->wanted_capacity) : 0;
	return between(stream->sizes.target, capacity, stream->sizes.maximum);
}

void tell_target(struct stream *stream)
{
	uint32_t target = target_of(stream);
	if (target == stream->told_target || stream->client->version < 15)
		return;
	stream->told_target = target;
	struct bytes message = begin_command(COMMAND_PLAYBACK_BUFFER_CHANGED, NO_TAG);
	put_u32(&message, stream->channel);
	put_u32(&message, stream->sizes.maximum);
	put_u32(&message, target);
	put_u32(&message, stream->sizes.prebuffer);
	put_u32(&message, stream->sizes.request);
	put_usec(&message, 0);
	send_command(stream->client, &message);
}

static void request_samples(struct stream *stream)
{
	int64_t missing = (int64_t)target_of(stream) - (stream->written - emptied_to(stream)) - stream->requested;
	missing = whole_frames(stream, missing);
	if (missing <= 0 || (missing < stream->sizes.request && !stream->prebuffering))
		return;
	stream->requested += missing;
	struct bytes message = begin_command(COMMAND_REQUEST, NO_TAG);
	put_u32(&message, stream->channel);
	put_u32(&message, (uint32_t)missing);
	send_command(stream->client, &message);
}

void set_prebuffering(struct stream *stream, bool prebuffering)
{
	bool was = stream->prebuffering;
	stream->prebuffering = prebuffering;
	if (!was || prebuffering)
		return;
	stream->clock_at = now_usec();
	stream->heard_at = 0;
	stream->playing_since = stream->heard;
	if (stream->client->version >= 13)
		tell_client(stream, COMMAND_STARTED);
}

/* What has come of a frame stays: the rest of it follows. */
static void forget_recorded(struct stream *stream)
{
	consume(&stream->recorded, (size_t)whole_frames(stream, (int64_t)stream->recorded.length));
}

/* ---- the client's acts ---- */

void write_samples(struct stream *stream, int64_t offset, uint32_t seek, const uint8_t *data, size_t length)
{
	int64_t position = offset;
	if (offset > FARTHEST || offset < -FARTHEST)
		return;
	if (seek == SEEK_RELATIVE || seek == SEEK_RELATIVE_END)
		position += stream->written;
	else if (seek == SEEK_RELATIVE_ON_READ)
		position += heard_now(stream);
	position = whole_frames(stream, position);
	int64_t size = whole_frames(stream, (int64_t)length);
	stream->requested -= size + (seek == SEEK_RELATIVE ? position - stream->written : 0);
	/* By what it was asked to fill; what was heard is told later. */
	int64_t emptied = emptied_to(stream) > stream->heard ? emptied_to(stream) : stream->heard;
	if (position > emptied + stream->sizes.maximum - size) {
		tell_client(stream, COMMAND_OVERFLOW);
		return;
	}
	/* What lies before what is kept was heard long ago. */
	if (position < stream->first_kept) {
		int64_t past = stream->first_kept - position;
		past = past < size ? past : size;
		data += past;
		size -= past;
		position += past;
	}
	make_room(stream, position + size > stream->written ? position + size : stream->written);
	if (position > stream->written)
		put_samples(stream, stream->written, NULL, position - stream->written);
	put_samples(stream, position, data, size);
	if (position < stream->sent)
		stream->sent = position > stream->heard ? position : stream->heard;
	stream->written = position + size > stream->sent ? position + size : stream->sent;
	stream->drained_at = 0;
	advance(stream, now_usec());
}

void cork_stream(struct stream *stream, bool corked)
{
	if (stream->corked == corked)
		return;
	int64_t now = now_usec();
	advance(stream, now);
	if (corked) {
		stream->out = out_now(stream);
		stream->heard = heard_now(stream);
	}
	stream->corked = corked;
	stream->clock_at = now;
	stream->out_at = stream->out_at > 0 ? now : 0;
	/* What the device had taken ahead it may have given back. */
	stream->heard_at = stream->drained_at = 0;
	uint32_t value = corked;
	send_message(&server.relay, MESSAGE_CORK, stream->number, &value, sizeof(value));
	tell_change(stream);
	advance(stream, now);
}

void flush_stream(struct stream *stream)
{
	if (stream->recording) {
		forget_recorded(stream);
		return;
	}
	stream->heard = stream->sent = stream->written = whole_frames(stream, heard_now(stream));
	stream->carried_from = stream->out = stream->written;
	stream->heard_at = stream->out_at = 0;
	stream->wanted_until = stream->written;
	stream->wanted_capacity = 0;
	stream->epoch++;
	stream->prebuffering = stream->sizes.prebuffer > 0;
	struct samples at = {stream->written, stream->epoch, 0};
	send_message(&server.relay, MESSAGE_FLUSH, stream->number, &at, sizeof(at));
	advance(stream, now_usec());
}

void drain_stream(struct stream *stream, uint32_t tag)
{
	if (stream->draining)
		acknowledge(stream->client, stream->drain_tag);
	stream->draining = true;
	stream->drain_tag = tag;
	stream->drained_at = 0;
	if (stream->written > stream->heard)
		set_prebuffering(stream, false);
	advance(stream, now_usec());
}

void set_stream_volume(struct stream *stream, const struct volume *volume)
{
	stream->volume_set = true;
	if (is_same_volume(&stream->volume, volume))
		return;
	stream->volume = *volume;
	send_message(&server.relay, MESSAGE_VOLUME, stream->number, volume, sizeof(*volume));
	tell_change(stream);
}

void set_stream_mute(struct stream *stream, bool muted)
{
	stream->mute_set = true;
	if (stream->muted == muted)
		return;
	stream->muted = muted;
	uint32_t value = muted;
	send_message(&server.relay, MESSAGE_MUTE, stream->number, &value, sizeof(value));
	tell_change(stream);
}

/* ---- time ---- */

bool is_playing(const struct stream *stream)
{
	return !stream->corked && !stream->prebuffering && stream->carrier != CARRIER_NONE && stream->heard < stream->written;
}

int64_t heard_now(const struct stream *stream)
{
	if (!is_playing(stream) || stream->carrier != CARRIER_RELAY || stream->heard_at == 0)
		return stream->heard;
	int64_t position = stream->heard + bytes_in_usec(&stream->spec, now_usec() - stream->heard_at);
	return position < stream->sent ? position : stream->sent;
}

int64_t out_now(const struct stream *stream)
{
	int64_t passed = stream->corked || stream->out_at == 0 ? 0 : now_usec() - stream->out_at;
	int64_t position = stream->out + bytes_in_usec(&stream->spec, passed);
	position = position < stream->sent ? position : stream->sent;
	return position > stream->carried_from ? position : stream->carried_from;
}

void learn_time(struct stream *stream, int64_t heard, int64_t delay_usec)
{
	int64_t now = now_usec();
	heard = heard < stream->sent ? heard : stream->sent;
	/* As long as nothing more is taken, the delay tells of silence that follows. */
	bool has_moved = heard != stream->heard;
	if (!stream->corked && (has_moved || stream->out_at < now)) {
		stream->out = heard;
		stream->out_at = has_moved ? now + delay_usec : now;
	}
	stream->heard = heard;
	stream->heard_at = now;
	stream->delay_usec = delay_usec;
}

static void choose_carrier(struct stream *stream, int64_t now)
{
	if (stream->carrier == CARRIER_RELAY)
		return;
	bool is_alone = stream->refused || (server.relay.fd < 0 && now >= server.patience_until);
	if (is_alone && stream->carrier == CARRIER_NONE) {
		stream->carrier = CARRIER_NOWHERE;
		stream->clock_at = now;
		stream->delay_usec = 0;
	}
}

/* Lets time pass where nobody hears it. */
static void play_to_nobody(struct stream *stream, int64_t now)
{
	if (stream->corked || stream->prebuffering) {
		stream->clock_at = now;
		return;
	}
	int64_t passed = bytes_in_usec(&stream->spec, now - stream->clock_at);
	stream->clock_at += usec_of_bytes(&stream->spec, passed);
	int64_t position = stream->sent + passed;
	stream->heard = stream->sent = position < stream->written ? position : stream->written;
}

static void send_samples(struct stream *stream)
{
	int64_t until = stream->written < stream->wanted_until ? stream->written : stream->wanted_until;
	while (!stream->prebuffering && stream->sent < until) {
		int64_t from = stream->sent % stream->ring_size;
		int64_t length = until - stream->sent;
		if (length > (int64_t)CHUNK)
			length = whole_frames(stream, CHUNK);
		struct samples samples = {stream->sent, stream->epoch, 0};
		int64_t first = length < stream->ring_size - from ? length : stream->ring_size - from;
		struct bytes part = {0};
		append(&part, stream->ring + from, (size_t)first);
		append(&part, stream->ring, (size_t)(length - first));
		send_message_parts(&server.relay, MESSAGE_SAMPLES, stream->number, &samples, sizeof(samples), part.data,
				   part.length);
		free(part.data);
		stream->sent += length;
	}
}

static void finish_playing(struct stream *stream, int64_t now)
{
	if (stream->heard < stream->written) {
		stream->drained_at = 0;
		return;
	}
	if (!stream->draining) {
		if (stream->prebuffering || stream->written == 0)
			return;
		stream->prebuffering = stream->sizes.prebuffer > 0;
		if (stream->prebuffering)
			tell_client(stream, COMMAND_UNDERFLOW);
		return;
	}
	if (stream->drained_at == 0)
		stream->drained_at = now + stream->delay_usec;
	if (now < stream->drained_at)
		return;
	stream->draining = false;
	stream->prebuffering = stream->sizes.prebuffer > 0;
	acknowledge(stream->client, stream->drain_tag);
}

static void advance_playing(struct stream *stream, int64_t now)
{
	if (stream->prebuffering && !stream->corked && stream->written - stream->heard >= stream->sizes.prebuffer &&
	    stream->written > stream->heard)
		set_prebuffering(stream, false);
	if (stream->carrier == CARRIER_NOWHERE)
		play_to_nobody(stream, now);
	else if (stream->carrier == CARRIER_RELAY)
		send_samples(stream);
	if (!stream->corked)
		finish_playing(stream, now);
	request_samples(stream);
}

static void deliver(struct stream *stream)
{
	/* Who does not read loses what comes, as with a sound card. */
	if (stream->client->connection.out.length > MAXIMUM_BYTES)
		forget_recorded(stream);
	size_t done = 0;
	for (uint32_t length = stream->sizes.fragment; stream->recorded.length - done >= length; done += length) {
		uint32_t frame[5] = {0};
		uint32_t header[2] = {length, stream->channel};
		for (int index = 0; index < 2; index++)
			for (int byte = 0; byte < 4; byte++)
				((uint8_t *)frame)[index * 4 + byte] = (uint8_t)(header[index] >> (24 - byte * 8));
		append(&stream->client->connection.out, frame, sizeof(frame));
		append(&stream->client->connection.out, stream->recorded.data + done, length);
	}
	if (done > 0)
		consume(&stream->recorded, done);
	stream->delivered += (int64_t)done;
}

/* Silence, as long as nothing is recorded: a program that waits for its microphone would wait for ever. */
static void advance_recording(struct stream *stream, int64_t now)
{
	if (stream->corked || stream->live || stream->carrier == CARRIER_NONE) {
		stream->clock_at = now;
	} else {
		int64_t passed = bytes_in_usec(&stream->spec, now - stream->clock_at);
		stream->clock_at += usec_of_bytes(&stream->spec, passed);
		if (passed > stream->sizes.maximum)
			passed = whole_frames(stream, stream->sizes.maximum);
		uint8_t silence[4096];
		memset(silence, silence_of(&stream->spec), sizeof(silence));
		for (int64_t left = passed; left > 0; left -= (int64_t)sizeof(silence))
			append(&stream->recorded, silence, (size_t)(left < (int64_t)sizeof(silence) ? left : (int64_t)sizeof(silence)));
	}
	deliver(stream);
}

void advance(struct stream *stream, int64_t now)
{
	choose_carrier(stream, now);
	if (stream->recording)
		advance_recording(stream, now);
	else
		advance_playing(stream, now);
}

/* How many bytes must pass before the client is told anything: it is given some, asked for more, or at the end. */
static int64_t until_next(const struct stream *stream)
{
	if (stream->recording)
		return (int64_t)stream->sizes.fragment - (int64_t)stream->recorded.length;
	int64_t left = stream->written - stream->sent;
	int64_t until_request = (int64_t)stream->sizes.request + left + stream->requested - target_of(stream);
	return until_request > 0 && until_request < left ? until_request : left;
}

int64_t due_at(const struct stream *stream)
{
	int64_t now = now_usec();
	if (stream->carrier == CARRIER_NONE)
		return server.relay.fd < 0 ? server.patience_until : INT64_MAX;
	if (stream->corked)
		return INT64_MAX;
	if (stream->draining && stream->drained_at > 0)
		return stream->drained_at;
	bool is_ticking = stream->recording ? !stream->live : stream->carrier == CARRIER_NOWHERE && is_playing(stream);
	if (!is_ticking)
		return INT64_MAX;
	int64_t at = stream->clock_at + usec_of_bytes(&stream->spec, until_next(stream));
	return at > now + TICK_USEC ? at : now + TICK_USEC;
}
