/* What torpor-unwritten tells libtorpor-unwritten.so: pages that CRIU need not hand over, since a snapshot has them. */
#ifndef TORPOR_LEFT_OUT_H
#define TORPOR_LEFT_OUT_H

#include <stdint.h>

/* Where the library finds the file of them: records, which never overlap. */
#define LEFT_OUT_VARIABLE "TORPOR_LEFT_OUT"
/* Set where CRIU works in the pid namespace of the processes. */
#define LEFT_OUT_INSIDE_VARIABLE "TORPOR_LEFT_OUT_INSIDE"

struct left_out {
	uint64_t pid; /* as the engine sees it */
	uint64_t inner_pid; /* as it is called itself */
	uint64_t start;
	uint64_t end;
} __attribute__((packed));

#endif
