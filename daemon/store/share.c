/*
 * See store.h. Role: counts the memory of a user's jobs, and decides whether there is space for more. Owns the store's
 * list of usages. Invariant: job->texts is the last counted size.
 */
#include <errno.h>

#include "bertd/limits.h"
#include "common/array.h"
#include "daemon/store/internal.h"

static struct usage *find_usage(const struct store *store, uid_t uid) {
        for (size_t i = 0; i < store->n_usage; i++)
                if (store->usage[i].uid == uid)
                        return &store->usage[i];
        return NULL;
}

static void count_texts(struct store *store, struct usage *usage, struct job *job) {
        size_t texts = job_texts(job);

        usage->texts += texts - job->texts;
        store->texts += texts - job->texts;
        job->texts = texts;
}

static bool is_full(const struct store *store, const struct usage *usage, size_t more) {
        return (usage ? usage->texts : 0) + more > BERTD_TEXTS_OF_UID_MAX || store->texts + more > BERTD_TEXTS_MAX;
}

static void count_again(struct store *store, struct usage *usage, struct job *job) {
        count_texts(store, usage, job);
        if (!is_full(store, usage, 0))
                return;
        job_shrink(job);
        count_texts(store, usage, job);
}

void store_count_again(struct store *store, struct job *job) { count_again(store, find_usage(store, job->uid), job); }

int store_count_in(struct store *store, struct job *job) {
        struct usage *usage = find_usage(store, job->uid);

        if (!usage) {
                if (array_resize(&store->usage, store->n_usage + 1, sizeof(*store->usage)) < 0)
                        return -ENOMEM;
                usage = &store->usage[store->n_usage++];
                *usage = (struct usage) { .uid = job->uid };
        }
        usage->jobs++;
        count_again(store, usage, job);
        return 0;
}

void store_count_out(struct store *store, const struct job *job) {
        struct usage *usage = find_usage(store, job->uid);

        usage->texts -= job->texts;
        store->texts -= job->texts;
        if (--usage->jobs == 0)
                *usage = store->usage[--store->n_usage];
}

bool store_has_room(struct store *store, struct job *job, size_t size) {
        struct usage *usage = find_usage(store, job->uid);

        count_texts(store, usage, job); /* has uncommitted rows */
        return !is_full(store, usage, size);
}

int store_check_share(const struct store *store, const struct job *job, struct error *error) {
        const struct usage *usage = find_usage(store, job->uid);

        if (usage && usage->jobs >= BERTD_JOBS_OF_UID_MAX)
                return error_set(error, EDQUOT,
                                 "you have %d open jobs, the limit per user; wait until some have ended, or cancel "
                                 "some: bertctl cancel JOB",
                                 BERTD_JOBS_OF_UID_MAX);
        if (store->n_jobs >= BERTD_JOBS_MAX)
                return error_set(error, EDQUOT,
                                 "this host has %d open jobs, the limit in total; try again when some have ended",
                                 BERTD_JOBS_MAX);
        if (is_full(store, usage, job_texts(job)))
                return error_set(error, EDQUOT,
                                 "the names and paths of open jobs have reached a limit (%u MiB per user, %u MiB in "
                                 "total); use shorter paths, or try again when some have ended",
                                 BERTD_TEXTS_OF_UID_MAX >> 20, BERTD_TEXTS_MAX >> 20);
        return 0;
}
