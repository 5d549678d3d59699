/*
 * torpor-sound: the sound server of a capsule. Programs inside play and record through it by PulseAudio's native protocol;
 * it is suspended and resumed with them, so that for them nothing ever happens. It has no sound card. A relay outside
 * (native/sound/relay.c) connects to it and carries each stream to the user's own sound server.
 *
 * SIGUSR1 makes it let go of the relay, and take none for a moment: before a checkpoint, where the relay itself does not.
 *
 * usage: torpor-sound SOCKET [RELAY_SOCKET]
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common.h"
#include "server.h"

#define CLIENTS_MAX 256
/* A relay is started with the user's first capsule. */
#define FIRST_PATIENCE_USEC 5000000
/* libpulse writes no longer frames than 64 KiB; PulseAudio itself refuses those above this. */
#define FRAME_MAX (16u << 20)
#define FRAME_HEADER 20
#define DEAF_USEC 2000000

struct server server = {.relay = {.fd = -1}};

static volatile sig_atomic_t is_to_let_go;
static int64_t deaf_until;

static void on_let_go(int number)
{
	(void)number;
	is_to_let_go = 1;
}

static void let_go(void)
{
	is_to_let_go = 0;
	deaf_until = now_usec() + DEAF_USEC;
	if (server.relay.fd >= 0)
		relay_went();
}

static void accept_relay(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0 && now_usec() < deaf_until)
		close(fd);
	else if (fd >= 0)
		relay_came(fd);
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(address.sun_path))
		die("the path %s is too long for a socket", path);
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 16) < 0)
		die_with_error("listening at %s", path);
	return fd;
}

static void end_client(struct client *client)
{
	for (struct stream *stream = server.streams, *next; stream; stream = next) {
		next = stream->next;
		if (stream->client == client)
			end_stream(stream);
	}
	struct client **place = &server.clients;
	while (*place != client)
		place = &(*place)->next;
	*place = client->next;
	tell_subscribers(FACILITY_CLIENT, EVENT_REMOVE, client->number);
	disconnect(&client->connection);
	free_properties(&client->properties);
	free(client);
}

static void accept_client(int listener, size_t count)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	struct client *client = count < CLIENTS_MAX ? calloc(1, sizeof(*client)) : NULL;
	if (!client) {
		close(fd);
		return;
	}
	client->connection.fd = fd;
	client->number = server.next_client++;
	client->next = server.clients;
	server.clients = client;
}

static uint32_t big_endian(const uint8_t *data)
{
	return (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
}

/* Handles the next whole frame: a command, or samples for a stream. Returns false where there is none. */
static bool handle_frame(struct client *client)
{
	const struct bytes *in = &client->connection.in;
	if (in->length < FRAME_HEADER || client->doomed)
		return false;
	uint32_t length = big_endian(in->data), channel = big_endian(in->data + 4), flags = big_endian(in->data + 16);
	if (length > FRAME_MAX || (flags & ~0xffu)) {
		client->doomed = true;
		return false;
	}
	if (in->length < FRAME_HEADER + length)
		return false;
	const uint8_t *data = in->data + FRAME_HEADER;
	if (channel == INVALID) {
		handle_command(client, data, length);
	} else {
		int64_t offset = (int64_t)((uint64_t)big_endian(in->data + 8) << 32 | big_endian(in->data + 12));
		struct stream *stream = find_stream(client, channel, false);
		if (stream)
			write_samples(stream, offset, flags & 0xff, data, length);
	}
	consume(&client->connection.in, FRAME_HEADER + length);
	return true;
}

static void serve(struct client *client, short events)
{
	if ((events & (POLLIN | POLLHUP | POLLERR)) && !receive(&client->connection))
		client->doomed = true;
	while (handle_frame(client))
		;
}

static void serve_relay(short events)
{
	if (!(events & (POLLIN | POLLHUP | POLLERR)))
		return;
	/* What it said before it went still counts. */
	bool is_there = receive(&server.relay);
	if (!hear_relay() || !is_there)
		relay_went();
}

static int wait_limit(void)
{
	int64_t due = INT64_MAX, now = now_usec();
	for (const struct stream *stream = server.streams; stream; stream = stream->next) {
		int64_t at = due_at(stream);
		due = at < due ? at : due;
	}
	if (due == INT64_MAX)
		return -1;
	return due <= now ? 0 : (int)((due - now) / 1000 + 1);
}

static short wanted_events(const struct connection *connection)
{
	return (short)(POLLIN | (connection->out.length > 0 ? POLLOUT : 0));
}

/* One round: waits for anything to happen, and does what follows from it. */
static void take_turn(int listener, int relay_listener)
{
	struct pollfd polled[CLIENTS_MAX + 3] = {
		{.fd = listener, .events = POLLIN},
		{.fd = relay_listener, .events = POLLIN},
		{.fd = server.relay.fd, .events = wanted_events(&server.relay)},
	};
	struct client *clients[CLIENTS_MAX];
	size_t count = 0;
	for (struct client *client = server.clients; client; client = client->next) {
		clients[count] = client;
		polled[3 + count++] = (struct pollfd){.fd = client->connection.fd, .events = wanted_events(&client->connection)};
	}
	if (poll(polled, 3 + count, wait_limit()) < 0 && errno != EINTR)
		die_with_error("waiting");
	if (is_to_let_go) {
		let_go();
		return;
	}
	for (size_t index = 0; index < count; index++)
		serve(clients[index], polled[3 + index].revents);
	if (server.relay.fd >= 0)
		serve_relay(polled[2].revents);
	if (polled[1].revents & POLLIN)
		accept_relay(relay_listener);
	if (polled[0].revents & POLLIN)
		accept_client(listener, count);
	int64_t now = now_usec();
	for (struct stream *stream = server.streams; stream; stream = stream->next)
		advance(stream, now);
	for (struct client *client = server.clients, *next; client; client = next) {
		next = client->next;
		if (!transmit(&client->connection) || client->doomed)
			end_client(client);
	}
	if (server.relay.fd >= 0 && !transmit(&server.relay))
		relay_went();
}

int main(int argc, char **argv)
{
	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: torpor-sound SOCKET [RELAY_SOCKET]\n");
		return 2;
	}
	prctl(PR_SET_NAME, "torpor-sound");
	signal(SIGPIPE, SIG_IGN);
	/* Without SA_RESTART: it ends the waiting. */
	struct sigaction act = {.sa_handler = on_let_go};
	sigaction(SIGUSR1, &act, NULL);
	umask(077);
	int listener = listen_at(argv[1]);
	int relay_listener = listen_at(argc > 2 ? argv[2] : RELAY_SOCKET);
	server.patience_until = now_usec() + FIRST_PATIENCE_USEC;
	for (;;)
		take_turn(listener, relay_listener);
}
