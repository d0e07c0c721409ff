/* See names.h. Owns nothing. Invariant: each name stands in bertd/job.h alone. */
#include "common/names.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "common/cleanup.h"

static const char *const state_names[] = JOB_STATE_NAMES;
static const char *const kind_names[] = JOB_KIND_NAMES;
static const char *const class_names[] = EXIT_CLASS_NAMES;
static_assert(ELEMENTSOF(state_names) == JOB_STATE_MAX, "state names");
static_assert(ELEMENTSOF(kind_names) == JOB_KIND_MAX, "kind names");
static_assert(ELEMENTSOF(class_names) == EXIT_CLASS_MAX, "class names");

const char *job_state_name(enum job_state state) { return state_names[state]; }
const char *job_kind_name(enum job_kind kind) { return kind_names[kind]; }
const char *exit_class_name(int exit_class) {
        return exit_class >= 0 && exit_class < EXIT_CLASS_MAX ? class_names[exit_class] : "";
}

static int find_name(const char *const *names, size_t n, const char *name) {
        for (size_t i = 0; name && i < n; i++)
                if (strcmp(names[i], name) == 0)
                        return (int) i;
        return -EINVAL;
}

int job_state_from_name(const char *name) { return find_name(state_names, JOB_STATE_MAX, name); }
int job_kind_from_name(const char *name) { return find_name(kind_names, JOB_KIND_MAX, name); }
int exit_class_from_name(const char *name) { return find_name(class_names, EXIT_CLASS_MAX, name); }
