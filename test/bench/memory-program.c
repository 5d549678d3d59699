/*
 * The benchmark's application: it has as much memory as it is told, filled with what it is told, and answers requests.
 *
 * memory-program SOCKET MIB random|text|zero|mixed private|shared|small
 *
 * Contents follow from the position alone, so that every run has the same. `text` compresses about 3:1. `mixed` is, by
 * turns of 64 KiB, a quarter random, half text and a quarter zero. `small` makes as many mappings of 4 to 64 KiB as come
 * to that size, each apart from the next; the others make one.
 *
 * A request is one line on a connection of its own to SOCKET, and so is its answer:
 *   react          reads 64 pages spread over its memory, as a window that is looked at would; "ok"
 *   change PERCENT writes so many of its pages anew, each by itself; how many, in pages
 *   sum            reads everything; a checksum
 */
#include <err.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PAGE 4096ul
#define WORDS 2048
/* With its end; words are copied whole, which is faster than by their length. */
#define WORD_SIZE 16
#define REACTING_PAGES 64
#define LARGEST_SMALL_PAGES 16
/* The kernel allows 65,530 mappings in a process. */
#define MOST_MAPPINGS 60000

enum contents { RANDOM, TEXT, ZERO, MIXED };

struct mapping {
	unsigned char *start;
	size_t pages;
	/* Pages in the mappings before it. */
	size_t before;
};

static struct mapping *mappings;
static size_t mapping_count;
static size_t page_count;
static char words[WORDS][WORD_SIZE];
static size_t word_length[WORDS];

/* A number that follows from another, and looks like chance (the finaliser of splitmix64). */
static uint64_t scramble(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ul;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ul;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebul;
	return x ^ (x >> 31);
}

static void make_words(void)
{
	static const char *const syllables[] = { "ka", "lo", "mi", "ren", "sta", "tor", "un", "ve",
						 "be", "dra", "el", "fin", "go", "hal", "is", "ju" };

	for (size_t word = 0; word < WORDS; word++) {
		uint64_t choice = scramble(word);
		size_t syllable_count = 1 + choice % 4;

		for (size_t i = 0; i < syllable_count; i++)
			strcat(words[word], syllables[(choice >> (8 + 4 * i)) & 15]);
		strcat(words[word], choice >> 60 ? " " : "\n");
		word_length[word] = strlen(words[word]);
	}
}

static void fill_random(unsigned char *page, uint64_t seed)
{
	for (size_t i = 0; i < PAGE; i += sizeof(uint64_t)) {
		uint64_t value = scramble(seed + i);

		memcpy(page + i, &value, sizeof(value));
	}
}

static void fill_text(unsigned char *page, uint64_t seed)
{
	char text[PAGE + WORD_SIZE];
	size_t length = 0;

	for (uint64_t turn = 0; length < PAGE; turn++) {
		uint64_t choices = scramble(seed + turn);

		/* Of two the more frequent: as in a language, some words come again and again. */
		for (int i = 0; i < 2 && length < PAGE; i++, choices >>= 32) {
			size_t a = choices % WORDS, b = (choices >> 16) % WORDS;
			size_t word = a < b ? a : b;

			memcpy(text + length, words[word], WORD_SIZE);
			length += word_length[word];
		}
	}
	memcpy(page, text, PAGE);
}

static enum contents contents_at(enum contents contents, size_t number)
{
	static const enum contents turns[] = { RANDOM, TEXT, ZERO, TEXT };

	return contents == MIXED ? turns[number / 16 % 4] : contents;
}

/* Seeds are far enough apart that no two pages come to share a part of their row of numbers. */
static void fill_page(unsigned char *page, size_t number, enum contents contents, uint64_t generation)
{
	uint64_t seed = scramble(number) ^ (generation << 32);

	switch (contents_at(contents, number)) {
	case RANDOM:
		fill_random(page, seed);
		break;
	case ZERO:
		/* Written all the same: a page that never was has no contents to save. */
		memset(page, 0, PAGE);
		break;
	default:
		fill_text(page, seed);
	}
}

static unsigned char *page_at(size_t number)
{
	size_t low = 0, high = mapping_count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (mappings[middle].before <= number)
			low = middle;
		else
			high = middle;
	}
	return mappings[low].start + (number - mappings[low].before) * PAGE;
}

