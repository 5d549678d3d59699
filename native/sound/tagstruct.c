#include "tagstruct.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common.h"

/* ---- properties ---- */

static struct property **find_property(struct properties *properties, const char *name)
{
	struct property **place = &properties->first;
	while (*place && strcmp((*place)->name, name) != 0)
		place = &(*place)->next;
	return place;
}

static void free_property(struct property *property)
{
	free(property->name);
	free(property->value);
	free(property);
}

void remove_property(struct properties *properties, const char *name)
{
	struct property **place = find_property(properties, name);
	struct property *found = *place;
	if (!found)
		return;
	*place = found->next;
	free_property(found);
}

static unsigned int count_properties(const struct properties *properties)
{
	unsigned int count = 0;
	for (const struct property *property = properties->first; property; property = property->next)
		count++;
	return count;
}

void set_property(struct properties *properties, const char *name, const void *value, uint32_t length)
{
	struct property *property = calloc(1, sizeof(*property));
	uint8_t *copy = malloc((size_t)length + 1);
	char *name_copy = strdup(name);
	if (!property || !copy || !name_copy)
		die("out of memory");
	memcpy(copy, value, length);
	copy[length] = 0;
	*property = (struct property){.name = name_copy, .length = length, .value = copy};
	remove_property(properties, name);
	if (count_properties(properties) == PROPERTIES_MAX) {
		free_property(property);
		return;
	}
	property->next = properties->first;
	properties->first = property;
}

void set_text_property(struct properties *properties, const char *name, const char *value)
{
	set_property(properties, name, value, (uint32_t)strlen(value) + 1);
}

static bool is_text(const struct property *property)
{
	return property->length > 0 && strlen((const char *)property->value) == property->length - 1;
}

const char *property_text(const struct properties *properties, const char *name)
{
	for (const struct property *property = properties->first; property; property = property->next)
		if (strcmp(property->name, name) == 0)
			return is_text(property) ? (const char *)property->value : NULL;
	return NULL;
}

void update_properties(struct properties *properties, enum update update, const struct properties *other)
{
	if (update == UPDATE_SET)
		free_properties(properties);
	for (const struct property *property = other->first; property; property = property->next)
		if (update != UPDATE_MERGE || !*find_property(properties, property->name))
			set_property(properties, property->name, property->value, property->length);
}

void free_properties(struct properties *properties)
{
	while (properties->first) {
		struct property *property = properties->first;
		properties->first = property->next;
		free_property(property);
	}
}

void write_properties(struct bytes *bytes, const struct properties *properties)
{
	for (const struct property *property = properties->first; property; property = property->next) {
		if (!is_text(property))
			continue;
		append(bytes, property->name, strlen(property->name) + 1);
		append(bytes, property->value, property->length);
	}
}

/* ---- reading ---- */

static const uint8_t *take(struct reader *reader, size_t length)
{
	if (reader->failed || reader->length - reader->at < length) {
		reader->failed = true;
		return NULL;
	}
	const uint8_t *data = reader->data + reader->at;
	reader->at += length;
	return data;
}

static bool take_tag(struct reader *reader, char tag)
{
	const uint8_t *found = take(reader, 1);
	if (found && *found != (uint8_t)tag)
		reader->failed = true;
	return !reader->failed;
}

static uint32_t take_u32(struct reader *reader)
{
	const uint8_t *data = take(reader, 4);
	return data ? (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3] : 0;
}

static uint8_t take_u8(struct reader *reader)
{
	const uint8_t *data = take(reader, 1);
	return data ? *data : 0;
}

uint32_t read_u32(struct reader *reader)
{
	return take_tag(reader, 'L') ? take_u32(reader) : 0;
}

uint8_t read_u8(struct reader *reader)
{
	return take_tag(reader, 'B') ? take_u8(reader) : 0;
}

bool read_bool(struct reader *reader)
{
	const uint8_t *tag = take(reader, 1);
	if (tag && *tag != '0' && *tag != '1')
		reader->failed = true;
	return !reader->failed && *tag == '1';
}

const char *read_string(struct reader *reader)
{
	const uint8_t *tag = take(reader, 1);
	if (!tag || *tag == 'N')
		return NULL;
	const uint8_t *text = reader->data + reader->at;
	const uint8_t *end = *tag == 't' ? memchr(text, 0, reader->length - reader->at) : NULL;
	if (!end) {
		reader->failed = true;
		return NULL;
	}
	reader->at += (size_t)(end - text) + 1;
	return (const char *)text;
}

void skip_arbitrary(struct reader *reader)
{
	if (take_tag(reader, 'x'))
		take(reader, take_u32(reader));
}

struct sample_spec read_spec_value(struct reader *reader)
{
	struct sample_spec spec = {0};
	if (!take_tag(reader, 'a'))
		return spec;
	spec.format = take_u8(reader);
	spec.channels = take_u8(reader);
	spec.rate = take_u32(reader);
	return spec;
}

