#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common.h"
#include "files.h"
#include "report.h"

/* openat2 says EAGAIN where something was renamed meanwhile; so often is enough for anything but bad will. */
#define TRIES 64
/* Written pages are handed to the disk in such parts, so that it works while the rest comes. */
#define HAND_OVER_BYTES (8ull << 20)
/* Of the paths of folders that get their modes at the end. */
#define MODES_BYTES_MOST (64u << 20)

/* The mode of a folder into which its owner may not write cannot be set before all is in it. */
struct tree_mode {
	char *path;
	size_t number;
	uint32_t mode;
};

static bool refuse(struct refusal *refusal, const char *code, const char *what)
{
	refusal->code = code;
	refusal->what = format_string("%s", what);
	return false;
}

static bool refuse_errno(struct refusal *refusal, const char *what)
{
	int number = errno;

	refusal->code = errno_name(number);
	refusal->what = format_string("%s: %s", what, strerror(number));
	return false;
}

static int open_beneath(const struct tree *tree, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
		.mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};
	int fd = -1;

	for (int tries = 0; tries < TRIES; tries++) {
		fd = (int)syscall(SYS_openat2, tree->root, path, &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return fd;
}

/* The folder that the path's last part lies in, and that part. */
static int open_parent(const struct tree *tree, const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	CLEANUP_FREE char *parent = slash ? format_string("%.*s", (int)(slash - path), path) : format_string(".");

	*name = slash ? slash + 1 : path;
	return open_beneath(tree, parent, O_PATH | O_DIRECTORY, 0);
}

static uid_t owner_of(const struct tree *tree, uint32_t owner)
{
	return owner == 1 ? tree->uid : 0;
}

static gid_t group_of(const struct tree *tree, uint32_t owner)
{
	return owner == 1 ? tree->gid : 0;
}

static bool set_owner(const struct tree *tree, int fd, uint32_t owner)
{
	return !tree->has_owners || fchown(fd, owner_of(tree, owner), group_of(tree, owner)) == 0;
}

static mode_t mode_of(const struct tree *tree, uint32_t mode)
{
	return mode & (tree->has_owners ? 0777u : 0700u);
}

bool tree_open(struct tree *tree, const char *folder, struct refusal *refusal)
{
	tree->file = -1;
	tree->root = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return tree->root >= 0 || refuse_errno(refusal, "the folder to write into cannot be opened");
}

static bool set_mode_later(struct tree *tree, const char *path, uint32_t mode, struct refusal *refusal)
{
	struct tree_mode *more;

	tree->mode_bytes += sizeof(*more) + strlen(path) + 1;
	if (tree->mode_bytes > MODES_BYTES_MOST)
		return refuse(refusal, "E2BIG", "there are too many folders before it whose mode must be set at the end");
	more = reallocarray(tree->modes, tree->mode_count + 1, sizeof(*more));
	if (!more)
		return refuse(refusal, "ENOMEM", "there is not enough memory for its mode");
	tree->modes = more;
	more[tree->mode_count] = (struct tree_mode){ format_string("%s", path), tree->mode_count, mode };
	tree->mode_count++;
	return true;
}

static bool put_folder(struct tree *tree, const struct stream_item *item, struct refusal *refusal)
{
	const char *name;
	CLEANUP_FD int parent = open_parent(tree, item->path, &name);
	mode_t mode = mode_of(tree, item->mode);
	bool is_new;

	if (parent < 0)
		return refuse_errno(refusal, "the folder that it lies in cannot be opened");
	is_new = mkdirat(parent, name, 0700) == 0;
	if (!is_new && errno != EEXIST)
		return refuse_errno(refusal, "it cannot be made");
	CLEANUP_FD int fd = open_beneath(tree, item->path, O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		return refuse_errno(refusal, is_new ? "it cannot be opened" : "what is there is no folder to write into");
	if (!set_owner(tree, fd, item->owner))
		return refuse_errno(refusal, "its owner cannot be set");
	/* Later where it was there before, too: what is set last counts, and an earlier mode may still be to be set. */
	if ((!is_new || (mode & 0700) != 0700) && !set_mode_later(tree, item->path, mode, refusal))
		return false;
	return fchmod(fd, mode | 0700) == 0 || refuse_errno(refusal, "its mode cannot be set");
}

/* Removes what a path names, where that is a file or a link. */
static bool remove_old(const struct tree *tree, const char *path)
{
	const char *name;
	struct stat there;
	CLEANUP_FD int parent = open_parent(tree, path, &name);

	return parent >= 0 && fstatat(parent, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       (S_ISREG(there.st_mode) || S_ISLNK(there.st_mode)) && unlinkat(parent, name, 0) == 0;
}

static bool put_link(struct tree *tree, const struct stream_item *item, struct refusal *refusal)
{
	const char *name;
	CLEANUP_FD int parent = open_parent(tree, item->path, &name);

	if (parent < 0)
		return refuse_errno(refusal, "the folder that it lies in cannot be opened");
	if (symlinkat(item->target, parent, name) != 0 &&
	    !(errno == EEXIST && tree->replaces && remove_old(tree, item->path) &&
	      symlinkat(item->target, parent, name) == 0))
		return refuse_errno(refusal, "it cannot be made");
	if (tree->has_owners && fchownat(parent, name, owner_of(tree, item->owner), group_of(tree, item->owner),
					 AT_SYMLINK_NOFOLLOW) != 0)
		return refuse_errno(refusal, "its owner cannot be set");
	return true;
}

/* Of a file that is complete. */
static bool end_file(struct tree *tree, struct refusal *refusal)
{
	int64_t nanoseconds = tree->mtime % 1000000000;
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = tree->mtime / 1000000000 } };

	if (nanoseconds < 0) {
		nanoseconds += 1000000000;
		times[1].tv_sec--;
	}
	times[1].tv_nsec = nanoseconds;
	/* Where zeros are at the end. */
	if (ftruncate(tree->file, (off_t)tree->bytes) != 0)
		return refuse_errno(refusal, "it cannot be given its length");
	if (!set_owner(tree, tree->file, tree->owner))
		return refuse_errno(refusal, "its owner cannot be set");
	if (fchmod(tree->file, mode_of(tree, tree->mode)) != 0 || futimens(tree->file, times) != 0)
		return refuse_errno(refusal, "its mode and time cannot be set");
	close(tree->file);
	tree->file = -1;
	tree->files++;
	return true;
}

static bool put_file(struct tree *tree, const struct stream_item *item, struct refusal *refusal)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL;

	tree->file = open_beneath(tree, item->path, flags, 0600);
	if (tree->file < 0 && errno == EEXIST && tree->replaces && remove_old(tree, item->path))
		tree->file = open_beneath(tree, item->path, flags, 0600);
	if (tree->file < 0)
		return refuse_errno(refusal, "it cannot be made");
	tree->at = tree->handed_over = 0;
	tree->bytes = item->bytes;
	tree->mode = item->mode;
	tree->owner = item->owner;
	tree->mtime = item->mtime;
	return tree->bytes > 0 || end_file(tree, refusal);
}

