/* The values of PulseAudio's native protocol: each is preceded by a letter that tells its type; numbers are big-endian. */
#ifndef TORPOR_TAGSTRUCT_H
#define TORPOR_TAGSTRUCT_H

#include "sound.h"

/* Names and values; those that are no text are kept as they came. */
struct property {
	struct property *next;
	char *name;
	uint32_t length;
	uint8_t *value; /* followed by a zero byte, which the length does not count */
};

struct properties {
	struct property *first;
};

/* More are not kept: each is compared with all that are there. Programs have some twenty. */
#define PROPERTIES_MAX 256
/* Plain samples, among the encodings that a format can have. */
#define ENCODING_PCM 1

/* PA_UPDATE_SET, MERGE and REPLACE. */
enum update { UPDATE_SET = 0, UPDATE_MERGE = 1, UPDATE_REPLACE = 2 };

void set_property(struct properties *properties, const char *name, const void *value, uint32_t length);
void set_text_property(struct properties *properties, const char *name, const char *value);
/* The value as text; NULL where there is none. */
const char *property_text(const struct properties *properties, const char *name);
void remove_property(struct properties *properties, const char *name);
void update_properties(struct properties *properties, enum update update, const struct properties *other);
void free_properties(struct properties *properties);
/* Names and values of those that are text, each ended by a zero byte. */
void write_properties(struct bytes *bytes, const struct properties *properties);

struct reader {
	const uint8_t *data;
	size_t length, at;
	bool failed; /* something else was there; whatever is read afterwards is 0, false or NULL */
};

uint32_t read_u32(struct reader *reader);
uint8_t read_u8(struct reader *reader);
bool read_bool(struct reader *reader);
const char *read_string(struct reader *reader); /* NULL is a value of the protocol, too */
void skip_arbitrary(struct reader *reader);
struct sample_spec read_spec_value(struct reader *reader);
struct channel_map read_map(struct reader *reader);
struct volume read_volume(struct reader *reader);
/* Seconds and microseconds. */
void read_time(struct reader *reader, uint32_t time[2]);
/* Added to what is there. Too many are a failure. */
void read_properties(struct reader *reader, struct properties *properties);
/* Returns the encoding. */
uint8_t read_format(struct reader *reader, struct properties *properties);

void put_u32(struct bytes *bytes, uint32_t value);
void put_u8(struct bytes *bytes, uint8_t value);
void put_u64(struct bytes *bytes, uint64_t value);
void put_s64(struct bytes *bytes, int64_t value);
void put_bool(struct bytes *bytes, bool value);
void put_string(struct bytes *bytes, const char *value);
void put_usec(struct bytes *bytes, uint64_t value);
void put_spec(struct bytes *bytes, const struct sample_spec *spec);
void put_map(struct bytes *bytes, const struct channel_map *map);
void put_volume(struct bytes *bytes, const struct volume *volume);
void put_base_volume(struct bytes *bytes, uint32_t value);
void put_time(struct bytes *bytes, const uint32_t time[2]);
void put_properties(struct bytes *bytes, const struct properties *properties);
/* Uncompressed samples of this kind. */
void put_format(struct bytes *bytes, const struct sample_spec *spec, const struct channel_map *map);

/* What the properties of such a format say of samples; what they leave open stays as it is. */
void read_format_properties(const struct properties *properties, struct sample_spec *spec, struct channel_map *map);
/* The usual positions for so many channels. */
struct channel_map default_map(uint8_t channels);

#endif
