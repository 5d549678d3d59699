/* What the programs of the page store tell the engine: one JSON object a line on standard output. */
#ifndef TORPOR_PAGES_REPORT_H
#define TORPOR_PAGES_REPORT_H

#include <stdarg.h>

/* Prints one whole line, whichever thread prints another; `format` has the JSON without its end of line. */
void report_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A string as JSON, quotes included, on the heap. */
char *json_string(const char *text);

/* {"event":"error","code":...,"what":...}, once only, and the end of the process with 1. Any thread may call it. */
void fail(const char *code, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
/* The same where errno says why: its name is the code, its words follow what was done. */
void fail_errno(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* What is to be tidied before a failure ends the process; NULL: nothing. */
void report_before_failing(void (*act)(void));

/* The name of an errno: "ENOSPC". */
const char *errno_name(int number);

/*
 * `--name value` among the arguments after the subcommand's name, NULL where it is not there. Every argument must be
 * asked for: arguments_end() refuses what is left over.
 */
struct arguments {
	int count;
	char **words;
};
const char *argument(struct arguments *arguments, const char *name);
const char *argument_needed(struct arguments *arguments, const char *name);
int argument_flag(struct arguments *arguments, const char *name);
void arguments_end(const struct arguments *arguments);

#endif
