/* Bounds of exit.json, which the shim writes and bertd reads. */
#ifndef COMMON_EXIT_RECORD_H
#define COMMON_EXIT_RECORD_H

#define EXIT_RECORD_MAX 65536      /* bytes of a record; longer ones are not read */
#define EXIT_RECORD_REASON_MAX 512 /* bytes of a reason, with its NUL */
#define EXIT_RECORD_HOST_MAX 65    /* bytes of a host's name, with its NUL */

#endif
