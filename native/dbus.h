/*
 * D-Bus messages, as far as torpor-buslines needs them: where one ends, what its header says, and one with names changed.
 * What comes is not trusted: every length is checked against the message, and a message against a limit.
 */
#ifndef TORPOR_DBUS_H
#define TORPOR_DBUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The bus's own default for what it takes in one message. */
#define MESSAGE_LIMIT (32u * 1024 * 1024)
#define MESSAGE_HEAD 16
/* Of names, by the specification. */
#define NAME_LIMIT 255

enum { METHOD_CALL = 1, METHOD_RETURN = 2, METHOD_ERROR = 3, METHOD_SIGNAL = 4 };

struct buffer {
	unsigned char *data;
	size_t length;
	size_t room;
};

/* Of a message that is whole. Texts are within the message, and empty where there is none. */
struct message {
	const unsigned char *data;
	size_t length;
	bool is_big_endian;
	unsigned int type;
	uint32_t serial;
	uint32_t reply_serial;
	uint32_t descriptors;
	const char *interface;
	const char *member;
	const char *destination;
	const char *sender;
	const char *signature;
	size_t body;
};

/* Two unique names, each of which is told where the other one is meant. */
struct names {
	char own[NAME_LIMIT + 1];
	char shown[NAME_LIMIT + 1];
};

void append(struct buffer *buffer, const void *data, size_t length);
void drop_front(struct buffer *buffer, size_t length);

/* @returns how long the message will be, 0 where that cannot be told yet, or -1 where it is none or too long. */
long message_length(const struct buffer *buffer);
/* @returns false where the message is malformed. */
bool read_message(const unsigned char *data, size_t length, struct message *message);

/* Walks a body that is nothing but strings, numbers of 32 bits and arrays of strings. */
struct walk {
	const struct message *message;
	size_t offset;
	bool failed;
};
const char *next_string(struct walk *walk);
void align_walk(struct walk *walk, size_t to);
uint32_t next_number(struct walk *walk);

/* Appends the message with names changed in its header, and in its body where that is the bus's own or for the bus. */
void append_renamed(struct buffer *out, const struct message *message, const struct names *names);

/* A call to the bus itself. Where there is no text it has no arguments; flags come last where has_flags is set. */
struct call {
	const char *interface;
	const char *member;
	const char *text;
	bool has_flags;
	uint32_t flags;
};
/* Appends such a call. */
void append_call(struct buffer *out, uint32_t serial, const struct call *call);
/* Appends a signal as the bus itself sends it, with texts up to a NULL. */
void append_signal(struct buffer *out, uint32_t serial, const char *destination, const char *member,
		   const char *const *texts);
/* A match rule with names changed, on the heap. */
char *renamed_in_rule(const char *rule, const struct names *names);

#endif
