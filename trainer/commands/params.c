/* The subcommand `params`: counts the very layout that model_new would allocate and walks the very plan of its arena, so neither the counts
 * nor the memory can drift from the model; of a GPU by the table in ops/planned.h, which needs none. */
#include "trainer/commands/commands.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/parse.h"
#include "common/spec/spec.h"
#include "common/usage.h"
#include "trainer/model/count.h"
#include "trainer/model/room.h"
#include "trainer/ops/device.h"
#include "trainer/ops/ops.h"
#include "trainer/ops/planned.h"

static const char HELP[] = "usage: bert-trainer params [OPTION...] CONFIG.json\n\n"
                           "Counts the parameters of a model, part by part, and the memory that a rank needs\n"
                           "to train it.\n\n"
                           "      --micro-batch N        samples of full length in a micro-batch\n"
                           "                             (default: 32)\n"
                           "      --sequence-length N    tokens of a sample (default: 128, or fewer where\n"
                           "                             the model has fewer positions)\n"
                           "      --max-predictions N    masked tokens of a sample (default: 15 % of its\n"
                           "                             length)\n"
                           "      --recompute            recompute activations in the backward pass\n"
                           "      --precision KIND       memory of a GPU, in fp32, tf32, bf16 or fp16\n"
                           "                             (default: of the CPU, in fp32)\n"
                           "      --gpu-memory SIZE      largest micro-batch that fits a GPU of this size,\n"
                           "                             for example 16G, in bf16 or what --precision names\n"
                           "      --ranks N              with --precision or --gpu-memory: GPUs that train\n"
                           "                             together (default: 2); one needs no buffers to\n"
                           "                             sum gradients in\n"
                           "      --json                 print one JSON object\n"
                           "  -h, --help                 print this help\n";

#define MICRO_BATCH_MAX 65536

struct request {
        uint64_t micro_batch, sequence_length, max_predictions, gpu_memory, ranks;
        int precision; /* negative: not given */
        bool recompute, json;
        const struct ops *ops; /* whose memory is meant */
};

/* The largest micro-batches that fit: [recomputed][without a snapshot on the GPU]. */
struct fit {
        uint64_t micro_batch[2][2];
        uint64_t most; /* that was tried */
};

static const char *const part_names[MODEL_PART_MAX] = {
        [PART_EMBEDDINGS] = "embeddings",       [PART_MAPPING] = "mapping", [PART_ATTENTION] = "attention",
        [PART_FEED_FORWARD] = "feed_forward",   [PART_POOLER] = "pooler",   [PART_MLM_HEAD] = "mlm_head",
        [PART_SENTENCE_HEAD] = "sentence_head",
};

static bool on_gpu(const struct request *request) { return request->ops != ops_cpu(); }

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
        size_t beside = on_gpu(request) ? request->ops->later_bytes(request->ranks > 1) : 0;
        const struct {
                const char *name;
                size_t bytes;
        } rows[] = {
                { "parameters", m->parameters },
                { "gradients", m->gradients },
                { "moments", m->moments },
                { "activations", m->activations },
                { "communication, code", beside },
                { "total", model_memory_sum(m) + beside },
                { "checkpoints, rank 0", m->snapshot },
        };

        printf("\nmemory of a rank %sin %s, micro-batches of %" PRIu64 " x %" PRIu64 " tokens%s\n",
               on_gpu(request) ? "on a GPU " : "",
               precision_names[request->precision < 0 ? PRECISION_FP32 : request->precision], request->micro_batch,
               request->sequence_length, request->recompute ? ", activations recomputed" : "");
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (rows[i].bytes > 0)
                        printf("%-24s %10.1f MiB\n", rows[i].name, (double) rows[i].bytes / 1048576);
}

static void print_micro_batch(uint64_t n, uint64_t most) {
        char text[32] = "none";

        if (n > 0)
                (void) snprintf(text, sizeof(text), "%" PRIu64 "%s", n, n == most ? " or more" : "");
        printf(" %16s", text);
}

