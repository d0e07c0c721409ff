/* The attempt whose log `bertctl logs` prints by default. */
#ifndef CTL_LOGS_ATTEMPT_H
#define CTL_LOGS_ATTEMPT_H

#include <stdint.h>

#include "ctl/jobinfo.h"
#include "ctl/term.h"

/* The newest that has written something, else `newest`; `base` is ".../attempt-". If it is not the running one, a line
 * on stderr names it and how it ended. */
uint64_t logs_attempt(const struct term *term, const struct job_info *job, const char *base, uint64_t newest);

#endif
