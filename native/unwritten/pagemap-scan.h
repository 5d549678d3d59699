/*
 * The ioctl PAGEMAP_SCAN (Documentation/admin-guide/mm/pagemap.rst; Linux 6.7), and what of userfaultfd goes with it, for
 * headers of older kernels.
 */
#ifndef TORPOR_PAGEMAP_SCAN_H
#define TORPOR_PAGEMAP_SCAN_H

#include <linux/ioctl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>

struct scan_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};

struct scan_request {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end; /* out: how far it came */
	uint64_t regions;
	uint64_t region_count;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

#define SCAN_PAGES _IOWR('f', 16, struct scan_request)
#define SCAN_WRITE_PROTECT 1u /* what matches */
#define SCAN_ONLY_TRACKED 2u  /* fails where a mapping is not registered for asynchronous write protection */

#define SCAN_ALLOWED 1u /* is in a mapping that is registered so */
#define SCAN_WRITTEN 2u
#define SCAN_FILE 4u
#define SCAN_PRESENT 8u
#define SCAN_SWAPPED 16u
#define SCAN_ZERO 32u

#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#endif
