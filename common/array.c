/* See array.h. */
#include "common/array.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

int array_resize(void *array, size_t n, size_t size) {
        void *items;

        if (n > PTRDIFF_MAX / size)
                return -ENOMEM;
        memcpy(&items, array, sizeof(items));
        items = realloc(items, MAX(n, (size_t) 1) * size);
        if (!items)
                return -ENOMEM;
        memcpy(array, &items, sizeof(items));
        return 0;
}

int array_reserve(void *array, size_t *capacity, size_t n, size_t size) {
        size_t room = n <= SIZE_MAX / 2 ? n + n / 2 : n;

        if (n <= *capacity)
                return 0;
        if (array_resize(array, room, size) < 0)
                return -ENOMEM;
        *capacity = room;
        return 0;
}