struct channel_map read_map(struct reader *reader)
{
	struct channel_map map = {0};
	if (!take_tag(reader, 'm'))
		return map;
	map.channels = take_u8(reader);
	if (map.channels > CHANNELS_MAX)
		reader->failed = true;
	const uint8_t *positions = take(reader, map.channels);
	if (!positions)
		return (struct channel_map){0};
	memcpy(map.positions, positions, map.channels);
	return map;
}

struct volume read_volume(struct reader *reader)
{
	struct volume volume = {0};
	if (!take_tag(reader, 'v'))
		return volume;
	volume.channels = take_u8(reader);
	if (volume.channels > CHANNELS_MAX)
		reader->failed = true;
	for (unsigned int index = 0; index < volume.channels && !reader->failed; index++)
		volume.values[index] = take_u32(reader);
	return volume;
}

void read_time(struct reader *reader, uint32_t time[2])
{
	time[0] = time[1] = 0;
	if (!take_tag(reader, 'T'))
		return;
	time[0] = take_u32(reader);
	time[1] = take_u32(reader);
}

void read_properties(struct reader *reader, struct properties *properties)
{
	if (!take_tag(reader, 'P'))
		return;
	for (unsigned int count = 0;; count++) {
		const char *name = read_string(reader);
		if (reader->failed || !name)
			return;
		if (count == PROPERTIES_MAX)
			reader->failed = true;
		uint32_t length = read_u32(reader);
		if (!take_tag(reader, 'x') || take_u32(reader) != length)
			reader->failed = true;
		const uint8_t *value = take(reader, length);
		if (!value)
			return;
		set_property(properties, name, value, length);
	}
}

uint8_t read_format(struct reader *reader, struct properties *properties)
{
	if (!take_tag(reader, 'f'))
		return 0;
	uint8_t encoding = read_u8(reader);
	read_properties(reader, properties);
	return encoding;
}

/* ---- writing ---- */

static void put_tag(struct bytes *bytes, char tag)
{
	append(bytes, &tag, 1);
}

static void put_number(struct bytes *bytes, uint32_t value)
{
	uint32_t wire = htonl(value);
	append(bytes, &wire, 4);
}

static void put_long(struct bytes *bytes, char tag, uint64_t value)
{
	put_tag(bytes, tag);
	put_number(bytes, (uint32_t)(value >> 32));
	put_number(bytes, (uint32_t)value);
}

void put_u32(struct bytes *bytes, uint32_t value)
{
	put_tag(bytes, 'L');
	put_number(bytes, value);
}

void put_u8(struct bytes *bytes, uint8_t value)
{
	put_tag(bytes, 'B');
	append(bytes, &value, 1);
}

void put_u64(struct bytes *bytes, uint64_t value)
{
	put_long(bytes, 'R', value);
}

void put_s64(struct bytes *bytes, int64_t value)
{
	put_long(bytes, 'r', (uint64_t)value);
}

void put_usec(struct bytes *bytes, uint64_t value)
{
	put_long(bytes, 'U', value);
}

void put_bool(struct bytes *bytes, bool value)
{
	put_tag(bytes, value ? '1' : '0');
}

void put_string(struct bytes *bytes, const char *value)
{
	put_tag(bytes, value ? 't' : 'N');
	if (value)
		append(bytes, value, strlen(value) + 1);
}

void put_spec(struct bytes *bytes, const struct sample_spec *spec)
{
	put_tag(bytes, 'a');
	append(bytes, &spec->format, 1);
	append(bytes, &spec->channels, 1);
	put_number(bytes, spec->rate);
}

void put_map(struct bytes *bytes, const struct channel_map *map)
{
	put_tag(bytes, 'm');
	append(bytes, &map->channels, 1);
	append(bytes, map->positions, map->channels);
}

void put_volume(struct bytes *bytes, const struct volume *volume)
{
	put_tag(bytes, 'v');
	append(bytes, &volume->channels, 1);
	for (unsigned int index = 0; index < volume->channels; index++)
		put_number(bytes, volume->values[index]);
}

void put_base_volume(struct bytes *bytes, uint32_t value)
{
	put_tag(bytes, 'V');
	put_number(bytes, value);
}

void put_time(struct bytes *bytes, const uint32_t time[2])
{
	put_tag(bytes, 'T');
	put_number(bytes, time[0]);
	put_number(bytes, time[1]);
}

void put_properties(struct bytes *bytes, const struct properties *properties)
{
	put_tag(bytes, 'P');
	for (const struct property *property = properties->first; property; property = property->next) {
		put_string(bytes, property->name);
		put_u32(bytes, property->length);
		put_tag(bytes, 'x');
		put_number(bytes, property->length);
		append(bytes, property->value, property->length);
	}
	put_string(bytes, NULL);
}

/* ---- formats ---- */


