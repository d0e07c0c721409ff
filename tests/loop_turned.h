/*
 * daemon/base/loop.h for a test that turns the clock itself: linked before the daemon's own, it is the loop of its
 * objects. Descriptors and children are real; time stands still while anything is ready, and then goes on to the next
 * timer at once.
 */
#ifndef TESTS_LOOP_TURNED_H
#define TESTS_LOOP_TURNED_H

#include "daemon/base/loop.h"

/* Runs all that falls into the next so many microseconds. */
void turned_go(struct loop *loop, uint64_t usec);

/* The wall clock is set, forward or back; boot time is not. */
void turned_set_wall(int64_t usec);

/* How long children are really waited for before time goes on without them. 10 s, by which helpers have ended long ago.
 */
void turned_set_patience(int msec);

#endif
