/*
 * Folders, links and files as a stream of chunks names them, made beneath one folder and nowhere else: each path is
 * resolved anew without leaving it and without following a link, and nothing that is there is written into.
 */
#ifndef TORPOR_PAGES_TREE_H
#define TORPOR_PAGES_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "chunkstream.h"

/* Why an item was refused: a code (the name of an errno) and a sentence, which is on the heap. */
struct refusal {
	const char *code;
	char *what;
};

struct tree_mode;

struct tree {
	int root;
	/* Whether owners and modes are those of the items, and who the user is; else all is private and of who runs this. */
	bool has_owners;
	/* A file or link that is there goes before a file of the same path is made. */
	bool replaces;
	uid_t uid;
	gid_t gid;
	uint64_t files;
	/* The file that is being written; -1: none. */
	int file;
	uint64_t at;
	uint64_t bytes;
	uint64_t handed_over; /* up to here the kernel has been asked to write it to the disk */
	uint32_t mode;
	uint32_t owner;
	int64_t mtime;
	/* Modes that folders get at the end. */
	struct tree_mode *modes;
	size_t mode_count;
	size_t mode_bytes;
};

/* All but tree_close() give false and fill in the refusal where they fail. `has_owners` and what it needs is set by the caller. */
bool tree_open(struct tree *tree, const char *folder, struct refusal *refusal);
/* Does what an item of a parsed stream says; of a chunk `bytes` are its pages. */
bool tree_put(struct tree *tree, const struct stream_item *item, const uint8_t *bytes, struct refusal *refusal);
/* Gives folders their modes and makes everything durable. */
bool tree_finish(struct tree *tree, struct refusal *refusal);
void tree_close(struct tree *tree);

#endif
