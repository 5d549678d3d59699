/*
 * torpor-keep STATE-FOLDER: keeps the files that suspended applications have in memory, in STATE-FOLDER/kept-files, each
 * under the SHA-256 of its contents. dpkg calls it just before it replaces or removes anything (packaging/dpkg/torpor).
 *
 * What is needed, each snapshot says in its `system-files`: lines of SHA-256, size, time of change in nanoseconds, path.
 * Nothing is read to find out whether a file is still that one: size and time tell, and a resume looks at the hash. Lists
 * can say anything, since some came from elsewhere: only what is root's alone is kept, and what is kept goes only where its own
 * hash is wrong.
 *
 * It comes before whatever an administrator does to packages, so it neither keeps dpkg waiting for long, nor takes the
 * room that dpkg needs, and what it cannot do it only says.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

/* The old names do with a small part of the library, which is linked in. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include "common.h"

#define HASH_DIGITS 64
#define LIMIT_SECONDS 30
/* What copies leave free: this much, or a tenth of a small file system. */
#define RESERVE_BYTES (512ULL * 1024 * 1024)
#define SECOND 1000000000LL

struct need {
	const char *sha256;
	uint64_t size;
	int64_t mtime;
	const char *path;
};

static struct need *needs;
static size_t need_count;

struct failures {
	size_t count;
	char *first;
};

static int64_t mtime_of(const struct stat *info)
{
	return info->st_mtim.tv_sec * SECOND + info->st_mtim.tv_nsec;
}

static bool fits(const struct stat *info, const struct need *need)
{
	return S_ISREG(info->st_mode) && (uint64_t)info->st_size == need->size && mtime_of(info) == need->mtime;
}

static void add_need(struct need need)
{
	static size_t room;
	if (need_count == room) {
		room = room ? room * 2 : 256;
		needs = reallocarray(needs, room, sizeof(*needs));
		if (!needs)
			die("out of memory");
	}
	needs[need_count++] = need;
}

/* Takes one line apart, in place. One of another form, as of a later version, is left out. */
static void read_line(char *line)
{
	char *end;
	struct need need = {.sha256 = line};
	if (strspn(line, "0123456789abcdef") != HASH_DIGITS || line[HASH_DIGITS] != ' ')
		return;
	line[HASH_DIGITS] = '\0';
	need.size = strtoull(line + HASH_DIGITS + 1, &end, 10);
	if (*end != ' ')
		return;
	need.mtime = strtoll(end + 1, &end, 10);
	if (*end != ' ' || end[1] != '/')
		return;
	need.path = end + 1;
	add_need(need);
}

/* The lists stay in memory: what is needed points into them. */
static void read_list(int snapshots, const char *id)
{
	CLEANUP_FREE char *name = format_string("%s/system-files", id);
	CLEANUP_FD int fd = openat(snapshots, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat info;
	/* A snapshot of an earlier version has none, and one may be removed meanwhile. */
	if (fd < 0 || fstat(fd, &info) < 0 || !S_ISREG(info.st_mode))
		return;
	char *text = calloc(1, (size_t)info.st_size + 1);
	if (!text)
		die("out of memory");
	ssize_t length = 0;
	while (length < info.st_size) {
		ssize_t count = RETRY(read(fd, text + length, (size_t)(info.st_size - length)));
		if (count <= 0)
			break;
		length += count;
	}
	text[length] = '\0';
	for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
		*end = '\0';
		read_line(line);
	}
}

static int compare_needs(const void *a, const void *b)
{
	const struct need *one = a, *other = b;
	int order = strcmp(one->sha256, other->sha256);
	if (order == 0)
		order = (one->size > other->size) - (one->size < other->size);
	if (order == 0)
		order = (one->mtime > other->mtime) - (one->mtime < other->mtime);
	return order;
}

