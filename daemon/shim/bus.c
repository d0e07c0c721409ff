/*
 * See shim.h. A peer-to-peer client of bertd that also serves /org/bertd1/attempt on the same connection. Invariants:
 * without a connection only the retry timer runs; at most one report is in flight, so a bertd that does not read costs
 * no memory; every call has a time limit, after which the connection counts as broken. The peer must be root or have
 * the shim's uid.
 */
#include "daemon/shim/shim.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "bertd/bus.h"
#include "common/cleanup.h"
#include "common/clock.h"

#define RETRY_USEC (1 * USEC_PER_SEC)
#define PACE_USEC (USEC_PER_SEC / 4)
#define CALL_LIMIT_USEC (10 * USEC_PER_SEC)
#define LAST_REPORT_USEC (5 * USEC_PER_SEC)
#define WITNESS_USEC (3600 * USEC_PER_SEC) /* wait for bertd if there is no exit.json */

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

/* Arms a one-shot timer `usec` from now, creating it on first use. */
static void arm(struct shim *shim, sd_event_source **source, uint64_t usec, sd_event_time_handler_t handler) {
        if (!*source) {
                (void) sd_event_add_time_relative(shim->event, source, CLOCK_BOOTTIME, usec, 0, handler, shim);
                return;
        }
        (void) sd_event_source_set_time_relative(*source, usec);
        (void) sd_event_source_set_enabled(*source, SD_EVENT_ONESHOT);
}

static void disarm(sd_event_source *source) {
        if (source)
                (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
}

static void drop_connection(struct shim *shim) {
        struct shim_bus *b = &shim->bus;

        b->report = sd_bus_slot_unref(b->report);
        b->bus = sd_bus_close_unref(b->bus);
        b->greeted = false;
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata);

/* Also called inside callbacks of the bus, where the bus must not be freed: the retry handler frees it. */
static void broken(struct shim *shim) {
        disarm(shim->bus.pace);
        shim->bus.greeted = false;
        if (shim->state == SHIM_ENDED && shim->recorded)
                (void) sd_event_exit(shim->event, 0);
        else
                arm(shim, &shim->bus.retry, RETRY_USEC, on_retry);
}

/* ---- reports ---- */

/* For a job that continues without its first process. */
static int append_running_on(sd_bus_message *m, const struct shim *shim) {
        int status = shim->left.first;

        if (shim->state != SHIM_RUNNING || shim->left.running == 0)
                return 0;
        return sd_bus_message_append(m, "{sv}{sv}", "first_exit", "i",
                                     WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status), "runs_on", "u",
                                     (uint32_t) shim->left.running);
}

/* The job's own, or what is wrong. */
static int append_status(sd_bus_message *m, const struct shim *shim) {
        const char *own = shim->progress.status, *problem = shim->copies.problem;
        char both[2 * SHIM_STATUS_MAX], text[SHIM_STATUS_MAX];

        if (!problem[0])
                return sd_bus_message_append(m, "{sv}", "status", "s", own);
        int n = snprintf(both, sizeof(both), "checkpoints are not copied: %s", problem);
        (void) shim_clean_text(text, sizeof(text), both, (size_t) n);
        return sd_bus_message_append(m, "{sv}", "status", "s", text);
}

static int append_progress(sd_bus_message *m, const struct shim *shim) {
        const struct progress *p = &shim->progress;
        int r = 0;

        if (shim->child.pid > 0)
                r = sd_bus_message_append(m, "{sv}", "pid", "i", (int) shim->child.pid);
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}{sv}{sv}", "ready", "b", (int) p->ready, "step", "t", p->step,
                                          "steps", "t", p->steps);
        if (r >= 0)
                r = append_status(m, shim);
        if (r >= 0 && !isnan(p->loss))
                r = sd_bus_message_append(m, "{sv}", "loss", "d", p->loss);
        if (r >= 0 && !isnan(p->rate))
                r = sd_bus_message_append(m, "{sv}", "rate", "d", p->rate);
        if (r >= 0 && p->paced)
                r = sd_bus_message_append(m, "{sv}", "slowest", "s", p->slowest);
        if (r >= 0 && shim->declared.checkpoint != 0)
                r = sd_bus_message_append(m, "{sv}", "takes_checkpoints", "u", 1);
        if (r >= 0 && p->samples_last > 0)
                r = sd_bus_message_append(m, "{sv}{sv}", "samples_first", "t", p->samples_first, "samples_last", "t",
                                          p->samples_last);
        return r;
}

