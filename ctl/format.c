/* See format.h. Pure but for the clock and the time zone. */
#include "ctl/format.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "common/clock.h"

#define MINUTE 60
#define HOUR 3600
#define DAY 86400

char *format_duration(uint64_t seconds, char buffer[FORMAT_MAX]) {
        if (seconds < MINUTE)
                (void) snprintf(buffer, FORMAT_MAX, "%" PRIu64 " s", seconds);
        else if (seconds < HOUR)
                (void) snprintf(buffer, FORMAT_MAX, "%" PRIu64 " min %" PRIu64 " s", seconds / MINUTE,
                                seconds % MINUTE);
        else if (seconds < DAY)
                (void) snprintf(buffer, FORMAT_MAX, "%" PRIu64 " h %" PRIu64 " min", seconds / HOUR,
                                seconds % HOUR / MINUTE);
        else
                (void) snprintf(buffer, FORMAT_MAX, "%" PRIu64 " d %" PRIu64 " h", seconds / DAY, seconds % DAY / HOUR);
        return buffer;
}

char *format_short_duration(uint64_t seconds, char buffer[FORMAT_MAX]) {
        if (seconds < MINUTE)
                (void) snprintf(buffer, FORMAT_MAX, "%" PRIu64 "s", seconds);
        else if (seconds < HOUR)
                (void) snprintf(buffer, FORMAT_MAX, "%" PRIu64 "m%02" PRIu64 "s", seconds / MINUTE, seconds % MINUTE);
        else if (seconds < DAY)
                (void) snprintf(buffer, FORMAT_MAX, "%" PRIu64 "h%02" PRIu64 "m", seconds / HOUR,
                                seconds % HOUR / MINUTE);
        else
                (void) snprintf(buffer, FORMAT_MAX, "%" PRIu64 "d%02" PRIu64 "h", seconds / DAY, seconds % DAY / HOUR);
        return buffer;
}

char *format_age(uint64_t realtime_usec, char buffer[FORMAT_MAX]) {
        uint64_t now = clock_realtime_usec();

        buffer[0] = '\0';
        if (realtime_usec > 0)
                (void) format_short_duration(now > realtime_usec ? (now - realtime_usec) / USEC_PER_SEC : 0, buffer);
        return buffer;
}

char *format_local_time(uint64_t realtime_usec, char buffer[FORMAT_MAX]) {
        time_t seconds = (time_t) (realtime_usec / USEC_PER_SEC);
        struct tm tm;

        buffer[0] = '\0';
        if (realtime_usec > 0 && localtime_r(&seconds, &tm))
                (void) strftime(buffer, FORMAT_MAX, "%Y-%m-%d %H:%M:%S %Z", &tm);
        return buffer;
}

char *format_bytes(uint64_t bytes, char buffer[FORMAT_MAX]) {
        static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
        double value = (double) bytes;
        unsigned unit = 0;

        while (value >= 1024 && unit < 6) {
                value /= 1024;
                unit++;
        }
        (void) snprintf(buffer, FORMAT_MAX, unit == 0 || value >= 100 ? "%.0f %s" : "%.1f %s", value, units[unit]);
        return buffer;
}

char *format_loss(double loss, char buffer[FORMAT_MAX]) {
        buffer[0] = '\0';
        if (isfinite(loss))
                (void) snprintf(buffer, FORMAT_MAX, "%.4g", loss);
        return buffer;
}

char *format_rate(double samples_per_second, char buffer[FORMAT_MAX]) {
        buffer[0] = '\0';
        if (isfinite(samples_per_second) && samples_per_second > 0)
                (void) snprintf(buffer, FORMAT_MAX, samples_per_second < 100 ? "%.3g/s" : "%.0f/s", samples_per_second);
        return buffer;
}

char *format_steps(const struct job_info *job, char buffer[FORMAT_MAX]) {
        buffer[0] = '\0';
        if (job->steps > 0)
                (void) snprintf(buffer, FORMAT_MAX, "%" PRIu64 "/%" PRIu64, job->step, job->steps);
        else if (job->step > 0)
                (void) snprintf(buffer, FORMAT_MAX, "%" PRIu64, job->step);
        return buffer;
}

bool job_fraction(const struct job_info *job, double *ret) {
        if (job->steps == 0)
                return false;
        *ret = job->step < job->steps ? (double) job->step / (double) job->steps : 1.0;
        return true;
}

char *format_percent(const struct job_info *job, char buffer[FORMAT_MAX]) {
        double fraction;

        buffer[0] = '\0';
        if (job_fraction(job, &fraction))
                (void) snprintf(buffer, FORMAT_MAX, "%.0f%%", floor(fraction * 100));
        return buffer;
}

enum style job_style(const struct job_info *job) {
        switch (job_state_from_name(job->state)) {
        case JOB_RUNNING:
        case JOB_DONE:
                return STYLE_GREEN;
        case JOB_STARTING:
        case JOB_STOPPING:
                return STYLE_CYAN;
        case JOB_BACKOFF:
        case JOB_PAUSED:
                return STYLE_YELLOW;
        case JOB_FAILED:
                return STYLE_RED;
        default:
                return STYLE_NONE;
        }
}
