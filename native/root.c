#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common.h"

/*
 * Opens a folder or file below the new root. Links in it are followed as if it were the root already, so that a root
 * folder of somebody else's making cannot send us elsewhere.
 */
static int open_below(int root, const char *path, unsigned int flags)
{
	struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	return (int)RETRY(syscall(SYS_openat2, root, path, &how, sizeof(how)));
}

/* A path by which mount(2) reaches a descriptor. */
static char *path_of(int fd)
{
	return format_string("/proc/self/fd/%d", fd);
}

static void mount_below(int root, const char *path, const char *source, const char *type, unsigned long flags,
			const char *options)
{
	/* A single file can be bound as well, as /etc/resolv.conf often is. */
	CLEANUP_FD int target = open_below(root, path, O_PATH);
	if (target < 0)
		die_with_error("opening %s of the capsule", path);
	CLEANUP_FREE char *target_path = path_of(target);
	if (mount(source, target_path, type, flags, options) < 0)
		die_with_error("mounting %s in the capsule", path);
}

static void make_folder(int root, const char *parent, const char *name, mode_t mode)
{
	CLEANUP_FD int folder = open_below(root, parent, O_PATH | O_DIRECTORY);
	if (folder < 0)
		die_with_error("opening the folder %s of the capsule", parent);
	if (mkdirat(folder, name, mode) < 0 && errno != EEXIST)
		die_with_error("making %s/%s in the capsule", parent, name);
}

static void make_device(int dev, const char *name, unsigned int major_number, unsigned int minor_number)
{
	/* The umask must not narrow what everybody may write to. */
	if (mknodat(dev, name, S_IFCHR | 0666, makedev(major_number, minor_number)) < 0 ||
	    fchmodat(dev, name, 0666, 0) < 0)
		die_with_error("making /dev/%s in the capsule", name);
}

static void make_link(int folder, const char *target, const char *name)
{
	if (symlinkat(target, folder, name) < 0)
		die_with_error("making the link %s in the capsule", name);
}

