/*
 * reaper COMMAND ARG...: runs a command, and reaps at once whatever ends below it and has lost its parent. An init may take
 * its time with that: the one of some virtual machines looks every two seconds, and so long a process that has ended
 * keeps its pid, for which tests and engines wait. Ends as the command does.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOT_RUN 127
#define BY_SIGNAL 128

static volatile pid_t command;

static void pass_on(int signal)
{
	kill(command, signal);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: reaper COMMAND ARG...\n");
		return NOT_RUN;
	}
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
		fprintf(stderr, "reaper: cannot become a subreaper: %s\n", strerror(errno));
		return NOT_RUN;
	}
	command = fork();
	if (command < 0) {
		fprintf(stderr, "reaper: cannot fork: %s\n", strerror(errno));
		return NOT_RUN;
	}
	if (command == 0) {
		execvp(argv[1], argv + 1);
		fprintf(stderr, "reaper: cannot run %s: %s\n", argv[1], strerror(errno));
		_exit(NOT_RUN);
	}
	/* A terminal sends this one to the command, too. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, pass_on);
	signal(SIGHUP, pass_on);
	for (;;) {
		int status;
		pid_t ended = wait(&status);
		if (ended < 0 && errno != EINTR)
			return NOT_RUN;
		if (ended == command)
			return WIFEXITED(status) ? WEXITSTATUS(status) : BY_SIGNAL + WTERMSIG(status);
	}
}
