#include "report.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void (*before_failing)(void);

void report_before_failing(void (*act)(void))
{
	before_failing = act;
}

static char *vformat(const char *format, va_list list)
{
	char *text;

	if (vasprintf(&text, format, list) < 0)
		_exit(1);
	return text;
}

char *json_string(const char *text)
{
	char *json = NULL;
	size_t length;
	FILE *stream = open_memstream(&json, &length);

	if (!stream)
		_exit(1);
	write_json_string(stream, text);
	if (fclose(stream) != 0)
		_exit(1);
	return json;
}

void report_line(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	CLEANUP_FREE char *text = vformat(format, list);
	va_end(list);
	pthread_mutex_lock(&lock);
	puts(text);
	fflush(stdout);
	pthread_mutex_unlock(&lock);
}

static void end_with(const char *code, const char *what) __attribute__((noreturn));
static void end_with(const char *code, const char *what)
{
	/* Never given back: a second thread that fails meanwhile must not print another reason. */
	pthread_mutex_lock(&lock);
	printf("{\"event\":\"error\",\"code\":\"%s\",\"what\":%s}\n", code, json_string(what));
	fflush(stdout);
	if (before_failing)
		before_failing();
	_exit(1);
}

void fail(const char *code, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	end_with(code, vformat(format, list));
}

void fail_errno(const char *format, ...)
{
	int number = errno;
	va_list list;

	va_start(list, format);
	end_with(errno_name(number), format_string("%s: %s", vformat(format, list), strerror(number)));
}

const char *errno_name(int number)
{
	const char *name = strerrorname_np(number);

	return name ? name : "EIO";
}

static void take_out(struct arguments *arguments, int at, int count)
{
	arguments->count -= count;
	memmove(arguments->words + at, arguments->words + at + count,
		(size_t)(arguments->count - at) * sizeof(*arguments->words));
}

const char *argument(struct arguments *arguments, const char *name)
{
	for (int i = 0; i + 1 < arguments->count; i++) {
		if (strcmp(arguments->words[i], name) == 0) {
			const char *value = arguments->words[i + 1];

			take_out(arguments, i, 2);
			return value;
		}
	}
	return NULL;
}

const char *argument_needed(struct arguments *arguments, const char *name)
{
	const char *value = argument(arguments, name);

	if (!value)
		fail("EINVAL", "the argument %s is missing", name);
	return value;
}

int argument_flag(struct arguments *arguments, const char *name)
{
	for (int i = 0; i < arguments->count; i++) {
		if (strcmp(arguments->words[i], name) == 0) {
			take_out(arguments, i, 1);
			return 1;
		}
	}
	return 0;
}

void arguments_end(const struct arguments *arguments)
{
	if (arguments->count > 0)
		fail("EINVAL", "the argument %s is not known here", arguments->words[0]);
}