static int append_checkpoint(sd_bus_message *m, const struct checkpoint_note *note) {
        int r = sd_bus_message_append(m, "{sv}{sv}{sv}", "checkpoint_step", "t", note->step, "checkpoint_path", "s",
                                      note->path, "checkpoint_size", "t", note->size);

        if (r >= 0 && note->at > 0)
                r = sd_bus_message_append(m, "{sv}", "checkpoint_at", "t", note->at);
        if (r >= 0 && note->unconfirmed)
                r = sd_bus_message_append(m, "{sv}", "checkpoint_unconfirmed", "u", 1);
        if (r >= 0 && !isnan(note->stall))
                r = sd_bus_message_append(m, "{sv}", "checkpoint_stall", "d", note->stall);
        if (r >= 0 && !isnan(note->write))
                r = sd_bus_message_append(m, "{sv}", "checkpoint_write", "d", note->write);
        return r;
}

static int append_end(sd_bus_message *m, const struct shim *shim) {
        int r = sd_bus_message_append(m, "{sv}", "exited", "b", 1);

        return r < 0 || !shim->record ? r : sd_bus_message_append(m, "{sv}", "record", "s", shim->record);
}

static int append_numbers(sd_bus_message *m, const char *key, const uint64_t *numbers, size_t n) {
        if (n == 0)
                return 0;
        int r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", key);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "at");
        if (r >= 0)
                r = sd_bus_message_append_array(m, 't', numbers, n * sizeof(*numbers));
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_hosts(sd_bus_message *m, const struct shim *shim) {
        return shim->gang.in_use ? sd_bus_message_append(m, "{sv}", "hosts_in_use", "s", shim->gang.in_use) : 0;
}

static bool has_news(const struct shim *shim) { return shim->began || shim->news.n_found > 0 || shim->news.n_gone > 0; }

/* The resumed step is in the report with the last of the found files: bertd must know the file first. */
static int append_news(sd_bus_message *m, struct shim *shim) {
        bool all = list_news_send(&shim->news);

        int r = append_numbers(m, "found", shim->news.found, shim->news.sent_found);
        if (r >= 0)
                r = append_numbers(m, "gone", shim->news.gone, shim->news.sent_gone);
        shim->bus.sent_beginning = all && shim->began;
        if (r >= 0 && shim->bus.sent_beginning)
                r = sd_bus_message_append(m, "{sv}", "resumed_step", "t", shim->began_step);
        return r;
}

/* Builds a report with at most one checkpoint. Caller unrefs. */
static int new_report(struct shim *shim, const struct checkpoint_note *note, bool exited, sd_bus_message **ret) {
        sd_bus_message *m = NULL;
        int r = sd_bus_message_new_method_call(shim->bus.bus, &m, NULL, BERTD_BUS_PATH, BERTD_BUS_INTERFACE,
                                               "AttemptReport");

        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}{sv}{sv}", "job", "t", shim->attempt.job, "attempt", "u",
                                          shim->attempt.number, "nonce", "s", shim->attempt.nonce);
        if (r >= 0)
                r = append_progress(m, shim);
        if (r >= 0)
                r = append_running_on(m, shim);
        if (r >= 0)
                r = append_hosts(m, shim);
        if (r >= 0)
                r = append_news(m, shim);
        if (r >= 0 && note)
                r = append_checkpoint(m, note);
        if (r >= 0 && exited)
                r = append_end(m, shim);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r < 0) {
                sd_bus_message_unref(m);
                return r;
        }
        *ret = m;
        return 0;
}

static void send_report(struct shim *shim);

static int on_pace(sd_event_source *source, uint64_t usec, void *userdata) {
        send_report(userdata);
        return 0;
}

static void forget_checkpoint(struct progress *p) {
        if (p->n_checkpoints == 0)
                return;
        p->n_checkpoints--;
        memmove(p->checkpoints, p->checkpoints + 1, p->n_checkpoints * sizeof(*p->checkpoints));
}

/* Sends a report if due, or arms the timer. */
static void pump(struct shim *shim) {
        struct shim_bus *b = &shim->bus;
        uint64_t now = clock_boottime_usec();

        if (!b->dirty || !b->greeted || b->report || shim->state == SHIM_ENDED)
                return;
        if (b->urgent || now >= b->last_usec + PACE_USEC)
                send_report(shim);
        else
                arm(shim, &b->pace, b->last_usec + PACE_USEC - now, on_pace);
}

