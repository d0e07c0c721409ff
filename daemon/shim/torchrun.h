/* What launchers of Python programs print: torchrun's report of the rank that failed first, also of what launches
 * through it (accelerate), and what accelerate, DeepSpeed and conda add to a failure. Pure, except the error file. */
#ifndef DAEMON_SHIM_TORCHRUN_H
#define DAEMON_SHIM_TORCHRUN_H

#include <stdbool.h>
#include <stddef.h>

#define TORCHRUN_ERROR_FILE "torch-error.json" /* in the attempt's folder: TORCHELASTIC_ERROR_FILE */

struct torchrun_cause {
        int rank;      /* global */
        int exit_code; /* −1: died of a signal */
        int signal;    /* 0: none */
};

/* The "Root Cause" of the last report in an output. False: none. */
bool torchrun_cause(const char *text, size_t size, struct torchrun_cause *ret);

/* The exit code in the last line of a Python launcher that ends with CalledProcessError, e.g. accelerate's for one
 * process. False: not such a line, or a signal. */
bool torchrun_child_code(const char *text, size_t size, int *ret);

/* How much of an output the program has written, before its launcher reported the failure. */
size_t torchrun_program_size(const char *text, size_t size);

/* The exception in the error file of the failed process, e.g. "ValueError: shapes differ"; NULL: none. Caller frees. */
char *torchrun_exception(int dir_fd);

#endif
