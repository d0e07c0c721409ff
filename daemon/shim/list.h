/*
 * Finds the existing checkpoints of a job in a separate process of the job's user, so that a hanging file system hangs
 * only that process and never the shim.
 *
 *   list_start(&list, ...)   forks; list.fd becomes readable
 *   list_read(&list)         until it returns non-zero
 *   list_judge(...)          compares with the known checkpoints
 *   list_close(&list)        kills it if it still runs
 */
#ifndef DAEMON_SHIM_LIST_H
#define DAEMON_SHIM_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/known_checkpoints.h"

#define LIST_FILES_MAX KNOWN_CHECKPOINTS_MAX /* newest files of a folder */
#define LIST_ENTRIES_MAX 20000               /* names read per folder */

/* Changes not yet reported to bertd: `found` and `gone` of AttemptReport. */
struct list_news {
        uint64_t *found, *gone;
        size_t n_found, n_gone;       /* numbers */
        size_t sent_found, sent_gone; /* of these, the first ones are in the current report */
};
/* Prepares the next report of at most BERTD_NEWS_MAX numbers of each, first missing ones. Returns whether it contains
 * all. */
bool list_news_send(struct list_news *news);
void list_news_sent(struct list_news *news); /* bertd has received it */
void list_news_clear(struct list_news *news);

struct list {
        int fd, pidfd;   /* −1: none runs */
        uint64_t *words; /* numbers received so far */
        size_t bytes;
};

/* Looks for RUN_DIR/checkpoints/step-*.ckpt and the known checkpoints. `cwd`: of a command, whose checkpoints may also
 * be below it; while this folder or RUN_DIR does not exist, no file below it counts as missing; NULL: a trainer's.
 * Returns 0 or −errno. */
int list_start(struct list *list, const char *run_dir, const char *cwd, const struct known *known);

/* 1: complete, 0 or −EAGAIN: more to read; other errors: it died. */
int list_read(struct list *list);

/* Adds the changes to `news` and updates `known`. Returns 0, or −errno if the folder could not be listed: then its
 * files are unknown. */
int list_judge(const struct list *list, struct known *known, struct list_news *news);

void list_close(struct list *list);

#endif
