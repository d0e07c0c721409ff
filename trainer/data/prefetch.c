/*
 * See prefetch.h. Owns the worker and both sets. Invariant: the worker touches only set `making`; the caller touches the
 * other one. What is in a set depends on its range alone, so timing cannot change a result.
 */
#include "trainer/data/prefetch.h"

#include <errno.h>
#include <stdlib.h>

#include "common/worker.h"

struct prefetch {
        struct worker *worker;
        struct batches *set[2];
        uint64_t begin[2], end[2];
        uint32_t making;
};

static void make(void *context) {
        struct prefetch *prefetch = context;
        uint32_t i = prefetch->making;

        batches_fill(prefetch->set[i], prefetch->begin[i], prefetch->end[i]);
}

int prefetch_new(const struct sample_source *source, const struct batches_limits *limits, struct prefetch **ret,
                 struct error *error) {
        struct prefetch *prefetch = calloc(1, sizeof(*prefetch));
        if (!prefetch)
                return error_errno(error, ENOMEM, "prefetch");

        int r = 0;
        for (int i = 0; i < 2 && r >= 0; i++)
                r = batches_new(source, limits, &prefetch->set[i], error);
        if (r >= 0) {
                r = worker_new(make, prefetch, &prefetch->worker);
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
        worker_free(prefetch->worker);
        for (int i = 0; i < 2; i++)
                batches_free(prefetch->set[i]);
        free(prefetch);
}

struct batches *prefetch_take(struct prefetch *prefetch, uint64_t begin, uint64_t end, uint64_t next_begin,
                              uint64_t next_end) {
        worker_wait(prefetch->worker);
        uint32_t i = prefetch->making;

        if (prefetch->begin[i] != begin || prefetch->end[i] != end) {
                batches_fill(prefetch->set[i], begin, end);
                prefetch->begin[i] = begin;
                prefetch->end[i] = end;
        }
        prefetch->making = 1 - i;
        prefetch->begin[1 - i] = next_begin;
        prefetch->end[1 - i] = next_end;
        worker_begin(prefetch->worker, false);
        return prefetch->set[i];
}
