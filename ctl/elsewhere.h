/* `bertctl list -H` and `status -H`: what bertctl prints on other hosts, in one table or one JSON. */
#ifndef CTL_ELSEWHERE_H
#define CTL_ELSEWHERE_H

#include <stdbool.h>
#include <stdint.h>

#include "ctl/command.h"

struct elsewhere_options {
        const char *hosts; /* "h1,h2", node lists too */
        const char *job;   /* status: NULL: an overview */
        bool active, json;
        uint64_t limit; /* list: 0: all */
};

#define OPTION_HOSTS(variable)                                                                                    \
        {                                                                                                         \
                .name = "hosts", .letter = 'H', .kind = OPTION_STRING, .value = &(variable), .argument = "HOSTS", \
                .help = "ask the bertd of each of these hosts by ssh: \"h1,h2\", \"gpu[01-04]\""                  \
        }

/* Return exit codes of bertctl: 1 if a host failed, which has a line on stderr; the others are shown. 3: none has the
 * job. */
int elsewhere_list(struct ctl *ctl, const struct elsewhere_options *options);
int elsewhere_status(struct ctl *ctl, const struct elsewhere_options *options);

#endif
