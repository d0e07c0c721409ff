/* One Submit call: a spec, its text, and what the submitter's shell has: folder, environment, umask, limits. */
#ifndef CTL_SUBMISSION_H
#define CTL_SUBMISSION_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/spec/spec.h"
#include "ctl/client.h"
#include "ctl/past.h"

/* Sends it once everything that bertd would refuse is checked. `past`: of a run that is continued, else NULL. */
int submission_send(struct client *client, const struct spec *spec, const struct past *past, uint64_t *ret_id,
                    struct error *error);

/* Whether a command can be sent: its words are UTF-8. */
int submission_check_words(char *const *words, size_t n, struct error *error);

#endif
