/*
 * X Window System Protocol, version 11: connection set-up (chapter 8), some of its requests (chapter 9), QueryInfo of the
 * extension MIT-SCREEN-SAVER, and QueryClientIds of X-Resource. Strings and lists are padded to four bytes. The server is
 * the user's process: nothing that it answers is taken for true without a look at its length. The authority file is that of
 * Xau(3).
 */
#include "x11.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common.h"

#define ANSWER_LIMIT_SECONDS 2
#define OPCODE_INTERN_ATOM 16
#define OPCODE_CHANGE_PROPERTY 18
#define OPCODE_GET_PROPERTY 20
#define OPCODE_SEND_EVENT 25
#define OPCODE_GRAB_POINTER 26
#define OPCODE_UNGRAB_POINTER 27
#define OPCODE_GET_INPUT_FOCUS 43
#define OPCODE_QUERY_EXTENSION 98
#define SCREEN_SAVER_QUERY_INFO 1
#define RESOURCE_QUERY_VERSION 0
#define RESOURCE_QUERY_CLIENT_IDS 4
#define RESOURCE_LOCAL_PID 2
#define ATOM_ATOM 4
#define GRAB_ASYNCHRONOUS 1
#define GRAB_SUCCESS 0
#define GRAB_NOT_VIEWABLE 3
#define ERROR 0
#define REPLY 1
#define EVENT_CLIENT_MESSAGE 33
#define EVENT_GENERIC 35
#define EVENT_MASK_SUBSTRUCTURE (0x00080000u | 0x00100000u)
/* A reply, an error and an event are all as long. */
#define REPLY_BYTES 32
/* What may come before a reply that is waited for: every client gets some events unasked. */
#define EVENT_LIMIT 1000
/* More than any server's description of its screens. */
#define LARGEST_ANSWER (1024 * 1024)

#define COOKIE_NAME "MIT-MAGIC-COOKIE-1"
#define COOKIE_BYTES 16

static int connect_to_x(unsigned int display)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), X_SOCKET_OF_DISPLAY, display);
	struct timeval limit = {.tv_sec = ANSWER_LIMIT_SECONDS};
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
	    RETRY(connect(fd, (struct sockaddr *)&address, sizeof(address))) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int send_all(int fd, const void *data, size_t length)
{
	const char *at = data;
	while (length > 0) {
		ssize_t count = RETRY(send(fd, at, length, MSG_NOSIGNAL));
		if (count <= 0)
			return -1;
		at += count;
		length -= (size_t)count;
	}
	return 0;
}

static int receive_all(int fd, void *data, size_t length)
{
	char *at = data;
	while (length > 0) {
		ssize_t count = RETRY(recv(fd, at, length, 0));
		if (count <= 0)
			return -1;
		at += count;
		length -= (size_t)count;
	}
	return 0;
}

/* The id of the first screen's root window, or 0. @cookie: what lets one in, or NULL. */
static uint32_t set_up(int fd, const uint8_t *cookie)
{
	struct {
		uint8_t byte_order, unused;
		uint16_t major, minor, name_length, data_length, padding;
	} request = {.byte_order = 'l', .major = 11};
	struct {
		uint8_t success, reason_length;
		uint16_t major, minor, length;
	} answer;
	const char name[20] = COOKIE_NAME;

	if (cookie) {
		request.name_length = sizeof(COOKIE_NAME) - 1;
		request.data_length = COOKIE_BYTES;
	}
	if (send_all(fd, &request, sizeof(request)) < 0 ||
	    (cookie && (send_all(fd, name, sizeof(name)) < 0 || send_all(fd, cookie, COOKIE_BYTES) < 0)) ||
	    receive_all(fd, &answer, sizeof(answer)) < 0)
		return 0;
	size_t length = (size_t)answer.length * 4;
	if (answer.success != 1 || length < 32)
		return 0;
	CLEANUP_FREE uint8_t *data = malloc(length);
	if (!data || receive_all(fd, data, length) < 0)
		return 0;
	uint16_t vendor_length;
	memcpy(&vendor_length, data + 16, sizeof(vendor_length));
	/* Screens follow the vendor's name and eight bytes a pixmap format; a screen begins with its root. */
	size_t screen = 32 + ((vendor_length + 3u) & ~3u) + 8u * data[21];
	uint32_t root;
	if (screen + sizeof(root) > length)
		return 0;
	memcpy(&root, data + screen, sizeof(root));
	return root;
}

