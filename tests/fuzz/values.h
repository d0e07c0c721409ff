/*
 * Arbitrary well-typed arguments of a D-Bus method, made from an input's bytes. Keys of a{sv} are mostly those that
 * bertd knows, with their types; texts and numbers are often ones that mean something.
 */
#ifndef TESTS_FUZZ_VALUES_H
#define TESTS_FUZZ_VALUES_H

#include <systemd/sd-bus.h>

#include "tests/fuzz/fuzz.h"

/* What an input may refer to: an open attempt. */
struct values_known {
        uint64_t job;
        uint32_t attempt;
        const char *nonce;
};

/* Appends arguments of this signature: basic types, a{sv}, as, a(utt). */
void values_append(sd_bus_message *m, const char *signature, const struct values_known *known,
                   struct fuzz_input *input);

/* Appends entries of an a{sv} that is open. */
void values_append_entries(sd_bus_message *m, const struct values_known *known, struct fuzz_input *input);

#endif
