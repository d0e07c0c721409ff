/*
 * Errors. A function that fails returns −errno and fills `struct error`; each caller may prefix context; main prints
 * the line and exits with the code. Libraries neither log nor exit.
 *
 *   struct error error = {};
 *   if (corpus_open(path, &corpus, &error) < 0)
 *           return error_report(&error);        only in main and subcommand entry points
 */
#ifndef COMMON_ERROR_H
#define COMMON_ERROR_H

struct error {
        int code;        /* errno value, > 0 once set */
        int exit;        /* exit code (include/bertd/exit.h), 0 = derive from code */
        char text[1024]; /* one line, no newline, problem first; longer text is cut */
};

/* Sets the error (the first one wins; `error` may be NULL) and returns −code. A code of 0 counts as EIO. */
int error_set(struct error *error, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Like error_set, with ": strerror(code)" appended, or the meaning of ENOSPC if the text starts with the path
 * (common/space.h). */
int error_errno(struct error *error, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A file or folder that cannot be written: like error_errno of its path, with exit code BERTD_EXIT_IO for every cause
 * (a folder that is missing, read only, another user's, or not a folder) except lack of memory. */
int error_output(struct error *error, int code, const char *path);

/* Bad input: sets exit code `exit_code` and returns −EINVAL. */
int error_input(struct error *error, int exit_code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Prefixes the text with "context: ". Returns −code, so `return error_prefix(...)` passes the failure on. */
int error_prefix(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints "PROGRAM: text\n" to stderr and returns the exit code (error->exit, else by code: 74 for I/O
 * and a full disk, 71 for memory, 66 for a missing or forbidden path, else 1). */
int error_report(const struct error *error);

#endif
