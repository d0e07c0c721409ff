/* The subcommand `params`: counts the very layout that model_new would allocate and walks the very plan of its arena, so neither the counts
 * nor the memory can drift from the model. */
#include "trainer/commands/commands.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/parse.h"
#include "common/usage.h"
#include "trainer/model/count.h"
#include "trainer/ops/ops.h"

static const char HELP[] = "usage: bert-trainer params [OPTION...] CONFIG.json\n\n"
                           "Counts the parameters of a model, part by part, and the memory that a rank needs\n"
                           "to train it.\n\n"
                           "      --micro-batch N        samples of full length in a micro-batch\n"
                           "                             (default: 32)\n"
                           "      --sequence-length N    tokens of a sample (default: 128)\n"
                           "      --max-predictions N    masked tokens of a sample (default: 15 % of its\n"
                           "                             length)\n"
                           "      --recompute            recompute activations in the backward pass\n"
                           "      --json                 print one JSON object\n"
                           "  -h, --help                 print this help\n";

struct request {
        uint64_t micro_batch, sequence_length, max_predictions;
        bool recompute, json;
};

static const char *const part_names[MODEL_PART_MAX] = {
        [PART_EMBEDDINGS] = "embeddings",       [PART_MAPPING] = "mapping", [PART_ATTENTION] = "attention",
        [PART_FEED_FORWARD] = "feed_forward",   [PART_POOLER] = "pooler",   [PART_MLM_HEAD] = "mlm_head",
        [PART_SENTENCE_HEAD] = "sentence_head",
};

static size_t memory_sum(const struct model_memory *m) {
        return m->parameters + m->gradients + m->moments + m->activations;
}
/* Rank 0 keeps a copy of weights and moments to write checkpoints from. */
static size_t memory_snapshot(const struct model_memory *m) { return m->parameters + m->moments; }

static void print_counts(const struct model_config *config, const struct parameter_counts *c) {
        uint64_t encoder = c->part[PART_ATTENTION] + c->part[PART_FEED_FORWARD];

        printf("embeddings               %14" PRIu64 "\n", c->part[PART_EMBEDDINGS]);
        if (config->embedding_mapping)
                printf("embedding mapping        %14" PRIu64 "  (%u to %u)\n", c->part[PART_MAPPING],
                       config->embedding_size, config->hidden_size);
        printf("encoder                  %14" PRIu64 "  (%u layers, shared: %s)\n", encoder, config_n_layers(config),
               config_sharing_name(config->cross_layer_sharing));
        printf("  attention              %14" PRIu64 "\n", c->part[PART_ATTENTION]);
        printf("  feed-forward           %14" PRIu64 "\n", c->part[PART_FEED_FORWARD]);
        printf("pooler                   %14" PRIu64 "\n", c->part[PART_POOLER]);
        printf("encoder + pooler         %14" PRIu64 "\n", c->body);
        printf("mlm head                 %14" PRIu64 "  (decoder tied)\n", c->part[PART_MLM_HEAD]);
        printf("sentence head            %14" PRIu64 "\n", c->part[PART_SENTENCE_HEAD]);
        printf("with pretraining heads   %14" PRIu64 "\n", c->whole);
        if (config->embedding_mapping)
                printf("saved by factorizing     %14" PRId64 "\n", c->saved_by_factorizing);
}

static void print_memory(const struct request *request, const struct model_memory *m) {
        const struct {
                const char *name;
                size_t bytes;
        } rows[] = {
                { "parameters", m->parameters }, { "gradients", m->gradients },
                { "moments", m->moments },       { "activations", m->activations },
                { "total", memory_sum(m) },      { "checkpoints, rank 0", memory_snapshot(m) },
        };

        printf("\nmemory of a rank in fp32, micro-batches of %" PRIu64 " x %" PRIu64 " tokens%s\n",
               request->micro_batch, request->sequence_length, request->recompute ? ", activations recomputed" : "");
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                printf("%-24s %10.1f MiB\n", rows[i].name, (double) rows[i].bytes / 1048576);
}

