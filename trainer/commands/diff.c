/* `bert-trainer diff`; see inspect.h. Holds one tensor of each file at a time. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/usage.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/commands/commands.h"

static const char HELP[] = "usage: bert-trainer diff CHECKPOINT CHECKPOINT\n\n"
                           "Compares all weights and moments bit for bit, and names the first tensor that\n"
                           "differs.\n\n"
                           "  -h, --help    print this help\n\n"
                           "Exit status: 0 identical, 1 different, 76 one of them cannot be used.\n";

enum { SAME = 0, DIFFERENT = 1 };

static int differ(const struct checkpoint_tensor *t, const char *how) {
        (void) printf("%s (%s): %s\n", t->name, t->kind, how);
        return DIFFERENT;
}

/* SAME, DIFFERENT or −errno. */
static int compare_tensor(struct checkpoint *a, struct checkpoint *b, uint32_t index, struct error *error) {
        const struct checkpoint_tensor *t = checkpoint_tensor(a, index);
        int64_t other = checkpoint_find(b, t->name, t->kind);

        if (other < 0)
                return differ(t, "only in the first");
        const struct checkpoint_tensor *u = checkpoint_tensor(b, (uint32_t) other);
        if (strcmp(t->dtype, u->dtype) != 0 || t->n_dims != u->n_dims ||
            memcmp(t->shape, u->shape, sizeof(t->shape)) != 0)
                return differ(t, "shape or dtype differs");
        cleanup_free char *x = malloc(t->size), *y = malloc(u->size);
        if (!x || !y)
                return error_errno(error, ENOMEM, "%s", t->name);
        int r = checkpoint_read_tensor(a, index, x, error);
        if (r >= 0)
                r = checkpoint_read_tensor(b, (uint32_t) other, y, error);
        if (r < 0)
                return r;
        for (size_t i = 0; i < t->size; i++) {
                if (x[i] == y[i])
                        continue;
                char text[64];
                (void) snprintf(text, sizeof(text), "differs from element %zu on", i / (t->dtype[5] == '6' ? 8 : 4));
                return differ(t, text);
        }
        return SAME;
}

static int compare(struct checkpoint *a, struct checkpoint *b, struct error *error) {
        for (uint32_t i = 0; i < checkpoint_n_tensors(a); i++) {
                int r = compare_tensor(a, b, i, error);
                if (r != SAME)
                        return r;
        }
        for (uint32_t i = 0; i < checkpoint_n_tensors(b); i++) {
                const struct checkpoint_tensor *t = checkpoint_tensor(b, i);
                if (checkpoint_find(a, t->name, t->kind) < 0)
                        return differ(t, "only in the second");
        }
        return SAME;
}

static const struct usage usage = {
        .help = HELP,
        .options = (const struct option[]) { { "help", no_argument, NULL, 'h' }, {} },
        .min = 2,
        .max = 2,
        .words = "CHECKPOINT CHECKPOINT",
};

int cmd_diff(int argc, char **argv) {
        cleanup_checkpoint struct checkpoint *a = NULL, *b = NULL;
        struct error error = {};

        int r = usage_parse(&usage, argc, argv, NULL, &error);
        if (r > 0)
                return BERTD_EXIT_OK;
        if (r < 0)
                return error_report(&error);

        if (checkpoint_open(argv[optind], &a, &error) < 0 || checkpoint_open(argv[optind + 1], &b, &error) < 0)
                return error_report(&error);
        r = compare(a, b, &error);
        if (r < 0)
                return error_report(&error);
        if (r == SAME)
                (void) printf("identical: %u tensors\n", checkpoint_n_tensors(a));
        return r;
}
