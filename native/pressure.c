/*
 * torpor-pressure STALL_US WINDOW_US
 *
 * Writes "ready", and a line each time that programs have waited for memory for more than STALL_US of WINDOW_US (PSI triggers,
 * Documentation/accounting/psi.rst), at most once in that time: the percentages of the last ten seconds in which some have
 * waited, and in which all have. The kernel wakes it; nothing runs in between. Ends when nobody reads its standard output, or
 * its standard input ends. Without CAP_SYS_RESOURCE the kernel takes windows of whole two seconds alone.
 *
 * Exits with 4 where the kernel cannot tell.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

#define FILE_PATH "/proc/pressure/memory"
#define CANNOT_TELL 4

static void cannot_tell(const char *what)
{
	fprintf(stderr, "%s %s: %s\n", what, FILE_PATH, strerror(errno));
	exit(CANNOT_TELL);
}

static double average(const char *text, const char *line)
{
	const char *found = strstr(text, line);
	double value;

	return found && sscanf(found + strlen(line), " avg10=%lf", &value) == 1 ? value : 0;
}

static void tell(int fd)
{
	char text[512];
	ssize_t length = pread(fd, text, sizeof(text) - 1, 0);

	if (length <= 0)
		cannot_tell("cannot read");
	text[length] = '\0';
	printf("%.2f %.2f\n", average(text, "some"), average(text, "full"));
	if (fflush(stdout) != 0)
		exit(0);
}

static unsigned long microseconds(const char *text)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end)
		die("%s is no number of microseconds", text);
	return value;
}

int main(int count, char **arguments)
{
	if (count != 3)
		die("usage: torpor-pressure STALL_US WINDOW_US");
	CLEANUP_FREE char *trigger =
		format_string("some %lu %lu", microseconds(arguments[1]), microseconds(arguments[2]));
	CLEANUP_FD int fd = open(FILE_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		cannot_tell("cannot open");
	if (write(fd, trigger, strlen(trigger) + 1) < 0)
		cannot_tell("cannot set a trigger on");
	puts("ready");
	if (fflush(stdout) != 0)
		return 0;
	struct pollfd polls[] = {{.fd = fd, .events = POLLPRI}, {.fd = STDIN_FILENO, .events = POLLIN}};

	for (;;) {
		if (poll(polls, 2, -1) < 0 && errno != EINTR)
			die_with_error("poll");
		if (polls[1].revents)
			return 0;
		if (polls[0].revents & POLLERR)
			cannot_tell("no more events of");
		if (polls[0].revents & POLLPRI)
			tell(fd);
	}
}
