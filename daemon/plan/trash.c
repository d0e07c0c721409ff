/*
 * See trash.h. Owns: the running helpers, and the source that starts more.
 * Invariants: one helper per user, TRASH_BUSY_MAX in total, so that a slow folder delays only its own user; removal
 * starts after the rows are durable.
 */
#include "daemon/plan/trash.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/file.h"
#include "daemon/launch/user_task.h"
#include "daemon/attempt/folder.h"
#include "daemon/base/log.h"
#include "daemon/base/strv.h"

#define FOLDERS_MAX 128 /* per helper */
#define RETRY_USEC (10 * USEC_PER_SEC)

/* One helper: folders of one user, from one or more rows. */
struct batch {
        struct trash *trash;
        struct job job; /* for the helper's user */
        char name[48];  /* unique, also over restarts */
        struct strv paths;
        struct batch_row {
                uint64_t id, job;
                uint32_t next; /* first remaining attempt after this; 0: the row is done */
                char *whole;   /* the job's folder, whose parent belongs to bertd; or NULL */
        } rows[FOLDERS_MAX];
        size_t n_rows;
};

/* Callbacks for removed job folders. */
struct question {
        struct question *next;
        uint64_t job;
        trash_gone_t gone;
        void *userdata;
};

struct trash {
        struct node *node;
        struct question *questions;
        struct source *source;
        struct batch *batches[TRASH_BUSY_MAX];
        uint64_t begun;
        struct timer retry; /* armed while a helper could not be started */
};

static void batch_free(struct batch *batch) {
        if (!batch)
                return;
        for (size_t i = 0; i < batch->n_rows; i++)
                free(batch->rows[i].whole);
        text_unshare(batch->job.user);
        strv_free(&batch->paths);
        free(batch);
}

static void answer(struct question *question, enum trash_end end, const char *folder) {
        question->gone(question->userdata, end, folder);
        free(question);
}

/* For jobs whose removal has ended. */
static void answer_all(struct trash *trash, const struct batch *batch) {
        for (size_t i = 0; i < batch->n_rows; i++)
                for (struct question **at = &trash->questions; *at && batch->rows[i].whole;) {
                        struct question *question = *at;
                        if (question->job != batch->rows[i].job) {
                                at = &question->next;
                                continue;
                        }
                        *at = question->next;
                        answer(question, files_is_folder(batch->rows[i].whole) ? TRASH_LEFT : TRASH_GONE,
                               batch->rows[i].whole);
                }
}

int trash_ask(struct trash *trash, uint64_t job, trash_gone_t gone, void *userdata) {
        struct question *question = malloc(sizeof(*question));

        if (!question)
                return -ENOMEM;
        *question = (struct question) { .next = trash->questions, .job = job, .gone = gone, .userdata = userdata };
        trash->questions = question;
        return 0;
}

static void on_retry(void *userdata) { trash_soon(userdata); }

static void try_later(struct trash *trash) {
        if (!timer_is_armed(&trash->retry))
                loop_after(trash->node->loop, &trash->retry, RETRY_USEC, on_retry, trash);
}

static void on_removed(void *userdata, bool ran) {
        struct batch *batch = userdata;
        struct trash *trash = batch->trash;

        if (!ran)
                try_later(trash);
        for (size_t i = 0; i < batch->n_rows && ran; i++) {
                const struct batch_row *row = &batch->rows[i];
                if (row->whole && rmdir(row->whole) < 0 && errno != ENOENT)
                        log_error("%s: cannot be removed: %m", row->whole);
                (void) store_trash_done(trash->node->store, row->id, row->next); /* out of memory: retry */
        }
        answer_all(trash, batch);
        for (size_t i = 0; i < TRASH_BUSY_MAX; i++)
                if (trash->batches[i] == batch)
                        trash->batches[i] = NULL;
        batch_free(batch);
        if (ran)
                node_commit_soon(trash->node);
}

