/*
 * What a program inherits from whoever starts it, beyond its arguments and its environment: first thing of each of our programs is to
 * have none of it by chance. A parent may ignore SIGCHLD, block SIGTERM, have set an alarm, or have closed standard error.
 */
#ifndef COMMON_INHERITED_H
#define COMMON_INHERITED_H

/* No signal ignored, none blocked, no timer pending. Async-signal-safe: also for between fork and exec. */
void inherited_drop_signals(void);

/* As a service wants it: descriptors 0 to 2 taken, signals dropped, and then those ignored that would end it and that nobody has a
 * reason to send but by mistake; a terminal that goes or is in use by others is none either. Faults, SIGTERM, SIGINT and SIGQUIT are as
 * they were by default. Soft limits that would end or cripple a process are raised to the hard ones. */
void inherited_begin_service(void);

/* As a command wants it: the same, but nothing is ignored except what the parent ignored of a terminal's signals (nohup, `&`), and limits
 * stay. */
void inherited_begin_command(void);

#endif
