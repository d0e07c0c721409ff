/*
 * The loop: bertd's only door to time and readiness. Nothing else of bertd reads a clock, waits or knows what waits (sd-event, behind
 * it); tests/loop_turned.c is another loop, whose clock a test turns.
 *
 *   1. loop_new
 *   2. timers and sources are made; their handlers are called one at a time by loop_run, until loop_end
 *   3. whoever made a source frees it, also in its own handler; then loop_free
 *
 * Times are microseconds. Timers run on boot time, which runs through suspend and never jumps; the wall clock is for showing.
 */
#ifndef DAEMON_BASE_LOOP_H
#define DAEMON_BASE_LOOP_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/types.h>

#include "common/clock.h"
#include "daemon/base/timers.h"

typedef struct sd_bus sd_bus;
struct loop;
struct source; /* a descriptor, a child or deferred work */

typedef void (*loop_handler_t)(void *userdata);
typedef void (*loop_ready_t)(void *userdata, int fd, uint32_t events);
typedef void (*loop_exited_t)(void *userdata, const siginfo_t *si);

int loop_new(struct loop **ret);
void loop_free(struct loop *loop);

/* Until loop_end: its code, or −errno. Keeps systemd's watchdog quiet. */
int loop_run(struct loop *loop);
/* One turn: waits at most so long for what is ready, and calls one handler. */
int loop_turn(struct loop *loop, uint64_t usec);
/* After the handler that calls it none is called but those of loop_at_end. */
void loop_end(struct loop *loop, int code);
bool loop_is_over(const struct loop *loop);

/* ---- time ---- */

uint64_t loop_boottime(void);
uint64_t loop_realtime(void);
/* Waits, where the loop does not run. */
void loop_sleep(uint64_t usec);

/* Armed already it is armed anew. While its handler runs it is not armed. timer_disarm takes it back. */
void loop_at(struct loop *loop, struct timer *timer, uint64_t boottime_usec, loop_handler_t handler, void *userdata);
void loop_after(struct loop *loop, struct timer *timer, uint64_t usec, loop_handler_t handler, void *userdata);

/* ---- readiness ---- */

/* Takes the descriptor, also where it fails. `events`: epoll's; whether its other end is gone is told in any case. */
int loop_watch(struct loop *loop, int fd, uint32_t events, loop_ready_t handler, void *userdata, struct source **ret);
int source_fd(const struct source *source);
void source_set_events(struct source *source, uint32_t events);
void source_enable(struct source *source, bool on); /* off: nothing at all is told */

/* The handler is called when the child has ended, which is reaped after it. */
int loop_watch_child(struct loop *loop, pid_t pid, loop_exited_t handler, void *userdata, struct source **ret);
/* Takes a child's source: no handler is called, the loop reaps it one day. */
void source_leave(struct source *source);

int loop_watch_signal(struct loop *loop, int signal, loop_handler_t handler, void *userdata);
int loop_attach_bus(struct loop *loop, sd_bus *bus);

/* ---- work that is put off ---- */

/* Made, and called once after each source_soon. */
int loop_defer(struct loop *loop, loop_handler_t handler, void *userdata, struct source **ret);
void source_soon(struct source *source); /* NULL is fine */
/* Called once when the loop ends, before the connections of buses are flushed. */
int loop_at_end(struct loop *loop, loop_handler_t handler, void *userdata, struct source **ret);

/* Of all that is ready the handlers of an earlier order are called first. */
enum loop_order {
        LOOP_NORMAL,
        LOOP_LATER,
        LOOP_LAST,
};
void source_set_order(struct source *source, enum loop_order order);

struct source *source_free(struct source *source); /* NULL is fine; returns NULL */

#endif
