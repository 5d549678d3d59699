#include "dbus.h"

#include "common.h"

#include <stdlib.h>
#include <string.h>

#define BUS "org.freedesktop.DBus"
enum { PATH = 1, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SENDER, SIGNATURE, DESCRIPTORS };

static size_t aligned(size_t offset, size_t to)
{
	return (offset + to - 1) / to * to;
}

void append(struct buffer *buffer, const void *data, size_t length)
{
	if (length == 0)
		return;
	if (buffer->room - buffer->length < length) {
		size_t room = (buffer->length + length) * 2;
		unsigned char *grown = realloc(buffer->data, room);
		if (grown == NULL)
			die("no memory for a message");
		buffer->data = grown;
		buffer->room = room;
	}
	memcpy(buffer->data + buffer->length, data, length);
	buffer->length += length;
}

void drop_front(struct buffer *buffer, size_t length)
{
	memmove(buffer->data, buffer->data + length, buffer->length - length);
	buffer->length -= length;
	/* What one large message has needed is not kept. */
	if (buffer->length == 0 && buffer->room > 1024 * 1024) {
		free(buffer->data);
		*buffer = (struct buffer){ 0 };
	}
}

static uint32_t number_at(const unsigned char *data, bool is_big_endian)
{
	uint32_t value = 0;
	for (int index = 0; index < 4; index++)
		value |= (uint32_t)data[is_big_endian ? 3 - index : index] << (8 * index);
	return value;
}

long message_length(const struct buffer *buffer)
{
	if (buffer->length < MESSAGE_HEAD)
		return 0;
	const unsigned char *data = buffer->data;
	if ((data[0] != 'l' && data[0] != 'B') || data[3] != 1)
		return -1;
	uint32_t body = number_at(data + 4, data[0] == 'B');
	uint32_t fields = number_at(data + 12, data[0] == 'B');
	if (body > MESSAGE_LIMIT || fields > MESSAGE_LIMIT)
		return -1;
	size_t length = aligned(MESSAGE_HEAD + fields, 8) + body;
	return length > MESSAGE_LIMIT ? -1 : (long)length;
}

/* A string with its length before it, which ends in NUL and has none within. @returns NULL where it is not. */
static const char *string_at(const struct message *message, size_t *offset, size_t end)
{
	size_t at = aligned(*offset, 4);
	if (at + 4 > end)
		return NULL;
	uint32_t length = number_at(message->data + at, message->is_big_endian);
	at += 4;
	if (length >= end - at || memchr(message->data + at, '\0', length + 1) != message->data + at + length)
		return NULL;
	*offset = at + length + 1;
	return (const char *)message->data + at;
}

static const char *signature_at(const struct message *message, size_t *offset, size_t end)
{
	size_t at = *offset;
	if (at + 1 > end)
		return NULL;
	size_t length = message->data[at++];
	if (length >= end - at || memchr(message->data + at, '\0', length + 1) != message->data + at + length)
		return NULL;
	*offset = at + length + 1;
	return (const char *)message->data + at;
}

/* One field of the header. */
struct field {
	unsigned char code;
	/* One character: s, o, g or u. */
	char type;
	const char *text;
	uint32_t number;
};

static bool next_field(const struct message *message, size_t *offset, size_t end, struct field *field)
{
	*offset = aligned(*offset, 8);
	if (*offset + 1 > end)
		return false;
	field->code = message->data[(*offset)++];
	const char *type = signature_at(message, offset, end);
	if (type == NULL || strlen(type) != 1)
		return false;
	field->type = type[0];
	field->text = "";
	field->number = 0;
	if (field->type == 's' || field->type == 'o')
		return (field->text = string_at(message, offset, end)) != NULL;
	if (field->type == 'g')
		return (field->text = signature_at(message, offset, end)) != NULL;
	*offset = aligned(*offset, 4);
	if (field->type != 'u' || *offset + 4 > end)
		return false;
	field->number = number_at(message->data + *offset, message->is_big_endian);
	*offset += 4;
	return true;
}

