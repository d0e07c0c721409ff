/* See heads.h. Owns nothing. */
#include "trainer/model/heads.h"

#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"

static const struct {
        const char *key, *title;
} names[MODEL_PART_MAX] = {
        [PART_POOLER] = { "pooler", "pooler" },
        [PART_MLM_HEAD] = { "mlm_head", "MLM head" },
        [PART_SENTENCE_HEAD] = { "sentence_head", "NSP/SOP head" },
        [PART_CLASSIFIER] = { "classifier", "classifier" },
        [PART_SEGMENTS] = { "segments", "attention over segments" },
};

unsigned heads_of_classifier(const struct model_config *config) {
        const struct classifier_config *c = &config->classifier;

        return HEAD(PART_CLASSIFIER) | (c->input == INPUT_POOLED ? HEAD(PART_POOLER) : 0) |
               (c->segmented && c->segments == SEGMENTS_ATTENTION ? HEAD(PART_SEGMENTS) : 0);
}

unsigned heads_of(const struct model_config *config) {
        return HEAD(PART_POOLER) | (config->without_pretraining_heads ? 0 : PRETRAINING_HEADS) |
               (config->classifier.n_labels > 0 ? heads_of_classifier(config) : 0);
}

static void join(unsigned heads, bool titles, const char *separator, char *buffer, size_t size) {
        size_t used = 0;

        buffer[0] = '\0';
        for (unsigned part = 0; part < MODEL_PART_MAX; part++)
                if ((heads & HEAD(part)) && names[part].key && used < size)
                        used += (size_t) snprintf(buffer + used, size - used, "%s%s", used > 0 ? separator : "",
                                                  titles ? names[part].title : names[part].key);
}

void heads_format(unsigned heads, char text[HEADS_TEXT_MAX]) { join(heads, false, " ", text, HEADS_TEXT_MAX); }

void heads_describe(unsigned heads, char *buffer, size_t size) { join(heads, true, ", ", buffer, size); }

static unsigned find(const char *name, size_t size) {
        for (unsigned part = 0; part < MODEL_PART_MAX; part++)
                if (names[part].key && strlen(names[part].key) == size && memcmp(names[part].key, name, size) == 0)
                        return HEAD(part);
        return 0;
}

unsigned heads_parse(const char *text, const char **ret_unknown) {
        const char *unknown = NULL;
        unsigned heads = 0;

        for (size_t n; (n = strcspn(text, " ")) > 0; text += n + (text[n] == ' ')) {
                unsigned head = find(text, n);
                if (head == 0 && !unknown)
                        unknown = text;
                heads |= head;
        }
        if (ret_unknown)
                *ret_unknown = unknown;
        return heads;
}
