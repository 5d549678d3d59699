/*
 * torpor-pages import --into FOLDER [--owner UID:GID] [--replace] [--packs FOLDER] [--key-fd N]
 *
 * Makes files and packs of the stream of chunks (docs/chunk-stream.md) that comes by standard input. Without --owner all is
 * private and belongs to who runs this; with it owners and modes are those that the items name. Chunks of memory go to
 * new packs in the folder --packs, encrypted where there is a key for what is written.
 *
 * Nothing in the stream is trusted. What is refused ends this with 1 and one event that names the item; what was made up
 * to then stays where it is, and is nothing until the last event says that all of it is durable.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common.h"
#include "chunkstream.h"
#include "commands.h"
#include "crypt.h"
#include "idset.h"
#include "ordered.h"
#include "packwriter.h"
#include "report.h"
#include "tree.h"

#define THREADS 2u
#define SLOTS 48u
#define INPUT_BYTES (1u << 20)

struct import {
	struct tree tree;
	struct pack_writer *packs; /* NULL: chunks of memory are refused */
	const uint8_t *key_id;
	struct id_set *written;
	uint64_t chunks;
	/* Of the thread that reads. */
	uint8_t *input;
	size_t input_at, input_end;
	uint64_t number;
	struct stream_parser parser;
};

struct slot {
	uint64_t number; /* of the item, from 0 */
	struct stream_item item;
	const char *wrong;
	size_t sealed_bytes; /* 0: not encrypted */
	uint8_t payload[ITEM_PAYLOAD_MOST];
	uint8_t bytes[CHUNK_BYTES];
	uint8_t sealed[CHUNK_BYTES + SEAL_BYTES];
};

/* What a thread that decodes has. */
struct decoder {
	struct codec_state *codec;
	struct crypt *crypt;
};

static const char *kind_name(uint8_t kind)
{
	switch (kind) {
	case ITEM_FOLDER:
		return "folder ";
	case ITEM_LINK:
		return "link ";
	case ITEM_FILE:
		return "file ";
	case ITEM_CHUNK:
	case ITEM_ZEROS:
		return "part of the file ";
	case ITEM_MEMORY:
		return "chunk of memory";
	default:
		return "unknown";
	}
}

static void refuse_item(uint64_t number, uint8_t kind, const char *path, const char *code, const char *what)
	__attribute__((noreturn));
static void refuse_item(uint64_t number, uint8_t kind, const char *path, const char *code, const char *what)
{
	fail(code, "item %" PRIu64 " of the stream (%s%s) is refused: %s", number, kind_name(kind), path, what);
}

static void *decoder_begins(void *context)
{
	struct decoder *decoder = calloc(1, sizeof(*decoder));

	(void)context;
	if (!decoder || !(decoder->codec = codec_open(1)) || !(decoder->crypt = crypt_open()))
		fail("ENOMEM", "there is not enough memory to decode chunks");
	return decoder;
}

static void decoder_ends(void *own)
{
	struct decoder *decoder = own;

	codec_close(decoder->codec);
	crypt_close(decoder->crypt);
	free(decoder);
}

static void decode(void *context, void *own, void *argument)
{
	const struct import *import = context;
	struct decoder *decoder = own;
	struct slot *slot = argument;
	const struct stream_item *item = &slot->item;

	slot->wrong = NULL;
	slot->sealed_bytes = 0;
	if (item->kind != ITEM_CHUNK && item->kind != ITEM_MEMORY)
		return;
	slot->wrong = stream_decode(decoder->codec, item, slot->bytes);
	if (slot->wrong || item->kind != ITEM_MEMORY || !import->key_id)
		return;
	if (!crypt_seal(decoder->crypt, import->key_id,
			&(struct sealed_record){ item->id, (enum codec)item->codec, item->pages }, item->stored,
			item->stored_bytes, slot->sealed))
		fail("EIO", "chunks cannot be encrypted");
	slot->sealed_bytes = item->stored_bytes + SEAL_BYTES;
}

static void put_memory(struct import *import, struct slot *slot)
{
	const struct stream_item *item = &slot->item;
	struct iovec stored = { (void *)(uintptr_t)item->stored, item->stored_bytes };

	if (!id_set_add(import->written, item->id))
		return;
	if (slot->sealed_bytes > 0)
		stored = (struct iovec){ slot->sealed, slot->sealed_bytes };
	pack_writer_add(import->packs, item->id, (enum codec)item->codec, item->pages,
			slot->sealed_bytes > 0 ? RECORD_ENCRYPTED : 0, &stored, 1);
	import->chunks++;
}

static void put_item(void *context, void *argument)
{
	struct import *import = context;
	struct slot *slot = argument;
	const struct stream_item *item = &slot->item;
	struct refusal refusal;

	if (slot->wrong)
		refuse_item(slot->number, item->kind, item->path, "EBADMSG", slot->wrong);
	if (item->kind == ITEM_MEMORY)
		put_memory(import, slot);
	else if (!tree_put(&import->tree, item, slot->bytes, &refusal))
		refuse_item(slot->number, item->kind, item->path, refusal.code, refusal.what);
}

