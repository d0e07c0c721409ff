/* See scheduling.h. Owns nothing. ioprio_get(2) has no wrapper in the C library. */
#include "common/scheduling.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/parse.h"

#define IO_OF_PROCESS 1
#define IO_CLASS_SHIFT 13
#define IO_BEST_EFFORT 2

static const struct {
        const char *name;
        bool io;
        int value;
        unsigned levels; /* the largest level; 0: none */
} words[] = {
        { "batch", false, SCHED_BATCH, 0 }, { "idle", false, SCHED_IDLE, 0 },
        { "fifo", false, SCHED_FIFO, 99 },  { "rr", false, SCHED_RR, 99 },
        { "io-realtime", true, 1, 7 },      { "io-best-effort", true, IO_BEST_EFFORT, 7 },
        { "io-idle", true, 3, 0 },
};

/* "rr:10" */
static int read_word(const char *word, size_t n, struct scheduling *to) {
        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                size_t name = strlen(words[i].name);
                uint64_t level = 0;
                char digits[4] = "";

                if (n < name || strncmp(word, words[i].name, name) != 0 || (n > name && word[name] != ':'))
                        continue;
                if (n > name)
                        (void) snprintf(digits, sizeof(digits), "%.*s", (int) (n - name - 1), word + name + 1);
                if ((n > name) != (words[i].levels > 0) || n > name + sizeof(digits) ||
                    (n > name && parse_u64(digits, 0, words[i].levels, &level) < 0))
                        return -EINVAL;
                *(words[i].io ? &to->io_class : &to->policy) = words[i].value;
                *(words[i].io ? &to->io_level : &to->priority) = (int) level;
                return 0;
        }
        return -EINVAL;
}

int scheduling_read(const char *text, struct scheduling *ret) {
        struct scheduling own = {};
        int r = 0;

        while (r == 0 && *text) {
                size_t n = strcspn(text, ",");
                r = read_word(text, n, &own);
                text += n + (text[n] == ',');
        }
        if (r == 0)
                *ret = own;
        return r;
}

static void write_word(bool io, int value, int level, char *buffer) {
        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                size_t used = strlen(buffer);
                if (words[i].io != io || words[i].value != value)
                        continue;
                (void) snprintf(buffer + used, SCHEDULING_MAX - used, words[i].levels ? "%s%s:%d" : "%s%s",
                                used ? "," : "", words[i].name, level);
        }
}

const char *scheduling_write(const struct scheduling *scheduling, char *buffer) {
        buffer[0] = '\0';
        write_word(false, scheduling->policy, scheduling->priority, buffer);
        write_word(true, scheduling->io_class, scheduling->io_level, buffer);
        return buffer;
}

void scheduling_get(struct scheduling *ret) {
        struct sched_param param = {};
        int policy = sched_getscheduler(0);
        long io = syscall(SYS_ioprio_get, IO_OF_PROCESS, 0);

        *ret = (struct scheduling) {};
        if (policy >= 0 && sched_getparam(0, &param) == 0) {
                ret->policy = policy & ~SCHED_RESET_ON_FORK;
                ret->priority = param.sched_priority;
        }
        if (io < 0)
                return;
        ret->io_class = (int) (io >> IO_CLASS_SHIFT) & 7;
        ret->io_level = (int) io & 7;
        /* The default that some kernels report if none was set. With another policy the default class differs. */
        if ((ret->policy == SCHED_OTHER || ret->policy == SCHED_BATCH) && ret->io_class == IO_BEST_EFFORT &&
            ret->io_level == (getpriority(PRIO_PROCESS, 0) + 20) / 5)
                ret->io_class = ret->io_level = 0;
}

int scheduling_set(const struct scheduling *scheduling) {
        int r = 0;

        if (scheduling->policy != SCHED_OTHER &&
            sched_setscheduler(0, scheduling->policy,
                               &(struct sched_param) { .sched_priority = scheduling->priority }) < 0)
                r = -errno;
        if (scheduling->io_class != 0 && syscall(SYS_ioprio_set, IO_OF_PROCESS, 0,
                                                 scheduling->io_class << IO_CLASS_SHIFT | scheduling->io_level) < 0)
                r = -errno;
        return r;
}
