/* See ids.h. */
#include "trainer/text/ids.h"

#include <errno.h>
#include <stdlib.h>

int ids_reserve(struct ids *ids, size_t more) {
        size_t need = ids->n + more;

        if (need <= ids->capacity)
                return 0;
        need += need / 2;
        int32_t *data = realloc(ids->data, need * sizeof(*data));
        if (!data)
                return -ENOMEM;
        ids->data = data;
        ids->capacity = need;
        return 0;
}

int ids_append(struct ids *ids, int32_t id) {
        if (ids_reserve(ids, 1) < 0)
                return -ENOMEM;
        ids->data[ids->n++] = id;
        return 0;
}
