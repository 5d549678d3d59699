/* How fast this medium and these cores are, and which codec makes a snapshot durable soonest with that. */
#ifndef TORPOR_PAGES_SPEEDS_H
#define TORPOR_PAGES_SPEEDS_H

#include <stdbool.h>
#include <stdint.h>

#include "format.h"

/* MB (10^6) of bytes that go in, a second; of one core where cores do it. 0: not known. Ratios: bytes out by bytes in. */
struct speeds {
	double direct;	 /* writes past the page cache, and through it */
	double buffered;
	double sha256;
	double lz4;
	double lz4_ratio;
	double zstd;
	double zstd_ratio;
};

/* Level of zstd while an application waits for it, and when it has time. */
#define ZSTD_FAST 1
#define ZSTD_SMALL 3

/* Reads a file that speeds_write() wrote. What is not there or no number stays 0. */
void speeds_read(const char *path, struct speeds *speeds);
/* Replaces the file; false and errno where that fails, which harms nobody. */
bool speeds_write(const char *path, const struct speeds *speeds);
/* As JSON, on the heap. */
char *speeds_json(const struct speeds *speeds);

/* Whether direct writes are the faster ones, as far as is known. */
bool speeds_direct(const struct speeds *speeds);
/* Seconds for each MB that go by until it is durable, with so many threads; 0 where too little is known. */
double speeds_time(const struct speeds *speeds, enum codec codec, unsigned threads);
/*
 * The codec with the least of them, of two that are close the one that leaves the cores alone: they have CRIU to run,
 * too. `unknown` where too little is known.
 */
enum codec speeds_choose(const struct speeds *speeds, unsigned threads, enum codec unknown);

#endif
