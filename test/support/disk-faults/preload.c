/*
 * libdisk-faults.so, preloaded into whatever writes to a store in a test: writes down, in the order in which they happen
 * and across processes, all operations that change what is below one folder, and has a chosen one of them fail, cut
 * short, or be the last of its process. test/support/disk-faults/recorder.ts has the other end of the control file,
 * which is mapped by everybody and holds the journal too. What it could not write down ends the process with a sentence,
 * so that a test never takes an incomplete journal for a whole one.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define CONTROL_VARIABLE "TORPOR_DISK_FAULTS"
#define HEADER_BYTES 8192u
#define SECTOR_BYTES 512u

enum kind {
	MAKE_FILE = 1,
	MAKE_FOLDER = 2,
	WRITE = 3,
	RESIZE = 4,
	ALLOCATE = 5,
	RENAME = 6,
	LINK = 7,
	UNLINK = 8,
	REMOVE_FOLDER = 9,
	SYNC = 10,
	SYNC_ALL = 11,
};

enum fault { FAULT_NONE = 0, FAULT_ERROR = 1, FAULT_SHORT = 2, FAULT_KILL = 3, FAULT_FULL = 4 };

/* The beginning of the control file; recorder.ts writes the fields up to `lock` by their offsets. */
struct control {
	char root[PATH_MAX]; /* without a slash at its end; empty: nothing is recorded */
	uint32_t fault;
	int32_t error;
	uint64_t fault_at; /* number of the operation, from 1 */
	uint64_t count;    /* operations since the control file was reset */
	uint64_t used;     /* bytes of the journal */
	uint64_t struck;   /* how many operations were made to fail */
	uint32_t lock_is_made;
	uint32_t reserved;
	pthread_mutex_t lock;
};
_Static_assert(sizeof(struct control) <= HEADER_BYTES, "the header of the control file is too short");

/* One operation; its path, second path and data follow, and then as much as makes a multiple of 8. */
struct record {
	uint32_t kind;
	int32_t error; /* 0, or why it failed: then nothing has changed */
	uint64_t inode;
	uint64_t offset; /* of a write or an allocation; the new length for RESIZE */
	uint64_t length; /* of an allocation */
	uint32_t path_bytes;
	uint32_t second_bytes;
	uint64_t data_bytes;
	uint32_t pid;
	uint32_t reserved;
};
_Static_assert(sizeof(struct record) == 56, "recorder.ts has the same layout");

static struct control *control;
static uint8_t *journal;
static size_t journal_bytes;
static dev_t device;

#define REAL(name) static __typeof__(&name) real_##name
REAL(openat);
REAL(write);
REAL(writev);
REAL(pwrite);
REAL(pwritev);
REAL(fsync);
REAL(fdatasync);
REAL(syncfs);
REAL(ftruncate);
REAL(truncate);
REAL(fallocate);
REAL(renameat2);
REAL(linkat);
REAL(unlinkat);
REAL(mkdirat);
REAL(mmap);
REAL(munmap);
REAL(fopen);
static long (*real_syscall)(long, ...);

static void refuse(const char *what, const char *path)
{
	dprintf(2, "disk-faults: %s of %s cannot be recorded\n", what, path);
	abort();
}

/* Other libraries' constructors may come before this one, and call what is below. */
__attribute__((constructor)) static void begin(void)
{
	static bool has_begun;
	if (has_begun)
		return;
	has_begun = true;
#define RESOLVE(name) *(void **)&real_##name = dlsym(RTLD_NEXT, #name)
	RESOLVE(openat);
	RESOLVE(write);
	RESOLVE(writev);
	RESOLVE(pwrite);
	RESOLVE(pwritev);
	RESOLVE(fsync);
	RESOLVE(fdatasync);
	RESOLVE(syncfs);
	RESOLVE(ftruncate);
	RESOLVE(truncate);
	RESOLVE(fallocate);
	RESOLVE(renameat2);
	RESOLVE(linkat);
	RESOLVE(unlinkat);
	RESOLVE(mkdirat);
	RESOLVE(mmap);
	RESOLVE(munmap);
	RESOLVE(fopen);
	RESOLVE(syscall);
	const char *path = getenv(CONTROL_VARIABLE);
	if (!path)
		return;
	int fd = real_openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC);
	struct stat found;
	if (fd < 0 || fstat(fd, &found) != 0 || (size_t)found.st_size <= HEADER_BYTES)
		refuse("the control file", path);
	void *mapped = real_mmap(NULL, (size_t)found.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED)
		refuse("the control file", path);
	close(fd);
	journal = (uint8_t *)mapped + HEADER_BYTES;
	journal_bytes = (size_t)found.st_size - HEADER_BYTES;
	device = found.st_dev;
	struct control *shared = mapped;
	/* The first process is alone. */
	if (!shared->lock_is_made) {
		pthread_mutexattr_t attributes;
		pthread_mutexattr_init(&attributes);
		pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
		pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
		pthread_mutex_init(&shared->lock, &attributes);
		shared->lock_is_made = 1;
	}
	control = shared;
}

