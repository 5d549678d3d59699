/* A set of chunk ids that grows. Any thread may use it. */
#ifndef TORPOR_PAGES_IDSET_H
#define TORPOR_PAGES_IDSET_H

#include <stdbool.h>
#include <stdint.h>

#include "format.h"

struct id_set;

/* Ends the process where there is no memory, as adding does. */
struct id_set *id_set_open(void);
void id_set_close(struct id_set *set);
bool id_set_has(struct id_set *set, const uint8_t id[CHUNK_ID_BYTES]);
/* Whether it is new here. An id of zeros is that of no chunk: it is never kept, and always new. */
bool id_set_add(struct id_set *set, const uint8_t id[CHUNK_ID_BYTES]);

#endif