static void mount_dev(int root)
{
	mount_below(root, "dev", "tmpfs", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=0755,size=1m");
	CLEANUP_FD int dev = open_below(root, "dev", O_RDONLY | O_DIRECTORY);
	if (dev < 0)
		die_with_error("opening /dev of the capsule");
	/* Numbers from the kernel's Documentation/admin-guide/devices.txt. */
	make_device(dev, "null", 1, 3);
	make_device(dev, "zero", 1, 5);
	make_device(dev, "full", 1, 7);
	make_device(dev, "random", 1, 8);
	make_device(dev, "urandom", 1, 9);
	make_device(dev, "tty", 5, 0);
	make_link(dev, "pts/ptmx", "ptmx");
	make_link(dev, "/proc/self/fd", "fd");
	make_link(dev, "/proc/self/fd/0", "stdin");
	make_link(dev, "/proc/self/fd/1", "stdout");
	make_link(dev, "/proc/self/fd/2", "stderr");
	make_folder(root, "dev", "pts", 0755);
	make_folder(root, "dev", "shm", 01777);
	mount_below(root, "dev/pts", "devpts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
	mount_below(root, "dev/shm", "tmpfs", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
}

static void copy_file(int from, int to, const char *name)
{
	struct stat info;
	if (fstat(from, &info) < 0)
		die_with_error("copying %s into the capsule", name);
	off_t left = info.st_size;
	while (left > 0) {
		ssize_t count = RETRY(sendfile(to, from, NULL, (size_t)left));
		if (count <= 0)
			die_with_error("copying %s into the capsule", name);
		left -= count;
	}
}

/* Puts a copy of a program or library of ours into the capsule, where it travels with the snapshot. */
static void install(int root, const char *folder, const char *name, int program)
{
	CLEANUP_FD int place = open_below(root, folder, O_RDONLY | O_DIRECTORY);
	CLEANUP_FD int copy = place < 0 ? -1 : openat(place, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	if (copy < 0)
		die_with_error("installing %s in the capsule", name);
	copy_file(program, copy, name);
	if (fchmod(copy, 0755) < 0)
		die_with_error("installing %s in the capsule", name);
}

static void install_preloads(int root, char *const *paths, const int *libraries)
{
	if (!*paths)
		return;
	make_folder(root, "run", "torpor-lib", 0755);
	for (; *paths; paths++, libraries++) {
		const char *slash = strrchr(*paths, '/');
		install(root, "run/torpor-lib", slash ? slash + 1 : *paths, *libraries);
	}
}

/*
 * On machines with systemd-resolved or NetworkManager /etc/resolv.conf is a link into /run, which the capsule has for
 * its own: it gets a copy, so that names resolve.
 */
static void copy_resolver_settings(int root, const char *contents)
{
	char target[PATH_MAX];
	CLEANUP_FD int etc = open_below(root, "etc", O_PATH | O_DIRECTORY);
	ssize_t length = etc < 0 ? -1 : readlinkat(etc, "resolv.conf", target, sizeof(target) - 1);
	if (!contents || length <= 0)
		return;
	target[length] = '\0';
	char *inside = strstr(target, "run/");
	if (!inside || (inside != target && inside[-1] != '/'))
		return;
	for (char *slash = strchr(inside + 4, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		char *name = strrchr(inside, '/');
		*name = '\0';
		make_folder(root, inside, name + 1, 0755);
		*name = '/';
		*slash = '/';
	}
	char *name = strrchr(inside, '/');
	*name = '\0';
	CLEANUP_FD int folder = open_below(root, inside, O_PATH | O_DIRECTORY);
	CLEANUP_FD int copy = folder < 0 ? -1 : openat(folder, name + 1, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (copy < 0 || RETRY(write(copy, contents, strlen(contents))) < 0)
		die_with_error("copying /etc/resolv.conf into the capsule");
}

/* The host's resolver settings, NULL where there are none. At most 64 KiB. */
static char *read_resolver_settings(void)
{
	CLEANUP_FD int fd = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC);
	char *contents = calloc(1, 65536);
	if (fd < 0 || !contents || RETRY(read(fd, contents, 65535)) < 0) {
		free(contents);
		return NULL;
	}
	return contents;
}

static void mount_run(int root, const struct spec *spec, int init, int sound, const char *resolver)
{
	mount_below(root, "run", "tmpfs", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");
	make_folder(root, "run", "lock", 01777);
	make_folder(root, "run", "user", 0755);
	make_folder(root, "run", "torpor", 0755);
	install(root, "run", "torpor-init", init);
	if (sound >= 0)
		install(root, "run", "torpor-sound", sound);
	copy_resolver_settings(root, resolver);
	mount_below(root, "run/torpor", spec_required(spec, "runDir"), NULL, MS_BIND, NULL);
}

int bind_root(const char *folder, const char *mount_point)
{
	if (mount(folder, mount_point, NULL, MS_BIND, NULL) < 0)
		die_with_error("binding the root folder %s", folder);
	int root = open(mount_point, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		die_with_error("opening %s", mount_point);
	return root;
}

void bind_host_mount(int root, const char *path)
{
	mount_below(root, path, path, NULL, MS_BIND, NULL);
}

/* Opens these files; the array is the caller's, the descriptors are closed at the exec that follows. */
static int *open_all(char *const *paths)
{
	size_t count = 0;
	while (paths[count])
		count++;
	int *files = calloc(count + 1, sizeof(int));
	if (!files)
		die("out of memory");
	for (size_t index = 0; index < count; index++) {
		files[index] = open(paths[index], O_RDONLY | O_CLOEXEC);
		if (files[index] < 0)
			die_with_error("opening %s", paths[index]);
	}
	return files;
}

void enter_capsule_root(const struct spec *spec)
{
	CLEANUP_FREE char *mount_point = format_string("%s/root", spec_required(spec, "runDir"));
	CLEANUP_FREE char *resolver = read_resolver_settings();
	CLEANUP_FD int init = open(spec_required(spec, "initPath"), O_RDONLY | O_CLOEXEC);
	if (init < 0)
		die_with_error("opening %s", spec_required(spec, "initPath"));
	const char *sound_path = spec_value(spec, "soundPath");
	CLEANUP_FD int sound = sound_path ? open(sound_path, O_RDONLY | O_CLOEXEC) : -1;
	if (sound_path && sound < 0)
		die_with_error("opening %s", sound_path);
	CLEANUP_FREE char **preloads = spec_values(spec, "preload");
	CLEANUP_FREE int *libraries = open_all(preloads);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		die_with_error("making the mounts private");
	if (mkdir(mount_point, 0700) < 0 && errno != EEXIST)
		die_with_error("making %s", mount_point);
	CLEANUP_FD int root = bind_root(spec_required(spec, "root"), mount_point);
	CLEANUP_FREE char **binds = spec_values(spec, "bind");
	for (char **path = binds; *path; path++)
		bind_host_mount(root, *path);
	mount_dev(root);
	mount_below(root, "tmp", "tmpfs", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
	mount_run(root, spec, init, sound, resolver);
	install_preloads(root, preloads, libraries);
	mount_below(root, "sys", "sysfs", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL);
	/* Last: the descriptors above are reached through the host's /proc. */
	mount_below(root, "proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);

	if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		die_with_error("changing to the capsule's root");
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		die_with_error("leaving the host's root");
}
