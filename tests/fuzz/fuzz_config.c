/* config.json: any file is refused in one line or describes a model whose parameters can be counted. */
#include <string.h>

#include "bertd/exit.h"
#include "common/file.h"
#include "tests/fuzz/fuzz.h"
#include "trainer/model/count.h"
#include "trainer/model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static char *path;
        struct model_config config;
        struct parameter_counts counts;
        struct error error = {};
        char hash[33];

        if (!path)
                path = fuzz_path("config.json");
        fuzz_write(path, data, size);
        if (config_load(path, &config, &error) < 0) {
                bool pointer = file_refuse_pointer(path, data, size, &(struct error) {}) < 0;
                assert(error.exit == (pointer ? BERTD_EXIT_DATA : BERTD_EXIT_CONFIG) && strstr(error.text, path));
                return 0;
        }
        assert(config.hidden_size % config.num_attention_heads == 0);
        config_hash(&config, hash);
        if (parameter_counts(&config, &counts, &error) == 0)
                assert(counts.part[PART_ATTENTION] > 0 && counts.part[PART_FEED_FORWARD] > 0 &&
                       counts.whole > counts.body);
        return 0;
}
