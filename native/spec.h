/*
 * The description of a capsule, as the engine writes it: records "key=value", each ended by a zero byte. It reaches
 * torpor-capsule as a file and torpor-init as its environment, which nobody but root can read.
 */
#ifndef TORPOR_SPEC_H
#define TORPOR_SPEC_H

#include <stddef.h>
#include <sys/types.h>

struct spec {
	char **records; /* NULL-terminated */
};

/* Reads a spec file of at most 8 MiB; dies where it is malformed. */
struct spec read_spec(const char *path);

/* Dies where something is missing or malformed that torpor-init could complain of to nobody. */
void check_spec(const struct spec *spec);

/* The value of the first record with this key; NULL where there is none. */
const char *spec_value(const struct spec *spec, const char *key);
/* The same; dies where there is none. */
const char *spec_required(const struct spec *spec, const char *key);
/* All values of a key, NULL-terminated, in order. The array is the caller's. */
char **spec_values(const struct spec *spec, const char *key);
/* A number between 0 and 2^32 - 2; dies on anything else. */
unsigned int spec_number(const struct spec *spec, const char *key);
/* A list of numbers separated by commas; the array is the caller's. */
gid_t *spec_number_list(const char *text, size_t *count);

#endif
