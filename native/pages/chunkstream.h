/*
 * The stream of chunks by which snapshots and files go to a bundle and come back (docs/chunk-stream.md). What stands here
 * is the form of its items, and the parser of those that `torpor-pages import` reads, which trusts nothing in them.
 */
#ifndef TORPOR_PAGES_CHUNKSTREAM_H
#define TORPOR_PAGES_CHUNKSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec.h"
#include "format.h"

/* Written by export. Chunks are read by import, too, as parts of a file. */
#define ITEM_CHUNK 'C'
#define ITEM_LIST 'L'
#define ITEM_ERROR 'E'
/* Read by import. */
#define ITEM_FOLDER 'D'
#define ITEM_LINK 'Y'
#define ITEM_FILE 'F'
#define ITEM_ZEROS 'Z'
#define ITEM_MEMORY 'P'

struct item_header {
	uint8_t kind;
	uint8_t zero[3];
	uint32_t length; /* of the payload, which follows */
} __attribute__((packed));

/* The stored bytes follow, at most as many as the chunk has. */
struct item_chunk {
	uint8_t id[CHUNK_ID_BYTES];
	uint8_t codec;
	uint8_t pages;
	uint16_t zero;
} __attribute__((packed));

/* Ids follow. */
struct item_list {
	uint32_t source;
	uint32_t count;
	uint64_t bytes;
	uint8_t sha256[32];
} __attribute__((packed));

/* Words follow. */
struct item_error {
	uint32_t source;
	uint32_t number; /* errno */
} __attribute__((packed));

/* The path follows; of links, target and path. */
struct item_folder {
	uint32_t mode;
	uint32_t owner;
} __attribute__((packed));

struct item_link {
	uint32_t owner;
	uint32_t target_bytes;
} __attribute__((packed));

struct item_file {
	uint32_t mode;
	uint32_t owner;
	uint64_t bytes;
	int64_t mtime; /* ns */
} __attribute__((packed));

struct item_zeros {
	uint32_t pages;
} __attribute__((packed));

#define ITEM_PATH_MOST 4095u
#define ITEM_PAYLOAD_MOST (sizeof(struct item_chunk) + CHUNK_BYTES)

/* An item that has been found to be in order; what its kind does not have is not set. */
struct stream_item {
	uint8_t kind;
	uint32_t mode;
	uint32_t owner; /* 0 root, 1 the user */
	uint64_t bytes;
	int64_t mtime;
	uint8_t id[CHUNK_ID_BYTES];
	uint8_t codec;
	unsigned pages;
	const uint8_t *stored; /* in the payload */
	size_t stored_bytes;
	char path[ITEM_PATH_MOST + 1]; /* of chunks: of the file that they belong to; "" of memory */
	char target[ITEM_PATH_MOST + 1];
};

/* What came before decides on what may come. Zeros at the beginning. */
struct stream_parser {
	uint64_t pages_left; /* of the file that has begun */
	char path[ITEM_PATH_MOST + 1];
};

/* All give NULL, or a sentence (not on the heap) why it is refused. */

/* To be asked before the payload is read: it has at most ITEM_PAYLOAD_MOST bytes then. */
const char *stream_header(const struct stream_parser *parser, const struct item_header *header);
/* With its payload. */
const char *stream_parse(struct stream_parser *parser, const struct item_header *header, const uint8_t *payload,
			 struct stream_item *item);
/* Whether the stream may end here. */
const char *stream_end(const struct stream_parser *parser);
/* The pages of a chunk, to `out` (CHUNK_BYTES), of which nothing else is written; compared with its id. */
const char *stream_decode(struct codec_state *codec, const struct stream_item *item, uint8_t *out);

#endif
