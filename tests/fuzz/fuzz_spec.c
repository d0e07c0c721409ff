/* A job spec: any file is read or refused in one line, and what was read is the same when it has been written and read
 * again. */
#include <string.h>

#include "common/cleanup.h"
#include "common/spec/spec.h"
#include "tests/fuzz/fuzz.h"

static char *format(const struct spec *spec) {
        char *text = NULL;

        assert(spec_format(spec, &text, NULL) == 0);
        return text;
}

/* Bit for bit; what is text is compared as text. */
static void check_numbers(const struct spec *a, const struct spec *b) {
        assert(memcmp(&a->resources, &b->resources, sizeof(a->resources)) == 0);
        assert(memcmp(&a->checkpoint, &b->checkpoint, sizeof(a->checkpoint)) == 0);
        assert(memcmp(&a->optimizer, &b->optimizer, sizeof(a->optimizer)) == 0);
        assert(memcmp(&a->train, &b->train, sizeof(a->train)) == 0);
        assert(a->priority == b->priority && a->kind == b->kind && a->n_command == b->n_command);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static char *path, *again;
        cleanup_spec struct spec *first = NULL, *second = NULL;
        struct error error = {};

        if (!path) {
                path = fuzz_path("spec.yaml");
                again = fuzz_path("again/other.yaml");
        }
        fuzz_write(path, data, size);
        if (spec_load(path, &first, &error) < 0) {
                assert(strstr(error.text, path));
                return 0;
        }
        cleanup_free char *text = format(first);
        fuzz_write(again, text, strlen(text));
        assert(spec_load(again, &second, NULL) == 0);
        cleanup_free char *same = format(second);
        assert(strcmp(text, same) == 0);
        check_numbers(first, second);
        return 0;
}
