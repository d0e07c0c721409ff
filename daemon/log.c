/* See log.h. Owns the one mutable global of the daemon: whether lines go to the journal. */
#include "daemon/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <syslog.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

static bool to_journal;

void log_open(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat st;

        to_journal = stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
                     st.st_dev == device && st.st_ino == inode;
}

static __attribute__((format(printf, 2, 0))) void write_line(int priority, const char *format, va_list ap) {
        char text[2048];

        (void) vsnprintf(text, sizeof(text), format, ap);
        if (to_journal)
                (void) sd_journal_print(priority, "%s", text);
        else
                (void) fprintf(stderr, "bertd: %s\n", text);
}

void log_info(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        write_line(LOG_INFO, format, ap);
        va_end(ap);
}

void log_error(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        write_line(LOG_ERR, format, ap);
        va_end(ap);
}

void log_transition(uint64_t job, const char *from, const char *to, const char *reason) {
        if (to_journal)
                (void) sd_journal_send("MESSAGE=job %" PRIu64 ": %s to %s%s%s", job, from, to, reason ? ": " : "",
                                       reason ? reason : "", "PRIORITY=%d", LOG_INFO, "SYSLOG_IDENTIFIER=bertd",
                                       "JOB_ID=%" PRIu64, job, "JOB_STATE=%s", to, NULL);
}
