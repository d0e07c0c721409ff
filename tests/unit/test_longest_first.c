/* How a pair of texts is cut, beside the two that transformers has: `tokenizers` (its fast ones,
 * TruncationStrategy::LongestFirst), written here as there, and the slow ones', token by token, which differ in whose
 * the last token of an odd room is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "trainer/data/examples.h"

#define LENGTHS 24
#define ROOMS 20

/* truncate_encodings in tokenizers/src/utils/truncation.rs */
static void fast(size_t room, size_t *first, size_t *second) {
        size_t n1 = *first, n2 = *second;
        bool swap = n1 > n2;

        if (n1 + n2 <= room)
                return;
        if (swap)
                n1 = *second, n2 = *first;
        n2 = n1 > room ? n1 : MAX(n1, room - n1);
        if (n1 + n2 > room) {
                n1 = room / 2;
                n2 = n1 + room % 2;
        }
        *first = swap ? n2 : n1;
        *second = swap ? n1 : n2;
}

/* truncate_sequences of PreTrainedTokenizerBase */
static void slow(size_t room, size_t *first, size_t *second) {
        while (*first + *second > room)
                *(*first > *second ? first : second) -= 1;
}

static void test_every_length(void **state) {
        uint32_t odd = 0;

        for (size_t room = 5; room < ROOMS; room++)
                for (size_t i = 0; i < (size_t) LENGTHS * LENGTHS; i++) {
                        size_t a = i / LENGTHS + 1, b = i % LENGTHS + 1, fast_a = a, fast_b = b, slow_a = a, slow_b = b;
                        fast(room, &fast_a, &fast_b);
                        slow(room, &slow_a, &slow_b);
                        texts_fit_pair(room, &a, &b);
                        assert_true(a == fast_a && b == fast_b && a + b <= room);
                        if (a == slow_a && b == slow_b)
                                continue;
                        assert_true(room % 2 == 1 && a + 1 == b && slow_a == b && slow_b == a);
                        odd++;
                }
        assert_true(odd > 0);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_length) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
