#include "windows.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "x11.h"

/* An application may make more windows and longer titles than anyone can read: the rest is left out. */
#define WINDOW_LIMIT 256
#define TEXT_LIMIT_WORDS 256
#define TYPE_LIMIT_WORDS 16
#define ICON_SIDE_LIMIT 256
#define ICON_COUNT_LIMIT 64
#define NO_SUCH_WINDOW 3

/* Atoms that every server knows by these numbers (appendix B of the protocol). */
#define ATOM_WM_NAME 39
#define ATOM_WM_CLASS 67

/* Who asks the window manager: 2 is a pager or taskbar, which acts for the user. */
#define SOURCE_USER 2

struct window_list {
	uint32_t ids[WINDOW_LIMIT];
	size_t count;
};

static uint32_t atom(struct x_connection *x, const char *name)
{
	uint32_t found = x_atom(x, name);
	if (!found)
		die("the X server of the capsule does not answer");
	return found;
}

static struct x_value property(struct x_connection *x, uint32_t window, uint32_t name, uint32_t offset, uint32_t limit)
{
	struct x_value value;
	if (x_property(x, window, name, offset, limit, &value) < 0)
		die("the X server of the capsule does not answer");
	return value;
}

static uint32_t word(const struct x_value *value, size_t index)
{
	uint32_t result = 0;
	if (value->format == 32 && index < value->items)
		memcpy(&result, value->data + index * sizeof(result), sizeof(result));
	return result;
}

/* Panels and the desktop itself are no windows to a user. */
static bool is_for_the_user(struct x_connection *x, uint32_t window, const uint32_t types[3])
{
	struct x_value value = property(x, window, types[0], 0, TYPE_LIMIT_WORDS);
	uint32_t type = word(&value, 0);
	x_free(&value);
	return type == 0 || (type != types[1] && type != types[2]);
}

static struct window_list read_list(struct x_connection *x, const char *name)
{
	struct window_list list = {.count = 0};
	const uint32_t types[] = {atom(x, "_NET_WM_WINDOW_TYPE"), atom(x, "_NET_WM_WINDOW_TYPE_DOCK"),
				  atom(x, "_NET_WM_WINDOW_TYPE_DESKTOP")};
	struct x_value value = property(x, x->root, atom(x, name), 0, WINDOW_LIMIT);
	for (size_t index = 0; index < value.items && index < WINDOW_LIMIT; index++) {
		uint32_t id = word(&value, index);
		if (id && is_for_the_user(x, id, types))
			list.ids[list.count++] = id;
	}
	x_free(&value);
	return list;
}

/* In COMPOUND_TEXT, which is ISO 8859-1 otherwise, what is between these is UTF-8. */
#define UTF8_BEGINS "\033%G"
#define UTF8_ENDS "\033%@"
#define MARK_LENGTH (sizeof(UTF8_BEGINS) - 1)

/* What is not UTF-8 is taken for ISO 8859-1, as X's type STRING is. */
static void write_text(struct x_value *value, uint32_t utf8)
{
	if (value->format != 8 || value->type == utf8 || !value->data) {
		write_json_string(stdout, value->format == 8 && value->data ? (char *)value->data : "");
		return;
	}
	CLEANUP_FREE char *text = calloc(2, (size_t)value->items + 1);
	if (!text)
		die("out of memory");
	char *at = text;
	bool is_utf8 = false;
	/* There is a zero byte behind the data. */
	for (size_t index = 0; index < value->items && value->data[index]; index++) {
		const char *mark = is_utf8 ? UTF8_ENDS : UTF8_BEGINS;
		if (strncmp((char *)value->data + index, mark, MARK_LENGTH) == 0) {
			is_utf8 = !is_utf8;
			index += MARK_LENGTH - 1;
			continue;
		}
		unsigned char byte = value->data[index];
		if (byte < 0x80 || is_utf8) {
			*at++ = (char)byte;
			continue;
		}
		*at++ = (char)(0xc0 | byte >> 6);
		*at++ = (char)(0x80 | (byte & 0x3f));
	}
	write_json_string(stdout, text);
}

static void write_title(struct x_connection *x, uint32_t window, uint32_t net_name, uint32_t utf8)
{
	struct x_value value = property(x, window, net_name, 0, TEXT_LIMIT_WORDS);
	if (value.items == 0) {
		x_free(&value);
		value = property(x, window, ATOM_WM_NAME, 0, TEXT_LIMIT_WORDS);
	}
	write_text(&value, utf8);
	x_free(&value);
}

/* Two strings, each ended by a zero byte: the instance and the class. */
static void write_class(struct x_connection *x, uint32_t window, uint32_t utf8)
{
	struct x_value value = property(x, window, ATOM_WM_CLASS, 0, TEXT_LIMIT_WORDS);
	size_t instance = value.format == 8 && value.data ? strnlen((char *)value.data, value.items) + 1 : 0;
	if (instance < value.items) {
		value.items -= (uint32_t)instance;
		memmove(value.data, value.data + instance, value.items);
		value.data[value.items] = 0;
	} else if (value.data) {
		value.items = 0;
		value.data[0] = 0;
	}
	write_text(&value, utf8);
	x_free(&value);
}

