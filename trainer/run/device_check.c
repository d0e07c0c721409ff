/* A rank whose device broke, or whose corpus was spoilt meanwhile, leaves at once; see run.h. */
#include <errno.h>
#include <inttypes.h>

#include "common/file.h"
#include "trainer/run/run.h"

/* Of this rank: its device broke, or its corpus was spoilt meanwhile. */
static int check_rank(const struct run *run, struct error *error) {
        const char *failed = model_failed(run->model);

        if (failed)
                return error_set(error, EIO, "step %" PRIu64 ": %s", run->state.step + 1, failed);
        for (enum run_part part = 0; part < PART_MAX; part++)
                if (run->now->samples[part] && samples_check(run->now->samples[part], error) < 0)
                        return error_prefix(error, "step %" PRIu64, run->state.step + 1);
        return 0;
}

void run_check_device(struct run *run) {
        struct error error = {};

        if (check_rank(run, &error) >= 0)
                return;
        (void) exchange_blame(run->ranks.exchange, run->ranks.own, &error);
        int code = error_report(&error);
        struct saver_result result;
        if (run->ranks.n == 1) /* nobody waits: what is being written is good */
                saver_wait(run->out.saver, &result);
        exchange_abort(run->ranks.exchange, code);
}
