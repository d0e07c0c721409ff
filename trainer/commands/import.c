/*
 * `bert-trainer import`; see hf.h. Owns a model of the smallest batch, for its layout and for the heads that the folder lacks, which
 * begin as a fresh model's do.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/usage.h"
#include "trainer/checkpoint/description.h"
#include "trainer/checkpoint/meta.h"
#include "trainer/checkpoint/weights.h"
#include "trainer/commands/commands.h"
#include "trainer/hf/folder.h"
#include "trainer/infer/fit.h"
#include "trainer/model/model.h"
#include "trainer/ops/ops.h"
#include "trainer/text/vocab.h"

#define HEAD_SEED 42 /* of heads that the folder does not have */

static const char HELP[] = "usage: bert-trainer import [OPTION...] HF_DIR --output CHECKPOINT\n\n"
                           "Makes a checkpoint of the weights and the tokenizer of a Hugging Face folder:\n"
                           "config.json, model.safetensors, tokenizer.json, vocab.txt or spiece.model. Heads\n"
                           "that the folder lacks are initialised randomly. A job starts from the checkpoint\n"
                           "with model.init in its spec.\n\n"
                           "  -o, --output CHECKPOINT   the file to write\n"
                           "      --vocab FILE          the vocabulary of a folder that has none: a file or\n"
                           "                            a folder\n"
                           "  -h, --help                print this help\n";

struct import {
        const char *folder, *vocab; /* vocab NULL: the folder's own */
        struct model_config config;
        struct labels labels;
        struct model *model;
        const char *output;
        unsigned fresh; /* heads that the folder lacks */
        struct assets assets;
};

static int make_model(struct import *import, struct error *error) {
        static const struct model_limits smallest = {
                .max_tokens = 8, .max_sequences = 1, .max_masked = 1, .max_length = 8
        };
        int r = hf_folder_config(import->folder, &import->config, &import->labels, error);

        if (r >= 0)
                r = model_new(&import->config, ops_cpu(), &smallest, &import->model, error);
        if (r < 0)
                return r;
        model_init(import->model, HEAD_SEED);
        return hf_folder_read(import->folder, import->model, NULL, &import->fresh, error);
}

static int set_vocabulary(struct import *import, struct checkpoint_meta *meta, struct error *error) {
        cleanup_free char *path = NULL;
        cleanup_vocab struct vocab *vocab = NULL;
        struct text_options options;
        char hash[VOCAB_HASH_MAX];

        int r = hf_folder_text(import->folder, import->vocab, &import->assets, &path, &options, error);
        if (r >= 0 && !path)
                (void) fprintf(stderr,
                               "bert-trainer: %s: no vocabulary in it: the checkpoint gets none; import --vocab FILE "
                               "gives it one\n",
                               import->folder);
        if (r < 0 || !path)
                return r;
        r = assets_vocab(&import->assets, path, &vocab, error);
        if (r < 0)
                return r;
        const struct fit fit = { .model = "config.json",
                                 .config = &import->config,
                                 .vocab_path = path,
                                 .vocab = vocab,
                                 .vouched = true,
                                 .exit = BERTD_EXIT_DATA };
        vocab_hash(vocab, hash);
        checkpoint_meta_set(meta, "vocab_hash", "%s", hash);
        description_set_text(meta, path, &options);
        return fit_vocabulary(&fit, error);
}

/* As a run writes them: predict, evaluate, export and finetune read texts so. */
static int set_limits(const struct import *import, struct checkpoint_meta *meta, struct error *error) {
        struct hf_limits limits;

        int r = hf_folder_limits(import->folder, &import->config, &limits, error);
        if (r < 0)
                return r;
        if (limits.sequence_length > 0)
                checkpoint_meta_set(meta, "sequence_length", "%u", limits.sequence_length);
        if (limits.truncates)
                description_set_cuts(meta,
                                     &(struct texts_options) { .truncation = limits.truncation, .max_segments = 1 });
        return 0;
}

static int run_import(struct import *import, const char *output, struct error *error) {
        cleanup_checkpoint_meta struct checkpoint_meta meta = {};
        struct stat st;

        if (stat(import->folder, &st) == 0 && !S_ISDIR(st.st_mode))
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: a file, expected a Hugging Face folder; a checkpoint needs no import",
                                   import->folder);
        int r = make_model(import, error);
        if (r >= 0)
                r = set_vocabulary(import, &meta, error);
        if (r >= 0)
                r = set_limits(import, &meta, error);
        if (r >= 0 && import->labels.n > 0)
                r = description_set_labels(&meta, &import->labels, error);
        if (r >= 0)
                description_set_fresh(&meta, import->fresh);
        if (r >= 0)
                r = weights_write(output, import->model, &import->config, import->folder, &meta, &import->assets,
                                  error);
        return r;
}

static int take(void *context, int option, struct error *error) {
        struct import *import = context;

        if (option == 'o')
                import->output = optarg;
        else
                import->vocab = optarg;
        return 0;
}

static const struct usage usage = {
        .help = HELP,
        .letters = ":o:h",
        .options = (const struct option[]) { { "output", required_argument, NULL, 'o' },
                                             { "vocab", required_argument, NULL, 'v' },
                                             { "help", no_argument, NULL, 'h' },
                                             {} },
        .min = 1,
        .max = 1,
        .words = "HF_DIR",
        .take = take,
};

int cmd_import(int argc, char **argv) {
        struct import import = {};
        struct error error = {};

        int r = usage_parse(&usage, argc, argv, &import, &error);
        if (r > 0)
                return BERTD_EXIT_OK;
        if (r == 0 && !import.output)
                r = usage_missing("--output CHECKPOINT", argv[0], &error);
        import.folder = argv[optind];
        if (r == 0)
                r = run_import(&import, import.output, &error);
        if (r >= 0)
                (void) fprintf(stderr, "%s: %" PRIu64 " parameters of %s\n", import.output,
                               model_n_parameters(import.model), import.folder);
        model_free(import.model);
        labels_free(&import.labels);
        assets_free(&import.assets);
        return r < 0 ? error_report(&error) : BERTD_EXIT_OK;
}
