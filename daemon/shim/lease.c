/*
 * See shim.h. The attempt of a lease, whose main child is bertd-leash. Three watch each other: bertd-leash ends the
 * lease when its head is silent; this shim when bertd-leash is (SIGSTOP); systemd when this shim is, by its watchdog. A
 * thread sends the watchdog's datagrams: it is stopped with the process, but does not wait for a disk that the process
 * waits for.
 */
#include "daemon/shim/shim.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/worker.h"

#define LOOK_USEC USEC_PER_SEC
#define SLACK_USEC (2 * USEC_PER_SEC) /* bertd-leash reports every two seconds */
#define WATCHDOGS 8                   /* datagrams in the time that systemd waits for one */

bool shim_is_lease(const struct shim *shim) { return shim->attempt.lease_timeout_sec > 0; }

static void *keep_watchdog(void *pause_usec) {
        uint64_t usec = (uint64_t) (uintptr_t) pause_usec;
        const struct timespec pause = { .tv_sec = (time_t) (usec / USEC_PER_SEC),
                                        .tv_nsec = (long) (usec % USEC_PER_SEC) * 1000 };

        for (;;) {
                (void) sd_notify(0, "WATCHDOG=1");
                (void) nanosleep(&pause, NULL);
        }
        return NULL;
}

static int start_watchdog(void) {
        uint64_t usec;
        pthread_t thread;

        if (sd_watchdog_enabled(0, &usec) <= 0)
                return 0;
        int r = thread_start(keep_watchdog, (void *) (uintptr_t) MAX(usec / WATCHDOGS, UINT64_C(1000)), &thread);
        if (r >= 0)
                (void) pthread_detach(thread);
        return r;
}

static int on_look(sd_event_source *source, uint64_t usec, void *userdata) {
        struct shim *shim = userdata;
        uint64_t silent = clock_boottime_usec() - shim->lease.heard_usec;

        if (shim->state != SHIM_RUNNING || shim->killed)
                return 0;
        if (silent > shim->attempt.lease_timeout_sec * USEC_PER_SEC + SLACK_USEC) {
                shim_log_note(&shim->log, "bertd-leash is silent for %" PRIu64 " s, the lease ends",
                              silent / USEC_PER_SEC);
                shim->lease.silent = true;
                shim_kill_all(shim);
                return 0;
        }
        (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return sd_event_source_set_time_relative(source, LOOK_USEC);
}

int shim_lease_prepare(const struct shim *shim) { return shim_is_lease(shim) ? start_watchdog() : 0; }

int shim_lease_start(struct shim *shim) {
        if (!shim_is_lease(shim))
                return 0;
        shim->lease.heard_usec = clock_boottime_usec();
        return sd_event_add_time_relative(shim->event, &shim->lease.timer, CLOCK_BOOTTIME, LOOK_USEC, 0, on_look, shim);
}

/* A leash that has no room for it gets it after its next datagram. */
static void tell_leash(struct shim *shim) {
        const struct shim_address *to = &shim->lease.leash;
        const char *reason = shim->lease.move;

        if (reason[0] && to->size > 0 &&
            sendto(shim->notify_fd, reason, strlen(reason), MSG_DONTWAIT | MSG_NOSIGNAL,
                   (const struct sockaddr *) &to->address, to->size) >= 0)
                shim->lease.move[0] = '\0';
}

void shim_lease_heard(struct shim *shim, const struct shim_address *from) {
        if (!shim_is_lease(shim))
                return;
        shim->lease.heard_usec = clock_boottime_usec();
        shim->lease.leash = *from;
        tell_leash(shim);
}

void shim_lease_move(struct shim *shim, const char *reason) {
        (void) shim_clean_text(shim->lease.move, sizeof(shim->lease.move), reason, strlen(reason));
        tell_leash(shim);
}

bool shim_lease_verdict(const struct shim *shim, struct exit_verdict *ret) {
        if (!shim->lease.silent)
                return false;
        *ret = (struct exit_verdict) { .exit_class = EXIT_CLASS_HANG, .exit_code = -1, .first_rank = -1 };
        (void) snprintf(ret->reason, sizeof(ret->reason), "bertd-leash did not answer for %u s",
                        shim->attempt.lease_timeout_sec);
        return true;
}