static int skip(int fd, size_t length)
{
	char rest[4096];
	for (size_t part; length > 0; length -= part) {
		part = length < sizeof(rest) ? length : sizeof(rest);
		if (receive_all(fd, rest, part) < 0)
			return -1;
	}
	return 0;
}

enum answer { ANSWER_NONE = -1, ANSWER_REPLY, ANSWER_ERROR };

/* Receives the fixed part of a reply, and the length of what follows it, in words. Events before it are passed over. */
static enum answer receive_reply(int fd, uint8_t fixed[REPLY_BYTES], uint32_t *extra)
{
	for (int events = 0; events < EVENT_LIMIT; events++) {
		if (receive_all(fd, fixed, REPLY_BYTES) < 0)
			return ANSWER_NONE;
		if (fixed[0] == ERROR)
			return ANSWER_ERROR;
		memcpy(extra, fixed + 4, sizeof(*extra));
		bool is_reply = fixed[0] == REPLY;
		if (!is_reply && (fixed[0] & 0x7f) != EVENT_GENERIC)
			continue;
		if (*extra > LARGEST_ANSWER / 4)
			return ANSWER_NONE;
		if (is_reply)
			return ANSWER_REPLY;
		if (skip(fd, (size_t)*extra * 4) < 0)
			return ANSWER_NONE;
	}
	return ANSWER_NONE;
}

int x_open(struct x_connection *x, unsigned int display)
{
	x->fd = connect_to_x(display);
	x->root = x->fd < 0 ? 0 : set_up(x->fd, NULL);
	if (x->root)
		return 0;
	x_close(x);
	return -1;
}

/* A length and as many bytes, of an authority file; false at its end. What is longer than there is room for is cut. */
static bool read_counted(FILE *file, uint8_t *data, size_t room, size_t *length)
{
	int high = fgetc(file), low = fgetc(file);
	if (low == EOF)
		return false;
	size_t left = (size_t)high << 8 | (size_t)low;
	*length = left < room ? left : room;
	if (fread(data, 1, *length, file) != *length)
		return false;
	for (left -= *length; left > 0; left--)
		if (fgetc(file) == EOF)
			return false;
	return true;
}

/* What lets one in to a display of this machine. */
static bool find_cookie(const char *authority, unsigned int display, uint8_t cookie[COOKIE_BYTES])
{
	FILE *file = authority ? fopen(authority, "re") : NULL;
	bool found = false;

	while (file && !found && fgetc(file) != EOF && fgetc(file) != EOF) {
		uint8_t address[256], number[16] = "", name[32];
		size_t address_length, number_length, name_length, data_length;

		if (!read_counted(file, address, sizeof(address), &address_length) ||
		    !read_counted(file, number, sizeof(number) - 1, &number_length) ||
		    !read_counted(file, name, sizeof(name), &name_length) ||
		    !read_counted(file, cookie, COOKIE_BYTES, &data_length))
			break;
		number[number_length] = 0;
		/* One without a number is for all. */
		found = data_length == COOKIE_BYTES && name_length == sizeof(COOKIE_NAME) - 1 &&
			memcmp(name, COOKIE_NAME, name_length) == 0 &&
			(number_length == 0 || strtoul((char *)number, NULL, 10) == display);
	}
	if (file)
		fclose(file);
	return found;
}

int x_open_named(struct x_connection *x, const char *display, const char *authority)
{
	uint8_t cookie[COOKIE_BYTES];
	unsigned int number;

	if (strncmp(display, "unix", 4) == 0)
		display += 4;
	if (sscanf(display, ":%u", &number) != 1)
		return -1;
	bool has_cookie = find_cookie(authority, number, cookie);
	x->fd = connect_to_x(number);
	x->root = x->fd < 0 ? 0 : set_up(x->fd, has_cookie ? cookie : NULL);
	if (x->root)
		return 0;
	x_close(x);
	return -1;
}

void x_close(struct x_connection *x)
{
	close_fd(&x->fd);
	x->fd = -1;
}

/* A request that consists of a name. Its reply is of the fixed length. */
static int ask_for_name(struct x_connection *x, uint8_t opcode, const char *name, uint8_t reply[REPLY_BYTES])
{
	uint8_t request[64] = {opcode, 0};
	uint16_t name_length = (uint16_t)strlen(name);
	size_t length = 8 + ((name_length + 3u) & ~3u);
	if (length > sizeof(request))
		return -1;
	uint16_t words = (uint16_t)(length / 4);
	memcpy(request + 2, &words, sizeof(words));
	memcpy(request + 4, &name_length, sizeof(name_length));
	memcpy(request + 8, name, name_length);
	uint32_t extra;
	if (send_all(x->fd, request, length) < 0 || receive_reply(x->fd, reply, &extra) != ANSWER_REPLY || extra)
		return -1;
	return 0;
}

