/*
 * What a checkpoint records of a classifier's tasks: for each, its classes, where its head begins among all classes, and how its texts
 * were read. A stage of several tasks writes several; a run of one task, and an imported folder, write one.
 */
#ifndef TRAINER_CHECKPOINT_TASK_H
#define TRAINER_CHECKPOINT_TASK_H

#include "trainer/checkpoint/reader.h"
#include "trainer/data/examples.h"
#include "trainer/model/config.h"

/* Zeroed = empty; task_free leaves it so. */
struct task {
        char *name;              /* "" where it has none */
        struct labels labels;    /* its classes */
        bool numbers;            /* it has none: a label is a number */
        struct labels columns;   /* of text */
        bool pair;               /* of which the two are one */
        char *label;             /* the label's column */
        enum data_format format; /* auto: by a file's name */
        enum data_format kind;   /* of the training's files: auto where that is not known */
        enum data_encoding encoding;
        enum data_header header;
        char delimiter; /* of csv; NUL: a comma */
        enum data_empty empty;
        uint32_t first; /* the first class' place among all of the classifier's */
};

/* Outputs of a text: one for each class, or the number. */
static inline uint32_t task_width(const struct task *task) { return task->numbers ? 1 : task->labels.n; }

/* Whether the checkpoint holds a usable classifier or head of numbers: that of a stage that pretrains does not. */
bool task_any(const struct checkpoint *checkpoint, const struct model_config *config);

/* Adds the index-th task; `name` "" where the spec gives none, `n_classes` of them in the checkpoint's list of class names
 * (description_set_labels), behind those of the tasks before. */
int task_set_meta(struct checkpoint_meta *meta, uint32_t index, const char *name, uint32_t n_classes, uint32_t first,
                  const struct spec_data *data, struct error *error);

/* The task of that name; NULL: the only one. `config`: the checkpoint's. Refused (65) where the checkpoint holds no
 * classifier, has no such task, or has several and none is named. */
int task_find(const struct checkpoint *checkpoint, const char *name, const struct model_config *config,
              struct task *ret, struct error *error);

/* What is known of a checkpoint that holds no classifier: texts are in a column text. */
int task_default(struct task *ret, struct error *error);

/* All tasks of a classifier's checkpoint into `ret` (SPEC_TASKS_MAX), none if it holds no classifier; the caller frees each. */
int task_list(const struct checkpoint *checkpoint, const struct model_config *config, struct task *ret, uint32_t *ret_n,
              struct error *error);
void task_free(struct task *task);

#endif
