/* The parts of the relay: the streams it carries, the link to the capsule, and the user's sound server. */
#ifndef TORPOR_SOUND_RELAY_H
#define TORPOR_SOUND_RELAY_H

#include <pulse/pulseaudio.h>

#include "sound.h"

#define RETRY_USEC 500000
/* Whoever does not answer for so long is asked less often: a server that nobody has started, a capsule without one. */
#define QUICK_TRIES 40
#define SLOW_RETRY_USEC 10000000
/* Of what a capsule does not take. */
#define UNSENT_MAX (4u << 20)

/* A client inside: what the mixer shows streams under. */
struct outer {
	struct outer *next;
	uint32_t client;
	pa_context *context;
	size_t unanswered; /* of what was said to the user's server since it last answered; in bytes */
	size_t probed;	   /* how much of it the question that is under way follows; 0 where there is none */
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
	int64_t first;		 /* that can have been heard on this server, since the last flush */
	int64_t heard, heard_at; /* what the device has taken, as last known and when */
	int64_t delay_usec;	 /* after which that comes out */
	int64_t judged_at;	 /* from when it is known why it ended on the user's server; 0 where it has not */
	bool ended_alone, questioned;
	bool seeking_device, has_sought; /* what kind of device that is which it was on */
	struct volume volume;
	bool muted, mixer_known;
	char device[DEVICE_MAX];
};

struct relay {
	pa_mainloop_api *api;
	const char *socket_path, *default_name, *default_icon;
	pa_context *control; /* by which it is known whether the user's server is there */
	bool control_ready, told_of_no_server;
	char *default_sink, *default_source;
	struct connection link; /* to the capsule */
	struct carried *carried;
	bool suspending, suspended;
	int64_t try_at; /* when to connect again, to either side */
};

extern struct relay relay;

/* ---- relay.c ---- */
void say(const char *event, const char *key, const char *value, uint32_t stream);

/* ---- relay-streams.c ---- */
/* Takes over the properties. */
void carry(uint32_t number, const struct open_stream *open, pa_proplist *properties);
struct carried *find(uint32_t number);
bool is_ready(const struct carried *carried);
void forget(struct carried *carried);
void forget_all(void);
/* Notes that so much is passed on of it, which a server that hangs leaves with us. */
void note_passed_on(struct carried *carried, size_t length);
/* The user's server does not keep up, so that nothing more is to be taken from the capsule. */
bool is_behind(void);
/* The user has agreed that it records. */
void allow(struct carried *carried);
/* It is not carried now; the capsule goes on as if nobody heard, and it is tried again later. */
void refuse_number(uint32_t number);
void send_position(const struct carried *carried, enum message_kind kind, int64_t heard, uint64_t delay);
/* Up to where a stream has come out, if it ends now and its device drops what it had taken. */
int64_t came_out(const struct carried *carried);
/* Asks again for what was refused, and after the reason of what has ended. */
void look_after_ended(int64_t now);
/* When to call that; INT64_MAX for never. */
int64_t ended_until(void);
/* The user's server has answered, so it is known of the ended streams that it did not end with them. */
void judge_ended(void);
/* Answers of the user's server come as callbacks that outlive a stream; they know it by number. */
void *as_data(const struct carried *carried);
struct carried *from_data(void *data);
void run(pa_operation *operation);

/* ---- relay-samples.c ---- */
void watch_samples(struct carried *carried);
void tell_wanted(struct carried *carried);
void ask_time(struct carried *carried);
void flush_stream(struct carried *carried, const struct samples *at);
void play(struct carried *carried, const struct samples *samples, const uint8_t *data, size_t length);
/* What has come so far is to be heard, though the buffer is not full. */
void start(struct carried *carried);

/* ---- relay-mixer.c ---- */
pa_cvolume to_pulse(const struct volume *volume);
void ask_mixer(struct carried *carried);
void set_volume(struct carried *carried, const struct volume *volume);
void set_mute(struct carried *carried, bool muted);
void watch_device(struct carried *carried);
void tell_device(struct carried *carried);

/* ---- relay-link.c ---- */
void open_link(void);
void close_link(void);
/* Nothing more is heard of the capsule; what is said to it still reaches it. */
void stop_hearing(void);
/* Passes on what is to be said. */
void serve_link(void);
/* The same, and waits a moment until the capsule has taken it. */
void send_all(void);
void try_link_at_once(void);

/* ---- relay-server.c ---- */
void open_control(void);
void close_control(const char *reason);
void ask_server(void);
/* A server that does not answer is none. */
void watch_control(int64_t now);
/* When to call that; INT64_MAX for never. */
int64_t watched_until(void);
/* The streams are halted: a server that has gone meanwhile is let go of now. */
void end_lost_control(void);

#endif
