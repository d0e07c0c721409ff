/* See head.h. Owns nothing. */
#include "trainer/hf/head.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/json_read.h"
#include "common/parse.h"

#define DEFAULT_LABELS 2 /* transformers' */

/* ---- which head ---- */

static const char *class_of(const json_t *root) {
        return json_plain_string(json_array_get(json_object_get(root, "architectures"), 0));
}

static bool has_tensor(struct weight_files *files, const char *name) { return weight_files_find(files, name) != NULL; }

static bool has_pooler(struct weight_files *files) {
        return has_tensor(files, "bert.pooler.dense.weight") || has_tensor(files, "albert.pooler.weight");
}

static bool has_words(struct weight_files *files) {
        return has_tensor(files, "cls.predictions.transform.dense.weight") ||
               has_tensor(files, "predictions.dense.weight");
}

/* Heads of the same name that answer something else than the class of a text. */
static bool is_other_head(const char *class) {
        static const char *const others[] = { "ForTokenClassification", "ForMultipleChoice", "ForQuestionAnswering" };

        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                if (text_ends_with(class, others[i]))
                        return true;
        return false;
}

/* A classifier of tokens has no pooler. */
static int is_classifier(const char *path, const json_t *root, struct weight_files *files, bool *ret,
                         struct error *error) {
        const char *class = class_of(root);
        bool head = has_tensor(files, "classifier.weight") && has_pooler(files);

        if (!class && head && has_words(files))
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: architectures: missing, but the weights have a classifier and a head of words; "
                                   "expected the name of a class, e.g. [\"BertForSequenceClassification\"]",
                                   path);
        *ret = class && text_ends_with(class, "ForSequenceClassification")
                       ? true
                       : head && !has_words(files) && !(class && is_other_head(class));
        return 0;
}

/* ---- how many classes ---- */

/* As transformers: one label is a number, unless problem_type is another. */
static int check_problem(const char *path, const json_t *root, uint64_t n, enum classifier_target *ret,
                         struct error *error) {
        const char *type = json_text_at(root, "problem_type");
        bool number = type && strcmp(type, "regression") == 0;

        if (type && !number && strcmp(type, "single_label_classification") != 0)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: problem_type: is '%.64s', expected single_label_classification or regression",
                                   path, type);
        if ((number && n != 1) || (type && !number && n < 2))
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: problem_type: %s, but there %s %llu label%s; expected %s", path, type,
                                   n == 1 ? "is" : "are", (unsigned long long) n, n == 1 ? "" : "s",
                                   number ? "one" : "two or more");
        *ret = n == 1 ? TARGET_NUMBER : TARGET_CLASS;
        return 0;
}

/* Rows of the trained head; 0: it has none. */
static uint64_t head_rows(struct weight_files *files) {
        const struct weight_tensor *weight = weight_files_find(files, "classifier.weight");

        return weight && weight->tensor->n_dims > 0 ? weight->tensor->shape[0] : 0;
}

static const json_t *object_of(const json_t *root, const char *key) {
        const json_t *value = json_object_get(root, key);

        return json_is_object(value) && json_object_size(value) > 0 ? value : NULL;
}

/* By id2label, label2id, num_labels or the head's rows, whichever gives it first. */
static int count_classes(const char *path, const json_t *root, uint64_t rows, uint64_t *ret, struct error *error) {
        const json_t *names = object_of(root, "id2label"), *ids = object_of(root, "label2id"),
                     *number = json_object_get(root, "num_labels");
        const char *by = names ? "id2label" : ids ? "label2id" : number ? "num_labels" : "the head (classifier.weight)";
        uint64_t n = rows > 0 ? rows : DEFAULT_LABELS;

        if (number && !json_is_null(number) && (!json_is_integer(number) || json_integer_value(number) < 1))
                return error_input(error, BERTD_EXIT_DATA, "%s: num_labels: not a number of classes", path);
        if (names || ids)
                n = json_object_size(names ? names : ids);
        else if (json_is_integer(number))
                n = (uint64_t) json_integer_value(number);
        if (json_is_integer(number) && (uint64_t) json_integer_value(number) != n)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: num_labels is %" JSON_INTEGER_FORMAT
                                   ", but %s has %llu classes; correct one of them",
                                   path, json_integer_value(number), by, (unsigned long long) n);
        if (rows > 0 && n != rows)
                return error_input(error, BERTD_EXIT_DATA,
                                   "%s: %s has %llu classes, but the head (classifier.weight) has %llu rows", path, by,
                                   (unsigned long long) n, (unsigned long long) rows);
        if (n > LABELS_MAX)
                return error_input(error, BERTD_EXIT_DATA, "%s: %s has %llu classes, at most %d are supported", path,
                                   by, (unsigned long long) n, LABELS_MAX);
        *ret = n;
        return 0;
}

/* ---- their names ---- */

static bool is_generic(const char *name) {
        char *end;

        return strncmp(name, "LABEL_", 6) == 0 && name[6] >= '0' && name[6] <= '9' &&
               (strtoul(name + 6, &end, 10), *end == '\0');
}

