/* See loop_turned.h. Owns the sources, in a list, and both clocks. Connections of buses are for the test to process. */
#include "tests/loop_turned.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"

#define SOURCES_MAX 256
#define PATIENCE_MSEC 10000

static uint64_t boottime = 1000 * USEC_PER_SEC, realtime = 1700000000 * USEC_PER_SEC;
static int patience_msec = PATIENCE_MSEC;

enum kind {
        READY,
        CHILD,
        DEFERRED,
        AT_END,
};

struct source {
        struct source *next;
        struct loop *loop;
        enum kind kind;
        enum loop_order order;
        int fd; /* of a child: its pidfd */
        uint32_t events;
        bool on;         /* of deferred work: it is due */
        uint64_t served; /* of those of one order the one that has waited longest is next */
        loop_handler_t call;
        loop_ready_t ready;
        loop_exited_t exited; /* NULL: it was left */
        void *userdata;
};

struct loop {
        struct timers timers;
        struct source *sources;
        uint64_t turns, timers_served;
        bool over;
        int code;
};

/* ---- time ---- */

uint64_t loop_boottime(void) { return boottime; }
uint64_t loop_realtime(void) { return realtime; }

void loop_sleep(uint64_t usec) {
        boottime += usec;
        realtime += usec;
}

void turned_set_wall(int64_t usec) { realtime += (uint64_t) usec; }

void turned_set_patience(int msec) { patience_msec = msec; }

void loop_at(struct loop *loop, struct timer *timer, uint64_t usec, loop_handler_t handler, void *userdata) {
        timers_arm(&loop->timers, timer, usec, handler, userdata);
}

void loop_after(struct loop *loop, struct timer *timer, uint64_t usec, loop_handler_t handler, void *userdata) {
        loop_at(loop, timer, boottime + usec, handler, userdata);
}

/* ---- sources ---- */

static struct source *add(struct loop *loop, enum kind kind, int fd, void *userdata) {
        struct source *source = calloc(1, sizeof(*source));

        assert(source);
        *source = (struct source) {
                .next = loop->sources, .loop = loop, .kind = kind, .fd = fd, .served = loop->turns, .userdata = userdata
        };
        loop->sources = source;
        return source;
}

struct source *source_free(struct source *source) {
        struct source **at = source ? &source->loop->sources : NULL;

        if (!source)
                return NULL;
        while (*at != source)
                at = &(*at)->next;
        *at = source->next;
        if (source->fd >= 0)
                (void) close(source->fd);
        free(source);
        return NULL;
}

int loop_watch(struct loop *loop, int fd, uint32_t events, loop_ready_t handler, void *userdata, struct source **ret) {
        *ret = add(loop, READY, fd, userdata);
        (*ret)->events = events;
        (*ret)->on = true;
        (*ret)->ready = handler;
        return 0;
}

int loop_watch_child(struct loop *loop, pid_t pid, loop_exited_t handler, void *userdata, struct source **ret) {
        int fd = pidfd_open(pid, 0);

        if (fd < 0)
                return -errno;
        *ret = add(loop, CHILD, fd, userdata);
        (*ret)->events = EPOLLIN;
        (*ret)->on = true;
        (*ret)->exited = handler;
        return 0;
}

int loop_defer(struct loop *loop, loop_handler_t handler, void *userdata, struct source **ret) {
        *ret = add(loop, DEFERRED, -1, userdata);
        (*ret)->call = handler;
        return 0;
}

int loop_at_end(struct loop *loop, loop_handler_t handler, void *userdata, struct source **ret) {
        *ret = add(loop, AT_END, -1, userdata);
        (*ret)->call = handler;
        return 0;
}

int source_fd(const struct source *source) { return source->fd; }
void source_set_events(struct source *source, uint32_t events) { source->events = events; }
void source_enable(struct source *source, bool on) { source->on = on; }
void source_leave(struct source *source) { source->exited = NULL; }
void source_set_order(struct source *source, enum loop_order order) { source->order = order; }

void source_soon(struct source *source) {
        if (source)
                source->on = true;
}

