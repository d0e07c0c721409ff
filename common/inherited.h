/*
 * State that a program inherits from its parent, besides arguments and environment: each of our programs first resets
 * it. A parent may ignore SIGCHLD, block SIGTERM, or have closed standard error.
 */
#ifndef COMMON_INHERITED_H
#define COMMON_INHERITED_H

/* Resets ignored and blocked signals. Async-signal-safe: may be used between fork and exec. */
void inherited_drop_signals(void);

/* For a service: opens descriptors 0 to 2, resets signals, and then ignores those that would end it and are only sent
 * by mistake, also those of a terminal. Faults, SIGTERM, SIGINT and SIGQUIT keep their defaults. Raises soft limits
 * that would end or cripple a process to the hard ones. */
void inherited_begin_service(void);

/* Sets soft limits to what the service had inherited. Async-signal-safe: for a program that is the job's. */
void inherited_hand_on_limits(void);

/* For a command: the same, but ignores only the terminal signals that the parent ignored (nohup, `&`), and keeps
 * limits. */
void inherited_begin_command(void);

#endif
