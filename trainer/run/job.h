/*
 * What a run is: its spec, its configuration, its vocabulary and the data of its stages. Made by set-up (run->making) on every rank alike, and
 * const from then on (run->job).
 */
#ifndef TRAINER_RUN_JOB_H
#define TRAINER_RUN_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "common/spec/spec.h"
#include "trainer/checkpoint/meta.h"
#include "trainer/data/checked.h"
#include "trainer/data/corpora.h"
#include "trainer/data/examples.h"
#include "trainer/data/samples.h"
#include "trainer/data/windows.h"
#include "trainer/model/config.h"
#include "trainer/model/model.h"
#include "trainer/text/assets.h"
#include "trainer/text/encoder.h"
#include "trainer/text/vocab.h"

enum run_part { PART_TRAIN, PART_VALIDATION, PART_TEST, PART_MAX };

/* A head of the classifier: classes [first, first + labels.n) of all; or the run's only one, of a number. */
struct run_task {
        char *name; /* "": the only one */
        struct labels labels;
        bool numbers; /* without labels */
        uint32_t first;
};
static inline uint32_t run_task_width(const struct run_task *task) { return task->numbers ? 1 : task->labels.n; }

/* Of the three parts a stage has those whose n is not 0: of corpora (pretraining) or of texts (classification). */
struct run_stage {
        const struct spec *spec; /* borrowed from the whole one */
        struct sample_source source[PART_MAX];
        uint64_t n[PART_MAX]; /* samples in one epoch */
        struct corpora *corpora[PART_MAX];
        char *made_prefix[PART_MAX]; /* of a corpus that the run made of texts */
        bool made_elsewhere[PART_MAX];
        struct samples *samples[PART_MAX];
        struct texts *texts[PART_MAX];
        struct text_set set[PART_MAX];
        struct texts_found found[PART_MAX]; /* of the texts */
        struct checkpoint_meta meta;        /* what never changes during the stage */
};

struct run_job {
        struct spec *whole;       /* resolved: lengths, steps and cadences that it left open are set */
        struct run_stage *stages; /* (n_stages) */
        uint32_t n_stages;
        struct model_config config;
        struct vocab *vocab;
        struct assets assets; /* of the vocabulary: what every checkpoint holds */
        char *vocab_path;
        struct samples_vocab samples_vocab;
        struct checked checked;   /* corpora whose ids were read */
        bool knows_checked;       /* rank 0's file of them */
        struct text_options text; /* of what the run begins with, else fine-tuning's own */
        bool text_known;          /* and it is known */
        uint32_t init_length;     /* tokens of a text, as set by a folder that the run begins with; 0: it does not */
        bool init_tail;           /* and whether a longer one keeps its tail */
        bool init_cuts;           /* the spec leaves one of them to it */
        bool joins;               /* two columns are joined unless the spec sets data.join: an older trainer's run */
        struct encoder *encoder;  /* fine-tuning: as all below */
        struct run_task tasks[SPEC_TASKS_MAX];
        uint32_t n_tasks, n_classes;
        struct class_range *class_ranges; /* (n_classes) each class' task; NULL: one task */
};

#endif
