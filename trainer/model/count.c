/* See count.h. Sums the very layout that model_new would allocate. */
#include "trainer/model/count.h"

#include "trainer/model/internal.h"

int parameter_counts(const struct model_config *config, struct parameter_counts *ret_counts, struct error *error) {
        int64_t v = config->vocab_size, h = config->hidden_size, e = config->embedding_size;
        struct parameter_counts counts = {};
        struct model_layout layout;

        int r = model_layout_new(config, &layout, error);
        if (r < 0)
                return r;
        for (uint32_t i = 0; i < layout.n_tensors; i++)
                counts.part[layout.tensors[i].part] += layout.tensors[i].n_elements;
        model_layout_free(&layout);
        for (enum model_part part = 0; part < MODEL_PART_MAX; part++)
                counts.whole += counts.part[part];
        counts.body = counts.whole - counts.part[PART_MLM_HEAD] - counts.part[PART_SENTENCE_HEAD];
        counts.saved_by_factorizing = config->embedding_mapping ? v * h - (v * e + e * h) : 0;
        *ret_counts = counts;
        return 0;
}
