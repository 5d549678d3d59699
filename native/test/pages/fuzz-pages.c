/*
 * Damages what torpor-pages parses, in ways that are the same each time, and looks that it always ends by itself with 0
 * or 1: never by a signal, and never by a sanitizer (make -C native sanitized). What has a digest gets a right one
 * half of the time, so that what stands behind the digest is reached. Usage: pages-fuzz FOLDER ROUNDS [SEED]
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../common.h"
#include "../../pages/commands.h"
#include "../../pages/files.h"
#include "../../pages/hash.h"

#define STREAM_ROOM (1u << 20)

static uint64_t state;

/* xorshift64*: good enough to choose what to damage. */
static uint64_t draw(uint64_t below)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (state * 2685821657736338717ull >> 11) % below;
}

struct bytes {
	uint8_t *start;
	size_t length;
};

static struct bytes copy_of(struct bytes bytes)
{
	struct bytes copy = { malloc(bytes.length * 2 + 64), bytes.length };

	memcpy(copy.start, bytes.start, bytes.length);
	return copy;
}

static void damage(struct bytes *bytes)
{
	static const uint64_t numbers[] = { 0, 1, 15, 16, 17, 0x7f, 0xff, 0x1000, 0xffff, 0x10000, 0x7fffffff,
					    0xffffffff, 0x100000000, 1ull << 57, 1ull << 63, UINT64_MAX };
	uint64_t number = numbers[draw(sizeof(numbers) / sizeof(numbers[0]))];
	size_t at, width = 1u << draw(4);

	for (uint64_t times = 1 + draw(4); times > 0; times--) {
		if (bytes->length < 8)
			return;
		/* Numbers stand at multiples of their width. */
		at = draw(bytes->length - 7) & ~(width - 1);
		switch (draw(6)) {
		case 0:
			bytes->start[at] ^= (uint8_t)(1u << draw(8));
			break;
		case 1:
		case 2:
			memcpy(bytes->start + at, &number, width);
			break;
		case 3:
			bytes->length = at;
			break;
		case 4:
			memmove(bytes->start + at, bytes->start + draw(bytes->length - 7), 8);
			break;
		case 5:
			if (bytes->length > 32) {
				size_t from = draw(bytes->length / 32) * 32;

				memmove(bytes->start + from + 32, bytes->start + from, bytes->length - from);
				bytes->length += 32;
			}
			break;
		}
	}
}

static struct bytes read_file(const char *path)
{
	struct bytes bytes = { NULL, 0 };
	struct stat status;
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &status) != 0)
		die_with_error("%s", path);
	bytes.length = (size_t)status.st_size;
	bytes.start = malloc(bytes.length + 1);
	if (!pread_all(fd, bytes.start, bytes.length, 0))
		die_with_error("%s", path);
	return bytes;
}

static void write_file(const char *path, struct bytes bytes)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || !write_all(fd, bytes.start, bytes.length))
		die_with_error("%s", path);
}

