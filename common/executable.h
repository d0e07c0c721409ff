/* Finds programs like execvp(3) and the kernel: PATH, and the first line of a script. Executes nothing. */
#ifndef COMMON_EXECUTABLE_H
#define COMMON_EXECUTABLE_H

#include <stdbool.h>
#include <stddef.h>

#define EXECUTABLE_HEAD_MAX 256 /* bytes of a file that the kernel reads */

/* Whether it is a regular file that this user may execute. */
bool executable_is(const char *path);

/* Its path; a name with a slash is returned without a check. Caller frees. −ENOENT; −EACCES: found in PATH, but not
 * executable; −ENOMEM. */
int executable_find(const char *name, char **ret_path);

/* This program's own path; "" if /proc is missing. */
void executable_self(char *buffer, size_t size);

/* A file of ours: at `beside`, relative to this program's folder as in a build folder, else `installed`. Caller frees;
 * NULL: no memory. */
char *executable_beside(const char *beside, const char *installed);

/* The beginning of a file, NUL-terminated. Returns its length; 0 also if it cannot be read. */
size_t executable_head(const char *path, char head[EXECUTABLE_HEAD_MAX + 1]);

/* A script's first line after "#!" and blanks, including a trailing carriage return; "": not a script. */
void executable_script_line(const char *path, char line[EXECUTABLE_HEAD_MAX + 1]);

#endif
