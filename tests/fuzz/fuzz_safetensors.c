/* A model.safetensors that somebody brought. What is accepted covers the file without a hole, and every byte of it can
 * be read. */
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "tests/fuzz/fuzz.h"
#include "trainer/hf/safetensors.h"

static void read_all(const struct safetensors *file) {
        unsigned sum = 0;

        for (uint32_t i = 0; i < safetensors_n(file); i++) {
                const struct safetensors_tensor *t = safetensors_tensor(file, i);
                const unsigned char *bytes = t->data;
                assert(t->n_dims <= SAFETENSORS_DIMS_MAX && safetensors_find(file, t->name) == t);
                if (i > 0) {
                        const struct safetensors_tensor *before = safetensors_tensor(file, i - 1);
                        assert(bytes == (const unsigned char *) before->data + before->size);
                }
                for (size_t b = 0; b < t->size; b++)
                        sum += bytes[b];
        }
        assert(sum < 1u << 31);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static char *path;
        cleanup_safetensors struct safetensors *file = NULL;
        struct error error = {};

        if (!path)
                path = fuzz_path("model.safetensors");
        fuzz_write(path, data, size);
        if (safetensors_open(path, &file, &error) == 0)
                read_all(file);
        else
                assert(error.exit == BERTD_EXIT_DATA && strstr(error.text, path));
        return 0;
}
