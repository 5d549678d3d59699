/* The parts of the capsule's sound server: its clients, their streams, and the link to the relay outside. */
#ifndef TORPOR_SOUND_SERVER_H
#define TORPOR_SOUND_SERVER_H

#include "sound.h"
#include "tagstruct.h"

#define INVALID ((uint32_t)-1)
#define NORMAL_VOLUME 0x10000u
/* Of the 35 versions this is the last before some that only concern shared memory. */
#define PROTOCOL_VERSION 32
#define SINK_NAME "torpor"
#define SOURCE_NAME "torpor.microphone"

/* What PulseAudio's events are about. */
enum facility { FACILITY_PLAYBACK = 2, FACILITY_RECORDING = 3, FACILITY_CLIENT = 5 };
enum event { EVENT_NEW = 0, EVENT_CHANGE = 0x10, EVENT_REMOVE = 0x20 };

/* PulseAudio's numbers. */
enum error { ERROR_ACCESS = 1, ERROR_INVALID = 3, ERROR_NO_ENTITY = 5, ERROR_NO_EXTENSION = 21, ERROR_NOT_IMPLEMENTED = 23 };

struct client {
	struct client *next;
	struct connection connection;
	uint32_t number;
	uint32_t version;
	uint32_t events; /* a bit for each facility it wants to hear of */
	uint32_t next_channel;
	struct properties properties;
	bool authorised, doomed;
};

/* Who takes a stream's samples. */
enum carrier {
	CARRIER_NONE,	 /* nobody: it stands still, until the relay is back or has been away for too long */
	CARRIER_RELAY,	 /* the relay, and through it the user's sound server */
	CARRIER_NOWHERE, /* nobody hears it; time passes all the same */
};

struct stream {
	struct stream *next;
	struct client *client;
	bool recording;
	uint32_t channel; /* its number on the client's connection */
	uint32_t number;  /* as others see it */
	struct sample_spec spec;
	struct channel_map map;
	struct properties properties;
	struct volume volume;
	bool volume_set, muted, mute_set, corked, adjust_latency, early_requests, variable_rate;
	struct buffer_sizes wished, sizes;
	char device[DEVICE_MAX]; /* the user's, as the relay told */

	enum carrier carrier;
	bool refused; /* by the user's server, until the relay asks again */
	uint32_t epoch;
	int64_t clock_at; /* where nobody hears it: up to when time has passed */

	/* Playing. heard <= sent <= written; the ring has what was written, some before `heard` as well. */
	int64_t written, sent, heard;
	uint8_t *ring;
	int64_t ring_size;
	int64_t first_kept;
	int64_t wanted_until;
	uint32_t wanted_capacity;
	int64_t heard_at; /* when the relay told it; 0 where it has told nothing since the stream began to move */
	int64_t delay_usec;
	int64_t carried_from; /* who carries it now has played nothing before this */
	/* What the device has taken comes out later: of `out`, at `out_at`, or 0 where that is not known. */
	int64_t out, out_at;
	uint32_t told_target; /* the size of the buffer, as the client knows it */
	int64_t requested; /* asked of the client and not written yet */
	int64_t playing_since;
	bool prebuffering, draining;
	uint32_t drain_tag;
	int64_t drained_at; /* when its last sample comes out; 0 where that is not known yet */

	/* Recording. */
	bool live;
	struct bytes recorded;
	int64_t delivered;
};

struct server {
	struct client *clients;
	struct stream *streams;
	struct connection relay;
	uint32_t next_client, next_stream;
	int64_t patience_until; /* until when streams stand still where there is no relay */
};

extern struct server server;

/* ---- commands.c ---- */
void handle_command(struct client *client, const uint8_t *data, size_t length);
struct bytes begin_command(uint32_t command, uint32_t tag);
/* Sends and frees it. */
void send_command(struct client *client, struct bytes *command);
void acknowledge(struct client *client, uint32_t tag);
void refuse(struct client *client, uint32_t tag, enum error error);
void tell_subscribers(enum facility facility, enum event event, uint32_t number);
void tell_change(const struct stream *stream);

/* ---- describe.c ---- */
/* Answers questions about what there is. Returns false where the command is none. */
bool describe(struct client *client, uint32_t command, uint32_t tag, struct reader *reader);

/* ---- streams.c ---- */
void adjust_sizes(struct stream *stream);
struct stream *find_stream(const struct client *client, uint32_t channel, bool recording);
struct stream *find_numbered(uint32_t number, bool recording);
void start_stream(struct stream *stream);
void end_stream(struct stream *stream);
void write_samples(struct stream *stream, int64_t offset, uint32_t seek, const uint8_t *data, size_t length);
void cork_stream(struct stream *stream, bool corked);
void flush_stream(struct stream *stream);
void drain_stream(struct stream *stream, uint32_t tag);
void set_prebuffering(struct stream *stream, bool prebuffering);
void set_stream_volume(struct stream *stream, const struct volume *volume);
void set_stream_mute(struct stream *stream, bool muted);
/* What is heard now, reckoned on from what the relay told last. */
int64_t heard_now(const struct stream *stream);
/* What has come out by now, which is less than what the device has taken. */
int64_t out_now(const struct stream *stream);
/* The relay has told what the device has taken, and after what time that comes out. */
void learn_time(struct stream *stream, int64_t heard, int64_t delay_usec);
/* The client has the buffer that the user's server gives it, if that is larger than what it wished for. */
void tell_target(struct stream *stream);
bool is_playing(const struct stream *stream);
/* Passes on whatever can be passed on. */
void advance(struct stream *stream, int64_t now);
/* When advance() has something to do by itself; INT64_MAX for never. */
int64_t due_at(const struct stream *stream);

/* ---- link.c ---- */
void relay_came(int fd);
void relay_went(void);
/* Handles what the relay has said. Returns false where it makes no sense. */
bool hear_relay(void);
void open_at_relay(struct stream *stream);
/* Ends it against the client's will. */
void kill_stream(struct stream *stream);
void send_properties(const struct stream *stream);

/* ---- commands of the protocol that others than commands.c send ---- */
enum {
	COMMAND_ERROR = 0,
	COMMAND_REPLY = 2,
	COMMAND_REQUEST = 61,
	COMMAND_OVERFLOW = 62,
	COMMAND_UNDERFLOW = 63,
	COMMAND_PLAYBACK_STREAM_KILLED = 64,
	COMMAND_RECORD_STREAM_KILLED = 65,
	COMMAND_SUBSCRIBE_EVENT = 66,
	COMMAND_STARTED = 86,
	COMMAND_PLAYBACK_BUFFER_CHANGED = 94,
};
#define NO_TAG INVALID

#endif
