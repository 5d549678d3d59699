/* What processes in a capsule may not do, because CRIU could not checkpoint it. */
#ifndef TORPOR_SECCOMP_H
#define TORPOR_SECCOMP_H

/*
 * Installs the filter for this process and all it starts: io_uring does not exist (ENOSYS), and neither do nested
 * user, pid, ipc, network, cgroup and time namespaces (EPERM). Applications with a sandbox of their own fall back to
 * what is left of it. Needs CAP_SYS_ADMIN or no_new_privs. Dies where it cannot be installed.
 */
void install_capsule_filter(void);

#endif
