/* See worker.h. Owns the thread. Invariant: the flags change only under the lock, and each change wakes the other side.
 */
#include "common/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

struct worker {
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        bool busy, lent, stop;
        void (*work)(void *context);
        void *context;
};

int thread_start(void *(*run)(void *), void *context, pthread_t *ret) {
        sigset_t all, old;

        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &old);
        int r = pthread_create(ret, NULL, run, context);
        (void) pthread_sigmask(SIG_SETMASK, &old, NULL);
        return -r;
}

/* With the lock held. */
static void set(struct worker *worker, bool *flag, bool value) {
        *flag = value;
        (void) pthread_cond_broadcast(&worker->changed);
}

static void *run(void *p) {
        struct worker *worker = p;

        (void) pthread_mutex_lock(&worker->lock);
        while (worker->busy || !worker->stop) {
                if (!worker->busy) {
                        (void) pthread_cond_wait(&worker->changed, &worker->lock);
                        continue;
                }
                (void) pthread_mutex_unlock(&worker->lock);
                worker->work(worker->context);
                (void) pthread_mutex_lock(&worker->lock);
                worker->lent = false;
                set(worker, &worker->busy, false);
        }
        (void) pthread_mutex_unlock(&worker->lock);
        return NULL;
}

int worker_new(void (*work)(void *context), void *context, struct worker **ret) {
        struct worker *worker = calloc(1, sizeof(*worker));

        if (!worker)
                return -ENOMEM;
        worker->work = work;
        worker->context = context;
        (void) pthread_mutex_init(&worker->lock, NULL);
        (void) pthread_cond_init(&worker->changed, NULL);
        int r = thread_start(run, worker, &worker->thread);
        if (r < 0) {
                (void) pthread_cond_destroy(&worker->changed);
                (void) pthread_mutex_destroy(&worker->lock);
                free(worker);
                return r;
        }
        *ret = worker;
        return 0;
}

void worker_free(struct worker *worker) {
        if (!worker)
                return;
        (void) pthread_mutex_lock(&worker->lock);
        set(worker, &worker->stop, true);
        (void) pthread_mutex_unlock(&worker->lock);
        (void) pthread_join(worker->thread, NULL);
        (void) pthread_cond_destroy(&worker->changed);
        (void) pthread_mutex_destroy(&worker->lock);
        free(worker);
}

void worker_begin(struct worker *worker, bool lends) {
        (void) pthread_mutex_lock(&worker->lock);
        worker->lent = lends;
        set(worker, &worker->busy, true);
        (void) pthread_mutex_unlock(&worker->lock);
}

bool worker_is_busy(struct worker *worker) {
        (void) pthread_mutex_lock(&worker->lock);
        bool busy = worker->busy;
        (void) pthread_mutex_unlock(&worker->lock);
        return busy;
}

static void wait_while(struct worker *worker, const bool *flag) {
        (void) pthread_mutex_lock(&worker->lock);
        while (*flag)
                (void) pthread_cond_wait(&worker->changed, &worker->lock);
        (void) pthread_mutex_unlock(&worker->lock);
}

void worker_wait(struct worker *worker) { wait_while(worker, &worker->busy); }

void worker_settle(struct worker *worker) { wait_while(worker, &worker->lent); }

void worker_release(struct worker *worker) {
        (void) pthread_mutex_lock(&worker->lock);
        set(worker, &worker->lent, false);
        (void) pthread_mutex_unlock(&worker->lock);
}
