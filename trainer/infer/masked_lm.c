/* See masked_lm.h. Owns what it opens, and a batch of one text as long as the model takes. */
#include "trainer/infer/masked_lm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "trainer/checkpoint/weights.h"

static int open_model(struct masked_lm *m, struct error *error) {
        const struct bundle *b = &m->bundle;
        uint32_t n = m->max_tokens = b->config.max_position_embeddings;
        const struct model_limits limits = { .max_tokens = n, .max_sequences = 1, .max_masked = n, .max_length = n };

        if (encoder_new(b->vocab, &b->text, 1, &m->encoder) < 0)
                return error_errno(error, ENOMEM, "%s", b->vocab_path);
        m->logits = calloc(b->config.vocab_size, sizeof(*m->logits));
        if (!m->logits)
                return error_errno(error, ENOMEM, "%s", b->vocab_path);
        int r = device_open(DEVICE_CPU, PRECISION_FP32, 0, &m->device, error);
        if (r >= 0)
                r = model_new(&b->config, device_ops(m->device), &limits, &m->model, error);
        return r < 0 ? r : weights_read(b->checkpoint, m->model, error);
}

static int allocate_batch(struct masked_lm *m, struct error *error) {
        size_t n = m->max_tokens;
        struct batch *b = &m->batch;

        *b = (struct batch) { .n_sequences = 1,
                              .ids = calloc(n, sizeof(int32_t)),
                              .token_types = calloc(n, sizeof(int32_t)),
                              .positions = calloc(n, sizeof(int32_t)),
                              .cu_seqlens = calloc(2, sizeof(int32_t)),
                              .sample_k = calloc(1, sizeof(uint64_t)),
                              .masked_rows = calloc(n, sizeof(int32_t)),
                              .masked_labels = calloc(n, sizeof(int32_t)),
                              .sentence_labels = calloc(1, sizeof(int32_t)) };
        if (!b->ids || !b->token_types || !b->positions || !b->cu_seqlens || !b->sample_k || !b->masked_rows ||
            !b->masked_labels || !b->sentence_labels)
                return error_errno(error, ENOMEM, "a batch");
        b->sentence_labels[0] = -1;
        for (size_t i = 0; i < n; i++)
                b->positions[i] = (int32_t) i;
        return 0;
}

int masked_lm_open(struct masked_lm *m, const char *path, const char *vocab_path, struct error *error) {
        int r = bundle_open(&m->bundle, path, USE_MASKS, vocab_path, error);

        if (r >= 0)
                r = open_model(m, error);
        return r < 0 ? r : allocate_batch(m, error);
}

void masked_lm_close(struct masked_lm *m) {
        struct batch *b = &m->batch;

        free(b->ids);
        free(b->token_types);
        free(b->positions);
        free(b->cu_seqlens);
        free(b->sample_k);
        free(b->masked_rows);
        free(b->masked_labels);
        free(b->sentence_labels);
        free(m->logits);
        model_free(m->model);
        device_close(m->device);
        encoder_free(m->encoder);
        bundle_close(&m->bundle);
        *m = (struct masked_lm) {};
}

/* The text between masks is encoded piece by piece: what stands for a mask is the same in every kind of vocabulary. */
static int encode(const struct masked_lm *m, const char *text, struct ids *ids) {
        int r = ids_append(ids, vocab_special(m->bundle.vocab, "[CLS]"));

        for (const char *mask; r >= 0 && (mask = strstr(text, MASK)); text = mask + strlen(MASK)) {
                r = encoder_encode_special(m->encoder, 0, text, (size_t) (mask - text), ids);
                if (r >= 0)
                        r = ids_append(ids, vocab_special(m->bundle.vocab, MASK));
        }
        if (r >= 0)
                r = encoder_encode_special(m->encoder, 0, text, strlen(text), ids);
        return r < 0 ? r : ids_append(ids, vocab_special(m->bundle.vocab, "[SEP]"));
}

int masked_lm_read(struct masked_lm *m, const char *text, struct error *error) {
        struct batch *b = &m->batch;
        struct ids ids = {};

        int r = encode(m, text, &ids);
        cleanup_free int32_t *owned = ids.data;
        if (r < 0)
                return error_errno(error, -r, "text");
        if (ids.n > m->max_tokens)
                return error_input(error, BERTD_EXIT_DATA,
                                   "a text of %zu tokens with [CLS] and [SEP], the model takes %u", ids.n,
                                   m->max_tokens);
        b->n_tokens = b->max_length = (uint32_t) ids.n;
        b->cu_seqlens[1] = (int32_t) ids.n;
        b->n_masked = 0;
        for (size_t i = 0; i < ids.n; i++) {
                b->ids[i] = owned[i];
                if (owned[i] == vocab_special(m->bundle.vocab, MASK))
                        b->masked_rows[b->n_masked++] = (int32_t) i;
        }
        if (b->n_masked == 0)
                return error_input(error, BERTD_EXIT_DATA, "no [MASK] in '%.60s'", text);
        return 0;
}

void masked_lm_run(struct masked_lm *m) {
        const struct model_pass pass = { .mlm_scale = 1, .sentence_scale = 1 };
        struct model_loss loss = {};

        model_evaluate(m->model, &m->batch, &pass, &loss);
}

const double *masked_lm_logits(struct masked_lm *m, uint32_t mask) {
        model_masked_logits(m->model, mask, m->logits);
        return m->logits;
}
