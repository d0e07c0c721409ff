/* See inspect.h. Reads only; holds one tensor at a time. */
#include "trainer/checkpoint/reader.h"
#include "trainer/commands/commands.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/usage.h"

static const char HELP[] = "usage: bert-trainer inspect [--json] CHECKPOINT\n\n"
                           "Prints what a checkpoint was made with, its assets and its tensors, and verifies\n"
                           "its checksums.\n\n"
                           "      --json    print one JSON object\n"
                           "  -h, --help    print this help\n\n"
                           "Exit status: 0 whole, 76 cannot be used.\n";

static void print_text(const struct checkpoint *c, const struct assets *assets) {
        const struct checkpoint_meta *meta = checkpoint_meta(c);
        char shape[64];

        for (uint32_t i = 0; i < meta->n; i++)
                (void) printf("%-28s %s\n", meta->items[i].key, meta->items[i].value);
        (void) printf("\n");
        for (uint32_t i = 0; i < assets->n; i++)
                (void) printf("asset    %-23zu %s  %s\n", assets->item[i].size, assets->item[i].checksum,
                              assets->item[i].name);
        for (uint32_t i = 0; i < checkpoint_n_tensors(c); i++) {
                const struct checkpoint_tensor *t = checkpoint_tensor(c, i);
                checkpoint_format_shape(t, shape, sizeof(shape));
                (void) printf("%-8s %-8s %-14s %s  %s\n", t->kind, t->dtype, shape, t->checksum, t->name);
        }
}

static json_t *shape_json(const struct checkpoint_tensor *t) {
        json_t *shape = json_array();
        for (uint32_t d = 0; d < t->n_dims; d++)
                (void) json_array_append_new(shape, json_integer((json_int_t) t->shape[d]));
        return shape;
}

static json_t *assets_json(const struct assets *assets) {
        json_t *rows = json_array();

        for (uint32_t i = 0; i < assets->n; i++)
                (void) json_array_append_new(rows, json_pack("{s:s, s:I, s:s}", "name", assets->item[i].name, "bytes",
                                                             (json_int_t) assets->item[i].size, "checksum",
                                                             assets->item[i].checksum));
        return rows;
}

static int print_json(const struct checkpoint *c, const struct assets *assets) {
        json_t *meta = json_object(), *tensors = json_array();

        for (uint32_t i = 0; i < checkpoint_meta(c)->n; i++)
                (void) json_object_set_new(meta, checkpoint_meta(c)->items[i].key,
                                           json_string(checkpoint_meta(c)->items[i].value));
        for (uint32_t i = 0; i < checkpoint_n_tensors(c); i++) {
                const struct checkpoint_tensor *t = checkpoint_tensor(c, i);
                (void) json_array_append_new(tensors, json_pack("{s:s, s:s, s:s, s:o, s:s}", "name", t->name, "kind",
                                                                t->kind, "dtype", t->dtype, "shape", shape_json(t),
                                                                "checksum", t->checksum));
        }
        json_t *all = json_pack("{s:s, s:o, s:o, s:o}", "path", checkpoint_path(c), "meta", meta, "assets",
                                assets_json(assets), "tensors", tensors);
        int r = all ? json_dumpf(all, stdout, JSON_INDENT(1)) : -1;
        json_decref(all);
        return r < 0 || putchar('\n') == EOF ? -1 : 0;
}

static int take(void *context, int option, struct error *error) {
        *(bool *) context = option == 'j';
        return 0;
}

static const struct usage usage = {
        .help = HELP,
        .options =
                (const struct option[]) { { "json", no_argument, NULL, 'j' }, { "help", no_argument, NULL, 'h' }, {} },
        .min = 1,
        .max = 1,
        .words = "CHECKPOINT",
        .take = take,
};

int cmd_inspect(int argc, char **argv) {
        bool json = false;
        struct error error = {};

        int r = usage_parse(&usage, argc, argv, &json, &error);
        if (r > 0)
                return BERTD_EXIT_OK;
        if (r < 0)
                return error_report(&error);

        cleanup_checkpoint struct checkpoint *c = NULL;
        cleanup_assets struct assets assets = {};
        if (checkpoint_open(argv[optind], &c, &error) < 0 || checkpoint_verify(c, &error) < 0 ||
            checkpoint_read_assets(c, &assets, &error) < 0)
                return error_report(&error);
        if (json && print_json(c, &assets) < 0 && !ferror(stdout))
                return BERTD_EXIT_OSERR;
        if (!json)
                print_text(c, &assets);
        return BERTD_EXIT_OK;
}