int loop_watch_signal(struct loop *loop, int signal, loop_handler_t handler, void *userdata) { return 0; }
int loop_attach_bus(struct loop *loop, sd_bus *bus) { return 0; }

/* ---- turns ---- */

static bool has_child(const struct loop *loop) {
        for (const struct source *s = loop->sources; s; s = s->next)
                if (s->kind == CHILD && s->exited)
                        return true;
        return false;
}

static bool comes_before(const struct source *a, const struct source *b) {
        return !b || a->order < b->order || (a->order == b->order && a->served < b->served);
}

/* NULL: none is ready. */
static struct source *find_ready(const struct loop *loop, int msec, uint32_t *ret_events) {
        struct pollfd fds[SOURCES_MAX];
        struct source *of[SOURCES_MAX], *best = NULL;
        nfds_t n = 0;

        for (struct source *s = loop->sources; s; s = s->next) {
                if (s->on && s->kind == DEFERRED && comes_before(s, best))
                        best = s;
                if (s->on && s->fd >= 0) {
                        assert(n < SOURCES_MAX);
                        of[n] = s;
                        fds[n++] = (struct pollfd) { .fd = s->fd, .events = (short) s->events };
                }
        }
        (void) poll(fds, n, best ? 0 : msec);
        for (nfds_t i = 0; i < n; i++)
                if (fds[i].revents && comes_before(of[i], best)) {
                        best = of[i];
                        *ret_events = (uint32_t) fds[i].revents;
                }
        return best;
}

static void serve_child(struct source *source) {
        siginfo_t si = {};
        cleanup_close int fd = dup(source->fd);

        (void) waitid(P_PIDFD, (id_t) source->fd, &si, WEXITED | WNOWAIT);
        source->on = false;
        if (source->exited)
                source->exited(source->userdata, &si);
        else
                (void) source_free(source);
        (void) waitid(P_PIDFD, (id_t) fd, &si, WEXITED);
}

static void serve(struct source *source, uint32_t events) {
        source->served = ++source->loop->turns;
        if (source->kind == CHILD) {
                serve_child(source);
        } else if (source->kind == READY) {
                source->ready(source->userdata, source->fd, events);
        } else {
                source->on = false;
                source->call(source->userdata);
        }
}

/* A due timer is one of the normal order. */
static bool serve_timer(struct loop *loop, const struct source *ready) {
        if (ready && ready->order == LOOP_NORMAL && ready->served < loop->timers_served)
                return false;
        loop->timers_served = ++loop->turns;
        return timers_fire(&loop->timers, boottime);
}

int loop_turn(struct loop *loop, uint64_t usec) {
        uint32_t events = 0;
        struct source *ready = find_ready(loop, 0, &events);

        if (loop->over)
                return 0;
        if (timers_next(&loop->timers) > boottime && !ready && has_child(loop))
                ready = find_ready(loop, patience_msec, &events);
        if (serve_timer(loop, ready))
                return 1;
        if (ready) {
                serve(ready, events);
                return 1;
        }
        uint64_t next = timers_next(&loop->timers), left = next - boottime;
        assert(usec != UINT64_MAX || next != UINT64_MAX);
        loop_sleep(left < usec ? left : usec);
        return 0;
}

void turned_go(struct loop *loop, uint64_t usec) {
        uint64_t end = boottime + usec;

        while (loop_turn(loop, end - boottime) > 0 || (boottime < end && !loop->over))
                ;
}

/* ---- life ---- */

int loop_new(struct loop **ret) {
        struct loop *loop = calloc(1, sizeof(*loop));

        assert(loop);
        timers_init(&loop->timers);
        *ret = loop;
        return 0;
}

void loop_free(struct loop *loop) {
        while (loop && loop->sources)
                (void) source_free(loop->sources); /* children that were left */
        free(loop);
}

int loop_run(struct loop *loop) {
        while (!loop->over)
                (void) loop_turn(loop, UINT64_MAX);
        return loop->code;
}

void loop_end(struct loop *loop, int code) {
        loop->over = true;
        loop->code = code;
        for (struct source *s = loop->sources; s; s = s->next)
                if (s->kind == AT_END)
                        s->call(s->userdata);
}

bool loop_is_over(const struct loop *loop) { return loop->over; }