static int list(struct x_connection *x)
{
	struct window_list windows = read_list(x, "_NET_CLIENT_LIST");
	struct x_value value = property(x, x->root, atom(x, "_NET_ACTIVE_WINDOW"), 0, 1);
	uint32_t active = word(&value, 0);
	x_free(&value);
	uint32_t name = atom(x, "_NET_WM_NAME"), utf8 = atom(x, "UTF8_STRING");
	for (size_t index = 0; index < windows.count; index++) {
		uint32_t id = windows.ids[index];
		printf("{\"id\":%u,\"title\":", id);
		write_title(x, id, name, utf8);
		fputs(",\"class\":", stdout);
		write_class(x, id, utf8);
		printf(",\"active\":%s}\n", id == active ? "true" : "false");
	}
	return 0;
}

static void tell(struct x_connection *x, uint32_t window, uint32_t message, const uint32_t data[X_MESSAGE_WORDS])
{
	if (x_tell_root(x, window, message, data) < 0)
		die("the X server of the capsule does not answer");
}

static void await(struct x_connection *x)
{
	if (x_await(x) < 0)
		die("the X server of the capsule does not answer");
}

/* Whether a window is one of those that are listed: nothing is done to others. */
static bool is_listed(struct x_connection *x, uint32_t id)
{
	struct window_list windows = read_list(x, "_NET_CLIENT_LIST");
	for (size_t index = 0; index < windows.count; index++)
		if (windows.ids[index] == id)
			return true;
	return false;
}

static int activate(struct x_connection *x, uint32_t id)
{
	if (!is_listed(x, id))
		return NO_SUCH_WINDOW;
	/* Who asks, the time of the user's act (0: now), and the window of whoever asks. */
	tell(x, id, atom(x, "_NET_ACTIVE_WINDOW"), (const uint32_t[X_MESSAGE_WORDS]){SOURCE_USER, 0, 0});
	await(x);
	return 0;
}

/* The uppermost first, so that a dialog goes before the window that waits for it. */
static int close_all(struct x_connection *x)
{
	struct window_list windows = read_list(x, "_NET_CLIENT_LIST_STACKING");
	uint32_t message = atom(x, "_NET_CLOSE_WINDOW");
	for (size_t index = windows.count; index > 0; index--)
		tell(x, windows.ids[index - 1], message, (const uint32_t[X_MESSAGE_WORDS]){0, SOURCE_USER});
	await(x);
	return 0;
}

struct icon {
	uint32_t width, height;
	/* Where its pixels begin in the property, in words. */
	uint32_t offset;
};

/* The property holds any number of images, each a width, a height and its pixels. */
static struct icon choose_icon(struct x_connection *x, uint32_t window, uint32_t name)
{
	struct icon best = {0};
	uint32_t offset = 0;
	for (int count = 0; count < ICON_COUNT_LIMIT; count++) {
		struct x_value value = property(x, window, name, offset, 2);
		uint32_t width = word(&value, 0), height = word(&value, 1), words_after = value.bytes_after / 4;
		x_free(&value);
		uint64_t pixels = (uint64_t)width * height;
		if (pixels == 0 || pixels > words_after)
			break;
		if (width <= ICON_SIDE_LIMIT && height <= ICON_SIDE_LIMIT &&
		    pixels > (uint64_t)best.width * best.height)
			best = (struct icon){width, height, offset + 2};
		offset += 2 + (uint32_t)pixels;
	}
	return best;
}

static int icon(struct x_connection *x, uint32_t id)
{
	if (!is_listed(x, id))
		return NO_SUCH_WINDOW;
	uint32_t name = atom(x, "_NET_WM_ICON");
	struct icon chosen = choose_icon(x, id, name);
	uint32_t pixels = chosen.width * chosen.height;
	struct x_value value = property(x, id, name, chosen.offset, pixels ? pixels : 1);
	/* It may have been changed meanwhile. */
	if (pixels == 0 || value.format != 32 || value.items < pixels) {
		puts("{}");
	} else {
		printf("{\"width\":%u,\"height\":%u,\"pixels\":\"", chosen.width, chosen.height);
		for (uint32_t index = 0; index < pixels; index++)
			printf("%08x", word(&value, index));
		puts("\"}");
	}
	x_free(&value);
	return 0;
}

static int idle(struct x_connection *x)
{
	uint32_t milliseconds;
	if (x_idle(x, &milliseconds) < 0)
		die("the X server of the capsule does not know how long nobody has used it");
	printf("%u\n", milliseconds);
	return 0;
}

static uint32_t window_id(const char *text)
{
	char *end;
	errno = 0;
	unsigned long number = text ? strtoul(text, &end, 10) : 0;
	if (!text || *text < '0' || *text > '9' || *end || errno || number > UINT32_MAX)
		die("a window is named by its number");
	return (uint32_t)number;
}

int ask_of_windows(unsigned int display, char *const *request)
{
	const char *task = request[0];
	struct x_connection x;
	if (x_open(&x, display) < 0)
		die("the X server of the capsule does not answer");
	int status;
	if (strcmp(task, "list") == 0)
		status = list(&x);
	else if (strcmp(task, "activate") == 0)
		status = activate(&x, window_id(request[1]));
	else if (strcmp(task, "close") == 0)
		status = close_all(&x);
	else if (strcmp(task, "icon") == 0)
		status = icon(&x, window_id(request[1]));
	else if (strcmp(task, "idle") == 0)
		status = idle(&x);
	else
		die("nobody knows how to %s windows", task);
	x_close(&x);
	return status;
}
