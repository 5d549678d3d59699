/* What sweep and recompress have in common: they replace packs of a store in use. */
#ifndef TORPOR_PAGES_TIDY_H
#define TORPOR_PAGES_TIDY_H

#include <stdbool.h>
#include <stdio.h>

#include "index.h"

struct tidy {
	char *store;
	char *packs_path;
	int packs;	  /* the folder packs/ */
	struct index *index;
	char *skipped; /* a JSON array in the making */
	size_t skipped_length;
	FILE *skipped_stream;
};

/*
 * Opens the packs and waits for no one: a second one that tidies the same store is refused. Unless it only looks,
 * *.new files of one that was ended are removed, and so they are if this process fails.
 */
void tidy_open(struct tidy *tidy, const char *store, bool only_looks);
/* Notes why something is left as it is. Takes the sentence. */
void tidy_skip(struct tidy *tidy, char *what);
/* The JSON array of what was skipped. */
const char *tidy_skipped(struct tidy *tidy);
/* Removes the pack's files; pack first, so that what is left is an .idx without a pack at worst. */
void tidy_remove(struct tidy *tidy, unsigned pack);
void tidy_close(struct tidy *tidy);

#endif
