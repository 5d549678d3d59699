/*
 * What `torpor-pages import` does with a stream, in one process and without threads: parse, decode, make files. After each
 * stream it looks that nothing lies beside the folder, and nothing in it that must not be there.
 *
 * The first byte of an input says whether chunks get right ids before they are parsed: no fuzzer finds a SHA-256. With
 * clang's libFuzzer (make -C native fuzz-import) the coverage leads it. As a program of its own (-DALONE) it takes
 * CORPUS-FOLDER ROUNDS [SEED]: every file there, and so many random changes of them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../common.h"
#include "../../pages/chunkstream.h"
#include "../../pages/files.h"
#include "../../pages/hash.h"
#include "../../pages/tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *work;
static char *root;
static unsigned entries;

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *level)
{
	(void)kind;
	(void)level;
	if (!S_ISDIR(status->st_mode) && !S_ISREG(status->st_mode) && !S_ISLNK(status->st_mode))
		die("%s is neither folder, file nor link", path);
	if (status->st_mode & 07000)
		die("%s has mode %o", path, status->st_mode);
	entries++;
	return remove(path);
}

static void remove_work(void)
{
	nftw(work, remove_one, 64, FTW_DEPTH | FTW_PHYS);
}

static void make_work(void)
{
	work = format_string("/dev/shm/torpor-import-%d", getpid());
	root = format_string("%s/root", work);
	if (mkdir(work, 0700) != 0)
		die_with_error("%s", work);
	atexit(remove_work);
}

/* Nothing but the folder itself may be beside it. */
static void look_around(void)
{
	DIR *folder = opendir(work);
	const struct dirent *entry;

	while (folder && (entry = readdir(folder))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
		    strcmp(entry->d_name, "root") != 0)
			die("%s was made beside the folder", entry->d_name);
	}
	closedir(folder);
}

static void set_right_id(struct codec_state *codec, uint8_t *payload, size_t length)
{
	struct item_chunk chunk;
	uint8_t bytes[CHUNK_BYTES], hashes[CHUNK_PAGES * PAGE_HASH_BYTES];

	if (length < sizeof(chunk))
		return;
	memcpy(&chunk, payload, sizeof(chunk));
	if (chunk.pages == 0 || chunk.pages > CHUNK_PAGES ||
	    !codec_unpack(codec, chunk.codec, payload + sizeof(chunk), length - sizeof(chunk), bytes,
			  (size_t)chunk.pages * PAGE_BYTES))
		return;
	for (unsigned page = 0; page < chunk.pages; page++)
		hash_page(bytes + (size_t)page * PAGE_BYTES, hashes + (size_t)page * PAGE_HASH_BYTES);
	chunk_id(hashes, chunk.pages, payload);
}

/* False where the stream is refused. */
static bool put_item(struct tree *tree, struct stream_parser *parser, struct codec_state *codec,
		     const struct item_header *header, const uint8_t *payload)
{
	static struct stream_item item;
	/* On the heap, of exactly the length that it may have: so a byte beyond is seen. */
	CLEANUP_FREE uint8_t *bytes = NULL;
	struct refusal refusal;
	bool done;

	if (stream_parse(parser, header, payload, &item))
		return false;
	if (item.kind == ITEM_CHUNK || item.kind == ITEM_MEMORY) {
		bytes = malloc((size_t)item.pages * PAGE_BYTES);
		if (stream_decode(codec, &item, bytes))
			return false;
	}
	if (item.kind == ITEM_MEMORY)
		return true;
	done = tree_put(tree, &item, bytes, &refusal);
	if (!done)
		free(refusal.what);
	return done;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct codec_state *codec;
	struct tree tree = { 0 };
	struct stream_parser parser = { 0 };
	struct refusal refusal;
	bool right_ids, going_on = true;
	size_t at = 1;

	if (size == 0)
		return 0;
	if (!work)
		make_work();
	if (!codec)
		codec = codec_open(1);
	right_ids = data[0] & 1;
	tree.has_owners = data[0] & 2;
	tree.uid = tree.gid = 1000;
	if (mkdir(root, 0700) != 0 || !tree_open(&tree, root, &refusal))
		die_with_error("%s", root);
	while (going_on && size - at >= sizeof(struct item_header)) {
		struct item_header header;

		memcpy(&header, data + at, sizeof(header));
		at += sizeof(header);
		if (stream_header(&parser, &header) || header.length > size - at)
			break;
		CLEANUP_FREE uint8_t *payload = malloc(header.length);

		memcpy(payload, data + at, header.length);
		at += header.length;
		if (right_ids && (header.kind == ITEM_CHUNK || header.kind == ITEM_MEMORY))
			set_right_id(codec, payload, header.length);
		going_on = put_item(&tree, &parser, codec, &header, payload);
	}
	stream_end(&parser);
	if (!tree_finish(&tree, &refusal))
		free(refusal.what);
	tree_close(&tree);
	look_around();
	nftw(root, remove_one, 64, FTW_DEPTH | FTW_PHYS);
	return 0;
}

