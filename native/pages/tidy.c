#include "tidy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "../common.h"
#include "files.h"
#include "report.h"

static int packs_of_failure = -1;

static bool ends_with(const char *name, const char *ending)
{
	size_t length = strlen(name);

	return length > strlen(ending) && strcmp(name + length - strlen(ending), ending) == 0;
}

/* *.new files, and an .idx whose pack is gone. */
static void remove_leftovers(int packs)
{
	int fd = openat(packs, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *found;

	if (!list) {
		close_fd(&fd);
		return;
	}
	while ((found = readdir(list))) {
		bool leftover = ends_with(found->d_name, ".new");

		if (ends_with(found->d_name, ".idx")) {
			CLEANUP_FREE char *pack =
				format_string("%.*s.pack", (int)strlen(found->d_name) - 4, found->d_name);

			leftover = is_pack_name(pack) && faccessat(packs, pack, F_OK, AT_SYMLINK_NOFOLLOW) != 0 &&
				   errno == ENOENT;
		}
		if (leftover)
			unlinkat(packs, found->d_name, 0);
	}
	closedir(list);
}

/* What a failure leaves behind would keep a full disk full. */
static void clean_up_after_failure(void)
{
	remove_leftovers(packs_of_failure);
}

void tidy_open(struct tidy *tidy, const char *store, bool only_looks)
{
	char *what;

	*tidy = (struct tidy){ .store = format_string("%s", store), .packs_path = format_string("%s/packs", store) };
	tidy->packs = open(tidy->packs_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tidy->packs < 0 && errno != ENOENT)
		fail_errno("the folder %s cannot be opened", tidy->packs_path);
	tidy->skipped_stream = open_memstream(&tidy->skipped, &tidy->skipped_length);
	if (!tidy->skipped_stream)
		fail("ENOMEM", "there is not enough memory");
	if (tidy->packs >= 0 && flock(tidy->packs, (only_looks ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
		if (errno == EWOULDBLOCK)
			fail("EBUSY", "the packs of %s are being tidied already; wait until that has ended", store);
		fail_errno("the folder %s cannot be locked", tidy->packs_path);
	}
	if (tidy->packs >= 0 && !only_looks) {
		remove_leftovers(tidy->packs);
		packs_of_failure = tidy->packs;
		report_before_failing(clean_up_after_failure);
	}
	if (index_open(&tidy->index, tidy->packs_path, &what) != 0)
		fail("EIO", "%s", what);
}

void tidy_skip(struct tidy *tidy, char *what)
{
	if (ftell(tidy->skipped_stream) > 0)
		fputc(',', tidy->skipped_stream);
	write_json_string(tidy->skipped_stream, what);
	free(what);
}

const char *tidy_skipped(struct tidy *tidy)
{
	fflush(tidy->skipped_stream);
	return tidy->skipped;
}

void tidy_remove(struct tidy *tidy, unsigned pack)
{
	char idx[PACK_NAME_ROOM];

	strcpy(idx, index_pack_name(tidy->index, pack));
	strcpy(idx + PACK_ID_BYTES * 2, ".idx");
	if (unlinkat(tidy->packs, index_pack_name(tidy->index, pack), 0) != 0 ||
	    (unlinkat(tidy->packs, idx, 0) != 0 && errno != ENOENT))
		fail_errno("packs/%s cannot be removed", index_pack_name(tidy->index, pack));
}

void tidy_close(struct tidy *tidy)
{
	index_close(tidy->index);
	fclose(tidy->skipped_stream);
	free(tidy->skipped);
	report_before_failing(NULL);
	close_fd(&tidy->packs);
	free(tidy->packs_path);
	free(tidy->store);
}
