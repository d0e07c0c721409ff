/* A job spec: any file is read or refused in one line, and what was read is the same when it has been written and read again. */
#include <string.h>

#include "common/cleanup.h"
#include "common/spec.h"
#include "tests/fuzz/fuzz.h"

/* Its normalised text, NULL where it is refused. */
static char *normalise(const char *path) {
        cleanup_spec struct spec *spec = NULL;
        struct error error = {};
        char *text = NULL;

        if (spec_load(path, &spec, &error) < 0) {
                assert(error.text[0] && strstr(error.text, path));
                return NULL;
        }
        assert(spec_format(spec, &text, &error) == 0);
        return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static char *path, *again;

        if (!path) {
                path = fuzz_path("spec.yaml");
                again = fuzz_path("again/other.yaml");
        }
        fuzz_write(path, data, size);
        cleanup_free char *text = normalise(path);
        if (!text)
                return 0;
        fuzz_write(again, text, strlen(text));
        cleanup_free char *same = normalise(again);
        assert(same && strcmp(text, same) == 0);
        return 0;
}
