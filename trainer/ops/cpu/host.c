/* See host.h. */
#include "trainer/ops/cpu/host.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Touched: a first copy into cold pages takes 60 times as long. */
void *host_allocate(size_t size) {
        void *data = malloc(size);

        if (data)
                memset(data, 0, size);
        return data;
}

void host_release(void *data, size_t size) { free(data); }
void host_copy(void *to, const void *from, size_t size) { memcpy(to, from, size); }
void *host_allocate_spare(size_t size) { return NULL; }
void host_mark(void) {}
bool host_fetch(void *to, const void *from, size_t size) {
        host_copy(to, from, size);
        return true;
}
uint64_t host_hash(const void *data, size_t size) { return XXH3_64bits(data, size); }
