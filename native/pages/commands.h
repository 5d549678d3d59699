/* The subcommands of torpor-pages: each gets the arguments after its name and gives the exit status. */
#ifndef TORPOR_PAGES_COMMANDS_H
#define TORPOR_PAGES_COMMANDS_H

int cmd_receive(int argc, char **argv);
int cmd_sweep(int argc, char **argv);
int cmd_recompress(int argc, char **argv);
int cmd_measure(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_cat(int argc, char **argv);
int cmd_check_packs(int argc, char **argv);
int cmd_shares(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_import(int argc, char **argv);

#endif