uint32_t x_atom(struct x_connection *x, const char *name)
{
	uint8_t reply[REPLY_BYTES];
	uint32_t atom;
	if (ask_for_name(x, OPCODE_INTERN_ATOM, name, reply) < 0)
		return 0;
	memcpy(&atom, reply + 8, sizeof(atom));
	return atom;
}

int x_property(struct x_connection *x, uint32_t window, uint32_t name, uint32_t offset, uint32_t limit,
	       struct x_value *value)
{
	struct {
		uint8_t opcode, delete;
		uint16_t words;
		uint32_t window, property, type, offset, length;
	} request = {OPCODE_GET_PROPERTY, 0, 6, window, name, 0, offset, limit};
	uint8_t reply[REPLY_BYTES];
	uint32_t extra;
	*value = (struct x_value){0};
	if (send_all(x->fd, &request, sizeof(request)) < 0)
		return -1;
	switch (receive_reply(x->fd, reply, &extra)) {
	case ANSWER_NONE:
		return -1;
	case ANSWER_ERROR:
		/* The window has gone meanwhile. */
		return 0;
	case ANSWER_REPLY:
		break;
	}
	value->format = reply[1];
	memcpy(&value->type, reply + 8, sizeof(value->type));
	memcpy(&value->bytes_after, reply + 12, sizeof(value->bytes_after));
	memcpy(&value->items, reply + 16, sizeof(value->items));
	size_t length = (size_t)extra * 4;
	if ((uint64_t)value->items * (value->format / 8) > length)
		return -1;
	value->data = malloc(length + 1);
	if (!value->data || receive_all(x->fd, value->data, length) < 0) {
		x_free(value);
		return -1;
	}
	value->data[length] = 0;
	return 0;
}

void x_free(struct x_value *value)
{
	free(value->data);
	*value = (struct x_value){0};
}

int x_tell_root(struct x_connection *x, uint32_t window, uint32_t message, const uint32_t data[X_MESSAGE_WORDS])
{
	struct {
		uint8_t opcode, propagate;
		uint16_t words;
		uint32_t destination, event_mask;
		uint8_t code, format;
		uint16_t sequence;
		uint32_t window, type, data[X_MESSAGE_WORDS];
	} request = {OPCODE_SEND_EVENT, 0, 11, x->root, EVENT_MASK_SUBSTRUCTURE, EVENT_CLIENT_MESSAGE, 32, 0, window, message,
		     {0}};
	_Static_assert(sizeof(request) == 44, "as the protocol has it");
	memcpy(request.data, data, sizeof(request.data));
	return send_all(x->fd, &request, sizeof(request));
}

int x_idle(struct x_connection *x, uint32_t *milliseconds)
{
	uint8_t reply[REPLY_BYTES];
	if (ask_for_name(x, OPCODE_QUERY_EXTENSION, "MIT-SCREEN-SAVER", reply) < 0 || !reply[8])
		return -1;
	struct {
		uint8_t opcode, task;
		uint16_t words;
		uint32_t drawable;
	} request = {reply[9], SCREEN_SAVER_QUERY_INFO, 2, x->root};
	uint32_t extra;
	if (send_all(x->fd, &request, sizeof(request)) < 0 || receive_reply(x->fd, reply, &extra) != ANSWER_REPLY || extra)
		return -1;
	memcpy(milliseconds, reply + 16, sizeof(*milliseconds));
	return 0;
}

int x_set_atoms(struct x_connection *x, uint32_t window, uint32_t name, const uint32_t *atoms, uint32_t count)
{
	struct {
		uint8_t opcode, mode;
		uint16_t words;
		uint32_t window, property, type;
		uint8_t format, unused[3];
		uint32_t items;
	} request = {OPCODE_CHANGE_PROPERTY, 0, (uint16_t)(6 + count), window, name, ATOM_ATOM, 32, {0}, count};
	_Static_assert(sizeof(request) == 24, "as the protocol has it");
	if (send_all(x->fd, &request, sizeof(request)) < 0)
		return -1;
	return send_all(x->fd, atoms, (size_t)count * sizeof(*atoms));
}

