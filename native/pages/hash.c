#include "hash.h"

/*
 * The functions that OpenSSL calls deprecated: for a page of 4 KiB they reach 1.5 GB/s where those that look up the
 * digest by its name each time reach 1.1 GB/s (measured with OpenSSL 3.0 on a core with SHA instructions).
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

struct sha256_stream {
	SHA256_CTX context;
};

void sha256(const void *bytes, size_t length, uint8_t digest[32])
{
	SHA256_CTX context;

	SHA256_Init(&context);
	SHA256_Update(&context, bytes, length);
	SHA256_Final(digest, &context);
}

struct sha256_stream *sha256_begin(void)
{
	struct sha256_stream *stream = malloc(sizeof(*stream));

	if (stream)
		SHA256_Init(&stream->context);
	return stream;
}

void sha256_add(struct sha256_stream *stream, const void *bytes, size_t length)
{
	SHA256_Update(&stream->context, bytes, length);
}

void sha256_end(struct sha256_stream *stream, uint8_t digest[32])
{
	SHA256_Final(digest, &stream->context);
	free(stream);
}

void hash_page(const uint8_t page[PAGE_BYTES], uint8_t hash[PAGE_HASH_BYTES])
{
	uint8_t digest[32];

	sha256(page, PAGE_BYTES, digest);
	memcpy(hash, digest, PAGE_HASH_BYTES);
}

/* Of HMAC what depends on the key only: it costs two blocks more than the hash alone then, of 65. */
struct keyed {
	SHA256_CTX inner;
	SHA256_CTX outer;
};

static struct keyed begin_keyed(const uint8_t key[32])
{
	struct keyed keyed;
	uint8_t block[SHA256_CBLOCK];

	for (unsigned i = 0; i < sizeof(block); i++)
		block[i] = 0x36 ^ (i < 32 ? key[i] : 0);
	SHA256_Init(&keyed.inner);
	SHA256_Update(&keyed.inner, block, sizeof(block));
	for (unsigned i = 0; i < sizeof(block); i++)
		block[i] ^= 0x36 ^ 0x5c;
	SHA256_Init(&keyed.outer);
	SHA256_Update(&keyed.outer, block, sizeof(block));
	OPENSSL_cleanse(block, sizeof(block));
	return keyed;
}

static void end_keyed(const struct keyed *begun, const void *bytes, size_t length, uint8_t digest[32])
{
	struct keyed keyed = *begun;

	SHA256_Update(&keyed.inner, bytes, length);
	SHA256_Final(digest, &keyed.inner);
	SHA256_Update(&keyed.outer, digest, 32);
	SHA256_Final(digest, &keyed.outer);
}

void hmac_sha256(const uint8_t key[32], const void *bytes, size_t length, uint8_t digest[32])
{
	struct keyed keyed = begin_keyed(key);

	end_keyed(&keyed, bytes, length, digest);
	OPENSSL_cleanse(&keyed, sizeof(keyed));
}

static struct keyed new_pages;
static bool new_pages_are_keyed;

void hash_new_pages_by(const uint8_t key[32])
{
	new_pages = begin_keyed(key);
	new_pages_are_keyed = true;
}

void hash_new_page(const uint8_t page[PAGE_BYTES], uint8_t hash[PAGE_HASH_BYTES])
{
	uint8_t digest[32];

	if (!new_pages_are_keyed) {
		hash_page(page, hash);
		return;
	}
	end_keyed(&new_pages, page, PAGE_BYTES, digest);
	memcpy(hash, digest, PAGE_HASH_BYTES);
}

bool page_is_zero(const uint8_t page[PAGE_BYTES])
{
	uint64_t first;

	memcpy(&first, page, sizeof(first));
	/* Equal to itself moved by eight bytes: all of it is as its beginning. */
	return first == 0 && memcmp(page, page + sizeof(first), PAGE_BYTES - sizeof(first)) == 0;
}

void chunk_id(const uint8_t *hashes, unsigned pages, uint8_t id[CHUNK_ID_BYTES])
{
	sha256(hashes, (size_t)pages * PAGE_HASH_BYTES, id);
}

bool chunk_matches(const uint8_t *bytes, unsigned pages, const uint8_t id[CHUNK_ID_BYTES])
{
	uint8_t hashes[CHUNK_PAGES * PAGE_HASH_BYTES];
	uint8_t found[CHUNK_ID_BYTES];

	if (pages == 0 || pages > CHUNK_PAGES)
		return false;
	for (unsigned page = 0; page < pages; page++)
		hash_page(bytes + (size_t)page * PAGE_BYTES, hashes + (size_t)page * PAGE_HASH_BYTES);
	chunk_id(hashes, pages, found);
	return memcmp(found, id, CHUNK_ID_BYTES) == 0;
}

void set_check(void *structure, size_t length)
{
	uint8_t digest[32];

	sha256(structure, length - CHECK_BYTES, digest);
	memcpy((uint8_t *)structure + length - CHECK_BYTES, digest, CHECK_BYTES);
}

bool check_is_right(const void *structure, size_t length)
{
	uint8_t digest[32];

	sha256(structure, length - CHECK_BYTES, digest);
	return memcmp((const uint8_t *)structure + length - CHECK_BYTES, digest, CHECK_BYTES) == 0;
}
