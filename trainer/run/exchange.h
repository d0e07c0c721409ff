/*
 * What ranks exchange (contract T8): MPI where the program was built with it and a launcher of ranks started it (launcher.h),
 * else one rank alone. Called from the main thread only; every call is collective unless stated otherwise.
 *
 *   exchange_new → exchange_connect → … → exchange_free
 *
 * Sums are taken in rank order by every rank alike, so they are the same bits on all ranks and in every run at one
 * number of ranks.
 */
#ifndef TRAINER_RUN_EXCHANGE_H
#define TRAINER_RUN_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct exchange;

/* Starts MPI. A process that its launcher started as one of several and that is alone for MPI is refused (exit 78). */
int exchange_new(struct exchange **ret, struct error *error);

/* Ranks of different versions of the program are refused (exit 65) before anything else is exchanged. All ranks return alike. */
int exchange_connect(struct exchange *exchange, struct error *error);

/* Ends MPI too: nothing may be called after it. */
void exchange_free(struct exchange *exchange);

uint32_t exchange_rank(const struct exchange *exchange);    /* not collective */
uint32_t exchange_n_ranks(const struct exchange *exchange); /* not collective */

/* Among the ranks of this host. Not collective. */
uint32_t exchange_local_rank(const struct exchange *exchange);
uint32_t exchange_n_local(const struct exchange *exchange);
uint32_t exchange_local_root(const struct exchange *exchange); /* the rank that is the first of this host */

/* The short name of a rank's host, of letters, digits, - and _ alone; "" with one rank. Not collective. */
const char *exchange_host(const struct exchange *exchange, uint32_t rank);

/* Puts "rank 3 on HOST: " in front of an error of that rank's, if there are several. Not collective. Returns −code. */
int exchange_blame(const struct exchange *exchange, uint32_t rank, struct error *error);

void exchange_barrier(struct exchange *exchange);

/* Ends all ranks at once with an exit code, where the others may be waiting for what will not come. Not collective. */
void exchange_abort(struct exchange *exchange, int code) __attribute__((noreturn));

/* From rank 0 to all, any size. */
void exchange_broadcast(struct exchange *exchange, void *data, size_t size);

/* Each rank's `size` bytes (at most EXCHANGE_ITEM_MAX), in rank order: n_ranks × size, the exchange's own until the next call of
 * this or of exchange_agree. Needs no memory: a rank without an answer would leave the others waiting forever. */
#define EXCHANGE_ITEM_MAX 2048
const void *exchange_gather(struct exchange *exchange, const void *mine, size_t size);

uint64_t exchange_or(struct exchange *exchange, uint64_t bits);

/* Replaces the flat run (element_size 4: float, 8: double) by its sum over ranks, bucket by bucket. */
void exchange_sum(struct exchange *exchange, void *data, size_t n_elements, size_t element_size);

/* All ranks learn whether one failed: returns 0 where all have r >= 0, else the lowest failing rank's code, its
 * error in *error on every rank, with its rank and host in front if there are several. */
int exchange_agree(struct exchange *exchange, int r, struct error *error);

#endif
