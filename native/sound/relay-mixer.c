/* Volume, muting and device of a stream: kept equal in the capsule and in the mixer of the user's server. */
#include <string.h>

#include "relay.h"

pa_cvolume to_pulse(const struct volume *volume)
{
	pa_cvolume result = {.channels = volume->channels};
	memcpy(result.values, volume->values, sizeof(result.values));
	return result;
}

static void learn_mixer(struct carried *carried, const pa_cvolume *volume, bool muted)
{
	struct volume found = {.channels = volume->channels};
	memcpy(found.values, volume->values, sizeof(found.values[0]) * volume->channels);
	bool is_first = !carried->mixer_known;
	carried->mixer_known = true;
	if (!is_same_volume(&found, &carried->volume) || (is_first && !carried->open.volume_set))
		send_message(&relay.link, MESSAGE_VOLUME, carried->number, &found, sizeof(found));
	if (muted != carried->muted || (is_first && !carried->open.mute_set)) {
		uint32_t value = muted;
		send_message(&relay.link, MESSAGE_MUTE, carried->number, &value, sizeof(value));
	}
	carried->volume = found;
	carried->muted = muted;
}

static bool is_settled(const struct carried *carried)
{
	return !relay.suspending && carried->settled_at == 0;
}

static void on_sink_input(pa_context *context, const pa_sink_input_info *info, int end, void *data)
{
	(void)context;
	struct carried *carried = from_data(data);
	if (!end && carried && info->has_volume && is_settled(carried))
		learn_mixer(carried, &info->volume, info->mute);
}

static void on_source_output(pa_context *context, const pa_source_output_info *info, int end, void *data)
{
	(void)context;
	struct carried *carried = from_data(data);
	if (!end && carried && info->has_volume && is_settled(carried))
		learn_mixer(carried, &info->volume, info->mute);
}

void ask_mixer(struct carried *carried)
{
	uint32_t index = pa_stream_get_index(carried->stream);
	pa_context *context = carried->outer->context;
	run(carried->open.recording ? pa_context_get_source_output_info(context, index, on_source_output, as_data(carried))
				    : pa_context_get_sink_input_info(context, index, on_sink_input, as_data(carried)));
}

void set_volume(struct carried *carried, const struct volume *volume)
{
	carried->open.volume = carried->volume = *volume;
	carried->open.volume_set = true;
	if (!is_ready(carried))
		return;
	pa_cvolume value = to_pulse(volume);
	uint32_t index = pa_stream_get_index(carried->stream);
	pa_context *context = carried->outer->context;
	run(carried->open.recording ? pa_context_set_source_output_volume(context, index, &value, NULL, NULL)
				    : pa_context_set_sink_input_volume(context, index, &value, NULL, NULL));
}

void set_mute(struct carried *carried, bool muted)
{
	carried->open.muted = carried->muted = muted;
	carried->open.mute_set = true;
	if (!is_ready(carried))
		return;
	uint32_t index = pa_stream_get_index(carried->stream);
	pa_context *context = carried->outer->context;
	run(carried->open.recording ? pa_context_set_source_output_mute(context, index, muted, NULL, NULL)
				    : pa_context_set_sink_input_mute(context, index, muted, NULL, NULL));
}

/*
 * The device that the user put it on; none where that is the usual one, so that the stream goes along when the usual one
 * becomes another.
 */
void tell_device(struct carried *carried)
{
	const char *usual = carried->open.recording ? relay.default_source : relay.default_sink;
	const char *device = is_ready(carried) ? pa_stream_get_device_name(carried->stream) : NULL;
	if (!device || !usual)
		return;
	if (strcmp(device, usual) == 0 || strlen(device) >= DEVICE_MAX)
		device = "";
	if (strcmp(device, carried->device) == 0)
		return;
	strcpy(carried->device, device);
	send_message(&relay.link, MESSAGE_DEVICE, carried->number, device, strlen(device));
}

static void on_moved(pa_stream *stream, void *data)
{
	(void)stream;
	struct carried *carried = from_data(data);
	if (carried && !relay.suspending)
		tell_device(carried);
}

void watch_device(struct carried *carried)
{
	pa_stream_set_moved_callback(carried->stream, on_moved, as_data(carried));
}