/* The class of a name in label2id; −1: it has none such. Old files have the number as text. */
static int64_t id_of(const json_t *value) {
        char *end;

        if (json_is_integer(value))
                return json_integer_value(value);
        const char *text = json_plain_string(value);
        long long id = text ? strtoll(text, &end, 10) : -1;
        return text && end != text && *end == '\0' ? id : -1;
}

/* id2label's name of class i, or label2id's, or transformers' LABEL_i. NULL: there are names, but none of i. */
static const char *name_of(const json_t *root, uint64_t i, char buffer[32]) {
        const json_t *names = object_of(root, "id2label");
        json_t *ids = (json_t *) object_of(root, "label2id"), *value;
        const char *name = NULL;
        char key[24];

        (void) snprintf(key, sizeof(key), "%llu", (unsigned long long) i);
        if (names) {
                const json_t *found = json_object_get(names, key);
                if (!json_is_integer(found))
                        return json_plain_string(found);
                (void) snprintf(buffer, 32, "%" JSON_INTEGER_FORMAT, json_integer_value(found));
                return buffer;
        }
        json_object_foreach(ids, name, value) if (id_of(value) == (int64_t) i) return name;
        if (ids)
                return NULL;
        (void) snprintf(buffer, 32, "LABEL_%llu", (unsigned long long) i);
        return buffer;
}

static int add_names(const char *path, const json_t *root, uint64_t n, struct labels *labels, struct error *error) {
        const char *by = object_of(root, "id2label") ? "id2label" : "label2id";
        char buffer[32];
        int r = 0;

        for (uint64_t i = 0; r >= 0 && i < n; i++) {
                const char *name = name_of(root, i, buffer);
                if (!name)
                        return error_input(error, BERTD_EXIT_DATA, "%s: %s has no \"%llu\"", path, by,
                                           (unsigned long long) i);
                if (labels_find(labels, name) >= 0)
                        return error_input(error, BERTD_EXIT_DATA, "%s: %s: '%.64s' is given twice", path, by, name);
                r = labels_add(labels, name, error);
        }
        return r;
}

/* If both are given: the same classes, each way. LABEL_0 and so on are left behind in files whose other table was given names. */
static int check_agreement(const char *path, const json_t *root, const struct labels *labels, struct error *error) {
        json_t *ids = (json_t *) object_of(root, "label2id"), *value;
        const char *name;

        if (!ids || !object_of(root, "id2label"))
                return 0;
        json_object_foreach(ids, name, value) {
                int32_t at = labels_find(labels, name);
                if (at >= 0 ? id_of(value) != at : !is_generic(name))
                        return error_input(
                                error, BERTD_EXIT_DATA,
                                "%s: label2id: '%.64s' is class %lld, but id2label has %s there; correct one of them",
                                path, name, (long long) id_of(value), at >= 0 ? "another name" : "no such name");
        }
        return 0;
}

/* ---- all ---- */

/* transformers' default dropout of a classifier: BERT's is hidden_dropout_prob, ALBERT's 0.1. */
static int read_dropout(const char *path, const json_t *root, const struct model_config *config, double *ret,
                        struct error *error) {
        bool bert = config->model_type == MODEL_BERT;
        const char *key = bert ? "classifier_dropout" : "classifier_dropout_prob";
        const json_t *value = json_object_get(root, key);
        double dropout = json_is_number(value) ? json_number_value(value) : bert ? config->hidden_dropout_prob : 0.1;

        if (!(dropout >= 0 && dropout < 1))
                return error_input(error, BERTD_EXIT_CONFIG, "%s: %s is not at least 0 and below 1", path, key);
        *ret = dropout;
        return 0;
}

int hf_head_read(const char *path, const json_t *root, struct weight_files *files, struct model_config *config,
                 struct labels *labels, struct error *error) {
        enum classifier_target target = TARGET_CLASS;
        bool classifier = false;
        double dropout = 0;
        uint64_t n = 0;

        int r = is_classifier(path, root, files, &classifier, error);
        if (r < 0 || !classifier)
                return r;
        r = count_classes(path, root, head_rows(files), &n, error);
        if (r >= 0)
                r = check_problem(path, root, n, &target, error);
        if (r >= 0 && target == TARGET_CLASS)
                r = add_names(path, root, n, labels, error);
        if (r >= 0 && target == TARGET_CLASS)
                r = check_agreement(path, root, labels, error);
        if (r >= 0)
                r = read_dropout(path, root, config, &dropout, error);
        if (r < 0)
                return r;
        config->without_pretraining_heads = true;
        config->classifier = (struct classifier_config) { .target = target,
                                                          .n_labels = (uint32_t) n,
                                                          .first_layer = config_n_layers(config) - 1,
                                                          .n_layers = 1,
                                                          .input = INPUT_POOLED,
                                                          .dropout = dropout };
        return 0;
}
