/*
 * The bytes that a step of a model moves between a GPU's memory and the GPU, by what moves them, counted without a GPU
 * (emulation/traffic.cc): of the first micro-batch, of each further one, and of the update. Of a model whose layers are
 * all alike, two layers are counted: the others move what the second does.
 *
 *   traffic CONFIG.json LENGTH TOKENS     prints, with tabs between: phase, function, launches, bytes read, bytes
 * written
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/parse.h"
#include "tests/gpu/emulation/traffic.h"
#include "tests/ops/model_helpers.h"
#include "trainer/model/optimizer.h"
#include "trainer/ops/cuda/cuda.h"

extern const struct cuda_module bert_trainer_cuda;

enum { FIRST, FURTHER, UPDATE, N_PHASES };
#define ROWS_MAX 64

struct row {
        char who[64];
        struct traffic traffic;
};
struct rows {
        struct row row[ROWS_MAX];
        size_t n;
};

static void add(void *userdata, const char *who, const struct traffic *traffic) {
        struct rows *rows = userdata;

        if (rows->n == ROWS_MAX)
                exit(1);
        struct row *row = &rows->row[rows->n++];
        (void) snprintf(row->who, sizeof(row->who), "%s", who);
        row->traffic = *traffic;
}

static struct traffic of(const struct rows *rows, const char *who) {
        for (size_t i = 0; i < rows->n; i++)
                if (strcmp(rows->row[i].who, who) == 0)
                        return rows->row[i].traffic;
        return (struct traffic) {};
}

static void count_step(struct model_config config, uint32_t layers, uint32_t n, uint32_t length, const struct ops *ops,
                       struct rows phases[N_PHASES]) {
        struct test_batch *t = helper_batch(config.vocab_size, n, length, 0, false);
        struct model_pass pass = helper_pass(&t->batch, true);

        config.num_hidden_layers = layers;
        struct model *model = helper_model(&config, ops, &t->batch);
        for (int phase = FIRST; phase <= FURTHER; phase++) {
                traffic_begin();
                model_forward_backward(model, &t->batch, &pass, NULL);
                traffic_end(add, &phases[phase]);
        }
        traffic_begin();
        optimizer_update(model, &helper_lamb, 1e-4, 1, 1);
        traffic_end(add, &phases[UPDATE]);
        model_free(model);
        free(t);
}

static uint64_t more(uint64_t of_two, uint64_t of_one, uint64_t layers) {
        return of_one + (layers - 1) * (of_two - of_one);
}

int main(int argc, char **argv) {
        static const char *const names[N_PHASES] = { "first", "further", "update" };
        static struct rows one[N_PHASES], two[N_PHASES];
        struct model_config config;
        struct error error = {};
        const struct ops *ops;
        uint64_t length, tokens;
        char text[CUDA_TEXT_MAX];

        if (argc != 4 || parse_u64(argv[2], 1, 512, &length) < 0 ||
            parse_u64(argv[3], length, HELPER_TOKENS_MAX, &tokens) < 0)
                return fprintf(stderr, "usage: traffic CONFIG.json LENGTH TOKENS\n"), 2;
        if (config_load(argv[1], &config, &error) < 0 ||
            bert_trainer_cuda.open(CUDA_BF16, 0, &ops, text, sizeof(text)) < 0)
                return fprintf(stderr, "traffic: %s%s\n", error.text, text), 1;
        uint32_t n = (uint32_t) (tokens / length), layers = config.num_hidden_layers;
        count_step(config, 1, n, (uint32_t) length, ops, one);
        count_step(config, 2, n, (uint32_t) length, ops, two);
        bert_trainer_cuda.close();
        for (int phase = 0; phase < N_PHASES; phase++)
                for (size_t i = 0; i < two[phase].n; i++) {
                        const char *who = two[phase].row[i].who;
                        struct traffic b = two[phase].row[i].traffic, a = of(&one[phase], who);
                        printf("%s\t%s\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\n", names[phase], who,
                               more(b.launches, a.launches, layers), more(b.read, a.read, layers),
                               more(b.written, a.written, layers));
                }
        return 0;
}
