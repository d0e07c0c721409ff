/*
 * A checkpoint file, every byte of it. Hardly a changed file gets past its digests: so it is read a second time with
 * digests that agree with whatever the file says of itself (the linker puts __wrap_checkpoint_digest and its like in
 * their place). Then it is opened as each command does: with all that belongs to it.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "tests/fuzz/fuzz.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/infer/bundle.h"

static bool agree;
static char assets_said[33]; /* by the file that was opened last */

void __real_checkpoint_digest(const struct checkpoint_meta *meta, const struct checkpoint_tensor *tensors, uint32_t n,
                              char hex[33]);
void __wrap_checkpoint_digest(const struct checkpoint_meta *meta, const struct checkpoint_tensor *tensors, uint32_t n,
                              char hex[33]);
void __wrap_checkpoint_digest(const struct checkpoint_meta *meta, const struct checkpoint_tensor *tensors, uint32_t n,
                              char hex[33]) {
        const char *said = checkpoint_meta_get(meta, "digest");

        __real_checkpoint_digest(meta, tensors, n, hex);
        if (agree && said)
                (void) snprintf(hex, 33, "%s", said);
        said = checkpoint_meta_get(meta, CHECKPOINT_ASSETS_KEY);
        (void) snprintf(assets_said, sizeof(assets_said), "%s", said ? said : "");
}

void __real_checkpoint_assets_digest(const struct assets *assets, char hex[33]);
void __wrap_checkpoint_assets_digest(const struct assets *assets, char hex[33]);
void __wrap_checkpoint_assets_digest(const struct assets *assets, char hex[33]) {
        __real_checkpoint_assets_digest(assets, hex);
        if (agree)
                (void) snprintf(hex, 33, "%s", assets_said);
}

static void check_refusal(const char *path, const struct error *error) {
        assert(strstr(error->text, path));
        assert(error->exit == BERTD_EXIT_BAD_CHECKPOINT || error->code == ENOMEM);
}

/* Each tensor by itself: one that is refused does not hide the next. */
static void read_tensors(struct checkpoint *c, const char *path) {
        for (uint32_t i = 0; i < checkpoint_n_tensors(c); i++) {
                const struct checkpoint_tensor *t = checkpoint_tensor(c, i);
                cleanup_free void *data = malloc(t->size);
                struct error error = {};
                if (checkpoint_read_tensor(c, i, data, &error) < 0)
                        check_refusal(path, &error);
                assert(checkpoint_find(c, t->name, t->kind) >= 0);
        }
}

static void read_assets(struct checkpoint *c, const char *path) {
        cleanup_assets struct assets assets = {};
        struct error error = {};

        if (checkpoint_read_assets(c, &assets, &error) < 0)
                check_refusal(path, &error);
        for (uint32_t i = 0; i < assets.n; i++)
                assert(asset_name_valid(assets.item[i].name) && assets_find(&assets, assets.item[i].name));
}

/* Beside a vocabulary of its own another is given, which is not there: no path that the file names is opened. */
static void open_bundle(const char *path) {
        for (enum bundle_use use = USE_EXPORT; use <= USE_FINETUNE; use++) {
                struct bundle bundle = {};
                struct error error = {};
                assert(bundle_open(&bundle, path, use, "/nonexistent", &error) < 0);
                assert(error.text[0] && (error.exit > 0 || error.code == ENOMEM));
                bundle_close(&bundle);
        }
}

static void use(const char *path) {
        cleanup_checkpoint struct checkpoint *c = NULL;
        struct error error = {}, late = {};
        uint64_t step;

        if (checkpoint_open(path, &c, &error) < 0) {
                check_refusal(path, &error);
                return;
        }
        read_tensors(c, path);
        read_assets(c, path);
        if (checkpoint_check_file(c, &late) < 0)
                check_refusal(path, &late);
        (void) checkpoint_meta_u64(checkpoint_meta(c), path, "step", &step, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static char *path;

        if (!path)
                path = fuzz_path("step-000000012.ckpt");
        fuzz_write(path, data, size);
        agree = false;
        use(path);
        agree = true;
        use(path);
        open_bundle(path);
        return 0;
}
