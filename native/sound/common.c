#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../common.h"
#include "sound.h"

#define READ_CHUNK 65536

static const uint8_t sample_sizes[FORMAT_MAX] = {1, 1, 1, 2, 2, 4, 4, 4, 4, 3, 3, 4, 4};

size_t frame_size(const struct sample_spec *spec)
{
	return (size_t)sample_sizes[spec->format] * spec->channels;
}

bool is_valid_spec(const struct sample_spec *spec)
{
	return spec->format < FORMAT_MAX && spec->channels > 0 && spec->channels <= CHANNELS_MAX && spec->rate > 0 &&
	       spec->rate <= 48000 * 16;
}

bool is_position(int64_t position)
{
	return position >= 0 && position <= FARTHEST;
}

int64_t bytes_in_usec(const struct sample_spec *spec, int64_t usec)
{
	return usec * spec->rate / 1000000 * (int64_t)frame_size(spec);
}

int64_t usec_of_bytes(const struct sample_spec *spec, int64_t bytes)
{
	return bytes / (int64_t)frame_size(spec) * 1000000 / spec->rate;
}

uint8_t silence_of(const struct sample_spec *spec)
{
	switch (spec->format) {
	case FORMAT_U8:
		return 0x80;
	case FORMAT_ALAW:
		return 0xd5;
	case FORMAT_ULAW:
		return 0xff;
	default:
		return 0;
	}
}

bool is_same_volume(const struct volume *one, const struct volume *other)
{
	return one->channels == other->channels &&
	       memcmp(one->values, other->values, sizeof(one->values[0]) * one->channels) == 0;
}

/* CLOCK_MONOTONIC, which the capsule's time namespace keeps going across a suspend. */
int64_t now_usec(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

void append(struct bytes *bytes, const void *data, size_t length)
{
	if (length == 0)
		return;
	if (bytes->length + length > bytes->capacity) {
		size_t capacity = (bytes->length + length) * 2;
		bytes->data = realloc(bytes->data, capacity);
		if (!bytes->data)
			die("out of memory");
		bytes->capacity = capacity;
	}
	memcpy(bytes->data + bytes->length, data, length);
	bytes->length += length;
}

void consume(struct bytes *bytes, size_t length)
{
	bytes->length -= length;
	if (bytes->length > 0) {
		memmove(bytes->data, bytes->data + length, bytes->length);
	} else if (bytes->capacity > READ_CHUNK * 4) {
		/* A checkpoint need not carry what one large write once took. */
		free(bytes->data);
		*bytes = (struct bytes){0};
	}
}

bool receive(struct connection *connection)
{
	uint8_t chunk[READ_CHUNK];
	ssize_t count = RETRY(recv(connection->fd, chunk, sizeof(chunk), MSG_DONTWAIT));
	if (count > 0)
		append(&connection->in, chunk, (size_t)count);
	return count > 0 || (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
}

bool transmit(struct connection *connection)
{
	size_t done = 0;
	while (done < connection->out.length) {
		ssize_t count = RETRY(send(connection->fd, connection->out.data + done, connection->out.length - done,
					   MSG_DONTWAIT | MSG_NOSIGNAL));
		if (count < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
			return false;
		if (count < 0)
			break;
		done += (size_t)count;
	}
	if (done > 0)
		consume(&connection->out, done);
	return true;
}

void disconnect(struct connection *connection)
{
	if (connection->fd >= 0)
		close(connection->fd);
	free(connection->in.data);
	free(connection->out.data);
	*connection = (struct connection){.fd = -1};
}

void send_message_parts(struct connection *connection, enum message_kind kind, uint32_t stream, const void *first,
			size_t first_length, const void *second, size_t second_length)
{
	if (connection->fd < 0)
		return;
	struct message message = {kind, stream, (uint32_t)(first_length + second_length)};
	append(&connection->out, &message, sizeof(message));
	append(&connection->out, first, first_length);
	append(&connection->out, second, second_length);
}

void send_message(struct connection *connection, enum message_kind kind, uint32_t stream, const void *data, size_t length)
{
	send_message_parts(connection, kind, stream, data, length, NULL, 0);
}

const struct message *next_message(const struct connection *connection, const uint8_t **contents, bool *malformed)
{
	static struct message message;
	if (connection->in.length < sizeof(message))
		return NULL;
	memcpy(&message, connection->in.data, sizeof(message));
	*malformed = message.length > MESSAGE_MAX * 2;
	if (*malformed || connection->in.length < sizeof(message) + message.length)
		return NULL;
	*contents = connection->in.data + sizeof(message);
	return &message;
}

void done_with_message(struct connection *connection)
{
	struct message message;
	memcpy(&message, connection->in.data, sizeof(message));
	consume(&connection->in, sizeof(message) + message.length);
}