#ifdef ALONE
static uint64_t state;

/* xorshift64*: good enough to choose what to change. */
static uint64_t draw(uint64_t below)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (state * 2685821657736338717ull >> 11) % below;
}

struct input {
	uint8_t *bytes;
	size_t length;
};

static struct input read_input(int folder, const char *name)
{
	CLEANUP_FD int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
	struct stat status;
	struct input input;

	if (fd < 0 || fstat(fd, &status) != 0)
		die_with_error("%s", name);
	input = (struct input){ malloc((size_t)status.st_size + 1), (size_t)status.st_size };
	if (!pread_all(fd, input.bytes, input.length, 0))
		die_with_error("%s", name);
	return input;
}

static void change(struct input *input, const struct input *other)
{
	static const uint32_t numbers[] = { 0, 1, 15, 16, 17, 0x7f, 0xff, 01000, 04755, 0xfff, 0x1000, 0xffff, 0x10000, 0x7fffffff,
					    0xffffffff };
	static const char *const words[] = { "/", "..", "/../", "./", "//", "a", "" };
	size_t at = draw(input->length), left = input->length - at;
	const char *word = words[draw(sizeof(words) / sizeof(words[0]))];

	switch (draw(7)) {
	case 0:
		input->bytes[at] ^= (uint8_t)(1u << draw(8));
		break;
	case 1:
		if (left >= 4)
			memcpy(input->bytes + at, &numbers[draw(sizeof(numbers) / sizeof(numbers[0]))], 4);
		break;
	case 2:
		/* Its last byte is a zero, which no path may have, now and then. */
		if (left > strlen(word))
			memcpy(input->bytes + at, word, strlen(word) + draw(2));
		break;
	case 3:
		input->length = at + 1;
		break;
	case 4:
		/* Some of it left out. */
		left = draw(left);
		memmove(input->bytes + at, input->bytes + at + left, input->length - at - left);
		input->length -= left;
		break;
	case 5:
		/* Something of another. */
		left = left < other->length ? left : other->length;
		left = draw(left + 1);
		memcpy(input->bytes + at, other->bytes + draw(other->length - left + 1), left);
		break;
	case 6:
		input->bytes[0] = (uint8_t)draw(4);
		break;
	}
}

int main(int argc, char **argv)
{
	struct input *inputs = NULL;
	size_t count = 0;
	DIR *folder = argc > 2 ? opendir(argv[1]) : NULL;
	const struct dirent *entry;

	if (!folder)
		die("usage: import-fuzz CORPUS-FOLDER ROUNDS [SEED]");
	state = argc > 3 ? strtoull(argv[3], NULL, 10) : 4711;
	while ((entry = readdir(folder))) {
		if (entry->d_name[0] == '.')
			continue;
		inputs = reallocarray(inputs, count + 1, sizeof(*inputs));
		inputs[count] = read_input(dirfd(folder), entry->d_name);
		if (inputs[count].length > 0)
			count++;
		else
			free(inputs[count].bytes);
	}
	closedir(folder);
	if (count == 0)
		die("%s has no inputs", argv[1]);
	for (size_t i = 0; i < count; i++)
		LLVMFuzzerTestOneInput(inputs[i].bytes, inputs[i].length);
	for (unsigned long round = strtoul(argv[2], NULL, 10); round > 0; round--) {
		const struct input *from = &inputs[draw(count)];
		struct input changed = { malloc(from->length), from->length };

		memcpy(changed.bytes, from->bytes, from->length);
		for (uint64_t times = 1 + draw(4); times > 0; times--)
			change(&changed, &inputs[draw(count)]);
		LLVMFuzzerTestOneInput(changed.bytes, changed.length);
		free(changed.bytes);
	}
	printf("%zu inputs and %s changes of them made %u entries, each where it belongs\n", count, argv[2], entries);
	for (size_t i = 0; i < count; i++)
		free(inputs[i].bytes);
	free(inputs);
	return 0;
}
#endif
