/* Numbers and times as a person reads them. The caller gives the buffer; the functions return it. */
#ifndef CTL_FORMAT_H
#define CTL_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "ctl/jobinfo.h"
#include "ctl/term.h"

#define FORMAT_MAX 64

char *format_duration(uint64_t seconds, char buffer[FORMAT_MAX]); /* "42 s", "3 min 5 s", "2 h 10 min", "5 d 3 h" */
char *format_short_duration(uint64_t seconds, char buffer[FORMAT_MAX]); /* "42s", "3m05s", "2h10m", "5d03h" */
char *format_age(uint64_t realtime_usec, char buffer[FORMAT_MAX]);      /* short duration since then; "" for 0 */
char *format_local_time(uint64_t realtime_usec, char buffer[FORMAT_MAX]);
char *format_bytes(uint64_t bytes, char buffer[FORMAT_MAX]);
char *format_loss(double loss, char buffer[FORMAT_MAX]); /* "" where unknown */
char *format_rate(double samples_per_second, char buffer[FORMAT_MAX]);

/* "step/steps" and "45%"; "" if the job has reported none. */
char *format_steps(const struct job_info *job, char buffer[FORMAT_MAX]);
char *format_percent(const struct job_info *job, char buffer[FORMAT_MAX]);

/* Fraction of the steps that is done; false if the job has not reported its number of steps. */
bool job_fraction(const struct job_info *job, double *ret);

enum style job_style(const struct job_info *job);

/* A job's string, never NULL. */
static inline const char *text_of(const char *text) { return text ? text : ""; }

#endif
