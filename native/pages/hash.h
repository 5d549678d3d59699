/* What pages and chunks are known by (docs/store-format.md). */
#ifndef TORPOR_PAGES_HASH_H
#define TORPOR_PAGES_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format.h"

/* SHA-256 of some bytes. */
void sha256(const void *bytes, size_t length, uint8_t digest[32]);

/* The same of bytes that come piece by piece; NULL where there is no memory. The end frees it. */
struct sha256_stream;
struct sha256_stream *sha256_begin(void);
void sha256_add(struct sha256_stream *stream, const void *bytes, size_t length);
void sha256_end(struct sha256_stream *stream, uint8_t digest[32]);

/* HMAC-SHA-256 under a key of 32 bytes. */
void hmac_sha256(const uint8_t key[32], const void *bytes, size_t length, uint8_t digest[32]);

void hash_page(const uint8_t page[PAGE_BYTES], uint8_t hash[PAGE_HASH_BYTES]);
/*
 * The same for a page that is being stored. Where it will be encrypted its hash is one under a key too, and with it the
 * id of its chunk: nobody without the key can tell by it what the page is.
 */
void hash_new_page(const uint8_t page[PAGE_BYTES], uint8_t hash[PAGE_HASH_BYTES]);
/* By which key, from now on. Before any other thread runs. */
void hash_new_pages_by(const uint8_t key[32]);
bool page_is_zero(const uint8_t page[PAGE_BYTES]);

/* The id of a chunk of so many pages, from their hashes one after the other. */
void chunk_id(const uint8_t *hashes, unsigned pages, uint8_t id[CHUNK_ID_BYTES]);
/* Whether these bytes are the chunk of that id, which is one without a key. */
bool chunk_matches(const uint8_t *bytes, unsigned pages, const uint8_t id[CHUNK_ID_BYTES]);

/* Fills in, or looks at, the check at the end of a structure that is so long as a whole. */
void set_check(void *structure, size_t length);
bool check_is_right(const void *structure, size_t length);

#endif
