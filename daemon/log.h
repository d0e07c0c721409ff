/* The daemon's log: the journal when systemd connected stderr to it, else "bertd: text" on stderr. One line a call. */
#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

#include <stdint.h>

void log_open(void); /* looks where stderr leads */
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A transition, for `journalctl -t bertd JOB_ID=42`; nothing where there is no journal (state.db has the event). */
void log_transition(uint64_t job, const char *from, const char *to, const char *reason);

#endif
