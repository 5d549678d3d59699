#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

FILE *error_stream;

void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

void free_pointer(void *pointer)
{
	free(*(void **)pointer);
}

static char *vformat(const char *format, va_list arguments)
{
	char *text;
	if (vasprintf(&text, format, arguments) < 0) {
		fputs("out of memory\n", stderr);
		_exit(1);
	}
	return text;
}

static void report(const char *reason, int number)
{
	FILE *stream = error_stream ? error_stream : stderr;
	fputs("{\"error\":", stream);
	write_json_string(stream, reason);
	fprintf(stream, ",\"errno\":%d}\n", number);
	fflush(stream);
}

void die_with_error(const char *format, ...)
{
	int number = errno;
	va_list arguments;
	va_start(arguments, format);
	char *what = vformat(format, arguments);
	va_end(arguments);
	report(format_string("%s: %s", what, strerror(number)), number);
	_exit(1);
}

void die(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	report(vformat(format, arguments), 0);
	va_end(arguments);
	_exit(1);
}

char *format_string(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	char *text = vformat(format, arguments);
	va_end(arguments);
	return text;
}

void write_json_string(FILE *stream, const char *text)
{
	fputc('"', stream);
	for (const unsigned char *byte = (const unsigned char *)text; *byte; byte++) {
		if (*byte == '"' || *byte == '\\')
			fprintf(stream, "\\%c", *byte);
		else if (*byte < 0x20)
			fprintf(stream, "\\u%04x", *byte);
		else
			fputc(*byte, stream);
	}
	fputc('"', stream);
}

bool write_new_file(const char *path, int mode, const char *contents)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return false;
	size_t length = strlen(contents);
	return RETRY(write(fd, contents, length)) == (ssize_t)length;
}
