/*
 * As much of the X11 protocol as Torpor needs: properties of windows, messages to the window manager, idle time. By it pid 1 knows
 * whether a window manager is there and how many windows it manages, and torpor-capsule what windows these are.
 */
#ifndef TORPOR_X11_H
#define TORPOR_X11_H

#include <stdint.h>

/* The path socket of a display. */
#define X_SOCKET_OF_DISPLAY "/tmp/.X11-unix/X%u"

struct x_connection {
	int fd;
	uint32_t root;
};

/* The value of a property, or a part of it; all zero where the window has none, or has gone. */
struct x_value {
	uint32_t type;
	/* Bits an item. There are never more items than data. */
	uint8_t format;
	uint32_t items;
	/* How much of the property follows the part. */
	uint32_t bytes_after;
	/* On the heap, with a zero byte behind it. */
	uint8_t *data;
};

#define X_MESSAGE_WORDS 5

/* Connects to a display. Each step, here and below, has a time limit of two seconds. Returns 0, or -1. */
int x_open(struct x_connection *x, unsigned int display);
/* The same of a display of this machine as DISPLAY names it, with what lets one in from that file, if it has any. */
int x_open_named(struct x_connection *x, const char *display, const char *authority);
void x_close(struct x_connection *x);

/* The atom of a name, or 0 where the server does not answer. */
uint32_t x_atom(struct x_connection *x, const char *name);

/*
 * Reads a property from an offset on; offset and limit are in words of four bytes. Returns 0, or -1 where the server does
 * not answer as it should; then the connection is of no more use.
 */
int x_property(struct x_connection *x, uint32_t window, uint32_t name, uint32_t offset, uint32_t limit,
	       struct x_value *value);
void x_free(struct x_value *value);

/* Sends the window manager a message about a window. Returns 0, or -1. */
int x_tell_root(struct x_connection *x, uint32_t window, uint32_t message, const uint32_t data[X_MESSAGE_WORDS]);

/* How long nobody has typed or pointed at anything, in milliseconds. Returns 0, or -1 where the server does not know. */
int x_idle(struct x_connection *x, uint32_t *milliseconds);

/* Replaces a property that is a list of atoms. Returns 0, or -1. */
int x_set_atoms(struct x_connection *x, uint32_t window, uint32_t name, const uint32_t *atoms, uint32_t count);

/* The process whose window that is, as the server knows it (X-Resource 1.2). Returns 0, or -1 where it does not. */
int x_process_of(struct x_connection *x, uint32_t window, uint32_t *pid);

/* Whether a client has taken the pointer for itself, as for a menu. Returns 0, or -1. */
int x_is_grabbed(struct x_connection *x, int *is_grabbed);

/* Waits until the server has done all it was asked. Returns 0, or -1. */
int x_await(struct x_connection *x);

struct x_state {
	int has_window_manager;
	int client_windows;
};

/* Connects, asks, and leaves. Returns 0, or -1 where the server does not answer. */
int ask_x_server(unsigned int display, struct x_state *state);

#endif