/* False at the end of the stream, of which nothing is left then. */
static bool fill_input(struct import *import)
{
	ssize_t got = RETRY(read(STDIN_FILENO, import->input, INPUT_BYTES));

	if (got < 0)
		fail_errno("the stream cannot be read");
	import->input_at = 0;
	import->input_end = (size_t)got;
	return got > 0;
}

static bool read_bytes(struct import *import, void *bytes, size_t length)
{
	uint8_t *next = bytes;

	while (length > 0) {
		size_t part = import->input_end - import->input_at;

		if (part == 0) {
			if (!fill_input(import))
				return false;
			continue;
		}
		part = part < length ? part : length;
		memcpy(next, import->input + import->input_at, part);
		import->input_at += part;
		next += part;
		length -= part;
	}
	return true;
}

/* False where the stream has ended. */
static bool read_item(struct import *import, struct slot *slot)
{
	struct item_header header = { 0 };
	const char *path = import->parser.pages_left > 0 ? import->parser.path : "", *wrong;

	if (import->input_at == import->input_end && !fill_input(import))
		return false;
	slot->number = import->number++;
	if (!read_bytes(import, &header, sizeof(header)))
		refuse_item(slot->number, 0, "", "EBADMSG", "the stream ends in the middle of it");
	wrong = stream_header(&import->parser, &header);
	if (wrong)
		refuse_item(slot->number, header.kind, path, "EBADMSG", wrong);
	if (!read_bytes(import, slot->payload, header.length))
		refuse_item(slot->number, header.kind, path, "EBADMSG", "the stream ends in the middle of it");
	wrong = stream_parse(&import->parser, &header, slot->payload, &slot->item);
	if (!wrong && header.kind == ITEM_MEMORY && !import->packs)
		wrong = "no folder for packs was named";
	if (wrong)
		refuse_item(slot->number, header.kind, slot->item.path, "EBADMSG", wrong);
	return true;
}

static void owner_argument(struct tree *tree, const char *word)
{
	char *end;
	unsigned long uid, gid;

	if (!word)
		return;
	uid = strtoul(word, &end, 10);
	if (end == word || *end != ':')
		fail("EINVAL", "--owner %s is not UID:GID", word);
	const char *group = end + 1;

	gid = strtoul(group, &end, 10);
	if (end == group || *end || *word == '-' || *group == '-' || uid >= UINT32_MAX || gid >= UINT32_MAX)
		fail("EINVAL", "--owner %s is not UID:GID", word);
	tree->has_owners = true;
	tree->uid = (uid_t)uid;
	tree->gid = (gid_t)gid;
}

static void open_packs(struct import *import, const char *folder)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		fail_errno("the folder %s cannot be opened", folder);
	import->packs = pack_writer_open(&(struct pack_writer_options){
		.folder = fd, .called = "packs", .suffix = "", .direct = true, .key_id = import->key_id });
	import->written = id_set_open();
}

int cmd_import(int argc, char **argv)
{
	struct arguments arguments = { argc - 1, argv + 1 };
	const char *into = argument_needed(&arguments, "--into");
	const char *packs = argument(&arguments, "--packs");
	static struct import import;
	struct pack_writer_sums sums = { 0 };
	struct refusal refusal;
	struct ordered *ordered;
	const char *wrong;

	owner_argument(&import.tree, argument(&arguments, "--owner"));
	import.tree.replaces = argument_flag(&arguments, "--replace");
	keys_argument(&arguments);
	arguments_end(&arguments);
	import.key_id = key_for_writing();
	if (!tree_open(&import.tree, into, &refusal))
		fail(refusal.code, "%s: %s", into, refusal.what);
	if (packs)
		open_packs(&import, packs);
	import.input = malloc(INPUT_BYTES);
	if (!import.input)
		fail("ENOMEM", "there is not enough memory to read the stream");
	ordered = ordered_open(&(struct ordered_options){ .threads = THREADS,
							  .slots = SLOTS,
							  .slot_bytes = sizeof(struct slot),
							  .context = &import,
							  .thread_begins = decoder_begins,
							  .thread_ends = decoder_ends,
							  .work = decode,
							  .finish = put_item });
	while (read_item(&import, ordered_slot(ordered)))
		ordered_put(ordered);
	wrong = stream_end(&import.parser);
	if (wrong)
		fail("EBADMSG", "the stream is refused: %s (%s)", wrong, import.parser.path);
	ordered_end(ordered);
	if (import.packs) {
		sums = pack_writer_end(import.packs);
		id_set_close(import.written);
	}
	if (!tree_finish(&import.tree, &refusal))
		fail(refusal.code, "%s: %s", into, refusal.what);
	report_line("{\"event\":\"done\",\"files\":%" PRIu64 ",\"chunks\":%" PRIu64 ",\"storedBytes\":%" PRIu64 "}",
		    import.tree.files, import.chunks, sums.bytes);
	free(import.input);
	tree_close(&import.tree);
	return 0;
}
