/*
 * torpor-pages receive --socket FD --store STATE --stage FOLDER [--parent SNAPSHOT] [--speeds FILE]
 *                      [--codec auto|raw|lz4|zstd] [--threads N] [--key-fd N]
 *
 * Takes the pages of a workload from CRIU and makes the part of a snapshot that is pages: in STAGE/pages, STAGE/packs,
 * and the pagemap images in STAGE/images. When it says "done", all but images/ has reached the disk. Nothing of it
 * counts before the engine moves it to its place, so a receiver that ends early harms nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../common.h"
#include "commands.h"
#include "crypt.h"
#include "receive.h"
#include "report.h"

static const char *const codec_names[] = { "raw", "lz4", "zstd" };

struct block *receive_block(struct receive *receive)
{
	pthread_mutex_lock(&receive->lock);
	struct block *block = &receive->blocks[receive->read % receive->block_count];

	while (block->state != BLOCK_FREE)
		pthread_cond_wait(&receive->changed, &receive->lock);
	pthread_mutex_unlock(&receive->lock);
	block->pages = 0;
	block->run_count = 0;
	return block;
}

void receive_filled(struct receive *receive)
{
	pthread_mutex_lock(&receive->lock);
	receive->blocks[receive->read % receive->block_count].state = BLOCK_READ;
	receive->read++;
	pthread_cond_broadcast(&receive->changed);
	pthread_mutex_unlock(&receive->lock);
}

static unsigned core_count(void)
{
	cpu_set_t cores;

	return sched_getaffinity(0, sizeof(cores), &cores) == 0 ? (unsigned)CPU_COUNT(&cores) : 1;
}

static unsigned long number_argument(const char *name, const char *text, unsigned long most)
{
	char *end;

	errno = 0;
	unsigned long number = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || errno || number > most)
		fail("EINVAL", "%s \"%s\" is no number up to %lu", name, text, most);
	return number;
}

static void choose_codec(struct receive *receive, const char *wanted)
{
	if (!wanted || strcmp(wanted, "auto") == 0) {
		receive->automatic = true;
		/* The compromise, until there is something to go by. */
		receive->codec = speeds_choose(&receive->known, receive->threads, CODEC_LZ4);
		return;
	}
	for (enum codec codec = CODEC_RAW; codec <= CODEC_ZSTD; codec++) {
		if (strcmp(wanted, codec_names[codec]) == 0) {
			receive->codec = codec;
			return;
		}
	}
	fail("EINVAL", "--codec \"%s\" is none of auto, raw, lz4 and zstd", wanted);
}

