/*
 * The loop: bertd's only access to time and readiness. No other code of bertd reads a clock or waits. Implemented with
 * sd-event; tests/loop_turned.c implements it with a clock that the test sets.
 *
 *   1. loop_new
 *   2. create timers and sources; loop_run calls their handlers one at a time until loop_end
 *   3. the owner of a source frees it, also in its own handler; then loop_free
 *
 * Times are microseconds. Timers run on boot time, which runs through suspend and never jumps; the wall clock is for
 * showing.
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

/* Runs until loop_end; returns its code, or −errno. Sends systemd's watchdog messages. */
int loop_run(struct loop *loop);
/* One turn: waits at most that long for a ready source, and calls one handler. */
int loop_turn(struct loop *loop, uint64_t usec);
/* After the handler that calls it only those of loop_at_end are called. */
void loop_end(struct loop *loop, int code);
bool loop_is_over(const struct loop *loop);

/* ---- time ---- */

uint64_t loop_boottime(void);
uint64_t loop_realtime(void);
/* Blocks; only for use outside loop_run. */
void loop_sleep(uint64_t usec);

/* Re-arms an armed timer. A timer is not armed while its handler runs. */
void loop_at(struct loop *loop, struct timer *timer, uint64_t boottime_usec, loop_handler_t handler, void *userdata);
void loop_after(struct loop *loop, struct timer *timer, uint64_t usec, loop_handler_t handler, void *userdata);

/* ---- readiness ---- */

/* Takes the descriptor, also on failure. `events`: as for epoll; EPOLLHUP and EPOLLERR are always reported. */
int loop_watch(struct loop *loop, int fd, uint32_t events, loop_ready_t handler, void *userdata, struct source **ret);
int source_fd(const struct source *source);
void source_set_events(struct source *source, uint32_t events);
void source_enable(struct source *source, bool on); /* off: no events at all */

/* The handler is called when the child has exited; the child is reaped after it. */
int loop_watch_child(struct loop *loop, pid_t pid, loop_exited_t handler, void *userdata, struct source **ret);
/* Takes a child's source: the loop reaps the child without calling the handler. */
void source_leave(struct source *source);

int loop_watch_signal(struct loop *loop, int signal, loop_handler_t handler, void *userdata);
int loop_attach_bus(struct loop *loop, sd_bus *bus);

/* ---- deferred work ---- */

/* Calls the handler once after each source_soon. */
int loop_defer(struct loop *loop, loop_handler_t handler, void *userdata, struct source **ret);
void source_soon(struct source *source); /* NULL is fine */
/* Called once when the loop ends, before bus connections are flushed. */
int loop_at_end(struct loop *loop, loop_handler_t handler, void *userdata, struct source **ret);

/* Of the ready sources, those of an earlier order are handled first. */
enum loop_order {
        LOOP_NORMAL,
        LOOP_LATER,
        LOOP_LAST,
};
void source_set_order(struct source *source, enum loop_order order);

struct source *source_free(struct source *source); /* NULL is fine; returns NULL */

#endif
