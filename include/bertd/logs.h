/*
 * An attempt's log files, in the order of what the job wrote: log.first, log.15 ... log.1, log. The shim writes them, bertctl reads them;
 * no other need be there but log. log.first is the attempt's beginning, kept once rotation has dropped the file that held it; its last
 * line then says how much is missing after it:
 *
 *   bertd: 143654912 bytes of older output were dropped here, the last of them at 2026-11-29T12:44:03Z
 *
 * log.busy is there while a file goes and log.first does not yet say so: who reads the set meanwhile reads it again.
 * A file's end is not a line's: a line may go on in the next file.
 */
#ifndef BERTD_LOGS_H
#define BERTD_LOGS_H

#define BERTD_LOG_FIRST (1u << 20) /* bytes of output in log.first */
#define BERTD_LOG_SIZE_MIN (64u << 10)
#define BERTD_LOG_SIZE_MAX (1ull << 40)
#define BERTD_LOG_SIZE_DEFAULT 67108864 /* bytes of log, log.1, ... together */
#define BERTD_LOG_KEEP_MAX 16           /* of these files */
#define BERTD_LOG_KEEP_DEFAULT 2
#define BERTD_LOG_DROPPED "bytes of older output were dropped here, the last of them at"

#endif
