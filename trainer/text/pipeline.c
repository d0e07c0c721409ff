/*
 * See pipeline.h. Three groups of slots turn round: while the workers empty `current` by an atomic counter, thread 0 consumes
 * `done` and reads `next`, then helps. The parallel region's end is the only barrier.
 */
#include "trainer/text/pipeline.h"

#include <errno.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define GROUP_BYTES_MAX ((size_t) 16 << 20)
#define GROUP_SLOTS 1024 /* many small files make a group too */
#define GROUP_SLOTS_KEPT (GROUP_BYTES_MAX / READER_BLOCK_BYTES)
#define N_GROUPS 3

struct slot {
        struct block block;
        void *result;
        int r;
        struct error error;
};

struct group {
        struct slot *slots;
        size_t n, n_slots;
        atomic_size_t taken;
        bool last; /* the text ended while this was read */
};

int pipeline_threads(void) { return omp_get_max_threads(); }

static void slot_empty(struct slot *slot, const struct pipeline *pipeline) {
        if (slot->result && pipeline->result_free)
                pipeline->result_free(slot->result);
        block_free(&slot->block);
}

static void group_free(struct group *group, const struct pipeline *pipeline) {
        for (size_t i = 0; group->slots && i < group->n_slots; i++) {
                slot_empty(&group->slots[i], pipeline);
                free(group->slots[i].result);
        }
        free(group->slots);
}

/* What a full group of plain blocks needs is kept for the next; else each slot would keep what its largest block ever took. */
static void slot_trim(struct slot *slot, size_t index, const struct pipeline *pipeline) {
        if (index < GROUP_SLOTS_KEPT && slot->block.capacity <= READER_BLOCK_BYTES)
                return;
        slot_empty(slot, pipeline);
        memset(slot->result, 0, pipeline->result_size);
}

static int group_allocate(struct group *group, const struct pipeline *pipeline, size_t n_slots) {
        group->slots = calloc(n_slots, sizeof(*group->slots));
        if (!group->slots)
                return -ENOMEM;
        group->n_slots = n_slots;
        for (size_t i = 0; i < n_slots; i++) {
                group->slots[i].result = calloc(1, pipeline->result_size);
                if (!group->slots[i].result)
                        return -ENOMEM;
        }
        return 0;
}

static int group_read(struct group *group, struct reader *reader, struct error *error) {
        size_t n_bytes = 0;

        group->n = 0;
        atomic_store(&group->taken, 0);
        while (group->n < group->n_slots && n_bytes < GROUP_BYTES_MAX) {
                struct slot *slot = &group->slots[group->n];
                int r = reader_next(reader, &slot->block, error);
                if (r <= 0) {
                        group->last = true;
                        return r;
                }
                n_bytes += slot->block.size;
                group->n++;
        }
        return 0;
}

static void group_work(struct group *group, const struct pipeline *pipeline, int thread) {
        for (size_t i; (i = atomic_fetch_add(&group->taken, 1)) < group->n;) {
                struct slot *slot = &group->slots[i];
                slot->error = (struct error) {};
                slot->r = pipeline->work(pipeline->context, thread, &slot->block, slot->result, &slot->error);
        }
}

static int group_consume(struct group *group, const struct pipeline *pipeline, struct error *error) {
        for (size_t i = 0; i < group->n; i++) {
                struct slot *slot = &group->slots[i];
                int r = slot->r;
                if (r < 0 && slot->error.code)
                        *error = slot->error;
                else if (r < 0)
                        (void) error_errno(error, -r, "%s", slot->block.path);
                else if (pipeline->consume)
                        r = pipeline->consume(pipeline->context, &slot->block, slot->result, error);
                if (r < 0)
                        return r;
                slot_trim(slot, i, pipeline);
        }
        group->n = 0;
        return 0;
}

static int turn(struct group *groups, const struct pipeline *pipeline, struct reader *reader, struct error *error) {
        int r = group_read(&groups[0], reader, error);

        for (size_t i = 0; r >= 0; i++) {
                struct group *current = &groups[i % N_GROUPS], *next = &groups[(i + 1) % N_GROUPS],
                             *done = &groups[(i + 2) % N_GROUPS];
                bool last = current->last;
#pragma omp parallel default(shared)
                {
                        int thread = omp_get_thread_num();
                        if (thread == 0) {
                                r = group_consume(done, pipeline, error);
                                if (r >= 0 && !last)
                                        r = group_read(next, reader, error);
                        }
                        group_work(current, pipeline, thread);
                }
                if (r >= 0 && last)
                        return group_consume(current, pipeline, error);
        }
        return r;
}

int pipeline_run(const struct pipeline *pipeline, struct reader *reader, struct error *error) {
        struct group groups[N_GROUPS] = {};
        int r = 0;

        for (int i = 0; i < N_GROUPS && r >= 0; i++)
                r = group_allocate(&groups[i], pipeline, GROUP_SLOTS);
        r = r < 0 ? error_errno(error, -r, "cannot read text") : turn(groups, pipeline, reader, error);
        for (int i = 0; i < N_GROUPS; i++)
                group_free(&groups[i], pipeline);
        return r;
}
