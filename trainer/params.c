/* The subcommand `params`: sums the very layout that model_new would allocate, so the counts cannot drift from the model. */
#include "trainer/params.h"

#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "bertd/exit.h"
#include "trainer/model_internal.h"

static const char usage[] = "Usage: bert-trainer params [--json] CONFIG.json\n"
                            "Prints the exact number of parameters of a model, part by part.\n\n"
                            "  --json   one JSON object\n"
                            "  --help   this text\n";

static bool starts_with(const char *text, const char *prefix) { return strncmp(text, prefix, strlen(prefix)) == 0; }

int parameter_counts(const struct model_config *config, struct parameter_counts *ret_counts, struct error *error) {
        struct parameter_counts counts = {};
        struct model_layout layout;

        int r = model_layout_new(config, &layout, error);
        if (r < 0)
                return r;
        for (uint32_t i = 0; i < layout.n_tensors; i++) {
                const struct model_tensor *t = &layout.tensors[i];
                if (starts_with(t->name, "bert.embeddings."))
                        counts.embeddings += t->n_elements;
                else if (starts_with(t->name, "bert.encoder."))
                        counts.encoder += t->n_elements;
                else if (starts_with(t->name, "bert.pooler."))
                        counts.pooler += t->n_elements;
                else if (starts_with(t->name, "cls.seq_relationship."))
                        counts.sentence_head += t->n_elements;
                else
                        counts.mlm_head += t->n_elements;
        }
        counts.layer = counts.encoder / config->num_hidden_layers;
        model_layout_free(&layout);
        *ret_counts = counts;
        return 0;
}

static uint64_t body(const struct parameter_counts *c) { return c->embeddings + c->encoder + c->pooler; }
static uint64_t whole(const struct parameter_counts *c) { return body(c) + c->mlm_head + c->sentence_head; }

static void print_text(const struct model_config *config, const struct parameter_counts *c) {
        printf("embeddings               %14" PRIu64 "\n", c->embeddings);
        printf("encoder                  %14" PRIu64 "  (%u layers of %" PRIu64 ")\n", c->encoder,
               config->num_hidden_layers, c->layer);
        printf("pooler                   %14" PRIu64 "\n", c->pooler);
        printf("encoder + pooler         %14" PRIu64 "\n", body(c));
        printf("mlm head                 %14" PRIu64 "  (decoder tied)\n", c->mlm_head);
        printf("sentence head            %14" PRIu64 "\n", c->sentence_head);
        printf("with pretraining heads   %14" PRIu64 "\n", whole(c));
}

static int print_json(const struct parameter_counts *c) {
        json_t *object = json_pack("{sI sI sI sI sI sI sI sI}", "embeddings", (json_int_t) c->embeddings, "encoder",
                                   (json_int_t) c->encoder, "layer", (json_int_t) c->layer, "pooler",
                                   (json_int_t) c->pooler, "encoder_and_pooler", (json_int_t) body(c), "mlm_head",
                                   (json_int_t) c->mlm_head, "sentence_head", (json_int_t) c->sentence_head,
                                   "with_pretraining_heads", (json_int_t) whole(c));
        int r = object ? json_dumpf(object, stdout, JSON_COMPACT) : -1;

        json_decref(object);
        putchar('\n');
        return r;
}

int cmd_params(int argc, char **argv) {
        static const struct option options[] = { { "json", no_argument, NULL, 'j' },
                                                 { "help", no_argument, NULL, 'h' },
                                                 {} };
        struct error error = {};
        struct model_config config;
        struct parameter_counts counts;
        bool json = false;

        for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;)
                if (c == 'j')
                        json = true;
                else {
                        fputs(usage, c == 'h' ? stdout : stderr);
                        return c == 'h' ? BERTD_EXIT_OK : BERTD_EXIT_USAGE;
                }
        if (argc - optind != 1) {
                fputs(usage, stderr);
                return BERTD_EXIT_USAGE;
        }
        if (config_load(argv[optind], &config, &error) < 0 || parameter_counts(&config, &counts, &error) < 0)
                return error_report(&error);
        if (json)
                return print_json(&counts) < 0 ? BERTD_EXIT_IO : BERTD_EXIT_OK;
        print_text(&config, &counts);
        return BERTD_EXIT_OK;
}