static void print_fit(const struct request *request, const struct fit *fit) {
        static const char *const names[2] = { "snapshot on the GPU", "snapshot in host memory" };

        printf("\nlargest micro-batch that fits a GPU of %.1f GiB\n%-24s %16s %16s\n",
               (double) request->gpu_memory / (1 << 30), "", "activations kept", "recomputed");
        for (int without = 0; without < 2; without++) {
                printf("%-24s", names[without]);
                for (int recompute = 0; recompute < 2; recompute++)
                        print_micro_batch(fit->micro_batch[recompute][without], fit->most);
                putchar('\n');
        }
}

static json_t *json_memory(const struct request *request, const struct model_memory *m) {
        size_t beside = on_gpu(request) ? request->ops->later_bytes(request->ranks > 1) : 0;
        json_t *memory = json_pack("{sI sI sI sI sI sI}", "parameters", (json_int_t) m->parameters, "gradients",
                                   (json_int_t) m->gradients, "moments", (json_int_t) m->moments, "activations",
                                   (json_int_t) m->activations, "total", (json_int_t) (model_memory_sum(m) + beside),
                                   "checkpoints", (json_int_t) m->snapshot);

        if (on_gpu(request))
                (void) json_object_set_new(memory, "communication", json_integer((json_int_t) beside));
        return memory;
}

static json_t *json_fit(const struct fit *fit) {
        return json_pack("{sI sI sI sI}", "plain", (json_int_t) fit->micro_batch[0][0], "recompute",
                         (json_int_t) fit->micro_batch[1][0], "plain_host_snapshot",
                         (json_int_t) fit->micro_batch[0][1], "recompute_host_snapshot",
                         (json_int_t) fit->micro_batch[1][1]);
}

static int print_json(const struct request *request, const struct parameter_counts *c, const struct model_memory *m,
                      const struct fit *fit) {
        json_t *object = json_pack("{sI sI sI sI}", "encoder",
                                   (json_int_t) (c->part[PART_ATTENTION] + c->part[PART_FEED_FORWARD]),
                                   "encoder_and_pooler", (json_int_t) c->body, "with_pretraining_heads",
                                   (json_int_t) c->whole, "saved_by_factorizing", (json_int_t) c->saved_by_factorizing);

        for (enum model_part part = 0; part < MODEL_PART_MAX; part++)
                if (part_names[part])
                        (void) json_object_set_new(object, part_names[part], json_integer((json_int_t) c->part[part]));
        (void) json_object_set_new(object, "memory_bytes", json_memory(request, m));
        if (request->gpu_memory)
                (void) json_object_set_new(object, "largest_micro_batch", json_fit(fit));
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

static int parse_precision(const char *text, int *ret, struct error *error) {
        int precision = parse_choice(text, precision_names, PRECISION_MAX);

        if (precision < 0 || precision == PRECISION_AUTO || precision == PRECISION_FP64)
                return error_input(error, BERTD_EXIT_USAGE, "--precision: '%.64s', expected fp32, tf32, bf16 or fp16",
                                   text);
        *ret = precision;
        return 0;
}

static int parse_gpu_memory(const char *text, uint64_t *ret, struct error *error) {
        if (parse_size(text, UINT64_C(1) << 30, UINT64_C(1) << 50, ret) >= 0)
                return 0;
        return error_input(error, BERTD_EXIT_USAGE, "--gpu-memory: '%.64s', expected a whole number from 1G to 1024T",
                           text);
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
                return parse_number("micro-batch", optarg, MICRO_BATCH_MAX, &request->micro_batch, error);
        case 's':
                return parse_number("sequence-length", optarg, 8192, &request->sequence_length, error);
        case 'P':
                return parse_precision(optarg, &request->precision, error);
        case 'g':
                return parse_gpu_memory(optarg, &request->gpu_memory, error);
        case 'n':
                return parse_number("ranks", optarg, 1 << 20, &request->ranks, error);
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
                                             { "precision", required_argument, NULL, 'P' },
                                             { "gpu-memory", required_argument, NULL, 'g' },
                                             { "ranks", required_argument, NULL, 'n' },
                                             { "help", no_argument, NULL, 'h' },
                                             {} },
        .min = 1,
        .max = 1,
        .words = "CONFIG.json",
        .take = take,
};

