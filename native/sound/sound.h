/*
 * What the sound server of a capsule and the relay outside say to each other, and the kinds of sound both know.
 *
 * The server listens at RELAY_SOCKET; the relay connects when the user's own sound server can be reached, so that being
 * connected means that somebody hears. Both send messages: a header, then as many bytes as it says, in the machine's own
 * byte order. Positions are bytes since a stream began, and never begin anew: by them the server knows what was heard,
 * whoever played it.
 */
#ifndef TORPOR_SOUND_H
#define TORPOR_SOUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RELAY_SOCKET "/run/torpor/sound/relay"
#define RELAY_VERSION 1
#define CHANNELS_MAX 32
#define MESSAGE_MAX 65536
#define DEVICE_MAX 256
/* No stream gets that far; sums of two such positions are still numbers. */
#define FARTHEST ((int64_t)1 << 60)

/* Numbers as in PulseAudio's protocol: see its pa_sample_format_t. */
enum sample_format { FORMAT_U8 = 0, FORMAT_ALAW = 1, FORMAT_ULAW = 2, FORMAT_S16LE = 3, FORMAT_MAX = 13 };

struct sample_spec {
	uint32_t rate;
	uint8_t format;
	uint8_t channels;
};

struct channel_map {
	uint8_t channels;
	uint8_t positions[CHANNELS_MAX];
};

struct volume {
	uint8_t channels;
	uint32_t values[CHANNELS_MAX];
};

/* What is asked of a buffer; in bytes. (uint32_t)-1 leaves it to the sound server. */
struct buffer_sizes {
	uint32_t maximum, target, prebuffer, request, fragment;
};

enum message_kind {
	/* server to relay */
	MESSAGE_OPEN = 1,   /* struct open_stream, then names and values of properties, each ended by a zero byte */
	MESSAGE_CLOSE,	    /* nothing */
	MESSAGE_SAMPLES,    /* struct samples, then the samples; from the relay: those recorded, without the struct */
	MESSAGE_CORK,	    /* uint32_t: whether it pauses */
	MESSAGE_FLUSH,	    /* struct samples: goes on there, in this epoch; what was not heard is dropped */
	MESSAGE_VOLUME,	    /* struct volume; both ways */
	MESSAGE_MUTE,	    /* uint32_t; both ways */
	MESSAGE_PROPERTIES, /* as in MESSAGE_OPEN */
	MESSAGE_RATE,	    /* uint32_t */
	MESSAGE_SIZES,	    /* struct buffer_sizes, as the application wishes */
	/* relay to server */
	MESSAGE_WANTED,	 /* struct wanted */
	MESSAGE_TIMING,	 /* struct timing */
	MESSAGE_LOST,	 /* struct timing: not carried any more, what follows `heard` was not heard */
	MESSAGE_REFUSED, /* nothing: the user's server does not take it now; may be asked for again by MESSAGE_AGAIN */
	MESSAGE_AGAIN,	 /* nothing */
	MESSAGE_KILLED,	 /* nothing: the user ended this stream */
	MESSAGE_DEVICE,	 /* the name of the user's device, not ended */
	MESSAGE_LIVE,	 /* uint32_t: whether what is recorded comes from the relay */
};

struct message {
	uint32_t kind, stream, length;
};

struct open_stream {
	uint32_t version;
	uint32_t client; /* streams of one client belong together in the mixer */
	uint32_t epoch;
	uint8_t recording, corked, volume_set, mute_set, muted, adjust_latency, early_requests, variable_rate;
	int64_t start; /* position of the first byte that will come */
	struct sample_spec spec;
	struct channel_map map;
	struct volume volume;
	struct buffer_sizes sizes;
	char device[DEVICE_MAX];
};

struct samples {
	int64_t position;
	uint32_t epoch;
	uint32_t reserved;
};

/* `until`: up to which position the user's server takes samples now; `capacity`: how much it holds at most. */
struct wanted {
	int64_t until;
	uint32_t epoch;
	uint32_t capacity;
};

/* `heard`: what the device has taken; it comes out `delay_usec` later. */
struct timing {
	int64_t heard;
	uint32_t epoch;
	uint32_t reserved;
	uint64_t delay_usec;
};

size_t frame_size(const struct sample_spec *spec);
bool is_valid_spec(const struct sample_spec *spec);
bool is_position(int64_t position);
int64_t bytes_in_usec(const struct sample_spec *spec, int64_t usec);
int64_t usec_of_bytes(const struct sample_spec *spec, int64_t bytes);
/* The byte that silence is made of. */
uint8_t silence_of(const struct sample_spec *spec);
bool is_same_volume(const struct volume *one, const struct volume *other);

/* ---- a buffered connection ---- */

struct bytes {
	uint8_t *data;
	size_t length, capacity;
};

void append(struct bytes *bytes, const void *data, size_t length);
/* Forgets the first ones. */
void consume(struct bytes *bytes, size_t length);

struct connection {
	int fd; /* -1 where there is none */
	struct bytes in, out;
};

/* Reads what is there. Returns false at the end of the connection. */
bool receive(struct connection *connection);
/* Writes what can be written. Returns false where the other side has gone. */
bool transmit(struct connection *connection);
void disconnect(struct connection *connection);

void send_message(struct connection *connection, enum message_kind kind, uint32_t stream, const void *data, size_t length);
void send_message_parts(struct connection *connection, enum message_kind kind, uint32_t stream, const void *first,
			size_t first_length, const void *second, size_t second_length);
/* The next whole message, whose contents stay until done_with_message(); NULL where there is none yet. */
const struct message *next_message(const struct connection *connection, const uint8_t **contents, bool *malformed);
void done_with_message(struct connection *connection);

int64_t now_usec(void);

#endif
