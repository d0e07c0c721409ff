/* See fuzz.h. Owns the name of the process's folder. */
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/file.h"

static const char *folder(void) {
        static char name[512];
        const char *parent = getenv("TMPDIR");

        if (!name[0]) {
                (void) snprintf(name, sizeof(name), "%s/bertd-fuzz-XXXXXX", parent && *parent ? parent : "/tmp");
                assert(mkdtemp(name));
        }
        return name;
}

char *fuzz_path(const char *name) {
        char *path = format_string("%s/%s", folder(), name);
        assert(path);
        cleanup_free char *parent = strdup(path);
        assert(parent);
        *strrchr(parent, '/') = '\0';
        assert(mkdir_parents(parent, 0700, NULL) == 0);
        return path;
}

void fuzz_write(const char *path, const void *data, size_t size) {
        cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert(fd >= 0 && write_all(fd, data, size) == 0);
}

struct fuzz_input fuzz_take(struct fuzz_input *input, size_t size) {
        struct fuzz_input taken = { input->data, MIN(size, input->size) };

        input->data += taken.size;
        input->size -= taken.size;
        return taken;
}

static uint64_t number(struct fuzz_input *input, size_t bytes) {
        struct fuzz_input part = fuzz_take(input, bytes);
        uint64_t v = 0;

        for (size_t i = 0; i < part.size; i++)
                v |= (uint64_t) part.data[i] << 8 * i;
        return v;
}

uint8_t fuzz_u8(struct fuzz_input *input) { return (uint8_t) number(input, 1); }
uint32_t fuzz_u32(struct fuzz_input *input) { return (uint32_t) number(input, 4); }
uint64_t fuzz_u64(struct fuzz_input *input) { return number(input, 8); }

char *fuzz_copy(struct fuzz_input input) {
        char *copy = malloc(input.size + 1);

        assert(copy);
        if (input.size > 0)
                memcpy(copy, input.data, input.size);
        copy[input.size] = '\0';
        return copy;
}
