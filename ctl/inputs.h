/* Checks the files that a spec names before it is submitted: a missing one is better reported now than when the job
 * starts. */
#ifndef CTL_INPUTS_H
#define CTL_INPUTS_H

#include "common/error.h"
#include "common/spec/spec.h"

/* Files that are not empty, the program and on_exit that can be executed. What is in the files the trainer checks.
 * on_exit is looked at here alone: a run does not end for a notice that cannot be given any more. */
int inputs_check(const struct spec *spec, struct error *error);

#endif