int x_process_of(struct x_connection *x, uint32_t window, uint32_t *pid)
{
	uint8_t reply[REPLY_BYTES];
	uint32_t extra;
	if (ask_for_name(x, OPCODE_QUERY_EXTENSION, "X-Resource", reply) < 0 || !reply[8])
		return -1;
	uint8_t opcode = reply[9];
	struct {
		uint8_t opcode, task;
		uint16_t words;
		uint8_t major, minor;
		uint16_t unused;
	} version = {opcode, RESOURCE_QUERY_VERSION, 2, 1, 2, 0};
	if (send_all(x->fd, &version, sizeof(version)) < 0 || receive_reply(x->fd, reply, &extra) != ANSWER_REPLY || extra)
		return -1;
	struct {
		uint8_t opcode, task;
		uint16_t words;
		uint32_t count, client, mask;
	} request = {opcode, RESOURCE_QUERY_CLIENT_IDS, 4, 1, window, RESOURCE_LOCAL_PID};
	struct {
		uint32_t client, mask, length, value;
	} id;
	if (send_all(x->fd, &request, sizeof(request)) < 0 || receive_reply(x->fd, reply, &extra) != ANSWER_REPLY)
		return -1;
	uint32_t count;
	memcpy(&count, reply + 8, sizeof(count));
	if (count != 1 || extra != sizeof(id) / 4) {
		skip(x->fd, (size_t)extra * 4);
		return -1;
	}
	if (receive_all(x->fd, &id, sizeof(id)) < 0 || id.mask != RESOURCE_LOCAL_PID || id.length != sizeof(id.value))
		return -1;
	*pid = id.value;
	return 0;
}

int x_is_grabbed(struct x_connection *x, int *is_grabbed)
{
	struct {
		uint8_t opcode, owner_events;
		uint16_t words;
		uint32_t window;
		uint16_t mask;
		uint8_t pointer_mode, keyboard_mode;
		uint32_t confine_to, cursor, time;
	} request = {OPCODE_GRAB_POINTER, 0, 6, x->root, 0, GRAB_ASYNCHRONOUS, GRAB_ASYNCHRONOUS, 0, 0, 0};
	struct {
		uint8_t opcode, unused;
		uint16_t words;
		uint32_t time;
	} release = {OPCODE_UNGRAB_POINTER, 0, 2, 0};
	uint8_t reply[REPLY_BYTES];
	uint32_t extra;
	_Static_assert(sizeof(request) == 24, "as the protocol has it");
	if (send_all(x->fd, &request, sizeof(request)) < 0 || receive_reply(x->fd, reply, &extra) != ANSWER_REPLY || extra)
		return -1;
	*is_grabbed = reply[1] != GRAB_SUCCESS && reply[1] != GRAB_NOT_VIEWABLE;
	return reply[1] == GRAB_SUCCESS ? send_all(x->fd, &release, sizeof(release)) : 0;
}

int x_await(struct x_connection *x)
{
	struct {
		uint8_t opcode, unused;
		uint16_t words;
	} request = {OPCODE_GET_INPUT_FOCUS, 0, 1};
	uint8_t reply[REPLY_BYTES];
	uint32_t extra;
	if (send_all(x->fd, &request, sizeof(request)) < 0)
		return -1;
	enum answer answer;
	/* Errors are of requests before this one. */
	for (int errors = 0; (answer = receive_reply(x->fd, reply, &extra)) == ANSWER_ERROR; errors++)
		if (errors > EVENT_LIMIT)
			return -1;
	return answer == ANSWER_REPLY ? skip(x->fd, (size_t)extra * 4) : -1;
}

/* How many items a property of the root window has, or -1. */
static int root_items(struct x_connection *x, const char *name)
{
	uint32_t atom = x_atom(x, name);
	struct x_value value;
	if (!atom || x_property(x, x->root, atom, 0, 1024, &value) < 0)
		return -1;
	int items = (int)value.items;
	x_free(&value);
	return items;
}

int ask_x_server(unsigned int display, struct x_state *state)
{
	struct x_connection x;
	if (x_open(&x, display) < 0)
		return -1;
	int managers = root_items(&x, "_NET_SUPPORTING_WM_CHECK");
	int clients = root_items(&x, "_NET_CLIENT_LIST");
	x_close(&x);
	if (managers < 0 || clients < 0)
		return -1;
	state->has_window_manager = managers > 0;
	state->client_windows = clients;
	return 0;
}
