/*
 * A thread that does one piece of work at a time beside its owner, the one other thread that calls these functions.
 *
 *   worker_new → { worker_begin → (worker_settle) → worker_is_busy … worker_wait } → worker_free
 *
 * From worker_begin until worker_wait returns, or worker_is_busy returns false, what the work touches is the worker's.
 */
#ifndef COMMON_WORKER_H
#define COMMON_WORKER_H

#include <pthread.h>
#include <stdbool.h>

/* A thread in which all signals are blocked: they are for the other ones. 0 or −errno. */
int thread_start(void *(*run)(void *), void *context, pthread_t *ret);

struct worker;

/* `work` is done in the thread at each worker_begin. 0 or −errno. */
int worker_new(void (*work)(void *context), void *context, struct worker **ret);
void worker_free(struct worker *worker); /* waits for the current work; NULL: nothing */

/* Only when the work before has ended. `lends`: it reads something that must not change until worker_settle. */
void worker_begin(struct worker *worker, bool lends);
bool worker_is_busy(struct worker *worker);
void worker_wait(struct worker *worker); /* for the end of the work, if there is any */

/* Waits until the work no longer reads what it was lent, which the work reports by worker_release. */
void worker_settle(struct worker *worker);
void worker_release(struct worker *worker);

#endif
