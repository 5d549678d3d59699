/*
 * counted FILE MEBIBYTES: what the CRIU tests' counter does, with memory that it looks at all the time: writes how often it
 * has looked at a page, and how many pages were wrong, into FILE.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "scene.h"

int main(int argc, char **argv)
{
	struct scene scene = { .seed = 77 };
	uint64_t pages = argc > 2 ? strtoull(argv[2], NULL, 10) * 256 : 4096;
	unsigned long looked = 0, wrong = 0;
	uint8_t page[PAGE_BYTES], *memory;
	int fd = open(argv[1], O_WRONLY);

	memory = mmap(NULL, pages * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fd < 0 || memory == MAP_FAILED)
		return 1;
	for (uint64_t i = 0; i < pages; i++)
		make_page(&scene, i, memory + i * PAGE_BYTES);
	for (uint64_t at = 0;; at = (at + 7919) % pages) {
		char line[64];
		int length;

		make_page(&scene, at, page);
		wrong += memcmp(page, memory + at * PAGE_BYTES, PAGE_BYTES) != 0;
		length = snprintf(line, sizeof(line), "%09lu %09lu\n", ++looked, wrong);
		if (pwrite(fd, line, (size_t)length, 0) != length)
			return 1;
	}
}
