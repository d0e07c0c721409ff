/* See values.h. Owns nothing. */
#include "tests/fuzz/values.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "common/cleanup.h"

#define ENTRIES_MAX 12
#define LONG_MAX_BYTES (100u << 10)

static const struct {
        const char *key, *type;
} keys[] = {
        /* Submit */
        { "name", "s" },
        { "kind", "s" },
        { "priority", "i" },
        { "run_dir", "s" },
        { "ranks", "u" },
        { "threads", "u" },
        { "gpus", "u" },
        { "max_without_progress", "u" },
        { "backoff_min_sec", "u" },
        { "backoff_max_sec", "u" },
        { "grace_sec", "u" },
        { "keep", "u" },
        { "keep_every", "t" },
        { "on_exit", "s" },
        { "spec", "s" },
        { "command", "as" },
        { "cwd", "s" },
        { "environment", "as" },
        { "umask", "u" },
        { "rlimits", "a(utt)" },
        { "memory", "t" },
        { "cpus", "d" },
        { "hang_sec", "i" },
        { "start_sec", "i" },
        { "on_nan", "s" },
        { "log_max_size", "t" },
        { "log_keep", "u" },
        /* Resume */
        { "from", "t" },
        /* AttemptReport */
        { "job", "t" },
        { "attempt", "u" },
        { "nonce", "s" },
        { "pid", "i" },
        { "ready", "b" },
        { "status", "s" },
        { "step", "t" },
        { "steps", "t" },
        { "loss", "d" },
        { "rate", "d" },
        { "checkpoint_step", "t" },
        { "checkpoint_path", "s" },
        { "checkpoint_size", "t" },
        { "checkpoint_stall", "d" },
        { "checkpoint_write", "d" },
        { "samples_first", "t" },
        { "samples_last", "t" },
        { "exited", "b" },
        { "first_exit", "i" },
        { "runs_on", "u" },
        /* Submit, newer */
        { "ends_with", "s" },
};

/* D-Bus texts are UTF-8 without NUL: bytes beyond ASCII become characters of two bytes. */
static char *any_text(struct fuzz_input bytes) {
        char *text = malloc(2 * bytes.size + 1), *to = text;

        assert(text);
        for (size_t i = 0; i < bytes.size; i++) {
                uint8_t b = bytes.data[i];
                if (b >= 0x80)
                        *to++ = (char) (0xc2 | (b >> 6 & 1));
                *to++ = b == 0 ? '?' : b >= 0x80 ? (char) (0x80 | (b & 0x3f)) : (char) b;
        }
        *to = '\0';
        return text;
}

static char *long_text(struct fuzz_input *input) {
        uint32_t n = fuzz_u32(input) % LONG_MAX_BYTES;
        char *text = malloc(n + 1);

        assert(text);
        memset(text, 'a' + fuzz_u8(input) % 26, n);
        text[n] = '\0';
        return text;
}

/* The caller frees. */
static char *make_text(const struct values_known *known, struct fuzz_input *input) {
        static const char *const words[] = {
                "",
                "command",
                "pretrain",
                "finetune",
                "stop",
                "rollback",
                "/",
                "/tmp",
                "/nowhere/step-000000007.ckpt",
                "A=b",
                "BERTD_NONCE=x",
                "sleep",
                "x",
                "train: {steps: 1}\n",
        };
        uint8_t b = fuzz_u8(input);

        if (b < ELEMENTSOF(words))
                return strdup(words[b]);
        if (b < 32)
                return strdup(known->nonce);
        if (b < 36)
                return long_text(input);
        return any_text(fuzz_take(input, b % 64));
}

static uint64_t make_number(const struct values_known *known, struct fuzz_input *input) {
        static const uint64_t edges[] = { 0, 1, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, (uint64_t) INT64_MIN };
        uint8_t b = fuzz_u8(input);

        if (b < ELEMENTSOF(edges))
                return edges[b];
        if (b < 16)
                return known->job;
        if (b < 24)
                return known->attempt;
        return b < 200 ? b % 32 : fuzz_u64(input);
}