/* Whose memory is meant. */
static int settle_precision(struct request *request, struct error *error) {
        if (request->precision < 0 && request->gpu_memory)
                request->precision = PRECISION_BF16;
        if (request->precision < 0 && request->ranks > 0)
                return error_input(error, BERTD_EXIT_USAGE, "--ranks: requires --precision or --gpu-memory");
        if (request->ranks == 0)
                request->ranks = 2;
        request->ops = request->precision < 0 ? ops_cpu() : ops_planned((enum precision) request->precision);
        return 0;
}

static int settle_length(struct request *request, const struct model_config *config, struct error *error) {
        if (request->sequence_length == 0)
                request->sequence_length = MIN(128u, config->max_position_embeddings);
        if (request->max_predictions > request->sequence_length)
                return error_input(error, BERTD_EXIT_USAGE,
                                   "--max-predictions: %" PRIu64 " is more than --sequence-length, %" PRIu64,
                                   request->max_predictions, request->sequence_length);
        if (request->sequence_length <= config->max_position_embeddings)
                return 0;
        return error_input(error, BERTD_EXIT_USAGE,
                           "--sequence-length: %" PRIu64 " is more than max_position_embeddings, %u",
                           request->sequence_length, config->max_position_embeddings);
}

static int plan_memory(const struct request *request, const struct model_config *config, struct model_memory *ret,
                       struct error *error) {
        uint64_t predictions =
                request->max_predictions ? request->max_predictions : (request->sequence_length * 15 + 99) / 100;
        struct model_limits limits =
                model_limits_of(request->micro_batch, (uint32_t) request->sequence_length, (uint32_t) predictions);

        limits.recompute = request->recompute;
        return model_plan_memory(config, request->ops, &limits, ret, error);
}

struct question {
        struct request request;
        const struct model_config *config;
        bool snapshot;
};

static uint64_t bytes_with(const void *context, uint64_t micro_batch) {
        struct question q = *(const struct question *) context;
        struct model_memory memory;

        q.request.micro_batch = micro_batch;
        if (plan_memory(&q.request, q.config, &memory, NULL) < 0)
                return UINT64_MAX;
        return model_memory_sum(&memory) + (q.snapshot ? memory.snapshot : 0) +
               q.request.ops->later_bytes(q.snapshot || q.request.ranks > 1);
}

static struct fit find_fit(const struct request *request, const struct model_config *config) {
        uint64_t room = ops_planned_room_nominal(request->gpu_memory),
                 most = MIN(INT32_MAX / 2 / request->sequence_length, (uint64_t) MICRO_BATCH_MAX);
        struct question q = { *request, config, true };
        struct fit fit = { .most = most };

        for (int recompute = 0; recompute < 2; recompute++)
                for (int without = 0; without < 2; without++) {
                        q.request.recompute = recompute;
                        q.snapshot = !without;
                        fit.micro_batch[recompute][without] = room_largest(bytes_with, &q, most, room);
                }
        return fit;
}

int cmd_params(int argc, char **argv) {
        struct request request = { .micro_batch = 32, .precision = -1 };
        struct error error = {};
        struct model_config config;
        struct parameter_counts counts;
        struct model_memory memory;
        struct fit fit = {};

        int r = usage_parse(&usage, argc, argv, &request, &error);
        if (r > 0)
                return BERTD_EXIT_OK;
        if (r < 0 || settle_precision(&request, &error) < 0 || config_load(argv[optind], &config, &error) < 0 ||
            parameter_counts(&config, &counts, &error) < 0 || settle_length(&request, &config, &error) < 0 ||
            plan_memory(&request, &config, &memory, &error) < 0)
                return error_report(&error);
        if (request.gpu_memory)
                fit = find_fit(&request, &config);
        if (request.json)
                return print_json(&request, &counts, &memory, &fit) < 0 && !ferror(stdout) ? BERTD_EXIT_OSERR
                                                                                           : BERTD_EXIT_OK;
        print_counts(&config, &counts);
        print_memory(&request, &memory);
        if (request.gpu_memory)
                print_fit(&request, &fit);
        return BERTD_EXIT_OK;
}
