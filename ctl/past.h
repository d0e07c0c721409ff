/*
 * The past of a run that is continued: RUN_DIR/bertd.json and the checkpoints found there, for Submit.
 *
 *   past_read(run_dir, &past, &error)   or past_find, where there may be no bertd.json
 *   past_append(message, &past)         Submit's keys
 */
#ifndef CTL_PAST_H
#define CTL_PAST_H

#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "common/run_file.h"

struct past {
        struct run_file file;
        uint64_t *sizes, *times; /* of its checkpoints: bytes, usec since the epoch */
        uint64_t newest;         /* step of the newest good one, 0: none */
};

/* Leaves out checkpoints that are gone. −ENOENT: no bertd.json. Refused: all are gone. */
int past_read(const char *run_dir, struct past *ret, struct error *error);
void past_clear(struct past *past);
#define cleanup_past cleanup(past_clear)

/* The same; a folder with checkpoints and no bertd.json has an empty past. Refused: neither, or the run lives. */
int past_find(const char *run_dir, struct past *ret, struct error *error);

/* −errno of sd-bus. */
int past_append(sd_bus_message *message, const struct past *past);

#endif
