/*
 * An attempt's log files, in order of the output: log.first, log.15 ... log.1, log. The shim writes them, bertctl reads
 * them; only log always exists. log.first holds the beginning of the output after rotation has dropped its file; its
 * last line gives the number of bytes missing after it:
 *
 *   bertd: 143654912 bytes of older output were dropped here, the last of them at 2026-11-29T12:44:03Z
 *
 * log.busy exists while a file is dropped and log.first does not mention it yet: a reader then reads the set again.
 * A line may continue in the next file.
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
