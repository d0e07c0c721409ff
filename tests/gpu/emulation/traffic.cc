/*
 * The bytes that a step moves between a GPU's memory and the GPU, without one: kernels are compiled with
 * -fsanitize=thread, whose calls at each load and store come here instead of to its library. Counted are the sectors of
 * 32 bytes that one launch reads and those that it writes, each once: what it reads again is taken to be in the cache,
 * and nothing to be there when the next launch begins. Products are counted by their matrices, and not done: what they
 * would give has no influence on what is touched.
 */
#include <cuda_runtime.h>

#include <cxxabi.h>

#include <map>
#include <string>
#include <vector>

#include "tests/gpu/emulation/traffic.h"

#define SECTOR 32

static std::map<std::string, struct traffic> tallies;
static struct traffic *now; /* NULL: not counting */
static uint32_t launch;     /* its number: a sector that has it was counted */

/* A block of cudaMalloc: for each sector the last launch that read it, and that wrote it. */
struct block {
        size_t size;
        std::vector<uint32_t> last[2];
};
static std::map<const char *, struct block> blocks;

/* Where an address was looked for during this launch: kernels' own variables are most of what they touch. Blocks begin
 * and end at multiples of a granule. */
#define GRANULE 256
static struct place {
        uintptr_t granule;
        uint32_t launch;
        const char *begin; /* NULL: not in a block */
        struct block *block;
} places[1 << 12];

static const struct place *find(const char *p) {
        uintptr_t granule = (uintptr_t) p / GRANULE;
        struct place *place = &places[granule % (sizeof(places) / sizeof(places[0]))];
        size_t size = 0;

        if (place->granule == granule && place->launch == launch)
                return place;
        *place = { granule, launch, (const char *) emulated_block_of(p, &size), NULL };
        if (place->begin) {
                place->block = &blocks[place->begin];
                if (place->block->size != size)
                        *place->block = { size,
                                          { std::vector<uint32_t>(size / SECTOR + 1),
                                            std::vector<uint32_t>(size / SECTOR + 1) } };
        }
        return place;
}

static void touch(const void *p, size_t size, bool writes) {
        if (!now || size == 0)
                return;
        const struct place *place = find((const char *) p);
        if (!place->begin)
                return;
        size_t first = (size_t) ((const char *) p - place->begin), last = first + size - 1;
        for (size_t s = first / SECTOR; s <= last / SECTOR; s++) {
                uint32_t &seen = place->block->last[writes][s];
                if (seen != launch)
                        (writes ? now->written : now->read) += SECTOR;
                seen = launch;
        }
}

/* "void start_forward<__nv_bfloat16>(...)::{lambda()#1}" is start_forward's. */
static std::string name_of(const char *mangled) {
        int status;
        char *text = abi::__cxa_demangle(mangled, NULL, NULL, &status);
        std::string name = status == 0 ? text : mangled;

        free(text);
        name = name.substr(0, name.find_first_of("<("));
        return name.substr(name.rfind(' ') == std::string::npos ? 0 : name.rfind(' ') + 1);
}

static void begin(const char *what) {
        now = &tallies[name_of(what)];
        now->launches++;
        launch++;
}

extern "C" {
void traffic_begin(void) {
        static const struct emulated_watcher watcher = { begin, touch };

        tallies.clear();
        emulated_watcher = &watcher;
}

void traffic_end(void (*each)(void *userdata, const char *who, const struct traffic *traffic), void *userdata) {
        emulated_watcher = NULL;
        now = NULL;
        for (const auto &[name, traffic] : tallies)
                each(userdata, name.c_str(), &traffic);
}

#define ACCESS(size)                                                         \
        void __tsan_read##size(void *p) { touch(p, size, false); }           \
        void __tsan_write##size(void *p) { touch(p, size, true); }           \
        void __tsan_unaligned_read##size(void *p) { touch(p, size, false); } \
        void __tsan_unaligned_write##size(void *p) { touch(p, size, true); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
void __tsan_read_range(void *p, long size) { touch(p, (size_t) size, false); }
void __tsan_write_range(void *p, long size) { touch(p, (size_t) size, true); }
void __tsan_func_entry(void *) {}
void __tsan_func_exit(void *) {}
void __tsan_init(void) {}
void __tsan_vptr_update(void *, void *) {}
void __tsan_vptr_read(void **) {}
}