static void add_mapping(size_t pages, int flags, int with_gap)
{
	size_t size = (pages + (with_gap ? 1 : 0)) * PAGE;
	unsigned char *start = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED)
		err(1, "a mapping of %zu bytes", size);
	if (with_gap && munmap(start + pages * PAGE, PAGE) < 0)
		err(1, "a gap between two mappings");
	mappings[mapping_count++] = (struct mapping){ .start = start, .pages = pages, .before = page_count };
	page_count += pages;
}

static void make_memory(size_t mib, const char *kind)
{
	size_t wanted = mib * 1024 * 1024 / PAGE;

	mappings = calloc(MOST_MAPPINGS, sizeof(*mappings));
	if (mappings == NULL)
		err(1, "the list of mappings");
	if (strcmp(kind, "private") == 0) {
		add_mapping(wanted, MAP_PRIVATE, 0);
	} else if (strcmp(kind, "shared") == 0) {
		add_mapping(wanted, MAP_SHARED, 0);
	} else if (strcmp(kind, "small") == 0) {
		while (page_count < wanted && mapping_count < MOST_MAPPINGS)
			add_mapping(1 + scramble(mapping_count) % LARGEST_SMALL_PAGES, MAP_PRIVATE, 1);
	} else {
		errx(2, "what kind of mapping is %s?", kind);
	}
}

static uint64_t sum_of_all(void)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < mapping_count; i++) {
		const unsigned char *end = mappings[i].start + mappings[i].pages * PAGE;

		for (const unsigned char *at = mappings[i].start; at < end; at += sizeof(uint64_t)) {
			uint64_t value;

			memcpy(&value, at, sizeof(value));
			sum = (sum ^ value) * 0x100000001b3ul;
			sum ^= sum >> 29;
		}
	}
	return sum;
}

static size_t change(unsigned int percent, enum contents contents)
{
	static uint64_t generation;
	size_t changed = 0;

	generation++;
	for (size_t number = 0; number < page_count; number++) {
		if (scramble(number ^ (generation << 40)) % 100 >= percent)
			continue;
		/* Zeros written over zeros would be no change. */
		fill_page(page_at(number), number, contents_at(contents, number) == ZERO ? TEXT : contents, generation);
		changed++;
	}
	return changed;
}

static void answer(int connection, enum contents contents)
{
	char line[64] = "", reply[64] = "what?\n";
	size_t length = 0;
	unsigned int percent;

	while (length < sizeof(line) - 1 && strchr(line, '\n') == NULL) {
		ssize_t got = read(connection, line + length, sizeof(line) - 1 - length);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return;
		length += got;
	}
	if (strcmp(line, "react\n") == 0) {
		unsigned int seen = 0;

		for (size_t i = 0; i < REACTING_PAGES; i++)
			seen += *(volatile unsigned char *)page_at(page_count / REACTING_PAGES * i);
		snprintf(reply, sizeof(reply), "ok %u\n", seen);
	} else if (strcmp(line, "sum\n") == 0) {
		snprintf(reply, sizeof(reply), "%016lx\n", sum_of_all());
	} else if (sscanf(line, "change %u", &percent) == 1) {
		snprintf(reply, sizeof(reply), "%zu\n", change(percent, contents));
	}
	/* Who has asked may have gone; MSG_NOSIGNAL makes that no reason to end. */
	send(connection, reply, strlen(reply), MSG_NOSIGNAL);
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(address.sun_path))
		errx(2, "the path %s is too long for a socket", path);
	strcpy(address.sun_path, path);
	unlink(path);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, 8) < 0)
		err(1, "the socket %s", path);
	return listener;
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "random", "text", "zero", "mixed" };
	unsigned int contents = 0;
	int listener;

	if (argc != 5)
		errx(2, "usage: memory-program SOCKET MIB random|text|zero|mixed private|shared|small");
	while (contents < 4 && strcmp(names[contents], argv[3]) != 0)
		contents++;
	if (contents == 4)
		errx(2, "what contents are %s?", argv[3]);
	make_words();
	make_memory(strtoul(argv[2], NULL, 10), argv[4]);
	for (size_t number = 0; number < page_count; number++)
		fill_page(page_at(number), number, contents, 0);
	/* It can be asked from here on: all its memory is there. */
	listener = listen_at(argv[1]);
	for (;;) {
		int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (connection < 0) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			err(1, "a connection");
		}
		answer(connection, contents);
		close(connection);
	}
}