/* The call was not delivered. */
static bool is_unanswered(const sd_bus_error *e) {
        return e &&
               (sd_bus_error_has_name(e, SD_BUS_ERROR_NO_REPLY) || sd_bus_error_has_name(e, SD_BUS_ERROR_TIMEOUT) ||
                sd_bus_error_has_name(e, SD_BUS_ERROR_DISCONNECTED));
}

static int on_report_answer(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        struct shim *shim = userdata;
        struct shim_bus *b = &shim->bus;
        const sd_bus_error *e = sd_bus_message_get_error(m);

        b->report = sd_bus_slot_unref(b->report);
        if (is_unanswered(e)) {
                b->dirty = true;
                broken(shim);
                return 0;
        }
        bool kept = !e || !sd_bus_error_has_name(e, BERTD_ERROR_STORAGE); /* else it is sent again, at the usual pace */
        if (b->sent_checkpoint && kept)
                forget_checkpoint(&shim->progress);
        if (kept) {
                list_news_sent(&shim->news);
                shim->began = shim->began && !b->sent_beginning;
        }
        b->urgent = kept && (shim->progress.n_checkpoints > 0 || has_news(shim));
        b->dirty = b->dirty || b->urgent || !kept;
        pump(shim);
        return 0;
}

static void send_report(struct shim *shim) {
        struct shim_bus *b = &shim->bus;
        struct progress *p = &shim->progress;
        sd_bus_message *m = NULL;

        if (!b->greeted || b->report || shim->state == SHIM_ENDED)
                return;
        b->sent_checkpoint = p->n_checkpoints > 0;
        int r = new_report(shim, b->sent_checkpoint ? p->checkpoints : NULL, false, &m);
        if (r >= 0)
                r = sd_bus_call_async(b->bus, &b->report, m, on_report_answer, shim, CALL_LIMIT_USEC);
        sd_bus_message_unref(m);
        b->dirty = b->urgent = false;
        b->last_usec = clock_boottime_usec();
        disarm(b->pace);
        if (r < 0) {
                b->dirty = true;
                broken(shim);
        }
}

void shim_bus_changed(struct shim *shim, bool urgent) {
        shim->bus.dirty = true;
        shim->bus.urgent = shim->bus.urgent || urgent;
        pump(shim);
}

/* ---- the end ---- */

static int on_last_answer(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        struct shim *shim = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(m);
        bool kept = shim->recorded || !e || !sd_bus_error_has_name(e, BERTD_ERROR_STORAGE);

        if (is_unanswered(e) || !kept)
                broken(shim);
        else
                (void) sd_event_exit(shim->event, 0);
        return 0;
}

static int on_last(sd_event_source *source, uint64_t usec, void *userdata) {
        struct shim *shim = userdata;

        return sd_event_exit(shim->event, 0);
}

/* First sends checkpoints that bertd has not acknowledged, one per report; duplicates are harmless. */
static void send_last(struct shim *shim) {
        struct shim_bus *b = &shim->bus;
        sd_bus_message *m = NULL;

        for (unsigned i = 0; i < shim->progress.n_checkpoints; i++) {
                if (new_report(shim, &shim->progress.checkpoints[i], false, &m) >= 0)
                        (void) sd_bus_send(b->bus, m, NULL);
                m = sd_bus_message_unref(m);
        }
        if (new_report(shim, NULL, true, &m) < 0 ||
            sd_bus_call_async(b->bus, NULL, m, on_last_answer, shim, LAST_REPORT_USEC) < 0)
                broken(shim);
        sd_bus_message_unref(m);
}

void shim_bus_ended(struct shim *shim) {
        if (!shim->recorded)
                arm(shim, &shim->bus.last, WITNESS_USEC, on_last);
        if (shim->bus.greeted)
                send_last(shim);
        else if (shim->recorded)
                (void) sd_event_exit(shim->event, 0);
}

/* ---- hello ---- */