bool read_message(const unsigned char *data, size_t length, struct message *message)
{
	*message = (struct message){
		.data = data,
		.length = length,
		.is_big_endian = data[0] == 'B',
		.type = data[1],
		.interface = "",
		.member = "",
		.destination = "",
		.sender = "",
		.signature = "",
	};
	message->serial = number_at(data + 8, message->is_big_endian);
	size_t end = MESSAGE_HEAD + number_at(data + 12, message->is_big_endian);
	message->body = aligned(end, 8);
	struct field field;
	for (size_t offset = MESSAGE_HEAD; offset < end;) {
		if (!next_field(message, &offset, end, &field))
			return false;
		/* What must be a text or a number is taken for nothing else. */
		bool is_number = field.code == REPLY_SERIAL || field.code == DESCRIPTORS;
		if (field.code <= DESCRIPTORS && is_number != (field.type == 'u'))
			return false;
		switch (field.code) {
		case INTERFACE:
			message->interface = field.text;
			break;
		case MEMBER:
			message->member = field.text;
			break;
		case REPLY_SERIAL:
			message->reply_serial = field.number;
			break;
		case DESTINATION:
			message->destination = field.text;
			break;
		case SENDER:
			message->sender = field.text;
			break;
		case SIGNATURE:
			message->signature = field.text;
			break;
		case DESCRIPTORS:
			message->descriptors = field.number;
			break;
		}
	}
	return true;
}

const char *next_string(struct walk *walk)
{
	const char *text = walk->failed ? NULL : string_at(walk->message, &walk->offset, walk->message->length);
	if (text != NULL)
		return text;
	walk->failed = true;
	return "";
}

void align_walk(struct walk *walk, size_t to)
{
	walk->offset = aligned(walk->offset, to);
}

uint32_t next_number(struct walk *walk)
{
	size_t at = aligned(walk->offset, 4);
	if (walk->failed || at + 4 > walk->message->length) {
		walk->failed = true;
		return 0;
	}
	walk->offset = at + 4;
	return number_at(walk->message->data + at, walk->message->is_big_endian);
}

/* ---- writing ---- */

static void pad(struct buffer *out, size_t start, size_t to)
{
	static const unsigned char zeros[8];
	append(out, zeros, aligned(out->length - start, to) - (out->length - start));
}

static void put_number(struct buffer *out, uint32_t value, bool is_big_endian)
{
	unsigned char bytes[4];
	for (int index = 0; index < 4; index++)
		bytes[is_big_endian ? 3 - index : index] = (unsigned char)(value >> (8 * index));
	append(out, bytes, sizeof(bytes));
}

static void put_number_at(struct buffer *out, size_t at, uint32_t value, bool is_big_endian)
{
	struct buffer bytes = { 0 };
	put_number(&bytes, value, is_big_endian);
	memcpy(out->data + at, bytes.data, bytes.length);
	free(bytes.data);
}

static void put_string(struct buffer *out, size_t start, const char *text, bool is_big_endian)
{
	pad(out, start, 4);
	put_number(out, (uint32_t)strlen(text), is_big_endian);
	append(out, text, strlen(text) + 1);
}

static void put_field(struct buffer *out, size_t start, const struct field *field, bool is_big_endian)
{
	const unsigned char head[] = { field->code, 1, (unsigned char)field->type, 0 };
	pad(out, start, 8);
	append(out, head, sizeof(head));
	if (field->type == 'u') {
		pad(out, start, 4);
		put_number(out, field->number, is_big_endian);
	} else if (field->type == 'g') {
		unsigned char length = (unsigned char)strlen(field->text);
		append(out, &length, 1);
		append(out, field->text, (size_t)length + 1);
	} else {
		put_string(out, start, field->text, is_big_endian);
	}
}

static const char *renamed(const char *name, const struct names *names)
{
	if (strcmp(name, names->own) == 0)
		return names->shown;
	if (strcmp(name, names->shown) == 0)
		return names->own;
	return name;
}

/* It names somebody between quotes. */
char *renamed_in_rule(const char *rule, const struct names *names)
{
	struct buffer out = { 0 };
	while (*rule != '\0') {
		size_t plain = strcspn(rule, "'");
		append(&out, rule, plain);
		rule += plain;
		if (*rule == '\0')
			break;
		size_t quoted = strcspn(rule + 1, "'");
		char *name = strndup(rule + 1, quoted);
		if (name == NULL)
			die("no memory for a match rule");
		const char *other = renamed(name, names);
		append(&out, "'", 1);
		append(&out, other, strlen(other));
		free(name);
		rule += 1 + quoted;
		if (*rule == '\'') {
			append(&out, "'", 1);
			rule++;
		}
	}
	append(&out, "", 1);
	return (char *)out.data;
}

/* Whether a body can be gone through: strings, numbers, and one array of strings. */
static bool is_plain(const char *signature)
{
	return strcmp(signature, "as") == 0 || (*signature != '\0' && strspn(signature, "su") == strlen(signature));
}