/* Runs a subcommand in a child; its exit status. */
static int run(int (*command)(int, char **), char **words, int in, int kept)
{
	int count = 0, status;
	pid_t child;

	while (words[count])
		count++;
	child = fork();
	if (child == 0) {
		int null = open("/dev/null", O_WRONLY);

		if (in >= 0)
			dup2(in, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		if (kept >= 0)
			dup2(kept, 3);
		for (int fd = 4; fd < 64; fd++)
			close(fd);
		exit(command(count, words));
	}
	if (child < 0)
		die_with_error("fork");
	if (kept >= 0)
		return child;
	if (RETRY(waitpid(child, &status, 0)) != child)
		die_with_error("waitpid");
	return status;
}

static char *store;
static char *stage;

static int receive(struct bytes stream, const char *go, char *parent)
{
	int sockets[2], in[2], status;
	char *words[] = { "receive", "--socket", "3", "--store", store, "--stage", stage, "--codec", "lz4",
			  parent ? "--parent" : NULL, parent, NULL };
	struct timeval patience = { .tv_sec = 20 };

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0 || pipe(in) != 0)
		die_with_error("socketpair");
	mkdir(stage, 0700);
	pid_t child = run(cmd_receive, words, in[0], sockets[1]);

	close(sockets[1]);
	close(in[0]);
	if (!write_all(in[1], go, strlen(go)))
		die_with_error("write");
	close(in[1]);
	setsockopt(sockets[0], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	for (size_t sent = 0; sent < stream.length;) {
		ssize_t put = send(sockets[0], stream.start + sent, stream.length - sent, MSG_NOSIGNAL);

		if (put <= 0)
			break;
		sent += (size_t)put;
	}
	shutdown(sockets[0], SHUT_WR);
	if (RETRY(waitpid(child, &status, 0)) != child)
		die_with_error("waitpid");
	close(sockets[0]);
	return status;
}

static void put_request(struct bytes *stream, uint32_t command, uint64_t pages, uint64_t vaddr, uint64_t dst_id)
{
	uint32_t head[2] = { command, 0 };
	uint64_t rest[3] = { pages, vaddr, dst_id };

	memcpy(stream->start + stream->length, head, sizeof(head));
	memcpy(stream->start + stream->length + 8, rest, sizeof(rest));
	stream->length += 32;
}

static void put_pages(struct bytes *stream, unsigned count, uint64_t vaddr, uint64_t dst_id, bool random)
{
	put_request(stream, 6 | 6 << 16, count, vaddr, dst_id);
	for (size_t i = 0; i < (size_t)count * PAGE_BYTES; i++)
		stream->start[stream->length++] = random ? (uint8_t)draw(256) : (uint8_t)(i / 100 * count);
}

/* What CRIU would send of two processes and shared memory. */
static struct bytes make_stream(void)
{
	struct bytes stream = { malloc(STREAM_ROOM), 0 };

	put_request(&stream, 4, 0, 0, 257);
	put_pages(&stream, 40, 0x10000, 257, true);
	for (unsigned i = 0; i < 20; i++)
		put_pages(&stream, 1 + i % 3, 0x100000 + i * 0x5000, 257, false);
	put_request(&stream, 5, 0, 0, 513);
	put_request(&stream, 4, 0, 0, 513);
	put_pages(&stream, 16, 0x10000, 513, false);
	put_request(&stream, 4, 0, 0, 258);
	put_pages(&stream, 33, 0, 258, true);
	put_request(&stream, 0x1024, 0, 0, 0);
	return stream;
}

static void shell(const char *format, const char *folder)
{
	/* The folder wherever the format has %s. */
	CLEANUP_FREE char *command = format_string("%s", "");

	for (const char *rest = format; *rest;) {
		const char *next = strstr(rest, "%s");
		size_t length = next ? (size_t)(next - rest) : strlen(rest);
		char *longer = format_string("%s%.*s%s", command, (int)length, rest, next ? folder : "");

		free(command);
		command = longer;
		rest += length + (next ? 2 : 0);
	}

	if (system(command) != 0)
		die("%s", command);
}

static const char *round_of = "";
static unsigned number;

static void judge(int status)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) <= 1)
		return;
	die("%s, round %u: ended with %s %d; look into %s", round_of, number,
	    WIFSIGNALED(status) ? "signal" : "exit status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
	    store);
}

static void clear_stage(void)
{
	shell("rm -rf %s/staging/fuzz", store);
}

static void round_of_streams(struct bytes stream)
{
	struct bytes copy = copy_of(stream);

	if (draw(2)) {
		/* In a request's header, where it says most: the first ones are known. */
		size_t at = draw(3) == 0 ? 0 : 32;

		copy.start[at + draw(32)] = (uint8_t)draw(256);
	} else {
		damage(&copy);
	}
	judge(receive(copy, draw(8) ? "go\n" : "go unfetched\n", NULL));
	free(copy.start);
	clear_stage();
}

static void round_of_parents(struct bytes stream, char *snapshot)
{
	static const char *const names[] = { "entries", "places", "hashes", "chunks", "unfetched" };
	CLEANUP_FREE char *path = format_string("%s/pages/%s", snapshot, names[draw(5)]);
	CLEANUP_FREE char *go = format_string("go unfetched %s/pages/unfetched\n", snapshot);
	char *words[] = { "sweep", "--store", store, "--check", NULL };
	struct bytes right = read_file(path), wrong = copy_of(right);

	damage(&wrong);
	write_file(path, wrong);
	judge(receive(stream, go, snapshot));
	clear_stage();
	judge(run(cmd_sweep, words, -1, -1));
	write_file(path, right);
	free(right.start);
	free(wrong.start);
}

static void round_of_indexes(struct bytes stream, const char *pack, const char *idx)
{
	struct bytes right = read_file(idx), wrong = copy_of(right), whole = read_file(pack);
	char *words[] = { "sweep", "--store", store, "--check", NULL };

	damage(&wrong);
	if (draw(2) && wrong.length > IDX_DIGEST_BYTES)
		sha256(wrong.start, wrong.length - IDX_DIGEST_BYTES, wrong.start + wrong.length - IDX_DIGEST_BYTES);
	write_file(idx, wrong);
	judge(run(cmd_sweep, words, -1, -1));
	write_file(idx, wrong);
	judge(receive(stream, "go\n", NULL));
	clear_stage();
	write_file(pack, whole);
	write_file(idx, right);
	free(right.start);
	free(wrong.start);
	free(whole.start);
}

