/* Which attempt's log `bertctl logs` shows where none is named. */
#ifndef CTL_LOGS_ATTEMPT_H
#define CTL_LOGS_ATTEMPT_H

#include <stdint.h>

#include "ctl/jobinfo.h"
#include "ctl/term.h"

/* The newest that has written something, `newest` where none has; `base` is ".../attempt-". Where that is not the one that runs, a line on
 * stderr says which it is and how it ended. */
uint64_t logs_attempt(const struct term *term, const struct job_info *job, const char *base, uint64_t newest);

#endif
