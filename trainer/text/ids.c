/* See ids.h. */
#include "trainer/text/ids.h"

#include <errno.h>

#include "common/array.h"

int ids_reserve(struct ids *ids, size_t more) {
        return array_reserve(&ids->data, &ids->capacity, ids->n + more, sizeof(*ids->data));
}

int ids_append(struct ids *ids, int32_t id) {
        if (ids_reserve(ids, 1) < 0)
                return -ENOMEM;
        ids->data[ids->n++] = id;
        return 0;
}
