/*
 * `bertd-gang rank --ranks R --hosts K -- PROGRAM…`: becomes the program of a command's rank, with the variables that
 * torch.distributed, DeepSpeed and others read: mpirun's would not be known to them. MASTER_ADDR and MASTER_PORT come
 * with mpirun's -x.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "bertd/limits.h"
#include "common/cleanup.h"
#include "common/parse.h"
#include "daemon/gang/gang.h"

static void set_number(const char *name, uint64_t value) {
        char text[24];

        (void) snprintf(text, sizeof(text), "%" PRIu64, value);
        (void) setenv(name, text, 1);
}

/* One of mpirun's variables under another name. */
static void hand_on(const char *from, const char *to) {
        const char *value = getenv(from);

        if (value)
                (void) setenv(to, value, 1);
}

static void set_variables(uint64_t ranks, uint64_t hosts) {
        const char *rank = getenv("OMPI_COMM_WORLD_RANK");
        uint64_t number;

        hand_on("OMPI_COMM_WORLD_RANK", "RANK");
        hand_on("OMPI_COMM_WORLD_SIZE", "WORLD_SIZE");
        hand_on("OMPI_COMM_WORLD_LOCAL_RANK", "LOCAL_RANK");
        hand_on("OMPI_COMM_WORLD_LOCAL_SIZE", "LOCAL_WORLD_SIZE");
        set_number("NNODES", hosts);
        if (rank && parse_u64(rank, 0, INT32_MAX, &number) == 0)
                set_number("NODE_RANK", number / ranks);
}

int rank_main(int argc, char **argv) {
        static const struct option options[] = { { "ranks", required_argument, NULL, 'r' },
                                                 { "hosts", required_argument, NULL, 'k' },
                                                 {} };
        uint64_t ranks = 0, hosts = 0;
        bool good = true;

        for (int c; (c = getopt_long(argc, argv, "+", options, NULL)) != -1;)
                good = good && (c == 'r'   ? parse_u64(optarg, 1, BERTD_RANKS_MAX, &ranks) == 0
                                : c == 'k' ? parse_u64(optarg, 1, BERTD_RANKS_MAX, &hosts) == 0
                                           : false);
        if (!good || ranks == 0 || hosts == 0 || optind >= argc) {
                (void) fprintf(stderr, "usage: bertd-gang rank --ranks R --hosts K -- PROGRAM... (mpirun calls it)\n");
                return BERTD_EXIT_USAGE;
        }
        set_variables(ranks, hosts);
        (void) execvp(argv[optind], argv + optind);
        int code = errno;
        (void) fprintf(stderr, "%s: %s\n", argv[optind], code == ENOENT ? "command not found" : strerror(code));
        return code == ENOENT ? 127 : 126;
}
