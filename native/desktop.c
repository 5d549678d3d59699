/*
 * torpor-desktop look PID...
 * torpor-desktop quiet PID...
 * torpor-desktop restore WINDOW:ATOM,ATOM...
 *
 * The windows of processes on the display that DISPLAY and XAUTHORITY name; to be run as its user.
 *
 * `look` writes {"windows": ids, "focused": whether the user is in one of them, "grabbed": whether anybody has taken the pointer
 * for itself}.
 *
 * `quiet` has the window manager no longer ask these windows whether they live (_NET_WM_PING), nor wait for them to draw
 * (_NET_WM_SYNC_REQUEST): it would take what stands still for dead, offer to end it, and hold up others. It writes a line for
 * each window that it changed, as `restore` takes it to undo that. A window that has gone is passed over.
 *
 * Exits with 4 where the display does not answer within two seconds.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "x11.h"

#define NO_ANSWER 4
#define WINDOW_LIMIT 4096
#define PROTOCOL_LIMIT 64

static struct x_connection x;

static void no_answer(void)
{
	fputs("torpor-desktop: the display does not answer\n", stderr);
	exit(NO_ANSWER);
}

static uint32_t atom(const char *name)
{
	uint32_t found = x_atom(&x, name);
	if (!found)
		no_answer();
	return found;
}

/* As many of the words of a property as there is room for; 0 where the window has none, or has gone. */
static uint32_t words_of(uint32_t window, uint32_t name, uint32_t *words, uint32_t room)
{
	struct x_value value;
	if (x_property(&x, window, name, 0, room, &value) < 0)
		no_answer();
	uint32_t count = value.format == 32 ? value.items : 0;
	if (count > room)
		count = room;
	if (count > 0)
		memcpy(words, value.data, (size_t)count * sizeof(*words));
	x_free(&value);
	return count;
}

/* As the server knows it, or else as the window says. */
static uint32_t process_of(uint32_t window, uint32_t wm_pid)
{
	uint32_t pid = 0;
	if (x_process_of(&x, window, &pid) < 0 && words_of(window, wm_pid, &pid, 1) == 0)
		return 0;
	return pid;
}

static bool is_among(uint32_t pid, char *const *pids)
{
	for (; *pids; pids++)
		if (strtoul(*pids, NULL, 10) == pid)
			return true;
	return false;
}

/* The windows of these processes that the window manager has, the oldest first. */
static uint32_t windows_of(char *const *pids, uint32_t windows[WINDOW_LIMIT])
{
	uint32_t all = words_of(x.root, atom("_NET_CLIENT_LIST"), windows, WINDOW_LIMIT), count = 0;
	uint32_t wm_pid = atom("_NET_WM_PID");
	for (uint32_t index = 0; index < all; index++)
		if (is_among(process_of(windows[index], wm_pid), pids))
			windows[count++] = windows[index];
	return count;
}

static void look(char *const *pids)
{
	static uint32_t windows[WINDOW_LIMIT];
	uint32_t count = windows_of(pids, windows), active = 0;
	int is_grabbed;
	bool is_focused = false;

	words_of(x.root, atom("_NET_ACTIVE_WINDOW"), &active, 1);
	fputs("{\"windows\":[", stdout);
	for (uint32_t index = 0; index < count; index++) {
		printf("%s%u", index ? "," : "", windows[index]);
		is_focused = is_focused || windows[index] == active;
	}
	if (x_is_grabbed(&x, &is_grabbed) < 0)
		no_answer();
	printf("],\"focused\":%s,\"grabbed\":%s}\n", is_focused ? "true" : "false", is_grabbed ? "true" : "false");
}

static void quiet(char *const *pids)
{
	static uint32_t windows[WINDOW_LIMIT];
	uint32_t count = windows_of(pids, windows);
	const uint32_t protocols = atom("WM_PROTOCOLS"), ping = atom("_NET_WM_PING"), sync = atom("_NET_WM_SYNC_REQUEST");

	for (uint32_t index = 0; index < count; index++) {
		uint32_t had[PROTOCOL_LIMIT], kept[PROTOCOL_LIMIT], kept_count = 0;
		uint32_t had_count = words_of(windows[index], protocols, had, PROTOCOL_LIMIT);
		for (uint32_t each = 0; each < had_count; each++)
			if (had[each] != ping && had[each] != sync)
				kept[kept_count++] = had[each];
		if (kept_count == had_count)
			continue;
		/* Before it is done, so that it can be undone. */
		printf("%u:", windows[index]);
		for (uint32_t each = 0; each < had_count; each++)
			printf("%s%u", each ? "," : "", had[each]);
		fputc('\n', stdout);
		fflush(stdout);
		if (x_set_atoms(&x, windows[index], protocols, kept, kept_count) < 0)
			no_answer();
	}
}

static void restore(const char *change)
{
	uint32_t atoms[PROTOCOL_LIMIT], count = 0;
	char *at;
	uint32_t window = (uint32_t)strtoul(change, &at, 10);

	if (at == change || *at != ':')
		die("%s is no window with its protocols", change);
	while (*at && count < PROTOCOL_LIMIT)
		atoms[count++] = (uint32_t)strtoul(at + 1, &at, 10);
	if (x_set_atoms(&x, window, atom("WM_PROTOCOLS"), atoms, count) < 0)
		no_answer();
}

int main(int count, char **arguments)
{
	const char *task = count > 1 ? arguments[1] : "", *display = getenv("DISPLAY");

	if (!display || x_open_named(&x, display, getenv("XAUTHORITY")) < 0)
		no_answer();
	if (strcmp(task, "look") == 0)
		look(arguments + 2);
	else if (strcmp(task, "quiet") == 0)
		quiet(arguments + 2);
	else if (strcmp(task, "restore") == 0)
		for (char **change = arguments + 2; *change; change++)
			restore(*change);
	else
		die("usage: torpor-desktop look|quiet|restore ...");
	if (x_await(&x) < 0)
		no_answer();
	x_close(&x);
	return fflush(stdout) == 0 ? 0 : 1;
}