/* Below the folder, which itself counts too. */
static bool is_below(const char *path)
{
	size_t length = strlen(control->root);
	return length > 0 && strncmp(path, control->root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static bool path_of(int fd, char path[PATH_MAX])
{
	char link[64];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t length = readlink(link, path, PATH_MAX - 1);
	if (length < 0)
		return false;
	path[length] = 0;
	return true;
}

/* Where a name really is, links among its parents followed. @returns whether that is below the folder. */
static bool place_of(int dir, const char *path, char place[PATH_MAX])
{
	begin();
	if (!control || control->root[0] == 0 || !path || strlen(path) >= PATH_MAX)
		return false;
	int before = errno;
	char parent[PATH_MAX];
	size_t end = strlen(path);
	while (end > 1 && path[end - 1] == '/')
		end--;
	size_t start = end;
	while (start > 0 && path[start - 1] != '/')
		start--;
	memcpy(parent, path, start);
	parent[start] = 0;
	int folder = real_openat(dir, start > 0 ? parent : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	bool known = folder >= 0 && path_of(folder, place);
	if (folder >= 0)
		close(folder);
	errno = before;
	if (!known || strlen(place) + 1 + end - start >= PATH_MAX)
		return false;
	size_t length = strlen(place);
	place[length++] = '/';
	memcpy(place + length, path + start, end - start);
	place[length + end - start] = 0;
	return is_below(place);
}

/* Whether a descriptor is of a file or folder below the folder, and where that is. */
static bool place_of_fd(int fd, struct stat *found, char place[PATH_MAX])
{
	begin();
	if (!control || control->root[0] == 0)
		return false;
	int before = errno;
	bool is = fstat(fd, found) == 0 && found->st_dev == device &&
		  (S_ISREG(found->st_mode) || S_ISDIR(found->st_mode)) && path_of(fd, place) && is_below(place);
	errno = before;
	return is;
}

static void take_lock(void)
{
	/* Who was killed with it has written down its operation, or not done it: `used` is raised last. */
	if (pthread_mutex_lock(&control->lock) == EOWNERDEAD)
		pthread_mutex_consistent(&control->lock);
}

static void note(struct record record, const char *path, const char *second, const struct iovec *parts, int count)
{
	record.pid = (uint32_t)getpid();
	record.path_bytes = (uint32_t)strlen(path);
	record.second_bytes = (uint32_t)strlen(second);
	size_t length = sizeof(record) + record.path_bytes + record.second_bytes + record.data_bytes;
	length = (length + 7) / 8 * 8;
	if (control->used + length > journal_bytes)
		refuse("so much", path);
	uint8_t *to = journal + control->used;
	memcpy(to, &record, sizeof(record));
	to += sizeof(record);
	memcpy(to, path, record.path_bytes);
	to += record.path_bytes;
	memcpy(to, second, record.second_bytes);
	to += record.second_bytes;
	uint64_t left = record.data_bytes;
	for (int i = 0; i < count && left > 0; i++) {
		size_t part = parts[i].iov_len < left ? parts[i].iov_len : left;
		memcpy(to, parts[i].iov_base, part);
		to += part;
		left -= part;
	}
	control->used += length;
}

static bool takes_room(enum kind kind)
{
	return kind == WRITE || kind == ALLOCATE || kind == MAKE_FILE || kind == MAKE_FOLDER || kind == LINK;
}

/*
 * Counts an operation. @returns the errno with which it is to fail, or 0. A write that is to be cut short has `length`
 * lowered; one that cannot be is left alone.
 */
static int strike(enum kind kind, size_t *length, bool direct)
{
	uint64_t number = ++control->count;
	if (control->fault == FAULT_FULL && number >= control->fault_at && takes_room(kind)) {
		control->struck++;
		return ENOSPC;
	}
	if (number != control->fault_at)
		return 0;
	switch (control->fault) {
	case FAULT_ERROR:
		control->struck++;
		return control->error;
	case FAULT_KILL:
		control->struck++;
		kill(getpid(), SIGKILL);
		pause();
		return EIO;
	case FAULT_SHORT:
		if (kind == WRITE && *length > (direct ? SECTOR_BYTES : 1)) {
			size_t half = *length / 2;
			*length = half > SECTOR_BYTES ? half / SECTOR_BYTES * SECTOR_BYTES : direct ? SECTOR_BYTES : half;
			control->struck++;
		}
		return 0;
	default:
		return 0;
	}
}

/* For what changes names or lengths: CALL gives -1 and errno, or succeeds, and RECORD is what it did. */
#define PERFORM(result, kind_, record_, path, second, call)                                                            \
	do {                                                                                                           \
		take_lock();                                                                                           \
		int error_ = strike(kind_, NULL, false);                                                               \
		if (error_) {                                                                                          \
			struct record failed_ = record_;                                                               \
			failed_.error = error_;                                                                        \
			note(failed_, path, second, NULL, 0);                                                          \
			errno = error_;                                                                                \
			result = -1;                                                                                   \
		} else {                                                                                               \
			result = call;                                                                                 \
			int after_ = errno;                                                                            \
			if (result >= 0) {                                                                             \
				struct record done_ = record_;                                                         \
				note(done_, path, second, NULL, 0);                                                    \
			} else {                                                                                       \
				control->count--;                                                                      \
			}                                                                                              \
			errno = after_;                                                                                \
		}                                                                                                      \
		pthread_mutex_unlock(&control->lock);                                                                  \
	} while (0)

#define RECORD(...) ((struct record){ __VA_ARGS__ })

static uint64_t inode_at(const char *path)
{
	struct stat found;
	return lstat(path, &found) == 0 ? found.st_ino : 0;
}

static int open_anything(int dir, const char *path, int flags, mode_t mode)
{
	char place[PATH_MAX];
	begin();
	if (control && (flags & O_TMPFILE) == O_TMPFILE && control->root[0] && is_below(path))
		refuse("a file without a name", path);
	if (!(flags & (O_CREAT | O_TRUNC)) || !place_of(dir, path, place))
		return real_openat(dir, path, flags, mode);
	int fd;
	struct stat before;
	take_lock();
	bool existed = lstat(place, &before) == 0;
	pthread_mutex_unlock(&control->lock);
	if (existed && S_ISLNK(before.st_mode))
		refuse("a link", place);
	if (!existed) {
		PERFORM(fd, MAKE_FILE, RECORD(.kind = MAKE_FILE, .inode = inode_at(place)), place, "",
			real_openat(dir, path, flags, mode));
		return fd;
	}
	if (!(flags & O_TRUNC) || before.st_size == 0)
		return real_openat(dir, path, flags, mode);
	PERFORM(fd, RESIZE, RECORD(.kind = RESIZE, .inode = inode_at(place)), place, "",
		real_openat(dir, path, flags, mode));
	return fd;
}

#define OPEN_MODE(flags)                                                                                               \
	mode_t mode = 0;                                                                                               \
	if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                         \
		va_list list;                                                                                          \
		va_start(list, flags);                                                                                 \
		mode = va_arg(list, mode_t);                                                                           \
		va_end(list);                                                                                          \
	}

int open(const char *path, int flags, ...)
{
	OPEN_MODE(flags)
	return open_anything(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	OPEN_MODE(flags)
	return open_anything(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
	OPEN_MODE(flags)
	return open_anything(dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...)
{
	OPEN_MODE(flags)
	return open_anything(dir, path, flags | O_LARGEFILE, mode);
}

int creat(const char *path, mode_t mode)
{
	return open_anything(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* What programs that are built with _FORTIFY_SOURCE call; their flags create nothing. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);

int __open_2(const char *path, int flags)
{
	return open_anything(AT_FDCWD, path, flags, 0);
}

int __open64_2(const char *path, int flags)
{
	return open_anything(AT_FDCWD, path, flags | O_LARGEFILE, 0);
}

int __openat_2(int dir, const char *path, int flags)
{
	return open_anything(dir, path, flags, 0);
}

int __openat64_2(int dir, const char *path, int flags)
{
	return open_anything(dir, path, flags | O_LARGEFILE, 0);
}

/* glibc's streams write by a way that nobody can step into. */
FILE *fopen(const char *path, const char *mode)
{
	char place[PATH_MAX];
	begin();
	if (strpbrk(mode, "wa+") && place_of(AT_FDCWD, path, place))
		refuse("a stream", place);
	return real_fopen(path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
	return fopen(path, mode);
}

static size_t total_of(const struct iovec *parts, int count)
{
	size_t total = 0;
	for (int i = 0; i < count; i++)
		total += parts[i].iov_len;
	return total;
}

/* Writes the first `length` bytes of the parts, at `offset` or, where that is negative, where the descriptor stands. */
static ssize_t write_parts(int fd, const struct iovec *parts, int count, size_t length, off_t offset)
{
	struct iovec *shortened = malloc((size_t)count * sizeof(*parts));
	if (!shortened)
		return -1;
	int used = 0;
	for (size_t left = length; used < count && left > 0; used++) {
		shortened[used] = parts[used];
		if (shortened[used].iov_len > left)
			shortened[used].iov_len = left;
		left -= shortened[used].iov_len;
	}
	ssize_t result = offset < 0 ? real_writev(fd, shortened, used) : real_pwritev(fd, shortened, used, offset);
	free(shortened);
	return result;
}

static ssize_t write_anything(int fd, const struct iovec *parts, int count, off_t offset, const struct stat *found,
			      const char *place)
{
	int flags = fcntl(fd, F_GETFL);
	take_lock();
	size_t length = total_of(parts, count);
	int error = strike(WRITE, &length, flags & O_DIRECT);
	off_t at = offset;
	if (offset < 0) {
		struct stat now;
		at = flags & O_APPEND && fstat(fd, &now) == 0 ? now.st_size : lseek(fd, 0, SEEK_CUR);
	}
	struct record record = { .kind = WRITE, .error = error, .inode = found->st_ino, .offset = (uint64_t)at };
	ssize_t result = -1;
	if (!error) {
		result = write_parts(fd, parts, count, length, offset);
		error = result < 0 ? errno : 0;
		record.data_bytes = result < 0 ? 0 : (uint64_t)result;
	}
	if (record.error || result > 0)
		note(record, place, "", parts, count);
	else
		control->count--;
	pthread_mutex_unlock(&control->lock);
	errno = error;
	return result;
}

ssize_t write(int fd, const void *bytes, size_t length)
{
	struct stat found;
	char place[PATH_MAX];
	if (!place_of_fd(fd, &found, place))
		return real_write(fd, bytes, length);
	struct iovec part = { (void *)bytes, length };
	return write_anything(fd, &part, 1, -1, &found, place);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
	struct stat found;
	char place[PATH_MAX];
	if (!place_of_fd(fd, &found, place))
		return real_writev(fd, parts, count);
	return write_anything(fd, parts, count, -1, &found, place);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset)
{
	struct stat found;
	char place[PATH_MAX];
	if (!place_of_fd(fd, &found, place))
		return real_pwrite(fd, bytes, length, offset);
	struct iovec part = { (void *)bytes, length };
	return write_anything(fd, &part, 1, offset, &found, place);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset)
{
	return pwrite(fd, bytes, length, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
	struct stat found;
	char place[PATH_MAX];
	if (!place_of_fd(fd, &found, place))
		return real_pwritev(fd, parts, count, offset);
	return write_anything(fd, parts, count, offset, &found, place);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
	return pwritev(fd, parts, count, offset);
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
	(void)flags;
	return offset < 0 ? writev(fd, parts, count) : pwritev(fd, parts, count, offset);
}

ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags)
{
	return pwritev2(fd, parts, count, offset, flags);
}

/* They copy within the kernel: their callers have another way. */
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t length, unsigned int flags)
{
	(void)in, (void)from, (void)out, (void)to, (void)length, (void)flags;
	errno = ENOSYS;
	return -1;
}

ssize_t sendfile(int out, int in, off_t *offset, size_t length)
{
	(void)in, (void)offset, (void)length;
	struct stat found;
	char place[PATH_MAX];
	if (place_of_fd(out, &found, place)) {
		errno = EINVAL;
		return -1;
	}
	return real_syscall(SYS_sendfile, out, in, offset, length);
}

ssize_t sendfile64(int out, int in, off64_t *offset, size_t length)
{
	return sendfile(out, in, offset, length);
}

long syscall(long number, ...)
{
	long arguments[6];
	begin();
	va_list list;
	va_start(list, number);
	for (int i = 0; i < 6; i++)
		arguments[i] = va_arg(list, long);
	va_end(list);
	if (control && (number == SYS_io_uring_setup || number == SYS_copy_file_range)) {
		errno = ENOSYS;
		return -1;
	}
	if (number == SYS_renameat2)
		return renameat2((int)arguments[0], (const char *)arguments[1], (int)arguments[2],
				 (const char *)arguments[3], (unsigned int)arguments[4]);
	return real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}

/*
 * What is written by way of a mapping nobody sees at once. It counts as one write, at the time of the next sync or when
 * the mapping ends; such a write cannot fail.
 */
#define MAPPINGS 16
static struct mapping {
	void *address;
	size_t length;
	uint64_t inode;
	char *place;
} mappings[MAPPINGS];

static void keep_mapping(void *address, size_t length, uint64_t inode, const char *place)
{
	take_lock();
	unsigned free_one = 0;
	while (free_one < MAPPINGS && mappings[free_one].address)
		free_one++;
	if (free_one == MAPPINGS)
		refuse("one more shared mapping", place);
	mappings[free_one] = (struct mapping){ address, length, inode, strdup(place) };
	pthread_mutex_unlock(&control->lock);
}

/* With the lock. What has no bytes but zeros at its end had them before. */
static void note_mapping(const struct mapping *mapping)
{
	struct stat found;
	if (lstat(mapping->place, &found) != 0 || found.st_ino != mapping->inode)
		return;
	size_t length = (size_t)found.st_size < mapping->length ? (size_t)found.st_size : mapping->length;
	const uint8_t *bytes = mapping->address;
	while (length > 0 && bytes[length - 1] == 0)
		length--;
	if (length == 0)
		return;
	struct record record = { .kind = WRITE, .inode = mapping->inode, .data_bytes = length };
	struct iovec part = { mapping->address, length };
	control->count++;
	note(record, mapping->place, "", &part, 1);
}

/* The disk of the machine that runs the tests has no part in this: nothing waits for it. */
static int sync_anything(int fd, int (*real)(int))
{
	struct stat found;
	char place[PATH_MAX];
	if (!place_of_fd(fd, &found, place))
		return real(fd);
	take_lock();
	for (unsigned i = 0; i < MAPPINGS; i++)
		if (mappings[i].address && mappings[i].inode == found.st_ino)
			note_mapping(&mappings[i]);
	pthread_mutex_unlock(&control->lock);
	int result;
	PERFORM(result, SYNC, RECORD(.kind = SYNC, .inode = found.st_ino), place, "", 0);
	return result;
}

int fsync(int fd)
{
	return sync_anything(fd, real_fsync);
}

int fdatasync(int fd)
{
	return sync_anything(fd, real_fdatasync);
}

int syncfs(int fd)
{
	struct stat found;
	char place[PATH_MAX];
	if (!place_of_fd(fd, &found, place))
		return real_syncfs(fd);
	int result;
	PERFORM(result, SYNC_ALL, RECORD(.kind = SYNC_ALL), place, "", 0);
	return result;
}

int ftruncate(int fd, off_t length)
{
	struct stat found;
	char place[PATH_MAX];
	if (!place_of_fd(fd, &found, place))
		return real_ftruncate(fd, length);
	int result;
	PERFORM(result, RESIZE, RECORD(.kind = RESIZE, .inode = found.st_ino, .offset = (uint64_t)length), place, "",
		real_ftruncate(fd, length));
	return result;
}

int ftruncate64(int fd, off64_t length)
{
	return ftruncate(fd, length);
}

int truncate(const char *path, off_t length)
{
	char place[PATH_MAX];
	if (!place_of(AT_FDCWD, path, place))
		return real_truncate(path, length);
	int result;
	PERFORM(result, RESIZE, RECORD(.kind = RESIZE, .inode = inode_at(place), .offset = (uint64_t)length), place, "",
		real_truncate(path, length));
	return result;
}

int truncate64(const char *path, off64_t length)
{
	return truncate(path, length);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
	struct stat found;
	char place[PATH_MAX];
	if (!place_of_fd(fd, &found, place))
		return real_fallocate(fd, mode, offset, length);
	/* FALLOC_FL_KEEP_SIZE; all others change contents. */
	if (mode & ~1)
		refuse("a hole", place);
	int result;
	PERFORM(result, ALLOCATE,
		RECORD(.kind = ALLOCATE, .inode = found.st_ino, .offset = (uint64_t)offset,
		       .length = mode & 1 ? 0 : (uint64_t)length),
		place, "", real_fallocate(fd, mode, offset, length));
	return result;
}

int fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
	return fallocate(fd, mode, offset, length);
}

int posix_fallocate(int fd, off_t offset, off_t length)
{
	return fallocate(fd, 0, offset, length) == 0 ? 0 : errno;
}

int posix_fallocate64(int fd, off64_t offset, off64_t length)
{
	return posix_fallocate(fd, offset, length);
}

int renameat2(int old_dir, const char *old, int new_dir, const char *new, unsigned int flags)
{
	char from[PATH_MAX], to[PATH_MAX];
	bool from_below = place_of(old_dir, old, from), to_below = place_of(new_dir, new, to);
	int result;
	if (!from_below || !to_below) {
		/* A folder that is not there is nowhere, and the call fails. */
		result = real_renameat2(old_dir, old, new_dir, new, flags);
		if (result == 0 && (from_below || to_below))
			refuse("a renaming", from_below ? from : to);
		return result;
	}
	if (flags & ~(unsigned int)RENAME_NOREPLACE)
		refuse("a renaming", from);
	PERFORM(result, RENAME, RECORD(.kind = RENAME), from, to, real_renameat2(old_dir, old, new_dir, new, flags));
	return result;
}

int renameat(int old_dir, const char *old, int new_dir, const char *new)
{
	return renameat2(old_dir, old, new_dir, new, 0);
}

int rename(const char *old, const char *new)
{
	return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0);
}

int linkat(int old_dir, const char *old, int new_dir, const char *new, int flags)
{
	char from[PATH_MAX], to[PATH_MAX];
	if (!place_of(new_dir, new, to))
		return real_linkat(old_dir, old, new_dir, new, flags);
	if (!place_of(old_dir, old, from))
		refuse("a link", to);
	int result;
	PERFORM(result, LINK, RECORD(.kind = LINK), from, to, real_linkat(old_dir, old, new_dir, new, flags));
	return result;
}

int link(const char *old, const char *new)
{
	return linkat(AT_FDCWD, old, AT_FDCWD, new, 0);
}

int symlinkat(const char *target, int dir, const char *path)
{
	char place[PATH_MAX];
	if (place_of(dir, path, place))
		refuse("a symbolic link", place);
	return (int)real_syscall(SYS_symlinkat, target, dir, path);
}

int symlink(const char *target, const char *path)
{
	return symlinkat(target, AT_FDCWD, path);
}

int unlinkat(int dir, const char *path, int flags)
{
	char place[PATH_MAX];
	if (!place_of(dir, path, place))
		return real_unlinkat(dir, path, flags);
	enum kind kind = flags & AT_REMOVEDIR ? REMOVE_FOLDER : UNLINK;
	int result;
	PERFORM(result, kind, RECORD(.kind = kind), place, "", real_unlinkat(dir, path, flags));
	return result;
}

int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
	return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int remove(const char *path)
{
	int result = unlink(path);
	return result < 0 && (errno == EISDIR || errno == EPERM) ? rmdir(path) : result;
}

int mkdirat(int dir, const char *path, mode_t mode)
{
	char place[PATH_MAX];
	if (!place_of(dir, path, place))
		return real_mkdirat(dir, path, mode);
	int result;
	PERFORM(result, MAKE_FOLDER, RECORD(.kind = MAKE_FOLDER, .inode = inode_at(place)), place, "",
		real_mkdirat(dir, path, mode));
	return result;
}

int mkdir(const char *path, mode_t mode)
{
	return mkdirat(AT_FDCWD, path, mode);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	struct stat found;
	char place[PATH_MAX];
	begin();
	bool is_written = fd >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE) && place_of_fd(fd, &found, place);
	if (is_written && offset != 0)
		refuse("a shared mapping of a part", place);
	void *mapped = real_mmap(address, length, protection, flags, fd, offset);
	if (is_written && mapped != MAP_FAILED)
		keep_mapping(mapped, length, found.st_ino, place);
	return mapped;
}

void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset)
{
	return mmap(address, length, protection, flags, fd, offset);
}

int munmap(void *address, size_t length)
{
	begin();
	for (unsigned i = 0; i < MAPPINGS; i++) {
		if (mappings[i].address != address)
			continue;
		if (mappings[i].length != length)
			refuse("the end of a part of a shared mapping", mappings[i].place);
		take_lock();
		note_mapping(&mappings[i]);
		pthread_mutex_unlock(&control->lock);
		free(mappings[i].place);
		mappings[i] = (struct mapping){ 0 };
	}
	return real_munmap(address, length);
}
