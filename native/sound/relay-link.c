/* The link to the capsule: what its sound server says, or whoever else listens there. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common.h"
#include "relay.h"

#define SEND_LIMIT_USEC 500000

static pa_io_event *link_event;
static unsigned int failed_tries;

/* What a mixer shows. Others say something of processes inside, or a server obeys them as to where a stream leads. */
static const char *const passed_on[] = {
	PA_PROP_APPLICATION_NAME,
	PA_PROP_APPLICATION_ID,
	PA_PROP_APPLICATION_VERSION,
	PA_PROP_APPLICATION_ICON_NAME,
	PA_PROP_APPLICATION_LANGUAGE,
	PA_PROP_APPLICATION_PROCESS_BINARY,
	PA_PROP_EVENT_ID,
	PA_PROP_EVENT_DESCRIPTION,
	PA_PROP_MEDIA_NAME,
	PA_PROP_MEDIA_TITLE,
	PA_PROP_MEDIA_ARTIST,
	PA_PROP_MEDIA_COPYRIGHT,
	PA_PROP_MEDIA_SOFTWARE,
	PA_PROP_MEDIA_LANGUAGE,
	PA_PROP_MEDIA_FILENAME,
	PA_PROP_MEDIA_ICON_NAME,
	PA_PROP_MEDIA_ROLE,
	PA_PROP_WINDOW_NAME,
	PA_PROP_WINDOW_ICON_NAME,
};

static bool is_passed_on(const char *name)
{
	for (size_t index = 0; index < sizeof(passed_on) / sizeof(passed_on[0]); index++)
		if (strcmp(name, passed_on[index]) == 0)
			return true;
	return false;
}

/* Names and values as the server writes them. */
static pa_proplist *read_proplist(const uint8_t *data, size_t length)
{
	pa_proplist *properties = pa_proplist_new();
	for (size_t at = 0; at < length;) {
		const char *name = (const char *)data + at;
		size_t name_length = strnlen(name, length - at) + 1;
		const char *value = name + name_length;
		if (at + name_length >= length)
			break;
		size_t value_length = strnlen(value, length - at - name_length) + 1;
		at += name_length + value_length;
		if (at > length)
			break;
		if (is_passed_on(name))
			pa_proplist_sets(properties, name, value);
	}
	if (!pa_proplist_contains(properties, PA_PROP_APPLICATION_NAME))
		pa_proplist_sets(properties, PA_PROP_APPLICATION_NAME, relay.default_name);
	if (*relay.default_icon && !pa_proplist_contains(properties, PA_PROP_APPLICATION_ICON_NAME))
		pa_proplist_sets(properties, PA_PROP_APPLICATION_ICON_NAME, relay.default_icon);
	return properties;
}

/* Whoever is inside may have said it, and not the server that belongs there. */
static bool is_valid_opening(const struct open_stream *open)
{
	return open->version == RELAY_VERSION && is_valid_spec(&open->spec) && open->map.channels <= CHANNELS_MAX &&
	       open->volume.channels <= CHANNELS_MAX && is_position(open->start);
}

static void hear_of_opening(uint32_t number, const uint8_t *contents, size_t length)
{
	struct open_stream open;
	memcpy(&open, contents, sizeof(open));
	if (is_valid_opening(&open))
		carry(number, &open, read_proplist(contents + sizeof(open), length - sizeof(open)));
	else
		send_message(&relay.link, MESSAGE_REFUSED, number, NULL, 0);
}

static void hear_of_sizes(struct carried *carried, const struct buffer_sizes *sizes)
{
	carried->open.sizes = *sizes;
	pa_buffer_attr wished = {sizes->maximum, sizes->target, (uint32_t)frame_size(&carried->open.spec), sizes->request,
				 sizes->fragment};
	if (is_ready(carried))
		run(pa_stream_set_buffer_attr(carried->stream, &wished, NULL, NULL));
}

static void hear_of_rate(struct carried *carried, uint32_t rate)
{
	struct sample_spec spec = carried->open.spec;
	spec.rate = rate;
	if (!is_valid_spec(&spec))
		return;
	carried->open.spec = spec;
	if (is_ready(carried))
		run(pa_stream_update_sample_rate(carried->stream, rate, NULL, NULL));
}

static void hear_of_properties(struct carried *carried, const uint8_t *contents, size_t length)
{
	pa_proplist_free(carried->properties);
	carried->properties = read_proplist(contents, length);
	if (is_ready(carried))
		run(pa_stream_proplist_update(carried->stream, PA_UPDATE_REPLACE, carried->properties, NULL, NULL));
}

/* Of which length a message must be at least, by its kind. */
static size_t least_length(enum message_kind kind)
{
	switch (kind) {
	case MESSAGE_OPEN:
		return sizeof(struct open_stream);
	case MESSAGE_SAMPLES:
	case MESSAGE_FLUSH:
		return sizeof(struct samples);
	case MESSAGE_VOLUME:
		return sizeof(struct volume);
	case MESSAGE_SIZES:
		return sizeof(struct buffer_sizes);
	case MESSAGE_CORK:
	case MESSAGE_MUTE:
	case MESSAGE_RATE:
		return sizeof(uint32_t);
	default:
		return 0;
	}
}

