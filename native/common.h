/* What every native program needs: ending with a reason, freeing by scope, JSON for the engine. */
#ifndef TORPOR_COMMON_H
#define TORPOR_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Retries a system call that a signal interrupted. */
#define RETRY(call)                                                                                                    \
	({                                                                                                             \
		__typeof__(call) result_;                                                                              \
		do                                                                                                     \
			result_ = (call);                                                                              \
		while (result_ == -1 && errno == EINTR);                                                               \
		result_;                                                                                               \
	})

void close_fd(int *fd);
void free_pointer(void *pointer);
#define CLEANUP_FD __attribute__((cleanup(close_fd)))
#define CLEANUP_FREE __attribute__((cleanup(free_pointer)))

/* Where die_with_error tells its reason: a stream that gets one line of JSON {"error", "errno"}. */
extern FILE *error_stream;

/* Says what it was doing and why that failed (errno), and exits with 1. */
void die_with_error(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* The same where errno says nothing. */
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* A formatted string on the heap; never NULL. */
char *format_string(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Writes a string as JSON, quotes included. Bytes that are no printable ASCII are written as they are if above 0x7f. */
void write_json_string(FILE *stream, const char *text);

/* Writes a whole file that must not exist yet; never follows a link. */
bool write_new_file(const char *path, int mode, const char *contents);

#endif
