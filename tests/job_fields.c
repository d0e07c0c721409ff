/* Prints the table of a job's fields (daemon/rules/job_fields.h) for check-fields. */
#include <inttypes.h>
#include <stdio.h>

#include "daemon/rules/job_fields.h"

static const char *who(enum job_field_shown shown) { return shown == SHOWN_TO_OWNER ? "owner" : "all"; }

#define COMPUTED(key, signature, shown) printf("shown\t%s\t%s\t%s\n", #key, signature, who(shown));

int main(void) {
        for (size_t i = 0; i < JOB_N_FIELDS; i++) {
                const struct job_field *field = &job_fields[i];
                if (field->shown != SHOWN_TO_NOBODY)
                        printf("shown\t%s\t%s\t%s\n", job_field_key(field), job_field_signature(field),
                               who(field->shown));
                if (field->asked != NO_OFFSET && !field->lease_only)
                        printf("taken\t%s\t%s\t%" PRIi64 "\n", field->name, job_field_signature(field), field->initial);
        }
        JOB_COMPUTED(COMPUTED)
        return 0;
}
