/*
 * Names of hosts: a job's list, from words, from Slurm's node lists ("gpu[01-04,07]") and from a file. A name is a host
 * name or an IPv4 address: it becomes an argument of ssh and mpirun, so it begins with a letter or digit and has no
 * other characters than letters, digits, '.', '-' and '_'.
 *
 *   cleanup_hosts struct host_list list = {};
 *   hosts_add(&list, "h1,gpu[01-04]", &error), hosts_add_file(&list, path, text, &error)
 */
#ifndef COMMON_HOSTS_H
#define COMMON_HOSTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bertd/limits.h"
#include "common/cleanup.h"
#include "common/error.h"

/* At most BERTD_HOSTS_MAX, none twice. */
struct host_list {
        char *names[BERTD_HOSTS_MAX + 1]; /* owned; NULL at the end */
        uint32_t n;
        uint32_t slots;     /* smallest slots=N of a file; 0: none was given */
        uint32_t slots_row; /* whose it is */
};

void hosts_clear(struct host_list *list);
#define cleanup_hosts cleanup(hosts_clear)

bool host_is_name(const char *text);
/* Whether two names are the same: without regard to case. */
bool host_is(const char *a, const char *b);

/* Adds the names of a list separated by commas, each a name or a node list with any number of brackets. −EINVAL with
 * the reason, which begins with the word that is wrong. */
int hosts_add(struct host_list *list, const char *text, struct error *error);

/* Adds the names of a file's text: a line is "NAME [slots=N]" or a list as above; '#' begins a comment. Messages begin
 * with PATH:LINE. */
int hosts_add_file(struct host_list *list, const char *path, const char *text, struct error *error);

/* ---- a list in one text, "h1,h2,h3", as a job has it ---- */

/* The next name after *at, copied; advances *at. False: no more, or longer than a name may be. */
bool hosts_next(const char **at, char name[BERTD_HOST_MAX + 1]);
uint32_t hosts_count(const char *text); /* NULL: 0 */
bool hosts_contain(const char *text, const char *name);
/* Caller frees; NULL: no memory, or n is 0. */
char *hosts_join(char *const *names, uint32_t n);

#endif