static void read_needs(int state)
{
	int fd = openat(state, "snapshots", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *snapshots = fd < 0 ? NULL : fdopendir(fd);
	if (!snapshots)
		return;
	for (struct dirent *entry; (entry = readdir(snapshots));)
		if (entry->d_name[0] != '.')
			read_list(dirfd(snapshots), entry->d_name);
	closedir(snapshots);
	qsort(needs, need_count, sizeof(*needs), compare_needs);
}

/* Copies must not take what dpkg is about to need. */
static bool has_room(int folder, uint64_t bytes)
{
	struct statvfs room;
	if (fstatvfs(folder, &room) < 0)
		return false;
	uint64_t reserve = (uint64_t)room.f_blocks * room.f_frsize / 10;
	if (reserve > RESERVE_BYTES)
		reserve = RESERVE_BYTES;
	return (uint64_t)room.f_bavail * room.f_frsize >= bytes + reserve;
}

/* With the blocks of the original where the file system can share them, which changes nothing about that one. */
static bool fill(int from, int to, int folder, uint64_t size)
{
	if (ioctl(to, FICLONE, from) == 0)
		return true;
	if (!has_room(folder, size)) {
		errno = ENOSPC;
		return false;
	}
	for (uint64_t left = size; left > 0;) {
		ssize_t count = RETRY(sendfile(to, from, NULL, left > 1 << 30 ? 1 << 30 : (size_t)left));
		if (count < 0)
			return false;
		if (count == 0) {
			errno = ESTALE;
			return false;
		}
		left -= (uint64_t)count;
	}
	return true;
}

/* A copy gives nobody rights: no set-id bits, no capabilities. */
static bool copy(int from, const struct stat *info, int folder, const char *name)
{
	CLEANUP_FD int to = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	const struct timespec times[] = {info->st_mtim, info->st_mtim};
	return to >= 0 && fill(from, to, folder, (uint64_t)info->st_size) &&
	       fchown(to, 0, info->st_gid) == 0 && fchmod(to, info->st_mode & 0755) == 0 &&
	       futimens(to, times) == 0 && fsync(to) == 0;
}

static bool gives_rights(int fd, const struct stat *info)
{
	return (info->st_mode & (S_ISUID | S_ISGID)) || fgetxattr(fd, "security.capability", NULL, 0) >= 0;
}

/* A second name for the file takes no room: dpkg puts a new file in the place of the first name. */
static bool link_to(int fd, int folder, const char *name)
{
	CLEANUP_FREE char *self = format_string("/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, self, folder, name, AT_SYMLINK_FOLLOW) == 0;
}

static bool clones(int fd, int folder, const char *name)
{
	CLEANUP_FD int to = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	bool can = to >= 0 && ioctl(to, FICLONE, fd) == 0;
	unlinkat(folder, name, 0);
	return can;
}

/* Whether what is kept already has the contents that it is named after, whatever another list says of it. */
static bool has_own_hash(int folder, const struct need *need)
{
	CLEANUP_FD int fd = openat(folder, need->sha256, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	static unsigned char part[256 * 1024];
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char text[HASH_DIGITS + 1];
	SHA256_CTX hash;
	ssize_t count;

	if (fd < 0)
		return false;
	SHA256_Init(&hash);
	while ((count = RETRY(read(fd, part, sizeof(part)))) > 0)
		SHA256_Update(&hash, part, (size_t)count);
	SHA256_Final(digest, &hash);
	for (size_t index = 0; index < sizeof(digest); index++)
		sprintf(text + 2 * index, "%02x", digest[index]);
	return count == 0 && strcmp(text, need->sha256) == 0;
}

/* @return false, with errno, where it is still there but cannot be kept. */
static bool keep(const struct need *need, int folder)
{
	CLEANUP_FD int fd = open(need->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
	struct stat info;
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP;
	if (fstat(fd, &info) < 0)
		return false;
	/* Whoever else could write to it would write to what others are given. */
	if (!fits(&info, need) || info.st_uid != 0 || (info.st_mode & (S_IWGRP | S_IWOTH)) || has_own_hash(folder, need))
		return true;
	CLEANUP_FREE char *name = format_string("%s.new", need->sha256);
	unlinkat(folder, name, 0);
	bool is_linked = !gives_rights(fd, &info) && !clones(fd, folder, name) && link_to(fd, folder, name);
	if ((is_linked || copy(fd, &info, folder, name)) && renameat(folder, name, folder, need->sha256) == 0)
		return true;
	int why = errno;
	unlinkat(folder, name, 0);
	errno = why;
	return false;
}

static bool is_kept(const struct need *need, int folder)
{
	struct stat info;
	return fstatat(folder, need->sha256, &info, AT_SYMLINK_NOFOLLOW) == 0 && fits(&info, need);
}

static void keep_all(int folder, struct failures *failures)
{
	const struct need *done = NULL;
	for (size_t index = 0; index < need_count; index++) {
		const struct need *need = &needs[index];
		/* Most snapshots need the same files. */
		if (done && compare_needs(done, need) == 0)
			continue;
		bool is_done = is_kept(need, folder);
		if (is_done || keep(need, folder)) {
			if (is_done || is_kept(need, folder))
				done = need;
			continue;
		}
		if (failures->count++ == 0)
			failures->first = format_string("%s (%s)", need->path, strerror(errno));
	}
}

static int work(const char *state_folder)
{
	CLEANUP_FD int state = open(state_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (state < 0) {
		/* Nothing was ever suspended. */
		if (errno == ENOENT)
			return 0;
		die_with_error("opening %s", state_folder);
	}
	read_needs(state);
	if (need_count == 0)
		return 0;
	if (mkdirat(state, "kept-files", 0700) < 0 && errno != EEXIST)
		die_with_error("making %s/kept-files", state_folder);
	CLEANUP_FD int folder = openat(state, "kept-files", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	/* The engine removes what is not needed under the same lock. */
	if (folder < 0 || RETRY(flock(folder, LOCK_EX)) < 0)
		die_with_error("opening %s/kept-files", state_folder);
	struct failures failures = {0};
	keep_all(folder, &failures);
	/* dpkg makes durable what it does from here on. */
	if (fsync(folder) < 0)
		die_with_error("writing %s/kept-files", state_folder);
	if (failures.count == 0)
		return 0;
	fprintf(stderr,
		"torpor: %zu of the files that suspended applications need cannot be kept, such as %s. Where one is replaced "
		"now, its applications do not resume until it is put back.\n",
		failures.count, failures.first);
	free(failures.first);
	return 1;
}

/* Configuring replaces nothing. An action that a later dpkg has may. */
static bool replaces_nothing(const char *action)
{
	static const char *const harmless[] = {"configure", "triggers-only", "add-architecture", "remove-architecture"};
	for (size_t index = 0; action && index < sizeof(harmless) / sizeof(*harmless); index++)
		if (strcmp(action, harmless[index]) == 0)
			return true;
	return false;
}

/* In a child: what hangs on a disk or a share is left behind. */
int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: torpor-keep STATE-FOLDER\n");
		return 2;
	}
	/* dpkg calls it before it looks whether it may do anything itself. */
	if (geteuid() != 0 || replaces_nothing(getenv("DPKG_HOOK_ACTION")))
		return 0;
	/* Where the caller ignores it, nothing would be told. */
	signal(SIGCHLD, SIG_DFL);
	sigset_t ended;
	sigemptyset(&ended);
	sigaddset(&ended, SIGCHLD);
	sigprocmask(SIG_BLOCK, &ended, NULL);
	pid_t parent = getpid();
	pid_t child = fork();
	if (child < 0)
		die_with_error("starting a process");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		return getppid() == parent ? work(argv[1]) : 1;
	}
	const struct timespec limit = {.tv_sec = LIMIT_SECONDS};
	if (RETRY(sigtimedwait(&ended, NULL, &limit)) < 0) {
		kill(child, SIGKILL);
		fprintf(stderr, "torpor: the files that suspended applications need were not all kept within %d seconds.\n",
			LIMIT_SECONDS);
		return 1;
	}
	int status;
	return RETRY(waitpid(child, &status, 0)) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
