/*
 * Sums of gradients over ranks; see run.h. If the backend has its own collective, gradients go in buckets of whole
 * tensors, from the last tensor to the first, which is about the order in which backward completes them; which bucket a tensor is in
 * is a function of the model alone (T8). A bucket leaves when all of its tensors are ready and all buckets before it have
 * left: every rank calls alike. In the host's memory the exchange
 * sums the whole run after backward.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "trainer/run/run.h"
#include "trainer/run/signals.h"

#define BUCKET_BYTES ((size_t) 32 << 20)

struct bucket {
        size_t first, n; /* elements */
        uint32_t n_tensors, pending;
};

struct buckets {
        const struct ops_collective *collective;
        uint32_t *of_tensor; /* (tensors) */
        struct bucket *list;
        uint32_t n, next; /* next: the first that has not left */
};

/* Adds tensor t, which lies before all of those added so far. */
static void add_tensor(struct buckets *b, const struct model_tensor *t, uint32_t index, size_t most) {
        struct bucket *last = b->n > 0 ? &b->list[b->n - 1] : NULL;

        if (!last || last->first + last->n - t->offset > most) {
                last = &b->list[b->n++];
                *last = (struct bucket) { .first = t->offset + t->n_elements };
        }
        last->n += last->first - t->offset;
        last->first = t->offset;
        last->n_tensors++;
        last->pending++;
        b->of_tensor[index] = b->n - 1;
}

static int plan_buckets(struct run *run, struct error *error) {
        uint32_t n = model_n_tensors(run->model);
        struct buckets *b = calloc(1, sizeof(*b));

        if (!b)
                return error_errno(error, ENOMEM, "gradient buckets");
        run->buckets = b;
        b->collective = run->ops->collective;
        b->of_tensor = calloc(n, sizeof(*b->of_tensor));
        b->list = calloc(n, sizeof(*b->list));
        if (!b->of_tensor || !b->list)
                return error_errno(error, ENOMEM, "gradient buckets");
        for (uint32_t i = n; i-- > 0;)
                add_tensor(b, model_tensor(run->model, i), i, BUCKET_BYTES / model_state(run->model)->element_size);
        return 0;
}

/* "; ranks 2 and 3 share a GPU (0000:3b:00.0)", as on MIG devices of one: NCCL takes each GPU once. "": none do. Collective. */
static void find_shared_gpu(const struct run *run, char *text, size_t size) {
        const char *location = run->ops->location ? run->ops->location() : NULL;
        struct item {
                uint32_t host;
                char gpu[32];
        } mine = { .host = exchange_local_root(run->ranks.exchange) };

        (void) snprintf(mine.gpu, sizeof(mine.gpu), "%s", location ? location : "");
        const struct item *all = exchange_gather(run->ranks.exchange, &mine, sizeof(mine));
        for (uint32_t a = 0; a < run->ranks.n; a++)
                for (uint32_t b = 0; b < a && all[a].gpu[0] && !text[0]; b++)
                        if (all[a].host == all[b].host && strcmp(all[a].gpu, all[b].gpu) == 0)
                                (void) snprintf(text, size, "; ranks %u and %u share a GPU (%s), which NCCL refuses", b,
                                                a, all[a].gpu);
}

int run_buckets_new(struct run *run, struct error *error) {
        char id[OPS_COLLECTIVE_ID_BYTES] = "", text[256] = "", shared[128] = "";
        int r = 0;

        if (run->ranks.n == 1 || state_in_host_memory(model_state(run->model)))
                return 0;
        if (!run->ops->collective)
                return error_set(error, ENOSYS, "device: cuda: built without NCCL, so one rank only");
        find_shared_gpu(run, shared, sizeof(shared));
        r = run->ops->collective->prepare(text, sizeof(text));
        if (r >= 0 && run->ranks.own == 0)
                r = run->ops->collective->make_id(id, text, sizeof(text));
        if (r < 0)
                (void) error_set(error, -r, "%s", text);
        r = exchange_agree(run->ranks.exchange, r, error);
        if (r < 0)
                return r;
        exchange_broadcast(run->ranks.exchange, id, sizeof(id));
        r = run->ops->collective->start(id, run->ranks.own, run->ranks.n, text, sizeof(text));
        r = r < 0 ? error_set(error, -r, "%s%s", text, shared) : plan_buckets(run, error);
        signals_take_back();
        if (r >= 0)
                r = signals_check_nccl(error); /* its configuration file may have set the variable */
        return exchange_agree(run->ranks.exchange, r, error);
}

void run_buckets_free(struct run *run) {
        if (!run->buckets)
                return;
        run->buckets->collective->stop();
        free(run->buckets->of_tensor);
        free(run->buckets->list);
        free(run->buckets);
        run->buckets = NULL;
}

static void send_ready(struct run *run) {
        struct buckets *b = run->buckets;

        for (; b->next < b->n && b->list[b->next].pending == 0; b->next++)
                b->collective->sum((char *) model_state(run->model)->gradients +
                                           b->list[b->next].first * model_state(run->model)->element_size,
                                   b->list[b->next].n);
}

void run_buckets_ready(void *context, uint32_t tensor) {
        struct run *run = context;

        run->buckets->list[run->buckets->of_tensor[tensor]].pending--;
        send_ready(run);
}

void run_sum_gradients(struct run *run) {
        struct buckets *b = run->buckets;

        if (!b) {
                exchange_sum(run->ranks.exchange, model_state(run->model)->gradients,
                             model_state(run->model)->n_elements, model_state(run->model)->element_size);
                return;
        }
        for (uint32_t i = 0; i < b->n; i++)
                b->list[i].pending = 0;
        send_ready(run);
        b->collective->finish();
        for (uint32_t i = 0; i < b->n; i++)
                b->list[i].pending = b->list[i].n_tensors;
        b->next = 0;
}
