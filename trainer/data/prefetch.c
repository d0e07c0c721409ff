/*
 * See prefetch.h. Owns the thread and both sets. Invariant: the thread touches only set `making`, and only while
 * `busy`; the caller touches the other one. What is in a set depends on its range alone, so timing cannot change a
 * result.
 */
#include "trainer/data/prefetch.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

struct prefetch {
        pthread_t thread;
        bool started, busy, stop;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        struct batches *set[2];
        uint64_t begin[2], end[2];
        uint32_t making;
};

static void *run(void *p) {
        struct prefetch *prefetch = p;

        pthread_mutex_lock(&prefetch->lock);
        while (!prefetch->stop) {
                if (!prefetch->busy) {
                        pthread_cond_wait(&prefetch->changed, &prefetch->lock);
                        continue;
                }
                uint32_t i = prefetch->making;
                pthread_mutex_unlock(&prefetch->lock);
                batches_fill(prefetch->set[i], prefetch->begin[i], prefetch->end[i]);
                pthread_mutex_lock(&prefetch->lock);
                prefetch->busy = false;
                pthread_cond_broadcast(&prefetch->changed);
        }
        pthread_mutex_unlock(&prefetch->lock);
        return NULL;
}

/* Signals are the main thread's: it looks at their flags between micro-batches. */
static int start_thread(struct prefetch *prefetch) {
        sigset_t all, old;

        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &old);
        int r = pthread_create(&prefetch->thread, NULL, run, prefetch);
        (void) pthread_sigmask(SIG_SETMASK, &old, NULL);
        prefetch->started = r == 0;
        return -r;
}

int prefetch_new(const struct sample_source *source, const struct batches_limits *limits, struct prefetch **ret,
                 struct error *error) {
        struct prefetch *prefetch = calloc(1, sizeof(*prefetch));
        if (!prefetch)
                return error_errno(error, ENOMEM, "prefetch");

        (void) pthread_mutex_init(&prefetch->lock, NULL);
        (void) pthread_cond_init(&prefetch->changed, NULL);
        int r = 0;
        for (int i = 0; i < 2 && r >= 0; i++)
                r = batches_new(source, limits, &prefetch->set[i], error);
        if (r >= 0) {
                r = start_thread(prefetch);
                if (r < 0)
                        (void) error_errno(error, -r, "prefetch thread");
        }
        if (r < 0) {
                prefetch_free(prefetch);
                return r;
        }
        *ret = prefetch;
        return 0;
}

void prefetch_free(struct prefetch *prefetch) {
        if (!prefetch)
                return;
        if (prefetch->started) {
                pthread_mutex_lock(&prefetch->lock);
                prefetch->stop = true;
                pthread_cond_broadcast(&prefetch->changed);
                pthread_mutex_unlock(&prefetch->lock);
                (void) pthread_join(prefetch->thread, NULL);
        }
        for (int i = 0; i < 2; i++)
                batches_free(prefetch->set[i]);
        (void) pthread_cond_destroy(&prefetch->changed);
        (void) pthread_mutex_destroy(&prefetch->lock);
        free(prefetch);
}

struct batches *prefetch_take(struct prefetch *prefetch, uint64_t begin, uint64_t end, uint64_t next_begin,
                              uint64_t next_end) {
        pthread_mutex_lock(&prefetch->lock);
        while (prefetch->busy)
                pthread_cond_wait(&prefetch->changed, &prefetch->lock);
        uint32_t i = prefetch->making;
        pthread_mutex_unlock(&prefetch->lock);

        if (prefetch->begin[i] != begin || prefetch->end[i] != end) {
                batches_fill(prefetch->set[i], begin, end);
                prefetch->begin[i] = begin;
                prefetch->end[i] = end;
        }

        pthread_mutex_lock(&prefetch->lock);
        prefetch->making = 1 - i;
        prefetch->begin[1 - i] = next_begin;
        prefetch->end[1 - i] = next_end;
        prefetch->busy = true;
        pthread_cond_broadcast(&prefetch->changed);
        pthread_mutex_unlock(&prefetch->lock);
        return prefetch->set[i];
}
