/*
 * The last resort where the supervisor and all keepers are killed in one instant. Their descriptors are closed before the
 * kernel ends what they trace: for a fraction of a millisecond the workload would run with zeros in place of its memory.
 * A file that is registered with an io_uring is let go of only when the kernel has taken the ring apart, which takes
 * it a grace period of RCU (measured: 5 to 10 ms), so that the end comes first. Where there is no io_uring, there is
 * no last resort; nothing else depends on it.
 */
#include <linux/io_uring.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pager.h"

#define RING_FILES 4096u

static int ring = -1;
static int held[RING_FILES]; /* the descriptor + 1; 0: free */

void ring_open(void)
{
	struct io_uring_params parameters = { 0 };
	int files[RING_FILES];

	ring = (int)syscall(SYS_io_uring_setup, 1, &parameters);
	memset(files, 0xff, sizeof(files));
	if (ring >= 0 && syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES, files, RING_FILES) < 0) {
		close(ring);
		ring = -1;
	}
}

static void update(uint32_t place, int fd)
{
	struct io_uring_files_update change = { .offset = place, .fds = (uint64_t)(uintptr_t)&fd };

	syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES_UPDATE, &change, 1);
}

void ring_hold(int fd)
{
	for (uint32_t place = 0; ring >= 0 && place < RING_FILES; place++) {
		if (held[place] == 0) {
			held[place] = fd + 1;
			update(place, fd);
			return;
		}
	}
}

void ring_release(int fd)
{
	for (uint32_t place = 0; ring >= 0 && place < RING_FILES; place++) {
		if (held[place] == fd + 1) {
			held[place] = 0;
			update(place, -1);
			return;
		}
	}
}
