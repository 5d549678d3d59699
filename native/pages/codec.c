#include "codec.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

struct codec_state {
	ZSTD_CCtx *pack;
	ZSTD_DCtx *unpack;
	int level;
};

struct codec_state *codec_open(int level)
{
	struct codec_state *state = calloc(1, sizeof(*state));

	if (!state)
		return NULL;
	state->pack = ZSTD_createCCtx();
	state->unpack = ZSTD_createDCtx();
	state->level = level;
	if (!state->pack || !state->unpack) {
		codec_close(state);
		return NULL;
	}
	return state;
}

void codec_close(struct codec_state *state)
{
	if (!state)
		return;
	ZSTD_freeCCtx(state->pack);
	ZSTD_freeDCtx(state->unpack);
	free(state);
}

enum codec codec_pack(struct codec_state *state, enum codec wanted, const uint8_t *bytes, size_t length, uint8_t *out,
		      size_t *stored)
{
	size_t packed = 0;

	if (wanted == CODEC_LZ4) {
		packed = (size_t)LZ4_compress_default((const char *)bytes, (char *)out, (int)length, (int)CODEC_ROOM);
	} else if (wanted == CODEC_ZSTD) {
		packed = ZSTD_compressCCtx(state->pack, out, CODEC_ROOM, bytes, length, state->level);
		if (ZSTD_isError(packed))
			packed = 0;
	}
	if (packed == 0 || packed >= length) {
		memcpy(out, bytes, length);
		*stored = length;
		return CODEC_RAW;
	}
	*stored = packed;
	return wanted;
}

bool codec_unpack(struct codec_state *state, uint8_t codec, const uint8_t *stored, size_t stored_length, uint8_t *out,
		  size_t length)
{
	switch (codec) {
	case CODEC_RAW:
		if (stored_length != length)
			return false;
		memcpy(out, stored, length);
		return true;
	case CODEC_LZ4:
		return LZ4_decompress_safe((const char *)stored, (char *)out, (int)stored_length, (int)length) ==
		       (int)length;
	case CODEC_ZSTD:
		return ZSTD_decompressDCtx(state->unpack, out, length, stored, stored_length) == length;
	default:
		return false;
	}
}
