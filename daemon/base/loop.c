/*
 * See loop.h. Owns the sd-event and the ring of timers; one sd-event timer is armed for the earliest of them. Each
 * struct source owns its sd-event source.
 */
#include "daemon/base/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "common/cleanup.h"

struct loop {
        sd_event *event;
        sd_event_source *time;
        struct timers timers;
        bool over;
};

struct source {
        sd_event_source *of_event;
        union {
                loop_handler_t call;
                loop_ready_t ready;
                loop_exited_t exited;
        } handler;
        void *userdata;
};

/* ---- time ---- */

uint64_t loop_boottime(void) { return clock_boottime_usec(); }
uint64_t loop_realtime(void) { return clock_realtime_usec(); }
void loop_sleep(uint64_t usec) { (void) usleep((useconds_t) usec); }

static void arm(struct loop *loop) {
        uint64_t usec = timers_next(&loop->timers);

        (void) sd_event_source_set_time(loop->time, usec);
        (void) sd_event_source_set_enabled(loop->time, usec == UINT64_MAX ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
}

/* One per turn, so that other handlers run in between. */
static int on_time(sd_event_source *of_event, uint64_t usec, void *userdata) {
        struct loop *loop = userdata;

        (void) timers_fire(&loop->timers, loop_boottime());
        arm(loop);
        return 0;
}

void loop_at(struct loop *loop, struct timer *timer, uint64_t usec, loop_handler_t handler, void *userdata) {
        timers_arm(&loop->timers, timer, usec, handler, userdata);
        if (timers_next(&loop->timers) == usec)
                arm(loop);
}

void loop_after(struct loop *loop, struct timer *timer, uint64_t usec, loop_handler_t handler, void *userdata) {
        loop_at(loop, timer, loop_boottime() + usec, handler, userdata);
}

/* ---- life ---- */

int loop_new(struct loop **ret) {
        struct loop *loop = calloc(1, sizeof(*loop));

        if (!loop)
                return -ENOMEM;
        timers_init(&loop->timers);
        int r = sd_event_default(&loop->event);
        if (r >= 0)
                r = sd_event_add_time(loop->event, &loop->time, CLOCK_BOOTTIME, UINT64_MAX, 1, on_time, loop);
        if (r < 0) {
                loop_free(loop);
                return r;
        }
        arm(loop);
        *ret = loop;
        return 0;
}

void loop_free(struct loop *loop) {
        if (!loop)
                return;
        (void) sd_event_source_disable_unref(loop->time);
        (void) sd_event_unref(loop->event);
        free(loop);
}

int loop_run(struct loop *loop) {
        (void) sd_event_set_watchdog(loop->event, 1);
        return sd_event_loop(loop->event);
}

int loop_turn(struct loop *loop, uint64_t usec) { return sd_event_run(loop->event, usec); }

void loop_end(struct loop *loop, int code) {
        loop->over = true;
        (void) sd_event_exit(loop->event, code);
}

bool loop_is_over(const struct loop *loop) { return loop->over; }

/* ---- sources ---- */

static int on_call(sd_event_source *of_event, void *userdata) {
        const struct source *source = userdata;

        source->handler.call(source->userdata);
        return 0;
}

static int on_ready(sd_event_source *of_event, int fd, uint32_t events, void *userdata) {
        const struct source *source = userdata;

        source->handler.ready(source->userdata, fd, events);
        return 0;
}

static int on_exited(sd_event_source *of_event, const siginfo_t *si, void *userdata) {
        const struct source *source = userdata;

        if (source->handler.exited)
                source->handler.exited(source->userdata, si);
        else
                (void) sd_event_source_set_floating(of_event, 0);
        return 0;
}

static int on_signal(sd_event_source *of_event, const struct signalfd_siginfo *si, void *userdata) {
        return on_call(of_event, userdata);
}

/* Takes the new sd-event source, or the error. */
static int finish(struct source *source, int r, struct source **ret) {
        if (r >= 0)
                r = sd_event_source_set_destroy_callback(source->of_event, free);
        if (r < 0) {
                (void) sd_event_source_disable_unref(source->of_event);
                free(source);
                return r;
        }
        *ret = source;
        return 0;
}

static struct source *new_source(void *userdata) {
        struct source *source = calloc(1, sizeof(*source));

        if (source)
                source->userdata = userdata;
        return source;
}

int loop_watch(struct loop *loop, int fd, uint32_t events, loop_ready_t handler, void *userdata, struct source **ret) {
        cleanup_close int taken = fd;
        struct source *source = new_source(userdata);

        if (!source)
                return -ENOMEM;
        source->handler.ready = handler;
        int r = finish(source, sd_event_add_io(loop->event, &source->of_event, fd, events, on_ready, source), ret);
        if (r >= 0)
                (void) sd_event_source_set_io_fd_own(source->of_event, 1);
        if (r >= 0)
                (void) steal_fd(&taken);
        return r;
}

int source_fd(const struct source *source) { return sd_event_source_get_io_fd(source->of_event); }

void source_set_events(struct source *source, uint32_t events) {
        (void) sd_event_source_set_io_events(source->of_event, events);
}

void source_enable(struct source *source, bool on) {
        (void) sd_event_source_set_enabled(source->of_event, on ? SD_EVENT_ON : SD_EVENT_OFF);
}

int loop_watch_child(struct loop *loop, pid_t pid, loop_exited_t handler, void *userdata, struct source **ret) {
        struct source *source = new_source(userdata);

        if (!source)
                return -ENOMEM;
        source->handler.exited = handler;
        return finish(source, sd_event_add_child(loop->event, &source->of_event, pid, WEXITED, on_exited, source), ret);
}

/* sd-event keeps it. */
static void let_go(struct source *source) {
        (void) sd_event_source_set_floating(source->of_event, 1);
        (void) sd_event_source_unref(source->of_event);
}

void source_leave(struct source *source) {
        source->handler.exited = NULL;
        let_go(source);
}

int loop_watch_signal(struct loop *loop, int signal, loop_handler_t handler, void *userdata) {
        struct source *source = new_source(userdata);

        if (!source)
                return -ENOMEM;
        source->handler.call = handler;
        int r = finish(source, sd_event_add_signal(loop->event, &source->of_event, signal, on_signal, source), &source);
        if (r >= 0)
                let_go(source);
        return r;
}

int loop_attach_bus(struct loop *loop, sd_bus *bus) {
        return sd_bus_attach_event(bus, loop->event, SD_EVENT_PRIORITY_NORMAL);
}

int loop_defer(struct loop *loop, loop_handler_t handler, void *userdata, struct source **ret) {
        struct source *source = new_source(userdata);

        if (!source)
                return -ENOMEM;
        source->handler.call = handler;
        int r = sd_event_add_defer(loop->event, &source->of_event, on_call, source);
        if (r >= 0)
                r = sd_event_source_set_enabled(source->of_event, SD_EVENT_OFF);
        return finish(source, r, ret);
}

void source_soon(struct source *source) {
        if (source)
                (void) sd_event_source_set_enabled(source->of_event, SD_EVENT_ONESHOT);
}

int loop_at_end(struct loop *loop, loop_handler_t handler, void *userdata, struct source **ret) {
        struct source *source = new_source(userdata);

        if (!source)
                return -ENOMEM;
        source->handler.call = handler;
        int r = sd_event_add_exit(loop->event, &source->of_event, on_call, source);
        if (r >= 0)
                r = sd_event_source_set_priority(source->of_event, SD_EVENT_PRIORITY_IMPORTANT);
        return finish(source, r, ret);
}

void source_set_order(struct source *source, enum loop_order order) {
        static const int64_t priorities[] = {
                [LOOP_NORMAL] = SD_EVENT_PRIORITY_NORMAL,
                [LOOP_LATER] = SD_EVENT_PRIORITY_NORMAL + 10,
                [LOOP_LAST] = SD_EVENT_PRIORITY_IDLE,
        };

        (void) sd_event_source_set_priority(source->of_event, priorities[order]);
}

struct source *source_free(struct source *source) {
        if (source)
                (void) sd_event_source_disable_unref(source->of_event);
        return NULL;
}