static const char *const format_names[FORMAT_MAX] = {"u8",    "aLaw",  "uLaw",	"s16le", "s16be",    "float32le", "float32be",
						     "s32le", "s32be", "s24le", "s24be", "s24-32le", "s24-32be"};

/* By the numbers of pa_channel_position_t; those from 12 to 43 are aux0 to aux31. */
static const char *const position_names[] = {"mono",	   "front-left",  "front-right", "front-center",
					     "rear-center", "rear-left",   "rear-right",  "lfe",
					     "front-left-of-center", "front-right-of-center", "side-left", "side-right"};
static const char *const top_names[] = {"top-center",	    "top-front-left", "top-front-right", "top-front-center",
					"top-rear-left", "top-rear-right", "top-rear-center"};
#define FIRST_AUX 12
#define FIRST_TOP 44

static char *position_name(uint8_t position)
{
	if (position < FIRST_AUX)
		return format_string("%s", position_names[position]);
	if (position < FIRST_TOP)
		return format_string("aux%d", position - FIRST_AUX);
	return format_string("%s", position - FIRST_TOP < 7 ? top_names[position - FIRST_TOP] : "mono");
}

static bool find_position(const char *name, uint8_t *position)
{
	for (unsigned int candidate = 0; candidate < FIRST_TOP + 7; candidate++) {
		CLEANUP_FREE char *found = position_name((uint8_t)candidate);
		if (strcmp(found, name) == 0) {
			*position = (uint8_t)candidate;
			return true;
		}
	}
	return false;
}

struct channel_map default_map(uint8_t channels)
{
	/* As ALSA and PulseAudio order them. */
	static const uint8_t usual[8] = {1, 2, 5, 6, 3, 7, 10, 11};
	struct channel_map map = {.channels = channels};
	for (unsigned int index = 0; index < channels; index++)
		map.positions[index] = (uint8_t)(index < 8 ? usual[index] : FIRST_AUX + index);
	if (channels == 1)
		map.positions[0] = 0;
	return map;
}

void put_format(struct bytes *bytes, const struct sample_spec *spec, const struct channel_map *map)
{
	struct properties properties = {0};
	CLEANUP_FREE char *format = format_string("\"%s\"", format_names[spec->format]);
	CLEANUP_FREE char *rate = format_string("%u", spec->rate);
	CLEANUP_FREE char *channels = format_string("%u", spec->channels);
	char *positions = format_string("\"");
	for (unsigned int index = 0; index < map->channels; index++) {
		CLEANUP_FREE char *before = positions;
		CLEANUP_FREE char *name = position_name(map->positions[index]);
		positions = format_string("%s%s%s", before, index ? "," : "", name);
	}
	CLEANUP_FREE char *opened = positions;
	CLEANUP_FREE char *quoted = format_string("%s\"", opened);
	set_text_property(&properties, "format.sample_format", format);
	set_text_property(&properties, "format.rate", rate);
	set_text_property(&properties, "format.channels", channels);
	set_text_property(&properties, "format.channel_map", quoted);
	put_tag(bytes, 'f');
	put_u8(bytes, ENCODING_PCM);
	put_properties(bytes, &properties);
	free_properties(&properties);
}

/* The first text in JSON that holds one, or several in a list; the caller's. */
static char *first_text(const char *json)
{
	const char *start = json ? strchr(json, '"') : NULL;
	const char *end = start ? strchr(start + 1, '"') : NULL;
	return end ? format_string("%.*s", (int)(end - start - 1), start + 1) : NULL;
}

/* The first number in JSON: itself, of a list, or the least of a range. 0 where there is none. */
static uint32_t first_number(const char *json)
{
	const char *start = json ? strpbrk(json, "0123456789") : NULL;
	return start ? (uint32_t)strtoul(start, NULL, 10) : 0;
}

void read_format_properties(const struct properties *properties, struct sample_spec *spec, struct channel_map *map)
{
	CLEANUP_FREE char *format = first_text(property_text(properties, "format.sample_format"));
	for (uint8_t index = 0; format && index < FORMAT_MAX; index++)
		if (strcmp(format, format_names[index]) == 0)
			spec->format = index;
	uint32_t rate = first_number(property_text(properties, "format.rate"));
	if (rate > 0)
		spec->rate = rate;
	uint32_t channels = first_number(property_text(properties, "format.channels"));
	if (channels > 0 && channels <= CHANNELS_MAX)
		spec->channels = (uint8_t)channels;
	CLEANUP_FREE char *names = first_text(property_text(properties, "format.channel_map"));
	struct channel_map found = {0};
	char *rest = names;
	for (char *name; rest && found.channels < CHANNELS_MAX && (name = strsep(&rest, ","));)
		if (find_position(name, &found.positions[found.channels]))
			found.channels++;
	*map = found.channels == spec->channels ? found : default_map(spec->channels);
}
