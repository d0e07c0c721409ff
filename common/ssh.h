/*
 * How bertd's programs call another host, the same at submit as at night without a login (contract C11): never a
 * question, no agent, no shared connection of the user's, and an end for a host that does not answer.
 */
#ifndef COMMON_SSH_H
#define COMMON_SSH_H

#include <stddef.h>

#define SSH_WORDS_MAX 16 /* with the NULL */

/* Fills argv with `ssh OPTIONS -- HOST COMMAND`, which borrows both; `command` is for the shell there. */
void ssh_words(const char *host, const char *command, const char *argv[SSH_WORDS_MAX]);

/* In the process that becomes ssh: removes what a login lends. */
void ssh_forget_login(void);

#endif
