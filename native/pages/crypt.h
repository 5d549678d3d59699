/*
 * Encryption of chunks (docs/decisions/0020-encryption-at-rest.md). The keys come by a descriptor and are never seen in
 * arguments, environment or files. What a key is called is derived from it, so that each pack says which one it needs.
 */
#ifndef TORPOR_PAGES_CRYPT_H
#define TORPOR_PAGES_CRYPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format.h"

#define KEY_BYTES 32u
#define KEY_ID_BYTES 16u
#define KEYS_MOST 16u
#define NONCE_BYTES 12u
#define TAG_BYTES 16u
/* An encrypted record is so much longer. */
#define SEAL_BYTES (NONCE_BYTES + TAG_BYTES)

struct arguments;

/*
 * Takes `--key-fd N` out of the arguments, if it is there, and reads the keys: one byte, 1 where the first key is for
 * what is written from now on, and then the keys, one after the other. Before any other thread runs.
 */
void keys_argument(struct arguments *arguments);
/* The same of a descriptor; it is closed. A sentence (not on the heap) where that cannot be, else NULL. */
const char *keys_read(int fd);
/* Gives the same to another process: a descriptor to read from, -1 with errno. */
int keys_pass_on(void);

bool key_is_known(const uint8_t key_id[KEY_ID_BYTES]);
/* The id of the key for what is written; NULL: it is written as it is. */
const uint8_t *key_for_writing(void);

/* Each thread has one of its own. NULL where there is no memory. */
struct crypt;
struct crypt *crypt_open(void);
void crypt_close(struct crypt *crypt);

/* What of a record goes with its bytes and cannot be changed without them. */
struct sealed_record {
	const uint8_t *id;
	enum codec codec;
	unsigned pages;
};

/* Gives length + SEAL_BYTES bytes to `out`; false where the library fails. The key must be known. */
bool crypt_seal(struct crypt *crypt, const uint8_t key_id[KEY_ID_BYTES], const struct sealed_record *record,
		const uint8_t *bytes, size_t length, uint8_t *out);
/* Gives length - SEAL_BYTES bytes to `out`; false where these are not the bytes that were sealed with this record. */
bool crypt_unseal(struct crypt *crypt, const uint8_t key_id[KEY_ID_BYTES], const struct sealed_record *record,
		  const uint8_t *sealed, size_t length, uint8_t *out);

#endif
