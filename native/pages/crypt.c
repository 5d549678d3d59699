#include "crypt.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "../common.h"
#include "files.h"
#include "hash.h"
#include "report.h"

struct key {
	uint8_t secret[KEY_BYTES];
	uint8_t id[KEY_ID_BYTES];
	uint8_t records[KEY_BYTES];
};

static struct key keys[KEYS_MOST];
static unsigned key_count;
static bool writes;

static void add_key(const uint8_t secret[KEY_BYTES])
{
	static const char label[] = "torpor key id 1";
	struct key *key = &keys[key_count++];
	uint8_t named[sizeof(label) - 1 + KEY_BYTES], digest[32];

	memcpy(key->secret, secret, KEY_BYTES);
	memcpy(named, label, sizeof(label) - 1);
	memcpy(named + sizeof(label) - 1, secret, KEY_BYTES);
	sha256(named, sizeof(named), digest);
	memcpy(key->id, digest, KEY_ID_BYTES);
	hmac_sha256(secret, "torpor records 1", strlen("torpor records 1"), key->records);
	OPENSSL_cleanse(named, sizeof(named));
}

const char *keys_read(int fd)
{
	uint8_t bytes[1 + KEYS_MOST * KEY_BYTES + 1];
	size_t length = 0;
	const char *trouble = NULL;

	for (;;) {
		ssize_t got = RETRY(read(fd, bytes + length, sizeof(bytes) - length));

		if (got < 0)
			trouble = strerror(errno);
		if (got <= 0)
			break;
		length += (size_t)got;
	}
	close(fd);
	if (!trouble && (length % KEY_BYTES != 1 || length == sizeof(bytes) || bytes[0] > 1 ||
			 (bytes[0] == 1 && length == 1)))
		trouble = "what was given are no keys";
	if (!trouble) {
		writes = bytes[0] == 1;
		for (size_t at = 1; at < length; at += KEY_BYTES)
			add_key(bytes + at);
	}
	if (!trouble && writes) {
		uint8_t pages[KEY_BYTES];

		hmac_sha256(keys[0].secret, "torpor pages 1", strlen("torpor pages 1"), pages);
		hash_new_pages_by(pages);
		OPENSSL_cleanse(pages, sizeof(pages));
	}
	OPENSSL_cleanse(bytes, sizeof(bytes));
	return trouble;
}

void keys_argument(struct arguments *arguments)
{
	const char *word = argument(arguments, "--key-fd");
	const char *trouble;
	char *end;
	long fd;

	if (!word)
		return;
	fd = strtol(word, &end, 10);
	if (*end || end == word || fd < 3 || fd > 1 << 20)
		fail("EINVAL", "--key-fd \"%s\" is no descriptor", word);
	trouble = keys_read((int)fd);
	if (trouble)
		fail("EINVAL", "the keys cannot be read: %s", trouble);
}

int keys_pass_on(void)
{
	uint8_t bytes[1 + KEYS_MOST * KEY_BYTES];
	int ends[2];
	int result;

	/* They fit into the pipe's buffer. */
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	bytes[0] = writes;
	for (unsigned i = 0; i < key_count; i++)
		memcpy(bytes + 1 + i * KEY_BYTES, keys[i].secret, KEY_BYTES);
	result = write_all(ends[1], bytes, 1 + key_count * KEY_BYTES) ? ends[0] : -1;
	OPENSSL_cleanse(bytes, sizeof(bytes));
	close(ends[1]);
	if (result < 0)
		close(ends[0]);
	return result;
}

static const struct key *find_key(const uint8_t id[KEY_ID_BYTES])
{
	for (unsigned i = 0; i < key_count; i++) {
		if (memcmp(keys[i].id, id, KEY_ID_BYTES) == 0)
			return &keys[i];
	}
	return NULL;
}

bool key_is_known(const uint8_t key_id[KEY_ID_BYTES])
{
	return find_key(key_id) != NULL;
}

const uint8_t *key_for_writing(void)
{
	return writes ? keys[0].id : NULL;
}

struct crypt {
	EVP_CIPHER_CTX *context;
	EVP_CIPHER *cipher;
};

struct crypt *crypt_open(void)
{
	struct crypt *crypt = calloc(1, sizeof(*crypt));

	if (!crypt)
		return NULL;
	/* Looked up once: by name, each record would cost as much again for a small one. */
	crypt->cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	crypt->context = EVP_CIPHER_CTX_new();
	if (crypt->cipher && crypt->context)
		return crypt;
	crypt_close(crypt);
	return NULL;
}

void crypt_close(struct crypt *crypt)
{
	if (!crypt)
		return;
	EVP_CIPHER_CTX_free(crypt->context);
	EVP_CIPHER_free(crypt->cipher);
	free(crypt);
}

#define BOUND_BYTES (CHUNK_ID_BYTES + 2)

static void bound_to(const struct sealed_record *record, uint8_t bound[BOUND_BYTES])
{
	bound[0] = (uint8_t)record->codec;
	bound[1] = (uint8_t)record->pages;
	memcpy(bound + 2, record->id, CHUNK_ID_BYTES);
}

bool crypt_seal(struct crypt *crypt, const uint8_t key_id[KEY_ID_BYTES], const struct sealed_record *record,
		const uint8_t *bytes, size_t length, uint8_t *out)
{
	const struct key *key = find_key(key_id);
	uint8_t bound[BOUND_BYTES];
	int done;

	bound_to(record, bound);
	return key && getrandom(out, NONCE_BYTES, 0) == (ssize_t)NONCE_BYTES &&
	       EVP_EncryptInit_ex2(crypt->context, crypt->cipher, key->records, out, NULL) == 1 &&
	       EVP_EncryptUpdate(crypt->context, NULL, &done, bound, sizeof(bound)) == 1 &&
	       EVP_EncryptUpdate(crypt->context, out + NONCE_BYTES, &done, bytes, (int)length) == 1 &&
	       (size_t)done == length &&
	       EVP_EncryptFinal_ex(crypt->context, out + NONCE_BYTES + length, &done) == 1 &&
	       EVP_CIPHER_CTX_ctrl(crypt->context, EVP_CTRL_AEAD_GET_TAG, (int)TAG_BYTES,
				   out + NONCE_BYTES + length) == 1;
}

bool crypt_unseal(struct crypt *crypt, const uint8_t key_id[KEY_ID_BYTES], const struct sealed_record *record,
		  const uint8_t *sealed, size_t length, uint8_t *out)
{
	const struct key *key = find_key(key_id);
	uint8_t bound[BOUND_BYTES], tag[TAG_BYTES];
	int done;

	if (!key || length < SEAL_BYTES)
		return false;
	bound_to(record, bound);
	memcpy(tag, sealed + length - TAG_BYTES, TAG_BYTES);
	return EVP_DecryptInit_ex2(crypt->context, crypt->cipher, key->records, sealed, NULL) == 1 &&
	       EVP_DecryptUpdate(crypt->context, NULL, &done, bound, sizeof(bound)) == 1 &&
	       EVP_DecryptUpdate(crypt->context, out, &done, sealed + NONCE_BYTES, (int)(length - SEAL_BYTES)) == 1 &&
	       (size_t)done == length - SEAL_BYTES &&
	       EVP_CIPHER_CTX_ctrl(crypt->context, EVP_CTRL_AEAD_SET_TAG, (int)TAG_BYTES, tag) == 1 &&
	       EVP_DecryptFinal_ex(crypt->context, out + done, &done) == 1;
}
