/*
 * X Window System Protocol, version 11: connection set-up (chapter 8), InternAtom and GetProperty (chapter 9). The
 * properties are those of the Extended Window Manager Hints. Strings and lists are padded to four bytes.
 */
#include "x11.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common.h"

#define ANSWER_LIMIT_SECONDS 2
#define OPCODE_INTERN_ATOM 16
#define OPCODE_GET_PROPERTY 20
#define REPLY 1
#define REPLY_BYTES 32
/* More than any server's description of its screens. */
#define LARGEST_ANSWER (1024 * 1024)

static int connect_to_x(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = X_SOCKET};
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

/* The id of the first screen's root window, or 0. */
static uint32_t set_up(int fd)
{
	struct {
		uint8_t byte_order, unused;
		uint16_t major, minor, name_length, data_length, padding;
	} request = {.byte_order = 'l', .major = 11};
	struct {
		uint8_t success, reason_length;
		uint16_t major, minor, length;
	} answer;
	if (send_all(fd, &request, sizeof(request)) < 0 || receive_all(fd, &answer, sizeof(answer)) < 0)
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

/* Receives a reply: its fixed part, and the length of what follows. */
static int receive_reply(int fd, uint8_t fixed[REPLY_BYTES], uint32_t *extra)
{
	if (receive_all(fd, fixed, REPLY_BYTES) < 0 || fixed[0] != REPLY)
		return -1;
	memcpy(extra, fixed + 4, sizeof(*extra));
	return *extra > LARGEST_ANSWER / 4 ? -1 : 0;
}

static uint32_t intern_atom(int fd, const char *name)
{
	uint8_t request[64] = {OPCODE_INTERN_ATOM, 0};
	uint16_t name_length = (uint16_t)strlen(name);
	size_t length = 8 + ((name_length + 3u) & ~3u);
	if (length > sizeof(request))
		return 0;
	uint16_t words = (uint16_t)(length / 4);
	memcpy(request + 2, &words, sizeof(words));
	memcpy(request + 4, &name_length, sizeof(name_length));
	memcpy(request + 8, name, name_length);
	uint8_t reply[REPLY_BYTES];
	uint32_t extra, atom;
	if (send_all(fd, request, length) < 0 || receive_reply(fd, reply, &extra) < 0 || extra)
		return 0;
	memcpy(&atom, reply + 8, sizeof(atom));
	return atom;
}

/* How many items the property of a window has, or -1. */
static int property_items(int fd, uint32_t window, uint32_t property)
{
	struct {
		uint8_t opcode, delete;
		uint16_t words;
		uint32_t window, property, type, offset, length;
	} request = {OPCODE_GET_PROPERTY, 0, 6, window, property, 0, 0, 1024};
	uint8_t reply[REPLY_BYTES];
	uint32_t extra, items;
	if (send_all(fd, &request, sizeof(request)) < 0 || receive_reply(fd, reply, &extra) < 0)
		return -1;
	memcpy(&items, reply + 16, sizeof(items));
	CLEANUP_FREE uint8_t *value = malloc((size_t)extra * 4 + 1);
	if (!value || receive_all(fd, value, (size_t)extra * 4) < 0)
		return -1;
	return (int)items;
}

int ask_x_server(struct x_state *state)
{
	CLEANUP_FD int fd = connect_to_x();
	if (fd < 0)
		return -1;
	uint32_t root = set_up(fd);
	if (!root)
		return -1;
	uint32_t check = intern_atom(fd, "_NET_SUPPORTING_WM_CHECK");
	uint32_t list = intern_atom(fd, "_NET_CLIENT_LIST");
	if (!check || !list)
		return -1;
	int managers = property_items(fd, root, check);
	int clients = property_items(fd, root, list);
	if (managers < 0 || clients < 0)
		return -1;
	state->has_window_manager = managers > 0;
	state->client_windows = clients;
	return 0;
}