static int on_hello_answer(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        struct shim *shim = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(m);
        uint32_t answer;

        /* Only STOP stops a running job: a daemon that does not know the job may have lost its database. */
        if (e && sd_bus_error_has_name(e, BERTD_ERROR_NO_SUCH_JOB) && shim->state != SHIM_RUNNING) {
                shim_closed(shim);
                return 0;
        }
        /* Stays connected: only another bertd can help, and its start closes this connection. */
        if (e && sd_bus_error_has_name(e, BERTD_ERROR_VERSION))
                return 0;
        if (e || sd_bus_message_read(m, "u", &answer) < 0) {
                broken(shim);
                return 0;
        }
        if (answer == BERTD_ATTEMPT_STOP) {
                shim_closed(shim);
                return 0;
        }
        shim->bus.greeted = true;
        shim->bus.urgent = true;
        if (shim->state == SHIM_WAITING)
                shim_go(shim);
        else if (shim->state == SHIM_RUNNING)
                shim_bus_changed(shim, true);
        else if (!shim->copies.ending)
                send_last(shim);
        return 0;
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.Local", "Disconnected"))
                broken(userdata);
        return 0;
}

/* ---- the attempt's object ---- */

static int method_stop(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        uint64_t grace_usec;
        int r = sd_bus_message_read(m, "t", &grace_usec);

        if (r < 0)
                return r;
        r = sd_bus_reply_method_return(m, "");
        shim_stop(userdata, grace_usec);
        return r;
}

static int method_move(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *reason;

        int r = sd_bus_message_read(m, "s", &reason);
        if (r < 0)
                return r;
        shim_lease_move(userdata, reason);
        return sd_bus_reply_method_return(m, "");
}

static int method_checkpoint(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        shim_checkpoint(userdata);
        return sd_bus_reply_method_return(m, "");
}

static const sd_bus_vtable attempt_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Stop", "t", "", method_stop, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Checkpoint", "", "", method_checkpoint, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Move", "s", "", method_move, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

/* ---- connecting ---- */

/* A connected, non-blocking socket whose peer is root or this user; −errno. */
static int connect_socket(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        struct ucred peer;
        socklen_t size = sizeof(peer);

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, path, strlen(path));
        cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || connect(fd, (const struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
                return -errno;
        if (peer.uid != 0 && peer.uid != geteuid())
                return -EPERM;
        return steal_fd(&fd);
}

static int open_bus(struct shim *shim, int fd) {
        struct shim_bus *b = &shim->bus;
        int r = sd_bus_new(&b->bus);

        if (r < 0) {
                (void) close(fd);
                return r;
        }
        r = sd_bus_set_fd(b->bus, fd, fd); /* takes the descriptor */
        if (r < 0) {
                (void) close(fd);
                return r;
        }
        (void) sd_bus_set_exit_on_disconnect(b->bus, 0);
        r = sd_bus_add_filter(b->bus, NULL, on_message, shim);
        if (r >= 0)
                r = sd_bus_add_object_vtable(b->bus, NULL, BERTD_BUS_ATTEMPT_PATH, BERTD_BUS_ATTEMPT_INTERFACE,
                                             attempt_vtable, shim);
        if (r >= 0)
                r = sd_bus_start(b->bus);
        return r < 0 ? r : sd_bus_attach_event(b->bus, shim->event, SD_EVENT_PRIORITY_NORMAL);
}

static int say_hello(struct shim *shim) {
        sd_bus_message *m = NULL;
        int r = sd_bus_message_new_method_call(shim->bus.bus, &m, NULL, BERTD_BUS_PATH, BERTD_BUS_INTERFACE,
                                               "AttemptHello");

        if (r >= 0)
                r = sd_bus_message_append(m, "tuss", shim->attempt.job, shim->attempt.number, shim->attempt.nonce,
                                          BERTD_VERSION " " TEXT(BERTD_SHIM_PROTOCOL));
        if (r >= 0)
                r = sd_bus_call_async(shim->bus.bus, NULL, m, on_hello_answer, shim, CALL_LIMIT_USEC);
        sd_bus_message_unref(m);
        return r;
}

static int try_connect(struct shim *shim) {
        drop_connection(shim);
        int fd = connect_socket(shim->bus.socket);
        if (fd < 0)
                return fd;
        int r = open_bus(shim, fd);
        return r < 0 ? r : say_hello(shim);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        struct shim *shim = userdata;

        if (try_connect(shim) < 0)
                broken(shim);
        return 0;
}

int shim_bus_start(struct shim *shim, const char *socket) {
        shim->bus.socket = socket;
        arm(shim, &shim->bus.retry, 0, on_retry);
        return shim->bus.retry ? 0 : -ENOMEM;
}

void shim_bus_close(struct shim *shim) {
        drop_connection(shim);
        shim->bus.retry = sd_event_source_disable_unref(shim->bus.retry);
        shim->bus.pace = sd_event_source_disable_unref(shim->bus.pace);
        shim->bus.last = sd_event_source_disable_unref(shim->bus.last);
}