/* @returns false where the body is not what its signature says. */
static bool put_renamed_body(struct buffer *out, const struct message *message, const struct names *names)
{
	bool is_rule = strcmp(message->member, "AddMatch") == 0 || strcmp(message->member, "RemoveMatch") == 0;
	bool big = message->is_big_endian;
	struct walk walk = { .message = message, .offset = message->body };
	size_t start = out->length;
	if (strcmp(message->signature, "as") == 0) {
		size_t end = next_number(&walk);
		end += walk.offset;
		put_number(out, 0, big);
		while (!walk.failed && walk.offset < end)
			put_string(out, start, renamed(next_string(&walk), names), big);
		put_number_at(out, start, (uint32_t)(out->length - start - 4), big);
		return !walk.failed;
	}
	for (const char *type = message->signature; *type != '\0'; type++) {
		if (*type == 'u') {
			uint32_t value = next_number(&walk);
			pad(out, start, 4);
			put_number(out, value, big);
			continue;
		}
		const char *text = next_string(&walk);
		if (is_rule) {
			CLEANUP_FREE char *rule = renamed_in_rule(text, names);
			put_string(out, start, rule, big);
		} else {
			put_string(out, start, renamed(text, names), big);
		}
	}
	return !walk.failed;
}

void append_renamed(struct buffer *out, const struct message *message, const struct names *names)
{
	bool big = message->is_big_endian;
	size_t start = out->length;
	append(out, message->data, MESSAGE_HEAD);
	size_t end = MESSAGE_HEAD + number_at(message->data + 12, big);
	struct field field;
	for (size_t offset = MESSAGE_HEAD; offset < end && next_field(message, &offset, end, &field);) {
		if (field.code == SENDER || field.code == DESTINATION)
			field.text = renamed(field.text, names);
		put_field(out, start, &field, big);
	}
	put_number_at(out, start + 12, (uint32_t)(out->length - start - MESSAGE_HEAD), big);
	pad(out, start, 8);
	size_t body = out->length;
	bool is_of_bus = strcmp(message->sender, BUS) == 0 || strcmp(message->destination, BUS) == 0;
	bool is_changed = is_of_bus && is_plain(message->signature);
	if (!is_changed || !put_renamed_body(out, message, names)) {
		out->length = body;
		append(out, message->data + message->body, message->length - message->body);
	}
	put_number_at(out, start + 4, (uint32_t)(out->length - body), big);
}

/* @returns where it starts. */
static size_t begin_message(struct buffer *out, unsigned char type, unsigned char flags, uint32_t serial)
{
	size_t start = out->length;
	const unsigned char head[] = { 'l', type, flags, 1 };
	append(out, head, sizeof(head));
	put_number(out, 0, false);
	put_number(out, serial, false);
	put_number(out, 0, false);
	return start;
}

static void put_text_field(struct buffer *out, size_t start, unsigned char code, char type, const char *text)
{
	struct field field = { .code = code, .type = type, .text = text };
	put_field(out, start, &field, false);
}

/* @returns where the body starts. */
static size_t end_header(struct buffer *out, size_t start)
{
	put_number_at(out, start + 12, (uint32_t)(out->length - start - MESSAGE_HEAD), false);
	pad(out, start, 8);
	return out->length;
}

static void end_message(struct buffer *out, size_t start, size_t body)
{
	put_number_at(out, start + 4, (uint32_t)(out->length - body), false);
}

void append_call(struct buffer *out, uint32_t serial, const struct call *call)
{
	size_t start = begin_message(out, METHOD_CALL, 0, serial);
	put_text_field(out, start, PATH, 'o', "/org/freedesktop/DBus");
	put_text_field(out, start, DESTINATION, 's', BUS);
	put_text_field(out, start, INTERFACE, 's', call->interface);
	put_text_field(out, start, MEMBER, 's', call->member);
	if (call->text != NULL)
		put_text_field(out, start, SIGNATURE, 'g', call->has_flags ? "su" : "s");
	size_t body = end_header(out, start);
	if (call->text != NULL)
		put_string(out, body, call->text, false);
	if (call->has_flags) {
		pad(out, body, 4);
		put_number(out, call->flags, false);
	}
	end_message(out, start, body);
}

void append_signal(struct buffer *out, uint32_t serial, const char *destination, const char *member,
		   const char *const *texts)
{
	char signature[8] = "";
	for (size_t count = 0; texts[count] != NULL && count < sizeof(signature) - 1; count++)
		strcat(signature, "s");
	size_t start = begin_message(out, METHOD_SIGNAL, 1, serial);
	put_text_field(out, start, PATH, 'o', "/org/freedesktop/DBus");
	put_text_field(out, start, INTERFACE, 's', BUS);
	put_text_field(out, start, MEMBER, 's', member);
	put_text_field(out, start, DESTINATION, 's', destination);
	put_text_field(out, start, SENDER, 's', BUS);
	put_text_field(out, start, SIGNATURE, 'g', signature);
	size_t body = end_header(out, start);
	for (; *texts != NULL; texts++)
		put_string(out, body, *texts, false);
	end_message(out, start, body);
}
