/* What is played and recorded: samples from one side to the other, and up to where they were heard. */
#include <string.h>

#include "relay.h"

#define FILL_LIMIT_USEC 30000

void tell_wanted(struct carried *carried)
{
	const pa_buffer_attr *sizes = is_ready(carried) && !carried->flushing ? pa_stream_get_buffer_attr(carried->stream) : NULL;
	size_t writable = sizes ? pa_stream_writable_size(carried->stream) : 0;
	if (!sizes || writable == (size_t)-1)
		return;
	struct wanted wanted = {carried->following + (int64_t)writable, carried->epoch, sizes->tlength};
	if (carried->filling && carried->filled_at == 0)
		carried->full_at = wanted.until;
	send_message(&relay.link, MESSAGE_WANTED, carried->number, &wanted, sizeof(wanted));
}

static void on_writable(pa_stream *stream, size_t size, void *data)
{
	(void)stream;
	(void)size;
	struct carried *carried = from_data(data);
	if (carried && !relay.suspending)
		tell_wanted(carried);
}

/* Takes over what the user's server has told. Returns whether it told anything. */
static bool learn_time(struct carried *carried)
{
	const pa_timing_info *info = is_ready(carried) ? pa_stream_get_timing_info(carried->stream) : NULL;
	if (!info || info->read_index_corrupt || info->read_index < 0)
		return false;
	int64_t heard = carried->base + info->read_index;
	carried->heard = heard < carried->following ? heard : carried->following;
	carried->heard_at = now_usec();
	carried->delay_usec = (int64_t)(info->sink_usec + info->transport_usec);
	return true;
}

static void on_time(pa_stream *stream, int success, void *data)
{
	(void)stream;
	struct carried *carried = from_data(data);
	if (!carried)
		return;
	carried->asking_time = false;
	if (!success || carried->flushing || !learn_time(carried) || relay.suspending)
		return;
	send_position(carried, MESSAGE_TIMING, carried->heard, (uint64_t)carried->delay_usec);
}

void ask_time(struct carried *carried)
{
	if (carried->asking_time || !is_ready(carried))
		return;
	pa_operation *operation = pa_stream_update_timing_info(carried->stream, on_time, as_data(carried));
	carried->asking_time = operation != NULL;
	run(operation);
}

static void on_underflow(pa_stream *stream, void *data)
{
	(void)stream;
	struct carried *carried = from_data(data);
	if (carried)
		ask_time(carried);
}

static void on_flush_settled(pa_stream *stream, int success, void *data)
{
	struct carried *carried = from_data(data);
	const pa_timing_info *info = carried && success ? pa_stream_get_timing_info(stream) : NULL;
	if (!carried || carried->stream != stream)
		return;
	carried->flushing = false;
	if (info)
		carried->base = carried->following - info->write_index;
	tell_wanted(carried);
}

void flush_stream(struct carried *carried, const struct samples *at)
{
	carried->epoch = at->epoch;
	carried->following = carried->heard = carried->first = at->position;
	carried->delay_usec = 0;
	if (!is_ready(carried)) {
		carried->open.start = carried->base = at->position;
		return;
	}
	carried->flushing = true;
	run(pa_stream_flush(carried->stream, NULL, NULL));
	run(pa_stream_update_timing_info(carried->stream, on_flush_settled, as_data(carried)));
}

void start(struct carried *carried)
{
	carried->filling = false;
	if (!carried->open.corked)
		run(pa_stream_cork(carried->stream, 0, NULL, NULL));
}

void play(struct carried *carried, const struct samples *samples, const uint8_t *data, size_t length)
{
	if (samples->epoch != carried->epoch || !is_ready(carried))
		return;
	int64_t offset = samples->position - carried->following;
	if (pa_stream_write(carried->stream, data, length, NULL, offset, PA_SEEK_RELATIVE) < 0)
		return;
	carried->following = samples->position + (int64_t)length;
	if (carried->filling && carried->filled_at == 0)
		carried->filled_at = now_usec() + FILL_LIMIT_USEC;
	if (carried->filling && carried->following >= carried->full_at)
		start(carried);
}

/* ---- what is recorded ---- */

/* In whole frames; silence where there is a hole. */
static void send_recorded(struct carried *carried, const uint8_t *samples, size_t length)
{
	const size_t frame = frame_size(&carried->open.spec);
	uint8_t silence[4096];
	memset(silence, silence_of(&carried->open.spec), sizeof(silence));
	const size_t most = (samples ? MESSAGE_MAX : sizeof(silence)) / frame * frame;
	for (size_t at = 0; at < length && relay.link.out.length < UNSENT_MAX; at += most) {
		size_t part = length - at < most ? length - at : most;
		send_message(&relay.link, MESSAGE_SAMPLES, carried->number, samples ? samples + at : silence, part);
	}
}

static void on_readable(pa_stream *stream, size_t size, void *data)
{
	(void)size;
	struct carried *carried = from_data(data);
	const void *samples;
	size_t length;
	while (pa_stream_readable_size(stream) > 0 && pa_stream_peek(stream, &samples, &length) == 0 && length > 0) {
		if (carried && !relay.suspending)
			send_recorded(carried, samples, length);
		pa_stream_drop(stream);
	}
}

void watch_samples(struct carried *carried)
{
	pa_stream_set_write_callback(carried->stream, on_writable, as_data(carried));
	pa_stream_set_read_callback(carried->stream, on_readable, as_data(carried));
	pa_stream_set_underflow_callback(carried->stream, on_underflow, as_data(carried));
}
