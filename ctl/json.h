/* Jobs, checkpoints and the daemon as JSON (field names of the command line's contract): times ISO 8601 UTC, what is
 * unknown null. */
#ifndef CTL_JSON_H
#define CTL_JSON_H

#include <jansson.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "ctl/jobinfo.h"

/* New references; NULL: no memory. */
json_t *json_job(const struct job_info *job);
json_t *json_checkpoint(const struct checkpoint_info *checkpoint);
json_t *json_daemon(const struct daemon_info *daemon, const char *socket);
json_t *json_jobs(const struct job_list *list);

json_t *json_time(uint64_t realtime_usec); /* null for 0 */
json_t *json_number(double number);        /* null if not finite */
json_t *json_text(const char *text);       /* null for NULL and "" */
json_t *json_count(uint64_t number);       /* JSON integers are signed here: clamped */

/* Takes the reference (NULL: no memory) and writes it with a newline. */
int json_print(FILE *out, json_t *value, struct error *error);

static inline void cleanup_json_p(json_t **value) { json_decref(*value); }
#define cleanup_json cleanup(cleanup_json_p)

#endif
