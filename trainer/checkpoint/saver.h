/*
 * Writes checkpoints in a thread beside training (contract C7). The thread also takes the copy, into buffers that were
 * allocated and touched at the start, while the next forward and backward only read the state: the step loop waits for the
 * copy's end before it changes anything. One write at a time. Used by rank 0 alone. A state that is not finite is not
 * written (exit code BERTD_EXIT_NAN).
 *
 *   saver_new → { saver_begin, saver_settle before the next update … saver_poll } → saver_wait → saver_free
 */
#ifndef TRAINER_CHECKPOINT_SAVER_H
#define TRAINER_CHECKPOINT_SAVER_H

#include <stdbool.h>

#include "trainer/checkpoint/meta.h"
#include "trainer/text/assets.h"
#include "trainer/model/model.h"

struct saver;

struct saver_result {
        bool done; /* a write ended since the last look */
        int r;     /* 0 or −errno */
        char path[4096];
        uint64_t step;
        double seconds; /* of writing, beside training */
        struct error error;
};

int saver_new(struct model *model, struct saver **ret, struct error *error);
void saver_free(struct saver *saver); /* waits for the current write */

/* What every checkpoint holds besides: borrowed, to be kept as it is. */
void saver_set_assets(struct saver *saver, const struct assets *assets);

/* Takes memory that the device has to spare, so that the state is copied there first; to be called when all else has its own. */
void saver_take_spare(struct saver *saver);

/* Starts to copy and write the model's state, which must not change until saver_settle; first waits for the
 * current write, whose result goes to *ret_previous. */
void saver_begin(struct saver *saver, const char *path, uint64_t step, const struct checkpoint_meta *meta,
                 struct saver_result *ret_previous);

/* Waits until the state is copied; returns at once if nothing is being copied. */
void saver_settle(struct saver *saver);

/* The result of a write that ended, without waiting; then with waiting. */
void saver_poll(struct saver *saver, struct saver_result *ret);
void saver_wait(struct saver *saver, struct saver_result *ret);

#endif
