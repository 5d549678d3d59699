/* The root of a capsule: the host's folder, non-recursively, with /proc, /dev, /tmp, /run and /sys of its own. */
#ifndef TORPOR_ROOT_H
#define TORPOR_ROOT_H

#include "spec.h"

/* Where pid 1's program lies in a capsule: on its own tmpfs, so that it travels with a snapshot. */
#define INIT_IN_CAPSULE "/run/torpor-init"
/* Where a capsule sees the engine's folder for it. */
#define RUN_IN_CAPSULE "/run/torpor"

/* Binds a folder, without what is mounted in it, at a mount point. Returns a descriptor of the new root; dies on error. */
int bind_root(const char *folder, const char *mount_point);

/* Binds a file system of the host at the same path below a root, whatever links there are in it. Dies on error. */
void bind_host_mount(int root, const char *path);

/*
 * Builds the root from the spec's root, bind, runDir and initPath in this mount namespace, which must be a new one,
 * and makes it the root of this process. Must be called by pid 1 of the capsule, for its /proc. Dies on any error.
 */
void enter_capsule_root(const struct spec *spec);

#endif
