/* Programs as execvp(3) and the kernel find them: PATH, and the first line of a script. Nothing is executed. */
#ifndef COMMON_EXECUTABLE_H
#define COMMON_EXECUTABLE_H

#include <stdbool.h>
#include <stddef.h>

#define EXECUTABLE_HEAD_MAX 256 /* bytes of a file that the kernel looks at */

/* A regular file that this user may execute. */
bool executable_is(const char *path);

/* Where it lies; a name with a slash is its own path, and nothing is looked at. Caller frees. −ENOENT; −EACCES: one is in PATH that may
 * not be executed; −ENOMEM. */
int executable_find(const char *name, char **ret_path);

/* The beginning of a file, NUL-terminated. Returns how much it is; 0 also where it cannot be read. */
size_t executable_head(const char *path, char head[EXECUTABLE_HEAD_MAX + 1]);

/* What a script's first line says after "#!" and blanks, a carriage return at its end included; "": it is none. */
void executable_script_line(const char *path, char line[EXECUTABLE_HEAD_MAX + 1]);

#endif
