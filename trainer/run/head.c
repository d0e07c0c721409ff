/*
 * Which rows of the classifier's head that a run begins with its classes take: those of the same name. Classes are numbered by their order
 * in each run, so a head taken as it is would answer with other classes' names. Owns nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "trainer/checkpoint/description.h"
#include "trainer/checkpoint/task.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/hf/folder.h"
#include "trainer/model/heads.h"
#include "trainer/run/run.h"

struct heads {
        struct task task[SPEC_TASKS_MAX];
        uint32_t n;
};

static void free_heads(struct heads *heads) {
        for (uint32_t t = 0; t < heads->n; t++)
                task_free(&heads->task[t]);
}

static int heads_of_folder(const char *folder, struct heads *ret, struct error *error) {
        struct model_config config = {};

        int r = hf_folder_config(folder, &config, &ret->task[0].labels, error);
        ret->task[0].numbers = config.classifier.n_labels > 0 && config.classifier.target == TARGET_NUMBER;
        ret->n = 1;
        return r;
}

static int heads_of_checkpoint(const struct checkpoint *c, struct heads *ret, struct error *error) {
        struct model_config config;

        int r = description_config(c, &config, error);
        return r < 0 ? r : task_list(c, &config, ret->task, &ret->n, error);
}

static bool same_classes(const struct labels *own, const struct labels *its) {
        bool all = own->n == its->n;

        for (uint32_t i = 0; all && i < own->n; i++)
                all = labels_find(its, own->name[i]) >= 0;
        return all;
}

/* By the task's name; where either has none, by its classes. Where both sides have one task, that is the one. NULL: none. */
static const struct task *partner_of(const struct run *run, const struct run_task *task, const struct heads *its) {
        if (its->n == 1 && run->job->n_tasks == 1)
                return &its->task[0];
        for (uint32_t t = 0; t < its->n; t++)
                if (its->task[t].name && strcmp(its->task[t].name, task->name) == 0)
                        return &its->task[t];
        for (uint32_t t = 0; t < its->n; t++)
                if ((!task->name[0] || !its->task[t].name || !its->task[t].name[0]) &&
                    same_classes(&task->labels, &its->task[t].labels))
                        return &its->task[t];
        return NULL;
}

/* "'a', 'b'": names that are not among others, as many as fit. */
static void name_missing(const struct labels *labels, const struct labels *others, char *buffer, size_t size) {
        size_t used = 0;

        buffer[0] = '\0';
        for (uint32_t i = 0; i < labels->n && used + 40 < size; i++)
                if (!others || labels_find_class(others, labels->name[i]) < 0)
                        used += (size_t) snprintf(buffer + used, size - used, "%s'%.24s'", used > 0 ? ", " : "",
                                                  labels->name[i]);
}

static int refuse(const struct run *run, const struct run_task *task, const struct labels *its, const int32_t *place,
                  struct error *error) {
        char own[256], theirs[256];
        bool subset = true;

        for (uint32_t i = 0; i < task->labels.n; i++)
                subset = subset && place[i] >= 0;
        name_missing(&task->labels, its, own, sizeof(own));
        name_missing(its, &task->labels, theirs, sizeof(theirs));
        return error_input(
                error, BERTD_EXIT_DATA,
                "%s: some of its %u classes are those of training, but not all: %s%s%s%s%s; %smodel.head: fresh "
                "begins with a new head",
                run->job->whole->model.init, its->n, own[0] ? "it does not have " : "", own,
                own[0] && theirs[0] ? ", and " : "", theirs[0] ? "training does not have " : "", theirs,
                subset ? "name all of its classes in data.labels to keep its head, or " : "");
}

static int say_other_kind(const struct run_task *task) {
        (void) fprintf(stderr,
                       "bert-trainer: the head of model.init is for %s, training is for %s: the head is initialised "
                       "randomly\n",
                       task->numbers ? "classes" : "numbers", task->numbers ? "numbers" : "classes");
        return 0;
}

static int match_task(const struct run *run, const struct run_task *task, const struct heads *its, int32_t *rows,
                      struct error *error) {
        const struct task *partner = partner_of(run, task, its);
        char own[256], theirs[256];

        if (!partner) {
                (void) fprintf(stderr,
                               "bert-trainer: no task of model.init is %s%s%s: %s head is initialised randomly\n",
                               task->name[0] ? "'" : "of these classes", task->name, task->name[0] ? "'" : "",
                               task->name[0] ? "its" : "the classifier's");
                return 0;
        }
        if (task->numbers != partner->numbers)
                return say_other_kind(task);
        if (task->numbers) {
                rows[0] = (int32_t) partner->first;
                return 0;
        }
        switch (labels_match(&task->labels, &partner->labels, rows)) {
        case LABELS_ALL:
                for (uint32_t i = 0; i < task->labels.n; i++)
                        rows[i] += (int32_t) partner->first;
                return 0;
        case LABELS_SOME:
                return refuse(run, task, &partner->labels, rows, error);
        case LABELS_NONE:
                name_missing(&task->labels, NULL, own, sizeof(own));
                name_missing(&partner->labels, NULL, theirs, sizeof(theirs));
                (void) fprintf(
                        stderr,
                        "bert-trainer: no class of training (%s) is one of model.init (%s): the classifier's head "
                        "is initialised randomly\n",
                        own, theirs);
                return 0;
        }
        return 0;
}

int run_head_rows(const struct run *run, const struct checkpoint *checkpoint, int32_t **ret, struct error *error) {
        cleanup_free int32_t *rows = malloc((run->job->n_classes + 1) * sizeof(*rows));
        struct heads its = {};
        int r = 0;

        if (!rows)
                return error_errno(error, ENOMEM, "classes");
        for (uint32_t i = 0; i < run->job->n_classes; i++)
                rows[i] = -1;
        if (run->job->whole->model.head == INIT_HEAD_FRESH)
                (void) fprintf(stderr,
                               "bert-trainer: model.head: fresh: the classifier's head is initialised randomly\n");
        else
                r = checkpoint ? heads_of_checkpoint(checkpoint, &its, error)
                               : heads_of_folder(run->job->whole->model.init, &its, error);
        bool any = its.n > 0 && task_width(&its.task[0]) > 0; /* a classifier at all */
        for (uint32_t t = 0; r >= 0 && any && t < run->job->n_tasks; t++)
                r = match_task(run, &run->job->tasks[t], &its, rows + run->job->tasks[t].first, error);
        free_heads(&its);
        if (r < 0)
                return r;
        *ret = steal_pointer(&rows);
        return 0;
}