static bool put_pages(struct tree *tree, const struct stream_item *item, const uint8_t *bytes, struct refusal *refusal)
{
	uint64_t length = (uint64_t)item->pages * PAGE_BYTES, left = tree->bytes - tree->at;
	uint64_t wanted = left < length ? left : length;

	if (item->kind == ITEM_CHUNK) {
		for (uint64_t beyond = wanted; beyond < length; beyond++) {
			if (bytes[beyond] != 0)
				return refuse(refusal, "EBADMSG", "the file's last page is not filled up with zeros");
		}
		if (!pwrite_all(tree->file, bytes, wanted, (off_t)tree->at))
			return refuse_errno(refusal, "it cannot be written");
	}
	tree->at += wanted;
	if (tree->at - tree->handed_over >= HAND_OVER_BYTES) {
		sync_file_range(tree->file, (off_t)tree->handed_over, (off_t)(tree->at - tree->handed_over),
				SYNC_FILE_RANGE_WRITE);
		tree->handed_over = tree->at;
	}
	return tree->at < tree->bytes || end_file(tree, refusal);
}

bool tree_put(struct tree *tree, const struct stream_item *item, const uint8_t *bytes, struct refusal *refusal)
{
	switch (item->kind) {
	case ITEM_FOLDER:
		return put_folder(tree, item, refusal);
	case ITEM_LINK:
		return put_link(tree, item, refusal);
	case ITEM_FILE:
		return put_file(tree, item, refusal);
	default:
		return put_pages(tree, item, bytes, refusal);
	}
}

/* What is in a folder after it, and of the same folder the last before the others. */
static int by_path_from_behind(const void *left, const void *right)
{
	const struct tree_mode *a = left, *b = right;
	int paths = strcmp(b->path, a->path);

	return paths ? paths : (b->number > a->number) - (b->number < a->number);
}

static bool set_modes(struct tree *tree, struct refusal *refusal)
{
	const char *done = "";

	if (tree->mode_count == 0)
		return true;
	qsort(tree->modes, tree->mode_count, sizeof(*tree->modes), by_path_from_behind);
	for (size_t i = 0; i < tree->mode_count; i++) {
		const struct tree_mode *mode = &tree->modes[i];

		if (strcmp(mode->path, done) == 0)
			continue;
		CLEANUP_FD int fd = open_beneath(tree, mode->path, O_RDONLY | O_DIRECTORY, 0);

		if (fd < 0 || fchmod(fd, mode->mode) != 0)
			return refuse_errno(refusal, "a folder cannot be given its mode");
		done = mode->path;
	}
	return true;
}

bool tree_finish(struct tree *tree, struct refusal *refusal)
{
	if (!set_modes(tree, refusal))
		return false;
	/* All at once: syncing each of thousands of files by itself takes minutes on a slow disk. */
	return syncfs(tree->root) == 0 || refuse_errno(refusal, "the folder cannot be synced");
}

void tree_close(struct tree *tree)
{
	for (size_t i = 0; i < tree->mode_count; i++)
		free(tree->modes[i].path);
	free(tree->modes);
	tree->modes = NULL;
	tree->mode_count = tree->mode_bytes = 0;
	close_fd(&tree->file);
	close_fd(&tree->root);
}