static double make_double(struct fuzz_input *input) {
        static const double edges[] = { 0, -1, 0.5, 1e300, NAN, INFINITY };
        uint8_t b = fuzz_u8(input);
        uint64_t bits = b < 200 ? 0 : fuzz_u64(input);
        double v;

        memcpy(&v, &bits, sizeof(v));
        return b < ELEMENTSOF(edges) ? edges[b] : b < 200 ? b : v;
}

static void append_basic(sd_bus_message *m, char type, const struct values_known *known, struct fuzz_input *input) {
        uint64_t number = type == 's' || type == 'd' ? 0 : make_number(known, input);
        double real = type == 'd' ? make_double(input) : 0;
        cleanup_free char *text = type == 's' ? make_text(known, input) : NULL;
        int flag = number & 1;
        const void *value = &number; /* little-endian: the low bytes are 'u' and 'i' too */

        if (type == 's')
                value = text;
        else if (type == 'd')
                value = &real;
        else if (type == 'b')
                value = &flag;
        assert(sd_bus_message_append_basic(m, type, value) >= 0);
}

static void append_list(sd_bus_message *m, const char *element, const struct values_known *known,
                        struct fuzz_input *input) {
        unsigned n = fuzz_u8(input) % 40;

        assert(sd_bus_message_open_container(m, 'a', element) >= 0);
        for (unsigned i = 0; i < n && input->size > 0; i++) {
                if (element[0] == 's') {
                        append_basic(m, 's', known, input);
                        continue;
                }
                assert(sd_bus_message_open_container(m, 'r', "utt") >= 0);
                values_append(m, "utt", known, input);
                assert(sd_bus_message_close_container(m) >= 0);
        }
        assert(sd_bus_message_close_container(m) >= 0);
}

static void append_variant(sd_bus_message *m, const char *type, const struct values_known *known,
                           struct fuzz_input *input) {
        assert(sd_bus_message_open_container(m, 'v', type) >= 0);
        values_append(m, type, known, input);
        assert(sd_bus_message_close_container(m) >= 0);
}

void values_append_entries(sd_bus_message *m, const struct values_known *known, struct fuzz_input *input) {
        static const char *const types[] = { "s", "u", "t", "i", "d", "b", "as", "a(utt)", "a{sv}" };
        unsigned n = fuzz_u8(input) % ENTRIES_MAX;

        for (unsigned i = 0; i < n && input->size > 0; i++) {
                uint8_t which = fuzz_u8(input), change = fuzz_u8(input);
                bool is_known = which < 250;
                size_t row = which % ELEMENTSOF(keys);
                cleanup_free char *strange = is_known ? NULL : make_text(known, input);
                const char *type = keys[row].type;
                if (change > 240 || !is_known)
                        type = types[change % ELEMENTSOF(types)];
                assert(sd_bus_message_open_container(m, 'e', "sv") >= 0);
                assert(sd_bus_message_append_basic(m, 's', is_known ? keys[row].key : strange) >= 0);
                append_variant(m, type, known, input);
                assert(sd_bus_message_close_container(m) >= 0);
        }
}

void values_append(sd_bus_message *m, const char *signature, const struct values_known *known,
                   struct fuzz_input *input) {
        for (const char *p = signature; *p;) {
                if (strncmp(p, "a{sv}", 5) == 0) {
                        assert(sd_bus_message_open_container(m, 'a', "{sv}") >= 0);
                        values_append_entries(m, known, input);
                        assert(sd_bus_message_close_container(m) >= 0);
                        p += 5;
                } else if (strncmp(p, "a(utt)", 6) == 0) {
                        append_list(m, "(utt)", known, input);
                        p += 6;
                } else if (strncmp(p, "as", 2) == 0) {
                        append_list(m, "s", known, input);
                        p += 2;
                } else {
                        append_basic(m, *p++, known, input);
                }
        }
}
