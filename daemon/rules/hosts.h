/*
 * Which hosts the next attempt of a job uses (contract C11). Pure: names and times in, a choice out.
 *
 * A lost host cools down: it is not chosen before its time is over. The time doubles with each loss, from the job's
 * first to its longest, and starts again from the first after an attempt on that host has committed a newer checkpoint.
 * The state of all hosts is one text in the job's row: "h3=UNTIL_USEC:LOSSES,h4=...", empty if none cools down or is
 * remembered.
 */
#ifndef DAEMON_RULES_HOSTS_H
#define DAEMON_RULES_HOSTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/hosts.h"

struct hosts_cooling {
        uint64_t first_usec, longest_usec;
};

/* Borrowed for the call. */
struct hosts_wish {
        const char *hosts; /* the head first */
        uint32_t use;      /* 1 to their number */
        const char *state; /* NULL: none */
        bool shrink;
        struct hosts_cooling cooling;
        uint64_t now_usec; /* wall time */
};

struct hosts_choice {
        char *use;                          /* names with commas, the head first; owned */
        uint64_t wait_usec;                 /* from now: until enough of them have cooled down; 0: now */
        char waits_for[BERTD_HOST_MAX + 1]; /* the last of those that are waited for; "": none */
};

/* Hosts that do not cool down come first, in the job's order, the head always. If they are not enough: with `shrink`
 * fewer, else `wait_usec` is how long to wait, and `use` has them after that time. −ENOMEM. */
int hosts_choose(const struct hosts_wish *wish, struct hosts_choice *ret);
void hosts_choice_clear(struct hosts_choice *choice);

/* Those that are not in `use` and do not cool down, in the job's order. The caller frees; NULL: none, or no memory. */
char *hosts_spares(const struct hosts_wish *wish, const char *use);

/* The state after `lost` was lost at `now_usec`; after an attempt on `hosts` has committed a newer checkpoint. A name
 * that is not among `hosts` changes nothing. The caller frees; NULL: empty, or no memory. */
char *hosts_lose(const char *state, const char *hosts, const char *lost, const struct hosts_cooling *cooling,
                 uint64_t now_usec);
char *hosts_prove(const char *state, const char *hosts);

/* Until when it cools down, 0: it does not. A time further away than `longest` is one of a clock that was set back. */
uint64_t hosts_cool_until(const char *state, const char *name, const struct hosts_cooling *cooling, uint64_t now_usec);

#endif
