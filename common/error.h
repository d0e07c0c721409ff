/*
 * An error on its way up. A function that fails returns −errno and fills `struct error`; each caller may put context in
 * front; main prints the one line and exits with the code. Libraries neither log nor exit.
 *
 *   struct error error = {};
 *   if (corpus_open(path, &corpus, &error) < 0)
 *           return error_report(&error);        only in main and subcommand entry points
 */
#ifndef COMMON_ERROR_H
#define COMMON_ERROR_H

struct error {
        int code;        /* errno value, > 0 once set */
        int exit;        /* exit code that fits (include/bertd/exit.h), 0 = derive from code */
        char text[1024]; /* one line, no newline, problem first; longer text is cut */
};

/* Sets the error (the first one wins; `error` may be NULL) and returns −code. A code of 0 counts as EIO. */
int error_set(struct error *error, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As error_set with ": strerror(code)" at the end, or what ENOSPC means where the text begins with the path (common/space.h). */
int error_errno(struct error *error, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A file or folder that cannot be written: as error_errno of its path, with exit code BERTD_EXIT_IO whatever keeps it from being
 * written (a folder that is missing, read only, another's, no folder), but memory. */
int error_output(struct error *error, int code, const char *path);

/* Bad input: sets exit code `exit_code` and returns −EINVAL. */
int error_input(struct error *error, int exit_code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "context: " in front of the text. Returns −code, so `return error_prefix(...)` passes the failure on. */
int error_prefix(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints "PROGRAM: text\n" to stderr and returns the exit code (error->exit, else by code: 74 for I/O
 * and a full disk, 71 for memory, 66 for a path that is missing or not allowed, else 1). */
int error_report(const struct error *error);

#endif
