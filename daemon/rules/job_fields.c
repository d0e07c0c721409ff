/* See job_fields.h. Owns nothing. Invariant: a row for each stored member of struct job and each key of Submit. */
#include "daemon/rules/job_fields.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/types.h>

#include "common/cleanup.h"
#include "daemon/rules/job.h"
#include "daemon/rules/submission.h"

/* An enum is an unsigned int. */
#define TYPE_OF(of, member) \
        _Generic(((struct of *) 0)->member, uint32_t          \
                 : FIELD_U32, uint64_t                        \
                 : FIELD_U64, int32_t                         \
                 : FIELD_I32, bool                            \
                 : FIELD_BOOL, double                         \
                 : FIELD_DOUBLE, char *                       \
                 : FIELD_TEXT, const char *                   \
                 : FIELD_SHARED, uint64_t *                   \
                 : FIELD_LOST, char **                        \
                 : FIELD_STRINGS, struct job_rlimit *         \
                 : FIELD_RLIMITS, struct past_checkpoint *    \
                 : FIELD_PAST)
#define ROW(version, of, member, in_job, in_submission, ...) \
        { .name = #member,                                   \
          .type = TYPE_OF(of, member),                       \
          .since = version,                                  \
          .stored = in_job,                                  \
          .asked = in_submission,                            \
          __VA_ARGS__ },
#define ASKED_ROW(version, c_type, member, written, ...)                                             \
        ROW(version, job, member, offsetof(struct job, member), offsetof(struct submission, member), \
            .changes = WRITTEN_##written, __VA_ARGS__)
#define KEPT_ROW(version, c_type, member, written, ...) \
        ROW(version, job, member, offsetof(struct job, member), NO_OFFSET, .changes = WRITTEN_##written, __VA_ARGS__)
#define INPUT_ROW(c_type, member, ...) \
        ROW(0, submission, member, NO_OFFSET, offsetof(struct submission, member), __VA_ARGS__)
#define WRITTEN_FIXED false
#define WRITTEN_CHANGES true

const struct job_field job_fields[] = { JOB_ASKED(ASKED_ROW) JOB_KEPT(KEPT_ROW) JOB_INPUTS(INPUT_ROW) };

const char *job_field_signature(const struct job_field *field) {
        static const char *const signatures[] = {
                [FIELD_U32] = "u",      [FIELD_U64] = "t",          [FIELD_I32] = "i",         [FIELD_BOOL] = "b",
                [FIELD_DOUBLE] = "d",   [FIELD_TEXT] = "s",         [FIELD_SHARED] = "s",      [FIELD_LOST] = "s",
                [FIELD_STRINGS] = "as", [FIELD_RLIMITS] = "a(utt)", [FIELD_PAST] = "a(tttss)",
        };
        static_assert(ELEMENTSOF(signatures) == FIELD_TYPE_MAX, "a signature for each");

        return field->names ? "s" : signatures[field->type];
}

int64_t job_field_number(const struct job_field *field, const void *at) {
        switch (field->type) {
        case FIELD_U32:
                return *(const uint32_t *) at;
        case FIELD_U64:
                return (int64_t) MIN(*(const uint64_t *) at, (uint64_t) INT64_MAX);
        case FIELD_I32:
                return *(const int32_t *) at;
        default:
                return *(const bool *) at;
        }
}

void job_field_set_number(const struct job_field *field, void *at, int64_t value) {
        switch (field->type) {
        case FIELD_U32:
                *(uint32_t *) at = (uint32_t) value;
                break;
        case FIELD_U64:
                *(uint64_t *) at = (uint64_t) value;
                break;
        case FIELD_I32:
                *(int32_t *) at = (int32_t) value;
                break;
        default:
                *(bool *) at = value != 0;
        }
}

/* A bound of Submit's may move; that nothing has 0 ranks does not. */
void job_field_limits(const struct job_field *field, int64_t *ret_min, int64_t *ret_max) {
        static const struct {
                int64_t min, max;
        } limits[] = {
                [FIELD_U32] = { 0, UINT32_MAX },
                [FIELD_U64] = { 0, INT64_MAX },
                [FIELD_I32] = { INT32_MIN, INT32_MAX },
                [FIELD_BOOL] = { 0, 1 },
        };

        *ret_min = field->min > 0 ? 1 : limits[field->type].min;
        *ret_max = limits[field->type].max;
        if (field->n_names > 0) {
                *ret_min = MIN(field->initial, 0);
                *ret_max = field->n_names - 1;
        }
}

int job_field_from_name(const struct job_field *field, const char *name) {
        for (int i = 0; i < field->n_names; i++)
                if (strcmp(field->names[i], name) == 0)
                        return i;
        return -EINVAL;
}
