/* What `status` shows, drawn to a stream: knows jobs and the terminal, not the daemon, so that a test can draw
 * anything. */
#ifndef CTL_STATUS_VIEW_H
#define CTL_STATUS_VIEW_H

#include <stdint.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "ctl/jobinfo.h"
#include "ctl/term.h"

#define OVERVIEW_ROWS_MAX 10 /* jobs shown in each section but the last */
#define OVERVIEW_ENDED_MAX 5 /* jobs that ended last */

struct overview {
        struct daemon_info daemon;
        const char *socket;     /* borrowed */
        struct job_list active; /* not ended (paused ones too), in the order to show */
        struct job_list ended;  /* the last to end first, at most OVERVIEW_ENDED_MAX */
        uint64_t uid;           /* whose view it is: other users are named */
};

void overview_clear(struct overview *overview);
#define cleanup_overview cleanup(overview_clear)

/* The sections that a job of `overview->active` falls into. */
enum overview_section { SECTION_RUNNING, SECTION_WAITING, SECTION_PAUSED, SECTION_MAX };
enum overview_section overview_section_of(const struct job_info *job);

int status_draw_overview(FILE *out, const struct term *term, const struct overview *overview, struct error *error);

/* checkpoint_created: when the job's newest checkpoint was made, 0 = unknown. */
int status_draw_job(FILE *out, const struct term *term, const struct job_info *job, uint64_t checkpoint_created,
                    struct error *error);

#endif