static void round_of_packs(const char *pack, const char *idx)
{
	struct bytes right = read_file(pack), wrong = copy_of(right), entries = read_file(idx);
	char *words[] = { draw(2) ? "sweep" : "recompress", "--store", store, NULL };
	bool alone = draw(2);

	if (draw(2)) {
		/* A record's header that is nonsense with a right check. */
		uint64_t count = (entries.length - sizeof(struct idx_header) - IDX_DIGEST_BYTES) / sizeof(struct idx_entry);
		struct idx_entry *entry = (struct idx_entry *)(entries.start + sizeof(struct idx_header)) + draw(count);
		struct bytes header = { wrong.start + entry->offset, sizeof(struct record_header) };
		size_t length = header.length;
		uint8_t copy[256];
		struct bytes damaged = { copy, length };

		memcpy(copy, header.start, length);
		damage(&damaged);
		memcpy(header.start, copy, length);
		set_check(header.start, length);
	} else {
		damage(&wrong);
	}
	write_file(pack, wrong);
	if (alone)
		unlink(idx);
	judge(run(words[0][0] == 's' ? cmd_sweep : cmd_recompress, words, -1, -1));
	shell("rm -f %s/packs/*", store);
	write_file(pack, right);
	write_file(idx, entries);
	free(right.start);
	free(wrong.start);
	free(entries.start);
}

static void round_of_speeds(void)
{
	static const char whole[] = "{\"direct\":1e3,\"buffered\":4e2,\"sha256\":1.5e3,\"lz4\":700,\"lz4Ratio\":0.5,\"zstd\":"
				    "300,\"zstdRatio\":0.3}\n";
	struct bytes right = { (uint8_t *)(uintptr_t)whole, sizeof(whole) - 1 }, wrong = copy_of(right);
	CLEANUP_FREE char *path = format_string("%s/speeds", store);
	char *words[] = { "receive", "--socket", "0", "--store", store, "--stage", stage, "--speeds", path, NULL };

	damage(&wrong);
	write_file(path, wrong);
	mkdir(stage, 0700);
	judge(run(cmd_receive, words, -1, -1));
	clear_stage();
	free(wrong.start);
}

/* The first file of packs/ that ends so. */
static char *find_pack(const char *ending)
{
	CLEANUP_FREE char *command = format_string("ls %s/packs/*%s", store, ending);
	FILE *list = popen(command, "r");
	char line[4096];

	if (!list || !fgets(line, sizeof(line), list))
		die("no pack was made");
	pclose(list);
	line[strcspn(line, "\n")] = '\0';
	return format_string("%s", line);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		die("usage: pages-fuzz FOLDER ROUNDS [SEED]");
	unsigned rounds = (unsigned)atoi(argv[2]);
	char *snapshot = format_string("%s/snapshots/base", argv[1]);
	CLEANUP_FD int null = open("/dev/null", O_RDONLY);
	struct unfetched_range ranges[] = { { 257, 0x20000, 8, 16 }, { 257, 0x110000, 2, 45 }, { 513, 0x18000, 8, 60 } };
	CLEANUP_FREE char *unfetched = format_string("%s/pages/unfetched", snapshot);

	state = argc > 3 ? strtoull(argv[3], NULL, 10) : 4711;
	store = argv[1];
	stage = format_string("%s/staging/fuzz", store);
	shell("mkdir -p %s/staging %s/snapshots %s/packs", store);
	dup2(null, STDIN_FILENO);

	struct bytes stream = make_stream();

	if (receive(stream, "go\n", NULL) != 0)
		die("what is whole was refused");
	shell("mv %s/staging/fuzz/packs/* %s/packs/ && rmdir %s/staging/fuzz/packs && mv %s/staging/fuzz %s/snapshots/base",
	      store);
	write_file(unfetched, (struct bytes){ (uint8_t *)ranges, sizeof(ranges) });

	CLEANUP_FREE char *pack = find_pack(".pack");
	CLEANUP_FREE char *idx = find_pack(".idx");

	for (number = 0; number < rounds; number++) {
		round_of = "stream";
		round_of_streams(stream);
		round_of = "parent";
		round_of_parents(stream, snapshot);
		round_of = "idx";
		round_of_indexes(stream, pack, idx);
		round_of = "pack";
		round_of_packs(pack, idx);
		round_of = "speeds";
		round_of_speeds();
	}
	printf("%u rounds of damage: every one ended with 0 or 1\n", rounds);
	free(stream.start);
	free(snapshot);
	free(stage);
	return 0;
}
