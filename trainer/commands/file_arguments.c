/* See file_arguments.h. */
#include "trainer/commands/file_arguments.h"

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "common/usage.h"
#include "trainer/commands/text_arguments.h"

static int take_choice(const char *option, const char *const *names, unsigned n, int *ret, struct error *error) {
        *ret = usage_choice(option, optarg, names, n, error);
        return MIN(*ret, 0);
}

int file_argument(int o, struct text_model_options *f, struct error *error) {
        static const char *const devices[DEVICE_KIND_MAX] = DEVICE_KIND_NAMES, *const formats[FORMAT_MAX] =
                                                                                       DATA_FORMAT_NAMES;
        enum data_encoding encoding = ENCODING_UTF8;
        int choice = 0, r = 0;

        switch (o) {
        case 'v':
                f->vocab_path = optarg;
                return 0;
        case 't':
                f->task_name = optarg;
                return 0;
        case 'T':
                if (f->n_text == TEXT_COLUMNS_MAX)
                        return error_input(error, BERTD_EXIT_USAGE, "--text: more than %d columns", TEXT_COLUMNS_MAX);
                f->text[f->n_text++] = optarg;
                return 0;
        case 'J':
                f->join = true;
                return 0;
        case 'd':
                r = take_choice("--device", devices, DEVICE_KIND_MAX, &choice, error);
                f->device = (enum device_kind) choice;
                return r;
        case 'f':
                r = take_choice("--format", formats, FORMAT_MAX, &choice, error);
                f->format = (enum data_format) choice;
                return r;
        case 'e':
                r = text_encoding(optarg, &encoding, error);
                f->encoding = (int) encoding;
                return r;
        default:
                f->delimiter = spec_delimiter(optarg);
                return f->delimiter ? 0
                                    : error_input(error, BERTD_EXIT_USAGE,
                                                  "--delimiter: '%.64s', expected tab or a character such as ; or |",
                                                  optarg);
        }
}