static void add_paths(struct batch *batch, struct batch_row *to, const struct trash_row *row, size_t n) {
        char *folder = files_job_dir(batch->trash->node->options.state_dir, row->job);

        batch->paths.failed |= !folder;
        if (folder && row->first == 0)
                strv_add(&batch->paths, folder);
        for (size_t i = 0; folder && row->first > 0 && i < n; i++)
                strv_format(&batch->paths, "%s/attempt-%zu", folder, row->first + i);
        if (row->first == 0)
                to->whole = steal_pointer(&folder);
        free(folder);
}

static int take_row(void *userdata, const struct trash_row *row) {
        struct batch *batch = userdata;
        size_t room = FOLDERS_MAX - batch->paths.n, all = row->first == 0 ? 1 : row->last - row->first + 1,
               n = MIN(all, room);

        if (batch->n_rows == 0)
                batch->job = (struct job) { .id = row->job,
                                            .uid = row->uid,
                                            .gid = row->gid,
                                            .user = text_shared(row->user),
                                            .umask = 077,
                                            .attempt.number = row->first };
        if (row->uid != batch->job.uid || n == 0)
                return n == 0 ? -ENOBUFS : 0;
        struct batch_row *to = &batch->rows[batch->n_rows++];
        *to = (struct batch_row) { .id = row->id, .job = row->job, .next = n < all ? row->first + (uint32_t) n : 0 };
        add_paths(batch, to, row, n);
        return 0;
}

/* The oldest folders of a user without a running helper. NULL: none. */
static struct batch *next_batch(struct trash *trash) {
        struct batch *batch = calloc(1, sizeof(*batch));
        uid_t busy[TRASH_BUSY_MAX];
        size_t n = 0;
        struct error error = {};

        if (!batch)
                return NULL;
        batch->trash = trash;
        for (size_t i = 0; i < TRASH_BUSY_MAX; i++)
                if (trash->batches[i])
                        busy[n++] = trash->batches[i]->job.uid;
        int r = store_trash(trash->node->store, busy, n, take_row, batch, &error);
        if (r < 0 && r != -ENOBUFS)
                log_error("%s", error.text);
        if (batch->n_rows > 0 && batch->job.user && !batch->paths.failed)
                return batch;
        batch_free(batch);
        return NULL;
}

static bool begin(struct trash *trash, struct batch **at) {
        *at = next_batch(trash);
        if (!*at)
                return false;
        (void) snprintf((*at)->name, sizeof((*at)->name), "rm-%d-%" PRIu64, (int) getpid(), trash->begun++);
        if (user_task_remove_paths(trash->node, &(*at)->job, (*at)->name, &(*at)->paths, on_removed, *at) >= 0)
                return true;
        answer_all(trash, *at);
        batch_free(steal_pointer(at));
        try_later(trash);
        return false;
}

static void on_trash(void *userdata) {
        struct trash *trash = userdata;
        bool more = store_has_trash(trash->node->store) && !timer_is_armed(&trash->retry);

        for (size_t i = 0; i < TRASH_BUSY_MAX && more && !store_pending(trash->node->store); i++)
                if (!trash->batches[i])
                        more = begin(trash, &trash->batches[i]);
}

int trash_new(struct node *node, struct trash **ret) {
        struct trash *trash = calloc(1, sizeof(*trash));
        if (!trash)
                return -ENOMEM;

        trash->node = node;
        int r = loop_defer(node->loop, on_trash, trash, &trash->source);
        if (r < 0) {
                trash_free(trash);
                return r;
        }
        source_set_order(trash->source, LOOP_LAST);
        *ret = trash;
        return 0;
}

void trash_soon(struct trash *trash) {
        if (trash)
                source_soon(trash->source);
}

void trash_free(struct trash *trash) {
        if (!trash)
                return;
        for (size_t i = 0; i < TRASH_BUSY_MAX; i++)
                batch_free(trash->batches[i]);
        while (trash->questions) {
                struct question *question = trash->questions;
                trash->questions = question->next;
                answer(question, TRASH_UNKNOWN, NULL);
        }
        (void) source_free(trash->source);
        timer_disarm(&trash->retry);
        free(trash);
}
