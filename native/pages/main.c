/*
 * torpor-pages: writes, tidies and examines the store of pages (docs/store-format.md). What each subcommand takes
 * stands at the top of its file; all but export and cat say what they do as lines of JSON on standard output.
 */
#include <stdio.h>
#include <string.h>

#include "commands.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "shares", cmd_shares },
	{ "receive", cmd_receive },
	{ "sweep", cmd_sweep },
	{ "recompress", cmd_recompress },
	{ "measure", cmd_measure },
	{ "verify", cmd_verify },
	{ "cat", cmd_cat },
	{ "check-packs", cmd_check_packs },
	{ "export", cmd_export },
	{ "import", cmd_import },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && commands[i].name; i++) {
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	}
	fputs("usage: torpor-pages COMMAND ..., where COMMAND is one of:", stderr);
	for (size_t i = 0; commands[i].name; i++)
		fprintf(stderr, " %s", commands[i].name);
	fputc('\n', stderr);
	return 2;
}