static void open_parent(struct receive *receive, const char *snapshot)
{
	char *what;

	if (snapshot_open(&receive->parent, snapshot, &what) != 0) {
		/* Without it, more is written, and nothing else is worse. */
		CLEANUP_FREE char *json = json_string(what);

		report_line("{\"event\":\"warning\",\"code\":\"EBADPARENT\",\"what\":%s}", json);
		return;
	}
	receive->has_parent = true;
	if (receive->parent.chunk_count == 0)
		return;
	/* Only what is touched takes memory. */
	receive->parent_numbers = mmap(NULL, receive->parent.chunk_count * sizeof(uint32_t), PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (receive->parent_numbers == MAP_FAILED)
		fail_errno("no memory for the parent's list of chunks");
}

static void make_blocks(struct receive *receive)
{
	receive->block_count = receive->threads + 6 < BLOCKS_MOST ? receive->threads + 6 : BLOCKS_MOST;
	receive->blocks = calloc(receive->block_count, sizeof(*receive->blocks));
	for (unsigned i = 0; i < receive->block_count; i++) {
		if (!receive->blocks || posix_memalign((void **)&receive->blocks[i].data, PAGE_BYTES, BLOCK_BYTES) != 0)
			fail("ENOMEM", "there is not enough memory to receive pages");
	}
}

static void start(pthread_t *thread, void *(*run)(void *), struct receive *receive)
{
	int number = pthread_create(thread, NULL, run, receive);

	if (number != 0) {
		errno = number;
		fail_errno("a thread cannot be started");
	}
}

static void free_receive(struct receive *receive)
{
	for (unsigned i = 0; i < receive->block_count; i++) {
		free(receive->blocks[i].data);
		free(receive->blocks[i].packed);
	}
	free(receive->blocks);
	if (receive->unfetched)
		munmap((void *)(uintptr_t)receive->unfetched, receive->unfetched_count * sizeof(*receive->unfetched));
	if (receive->parent_numbers)
		munmap(receive->parent_numbers, receive->parent.chunk_count * sizeof(uint32_t));
	if (receive->has_parent)
		snapshot_close(&receive->parent);
	index_close(receive->index);
	pthread_mutex_destroy(&receive->lock);
	pthread_cond_destroy(&receive->changed);
}

int cmd_receive(int argc, char **argv)
{
	struct arguments arguments = { argc - 1, argv + 1 };
	struct receive receive = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
	const char *store = argument_needed(&arguments, "--store");
	const char *parent = argument(&arguments, "--parent");
	const char *speeds_path = argument(&arguments, "--speeds");
	const char *codec = argument(&arguments, "--codec");
	const char *threads = argument(&arguments, "--threads");
	pthread_t examiners[THREADS_MOST], assembler;
	char *what;

	receive.socket = (int)number_argument("--socket", argument_needed(&arguments, "--socket"), 1u << 20);
	receive.stage = argument_needed(&arguments, "--stage");
	keys_argument(&arguments);
	arguments_end(&arguments);
	receive.threads = threads ? (unsigned)number_argument("--threads", threads, 1024) : core_count();
	if (receive.threads == 0)
		receive.threads = 1;
	if (receive.threads > THREADS_MOST)
		receive.threads = THREADS_MOST;
	if (speeds_path)
		speeds_read(speeds_path, &receive.known);
	choose_codec(&receive, codec);

	CLEANUP_FREE char *store_packs = format_string("%s/packs", store);
	CLEANUP_FREE char *packs = format_string("%s/packs", receive.stage);
	CLEANUP_FREE char *pages = format_string("%s/pages", receive.stage);
	CLEANUP_FREE char *images = format_string("%s/images", receive.stage);

	/* Reads wait here, whatever its maker did with it. */
	int flags = fcntl(receive.socket, F_GETFL);

	if (flags < 0 || fcntl(receive.socket, F_SETFL, flags & ~O_NONBLOCK) != 0)
		fail_errno("--socket %d is no socket", receive.socket);
	make_folder(packs);
	make_folder(pages);
	make_folder(images);
	if (index_open(&receive.index, store_packs, &what) != 0)
		fail("EIO", "%s", what);
	if (parent)
		open_parent(&receive, parent);
	CLEANUP_FD int packs_folder = open(packs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (packs_folder < 0)
		fail_errno("the folder %s cannot be opened", packs);
	chunk_list_open(&receive.chunks, format_string("%s/chunks", pages));
	receive.places = out_open(format_string("%s/places", pages));
	receive.hashes = out_open(format_string("%s/hashes", pages));
	receive.packs = pack_writer_open(&(struct pack_writer_options){
		.folder = packs_folder, .called = packs, .suffix = "", .direct = speeds_direct(&receive.known),
		.key_id = key_for_writing() });
	make_blocks(&receive);
	start(&assembler, assemble_blocks, &receive);
	for (unsigned i = 0; i < receive.threads; i++)
		start(&examiners[i], examine_blocks, &receive);

	read_stream(&receive);
	pthread_mutex_lock(&receive.lock);
	receive.ended = true;
	pthread_cond_broadcast(&receive.changed);
	pthread_mutex_unlock(&receive.lock);
	for (unsigned i = 0; i < receive.threads; i++)
		pthread_join(examiners[i], NULL);
	pthread_join(assembler, NULL);

	uint64_t chunks = receive.chunks.count;
	pack_writer_cut(receive.packs);
	out_close(receive.places, 1);
	out_close(receive.hashes, 1);
	chunk_list_close(&receive.chunks);
	struct speeds speeds = receive_speeds(&receive);
	struct pack_writer_sums sums = pack_writer_end(receive.packs);

	sync_folder(pages);
	sync_folder(receive.stage);
	if (speeds_path)
		speeds_write(speeds_path, &speeds);
	CLEANUP_FREE char *json = speeds_json(&speeds);
	enum codec used = (enum codec)receive.codec;

	for (enum codec each = CODEC_RAW; each <= CODEC_ZSTD; each++) {
		if (receive.bytes_by_codec[each] > receive.bytes_by_codec[used])
			used = each;
	}
	report_line("{\"event\":\"done\",\"images\":%u,\"pages\":%" PRIu64 ",\"zeroPages\":%" PRIu64
		    ",\"parentPages\":%" PRIu64 ",\"unfetchedPages\":%" PRIu64 ",\"knownChunks\":%" PRIu64
		    ",\"chunks\":%" PRIu64 ",\"newChunks\":%" PRIu64 ",\"rawBytes\":%" PRIu64 ",\"writtenBytes\":%" PRIu64
		    ",\"codec\":\"%s\",\"speeds\":%s}",
		    receive.images, receive.pages, receive.zero_pages, receive.parent_pages, receive.unfetched_pages,
		    receive.known_chunks, chunks, receive.new_chunks, receive.raw_bytes, sums.bytes, codec_names[used],
		    json ? json : "{}");
	free_receive(&receive);
	return 0;
}
