/* The daemon's log: the journal when systemd connected stderr to it, else "bertd: text" on stderr. One line a call. */
#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

#include <stdint.h>

#define LOG_FILE_MAX (4u << 20) /* bytes; the file before it is kept as PATH.1 */

void log_open(void); /* looks where stderr leads */
/* Makes `path` standard error, to be replaced by a new file when it is full or has been removed. Returns 0 or −errno. */
int log_to_file(const char *path);
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A transition, for `journalctl -t bertd JOB_ID=42`; nothing where there is no journal (state.db has the event). */
void log_transition(uint64_t job, const char *from, const char *to, const char *reason);

#endif