static void hear(const struct message *message, const uint8_t *contents)
{
	struct carried *carried = find(message->stream);
	if (message->length < least_length(message->kind))
		return;
	if (message->kind == MESSAGE_OPEN) {
		if (carried)
			forget(carried);
		hear_of_opening(message->stream, contents, message->length);
		return;
	}
	if (!carried)
		return;
	union {
		uint32_t value;
		struct samples samples;
		struct volume volume;
		struct buffer_sizes sizes;
	} head;
	memcpy(&head, contents, least_length(message->kind));
	note_passed_on(carried, message->length);
	switch (message->kind) {
	case MESSAGE_CLOSE:
		forget(carried);
		break;
	case MESSAGE_SAMPLES:
		if (is_position(head.samples.position))
			play(carried, &head.samples, contents + sizeof(head.samples), message->length - sizeof(head.samples));
		break;
	case MESSAGE_FLUSH:
		if (is_position(head.samples.position))
			flush_stream(carried, &head.samples);
		break;
	case MESSAGE_CORK:
		carried->open.corked = head.value != 0;
		if (is_ready(carried) && !carried->filling)
			run(pa_stream_cork(carried->stream, head.value != 0, NULL, NULL));
		break;
	case MESSAGE_VOLUME:
		if (head.volume.channels <= CHANNELS_MAX)
			set_volume(carried, &head.volume);
		break;
	case MESSAGE_MUTE:
		set_mute(carried, head.value != 0);
		break;
	case MESSAGE_PROPERTIES:
		hear_of_properties(carried, contents, message->length);
		break;
	case MESSAGE_RATE:
		hear_of_rate(carried, head.value);
		break;
	case MESSAGE_SIZES:
		hear_of_sizes(carried, &head.sizes);
		break;
	default:
		break;
	}
}

/* ---- the connection ---- */

void stop_hearing(void)
{
	/* An event that is only switched off still tells of a hangup. */
	if (link_event)
		relay.api->io_free(link_event);
	link_event = NULL;
}

void close_link(void)
{
	stop_hearing();
	disconnect(&relay.link);
	forget_all();
}

static void on_link(pa_mainloop_api *ignored, pa_io_event *event, int fd, pa_io_event_flags_t flags, void *data)
{
	(void)ignored, (void)event, (void)fd, (void)data;
	bool is_there = !(flags & (PA_IO_EVENT_INPUT | PA_IO_EVENT_HANGUP | PA_IO_EVENT_ERROR)) || receive(&relay.link);
	const struct message *message;
	const uint8_t *contents;
	bool malformed = false;
	while (relay.link.fd >= 0 && (message = next_message(&relay.link, &contents, &malformed))) {
		/* Handling it may forget it. */
		struct message copy = *message;
		hear(&copy, contents);
		done_with_message(&relay.link);
	}
	if (!is_there || malformed) {
		close_link();
		relay.try_at = now_usec() + RETRY_USEC;
	}
}

/*
 * The folder is open to the application, which may have put a link to anywhere in its place: what is connected to is a
 * socket that lies there. Nor is it waited for, where nobody accepts it. And the path may be longer than a socket's
 * address can be, which that of a descriptor is not.
 */
static int connect_to(const char *path)
{
	CLEANUP_FD int place = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat found;
	if (place < 0 || fstat(place, &found) < 0 || !S_ISSOCK(found.st_mode))
		return -1;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", place);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

void open_link(void)
{
	relay.link.fd = connect_to(relay.socket_path);
	if (relay.link.fd < 0) {
		relay.try_at = now_usec() + (++failed_tries < QUICK_TRIES ? RETRY_USEC : SLOW_RETRY_USEC);
		return;
	}
	failed_tries = 0;
	link_event = relay.api->io_new(relay.api, relay.link.fd, PA_IO_EVENT_INPUT | PA_IO_EVENT_HANGUP, on_link, NULL);
	relay.told_of_no_server = false;
	say("connected", "server", pa_context_get_server(relay.control), 0);
}

void send_all(void)
{
	for (int64_t limit = now_usec() + SEND_LIMIT_USEC; relay.link.fd >= 0 && relay.link.out.length > 0 && now_usec() < limit;) {
		if (!transmit(&relay.link))
			return;
		struct pollfd polled = {.fd = relay.link.fd, .events = POLLOUT};
		if (relay.link.out.length > 0)
			poll(&polled, 1, 50);
	}
}

void serve_link(void)
{
	if (!link_event)
		return;
	bool is_there = transmit(&relay.link);
	/* A capsule that is frozen, or does not want to know. */
	if (relay.link.out.length > UNSENT_MAX * 2) {
		close_link();
		relay.try_at = now_usec() + RETRY_USEC;
		return;
	}
	pa_io_event_flags_t flags = PA_IO_EVENT_HANGUP;
	flags |= is_behind() ? PA_IO_EVENT_NULL : PA_IO_EVENT_INPUT;
	flags |= is_there && relay.link.out.length > 0 ? PA_IO_EVENT_OUTPUT : PA_IO_EVENT_NULL;
	relay.api->io_enable(link_event, flags);
}

void try_link_at_once(void)
{
	failed_tries = 0;
	relay.try_at = 0;
}
