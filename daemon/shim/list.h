/*
 * Which of a job's checkpoints are there: looked for as the job's user by a process of its own, so that a file system that hangs
 * hangs that one and never the shim.
 *
 *   list_start(&list, ...)   forks; list.fd becomes readable
 *   list_read(&list)         until it is not 0
 *   list_judge(...)          what came and went beside what was known
 *   list_close(&list)        also where it still runs: kills it
 */
#ifndef DAEMON_SHIM_LIST_H
#define DAEMON_SHIM_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIST_FILES_MAX 2048    /* files of a folder, and checkpoints that are known: the newest */
#define LIST_ENTRIES_MAX 20000 /* names of a folder that are read */

/* Good checkpoints, ascending by step, and what is not to be used. */
struct known {
        struct known_checkpoint {
                uint64_t step;
                char *path; /* NULL: RUN_DIR/checkpoints/step-NNNNNNNNN.ckpt */
        } * rows;
        size_t n;
        uint64_t *aside; /* steps of demoted and abandoned ones, ascending */
        size_t n_aside;
        uint64_t until; /* an attempt begins at most here */
};

/* Replaces the row of the same step; beyond the bound the oldest goes. Without memory nothing is added. */
void known_add(struct known *known, uint64_t step, const char *path);
void known_remove(struct known *known, uint64_t step);
const struct known_checkpoint *known_newest(const struct known *known); /* at most `until`; NULL: none */
void known_free(struct known *known);

/* What bertd has not been told: as `found` and `gone` of AttemptReport. */
struct list_news {
        uint64_t *found, *gone;
        size_t n_found, n_gone;       /* numbers */
        size_t sent_found, sent_gone; /* of these, the first, which are in the report under way */
};
/* The next report has at most BERTD_NEWS_MAX numbers of each, first what is gone. Returns whether it has all. */
bool list_news_send(struct list_news *news);
void list_news_sent(struct list_news *news); /* bertd has it */
void list_news_clear(struct list_news *news);

struct list {
        int fd, pidfd;   /* −1: none runs */
        uint64_t *words; /* what it said so far */
        size_t bytes;
};

/* Looks for RUN_DIR/checkpoints/step-*.ckpt and for what is known. `cwd`: that of a command, whose checkpoints may lie there, too: while
 * this folder or RUN_DIR is not there nothing of it counts as gone; NULL: a trainer's. Returns 0 or −errno. */
int list_start(struct list *list, const char *run_dir, const char *cwd, const struct known *known);

/* 1: all has been read, 0: more is to come, −EAGAIN as well; other errors: it died. */
int list_read(struct list *list);

/* Adds to `news` what came and went, and has `known` follow. Returns 0, or −errno why the folder cannot be listed: then nothing is known of
 * what is there. */
int list_judge(const struct list *list, struct known *known, struct list_news *news);

void list_close(struct list *list);

#endif
