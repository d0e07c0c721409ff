/* The daemon's log: the journal when systemd connected stderr to it, else "bertd: text" on stderr. One line per call.
 */
#ifndef DAEMON_BASE_LOG_H
#define DAEMON_BASE_LOG_H

#include <stdint.h>

#define LOG_FILE_MAX (4u << 20) /* bytes; the previous file is kept as PATH.1 */

void log_open(void); /* finds out what stderr is */
/* Redirects stderr to `path`, which is replaced by a new file when it is full or was removed. Returns 0 or −errno. */
int log_to_file(const char *path);
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A transition, for `journalctl -t bertd JOB_ID=42`; does nothing without a journal (state.db has the event). */
void log_transition(uint64_t job, const char *from, const char *to, const char *reason);

#endif
