/*
 * Arrays that grow. `array` is the address of a pointer to items of `size` bytes, NULL at first. If memory is short,
 * the array and its capacity stay as they are. New items are not set.
 */
#ifndef COMMON_ARRAY_H
#define COMMON_ARRAY_H

#include <stddef.h>

/* Room for n items; *capacity have it. Half as much again beyond n, so that appending one by one copies O(n). 0 or
 * −ENOMEM. */
int array_reserve(void *array, size_t *capacity, size_t n, size_t size);

/* Room for exactly n items, for short arrays, which know no capacity. 0 or −ENOMEM. */
int array_resize(void *array, size_t n, size_t size);

#endif
