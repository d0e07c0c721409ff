/*
 * What two columns of text are if data.join is auto: a pair, or, in a run that an older bert-trainer began, one text, as then; see run.h. A
 * checkpoint of a run with two columns records it as the meta key pairs: "joined", or the tasks that have pairs. Owns nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "trainer/run/run.h"

#define KEY "pairs"
#define JOINED "joined"

/* ---- each task's data ---- */

typedef bool (*each_t)(struct spec_data *data, bool joined);

static bool visit(struct spec *spec, each_t each, bool joined) {
        bool any = each(&spec->data, joined);

        for (uint32_t t = 0; t < spec->n_tasks; t++)
                any = visit(spec->tasks[t], each, joined) || any;
        for (uint32_t s = 0; s < spec->n_stages; s++)
                any = visit(spec->stages[s], each, joined) || any;
        return any;
}

static bool has_two(struct spec_data *data, bool joined) { return data->n_text == 2; }

static bool is_open(struct spec_data *data, bool joined) { return data->n_text == 2 && data->join == JOIN_AUTO; }

static bool settle(struct spec_data *data, bool joined) {
        if (!is_open(data, joined))
                return false;
        data->join = joined ? JOIN_TRUE : JOIN_FALSE;
        return true;
}

/* ---- what the run was ---- */

/* The first that opens, the newest first, as restore has it. */
static int open_newest(const char *run_dir, struct checkpoint **ret) {
        cleanup_free uint64_t *steps = NULL;
        size_t n = 0;
        int r = rundir_peek(run_dir, &steps, &n);

        for (size_t i = n; r >= 0 && i-- > 0;) {
                cleanup_free char *path = rundir_peek_path(run_dir, steps[i]);
                if (path && checkpoint_open(path, ret, NULL) >= 0)
                        return 1;
        }
        return 0;
}

static bool was_joined(const struct run *run) {
        cleanup_checkpoint struct checkpoint *c = NULL;
        const char *resume = run->options->resume;
        bool found = resume ? checkpoint_open(resume, &c, NULL) >= 0 : open_newest(run->options->run_dir, &c) > 0;
        const char *pairs = found ? checkpoint_meta_get(checkpoint_meta(c), KEY) : NULL;

        return found && (!pairs || strcmp(pairs, JOINED) == 0);
}

bool run_pairs_were_joined(const struct run *run) {
        if (run->job->whole->kind != JOB_FINETUNE || !visit(run->job->whole, is_open, false) || !was_joined(run))
                return false;
        (void) fprintf(
                stderr,
                "bert-trainer: data.text: two columns are joined, as when this run began; in a new run they are a "
                "pair\n");
        return true;
}

void run_pairs_settle(struct run *run, bool joined) {
        run->making->joins = joined;
        (void) visit(run->making->whole, settle, joined);
}

/* ---- what it is ---- */

static int format_pairs(const struct spec *stage, char **ret) {
        char *names = strdup("");

        for (uint32_t t = 0; names && t < spec_n_tasks(stage); t++) {
                const struct spec_data *d = spec_task(stage, t);
                if (!spec_is_pair(d))
                        continue;
                char *longer = format_string("%s%s%s", names, names[0] ? "," : "", d->task ? d->task : "yes");
                free(names);
                names = longer;
        }
        *ret = names;
        return names ? 0 : -1;
}

int run_pairs_fill(const struct run *run, const struct spec *stage, struct checkpoint_meta *m) {
        cleanup_free char *names = NULL;

        if (!visit(run->job->whole, has_two, false))
                return 0;
        if (stage->data.objective == OBJECTIVE_CLASSIFY && format_pairs(stage, &names) < 0)
                return -1;
        checkpoint_meta_set(m, KEY, "%s", run->job->joins ? JOINED : names && names[0] ? names : "none");
        return 0;
}

bool run_pairs_are_same(const char *then, const char *now) {
        const char *a = strcmp(then, JOINED) == 0 ? "none" : then, *b = strcmp(now, JOINED) == 0 ? "none" : now;

        return strcmp(a, b) == 0;
}
