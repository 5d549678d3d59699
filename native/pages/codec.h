/* How the bytes of a chunk are stored. Each thread has a codec of its own. */
#ifndef TORPOR_PAGES_CODEC_H
#define TORPOR_PAGES_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format.h"

struct codec_state;

/* NULL where there is no memory. `level` is that of zstd. */
struct codec_state *codec_open(int level);
void codec_close(struct codec_state *state);

/* Room that codec_pack needs at most for a chunk. */
#define CODEC_ROOM (CHUNK_BYTES + CHUNK_BYTES / 128 + 512)

/*
 * Stores bytes in `out` (CODEC_ROOM) by the wanted codec, or as they are where that is not shorter. Gives the codec
 * that was used and the length.
 */
enum codec codec_pack(struct codec_state *state, enum codec wanted, const uint8_t *bytes, size_t length, uint8_t *out,
		      size_t *stored);

/* Gets exactly `length` bytes back; false where that is not what is stored. Reads and writes nothing beyond. */
bool codec_unpack(struct codec_state *state, uint8_t codec, const uint8_t *stored, size_t stored_length, uint8_t *out,
		  size_t length);

#endif