static int print_json(const struct parameter_counts *c, const struct model_memory *m) {
        json_t *object = json_pack("{sI sI sI sI}", "encoder",
                                   (json_int_t) (c->part[PART_ATTENTION] + c->part[PART_FEED_FORWARD]),
                                   "encoder_and_pooler", (json_int_t) c->body, "with_pretraining_heads",
                                   (json_int_t) c->whole, "saved_by_factorizing", (json_int_t) c->saved_by_factorizing);
        json_t *memory = json_pack("{sI sI sI sI sI sI}", "parameters", (json_int_t) m->parameters, "gradients",
                                   (json_int_t) m->gradients, "moments", (json_int_t) m->moments, "activations",
                                   (json_int_t) m->activations, "total", (json_int_t) memory_sum(m), "checkpoints",
                                   (json_int_t) memory_snapshot(m));

        for (enum model_part part = 0; part < MODEL_PART_MAX; part++)
                (void) json_object_set_new(object, part_names[part], json_integer((json_int_t) c->part[part]));
        (void) json_object_set_new(object, "memory_bytes", memory);
        int r = object ? json_dumpf(object, stdout, JSON_COMPACT) : -1;
        json_decref(object);
        putchar('\n');
        return r;
}

static int parse_number(const char *name, const char *text, uint64_t max, uint64_t *ret, struct error *error) {
        return parse_u64(text, 1, max, ret) >= 0
                       ? 0
                       : error_input(error, BERTD_EXIT_USAGE, "--%s: '%.64s', expected 1 to %" PRIu64, name, text, max);
}

static int take(void *context, int option, struct error *error) {
        struct request *request = context;

        switch (option) {
        case 'j':
                request->json = true;
                return 0;
        case 'r':
                request->recompute = true;
                return 0;
        case 'b':
                return parse_number("micro-batch", optarg, 65536, &request->micro_batch, error);
        case 's':
                return parse_number("sequence-length", optarg, 8192, &request->sequence_length, error);
        default:
                return parse_number("max-predictions", optarg, 8192, &request->max_predictions, error);
        }
}

static const struct usage usage = {
        .help = HELP,
        .options = (const struct option[]) { { "json", no_argument, NULL, 'j' },
                                             { "recompute", no_argument, NULL, 'r' },
                                             { "micro-batch", required_argument, NULL, 'b' },
                                             { "sequence-length", required_argument, NULL, 's' },
                                             { "max-predictions", required_argument, NULL, 'p' },
                                             { "help", no_argument, NULL, 'h' },
                                             {} },
        .min = 1,
        .max = 1,
        .words = "CONFIG.json",
        .take = take,
};

static int plan_memory(const struct request *request, const struct model_config *config, struct model_memory *ret,
                       struct error *error) {
        uint64_t predictions =
                request->max_predictions ? request->max_predictions : (request->sequence_length * 15 + 99) / 100;
        struct model_limits limits =
                model_limits_of(request->micro_batch, (uint32_t) request->sequence_length, (uint32_t) predictions);

        limits.recompute = request->recompute;
        return model_plan_memory(config, ops_cpu(), &limits, ret, error);
}

int cmd_params(int argc, char **argv) {
        struct error error = {};
        struct request request = { .micro_batch = 32, .sequence_length = 128 };
        struct model_config config;
        struct parameter_counts counts;
        struct model_memory memory;

        int r = usage_parse(&usage, argc, argv, &request, &error);
        if (r > 0)
                return BERTD_EXIT_OK;
        if (r < 0 || config_load(argv[optind], &config, &error) < 0 || parameter_counts(&config, &counts, &error) < 0 ||
            plan_memory(&request, &config, &memory, &error) < 0)
                return error_report(&error);
        if (request.json)
                return print_json(&counts, &memory) < 0 && !ferror(stdout) ? BERTD_EXIT_OSERR : BERTD_EXIT_OK;
        print_counts(&config, &counts);
        print_memory(&request, &memory);
        return BERTD_EXIT_OK;
}
