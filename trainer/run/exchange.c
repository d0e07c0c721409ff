/*
 * See exchange.h. Owns MPI's life and one bucket of scratch memory. Bucket bounds depend on the number of elements and
 * ranks alone. A bucket is cut in one slice a rank; each rank receives its slice from all, adds them in rank order,
 * and all gather the results: the order of additions is ours, whatever algorithm MPI chooses, at the traffic of a ring
 * all-reduce.
 */
#include "trainer/run/exchange.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bertd/exit.h"
#include "common/cleanup.h"
#include "trainer/run/launcher.h"

#ifdef HAVE_MPI
#include <mpi.h>
#endif

#define BUCKET_BYTES ((size_t) 4 << 20)
#define PIECE_BYTES ((size_t) 1 << 28) /* MPI counts are ints */

/*
 * What ranks send first of all, in every version of the program: this layout may never change, or two versions would wait for each
 * other. Ranks of versions that had none of it sent their host and zeros. EXCHANGE_VERSION is one more whenever the
 * order or the layout of anything else that ranks exchange changes.
 */
#define EXCHANGE_VERSION "2"
struct hello {
        char host[40]; /* short name, cut */
        char program[25];
};
_Static_assert(sizeof(struct hello) == 65, "the first thing that ranks exchange");

struct exchange {
        uint32_t rank, n_ranks, local_rank, n_local, local_root;
        bool started;                                   /* MPI was, and must be stopped */
        struct hello *hello;                            /* (n_ranks), or NULL with one rank */
        char *gathered;                                 /* (n_ranks × EXCHANGE_ITEM_MAX) */
        void *scratch;                                  /* BUCKET_BYTES and a slice more, or NULL with one rank */
        int *counts, *offsets, *in_counts, *in_offsets; /* (n_ranks) elements, of a bucket's slices */
};

uint32_t exchange_rank(const struct exchange *exchange) { return exchange->rank; }
uint32_t exchange_n_ranks(const struct exchange *exchange) { return exchange->n_ranks; }
uint32_t exchange_local_rank(const struct exchange *exchange) { return exchange->local_rank; }
uint32_t exchange_n_local(const struct exchange *exchange) { return exchange->n_local; }
uint32_t exchange_local_root(const struct exchange *exchange) { return exchange->local_root; }

#ifdef HAVE_MPI

/* Ranks that share memory are those of one host, whatever launched them. */
static void count_local(struct exchange *x) {
        MPI_Comm local;
        int rank, size;

        (void) MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local);
        (void) MPI_Comm_rank(local, &rank);
        (void) MPI_Comm_size(local, &size);
        x->local_root = x->rank;
        (void) MPI_Bcast(&x->local_root, 1, MPI_UINT32_T, 0, local);
        (void) MPI_Comm_free(&local);
        x->local_rank = (uint32_t) rank;
        x->n_local = (uint32_t) size;
}

static int start_mpi(struct exchange *x, struct error *error) {
        int provided, rank, size;

        if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
                return error_set(error, EIO, "MPI cannot be started");
        x->started = true;
        if (MPI_Comm_rank(MPI_COMM_WORLD, &rank) != MPI_SUCCESS || MPI_Comm_size(MPI_COMM_WORLD, &size) != MPI_SUCCESS)
                return error_set(error, EIO, "MPI does not report this rank");
        x->rank = (uint32_t) rank;
        x->n_ranks = (uint32_t) size;
        x->scratch = calloc(1, BUCKET_BYTES + 8 * (size_t) size);
        x->counts = calloc(4 * (size_t) size, sizeof(int));
        x->hello = calloc((size_t) size, sizeof(*x->hello));
        if (!x->scratch || !x->counts || !x->hello)
                return error_errno(error, ENOMEM, "exchange");
        x->offsets = x->counts + size;
        x->in_counts = x->counts + 2 * size;
        x->in_offsets = x->counts + 3 * size;
        return 0;
}

static void stop_mpi(void) { (void) MPI_Finalize(); }
static void abort_mpi(int code) { (void) MPI_Abort(MPI_COMM_WORLD, code); }

/* MPI's default error handler ends all ranks, so results need no check. */
static void barrier(void) { (void) MPI_Barrier(MPI_COMM_WORLD); }
static void broadcast(void *data, size_t size) { (void) MPI_Bcast(data, (int) size, MPI_BYTE, 0, MPI_COMM_WORLD); }
static void gather(const void *mine, size_t size, void *all) {
        (void) MPI_Allgather(mine, (int) size, MPI_BYTE, all, (int) size, MPI_BYTE, MPI_COMM_WORLD);
}

static uint64_t or_bits(uint64_t bits) {
        uint64_t all = bits;

        (void) MPI_Allreduce(&bits, &all, 1, MPI_UINT64_T, MPI_BOR, MPI_COMM_WORLD);
        return all;
}

static void add_slices(void *to, const void *slices, uint32_t n_slices, size_t n, size_t element_size) {
        for (size_t i = 0; i < n; i++) {
                if (element_size == sizeof(float)) {
                        float sum = 0;
                        for (uint32_t r = 0; r < n_slices; r++)
                                sum += ((const float *) slices)[r * n + i];
                        ((float *) to)[i] = sum;
                } else {
                        double sum = 0;
                        for (uint32_t r = 0; r < n_slices; r++)
                                sum += ((const double *) slices)[r * n + i];
                        ((double *) to)[i] = sum;
                }
        }
}

static void sum_bucket(struct exchange *x, char *data, size_t n, size_t element_size) {
        MPI_Datatype type = element_size == sizeof(float) ? MPI_FLOAT : MPI_DOUBLE;

        for (uint32_t r = 0; r < x->n_ranks; r++) {
                x->offsets[r] = (int) (n * r / x->n_ranks);
                x->counts[r] = (int) (n * (r + 1) / x->n_ranks) - x->offsets[r];
        }
        int own = x->counts[x->rank];
        for (uint32_t r = 0; r < x->n_ranks; r++) {
                x->in_counts[r] = own;
                x->in_offsets[r] = own * (int) r;
        }
        (void) MPI_Alltoallv(data, x->counts, x->offsets, type, x->scratch, x->in_counts, x->in_offsets, type,
                             MPI_COMM_WORLD);
        add_slices(data + (size_t) x->offsets[x->rank] * element_size, x->scratch, x->n_ranks, (size_t) own,
                   element_size);
        (void) MPI_Allgatherv(MPI_IN_PLACE, 0, type, data, x->counts, x->offsets, type, MPI_COMM_WORLD);
}

#else

static int start_mpi(struct exchange *x, struct error *error) {
        return error_input(error, BERTD_EXIT_CONFIG,
                           "started as one of several ranks, but built without MPI: start one process alone");
}
static void count_local(struct exchange *x) {}
static void stop_mpi(void) {}
static void abort_mpi(int code) {}
static void barrier(void) {}
static void broadcast(void *data, size_t size) {}
static void gather(const void *mine, size_t size, void *all) {}
static uint64_t or_bits(uint64_t bits) { return bits; }
static void sum_bucket(struct exchange *x, char *data, size_t n, size_t element_size) {}

#endif

/* It stands in messages, rows and datagrams. */
static void clean_host(char *name) {
        for (; *name; name++)
                if (!isalnum((unsigned char) *name) && *name != '-' && *name != '_')
                        *name = '?';
}

/* Short names, as mpirun prints them. Before anything else is exchanged. */
static int say_hello(struct exchange *x, struct error *error) {
        struct utsname name = {};
        struct hello mine = { .program = BERTD_VERSION "/" EXCHANGE_VERSION };

        if (uname(&name) < 0)
                return error_errno(error, errno, "uname");
        memcpy(mine.host, name.nodename, MIN(strcspn(name.nodename, "."), sizeof(mine.host) - 1));
        memcpy(x->hello, exchange_gather(x, &mine, sizeof(mine)), x->n_ranks * sizeof(*x->hello));
        for (uint32_t r = 0; r < x->n_ranks; r++) {
                x->hello[r].host[sizeof(mine.host) - 1] = x->hello[r].program[sizeof(mine.program) - 1] = '\0';
                clean_host(x->hello[r].host);
        }
        return 0;
}

const char *exchange_host(const struct exchange *x, uint32_t rank) { return x->n_ranks > 1 ? x->hello[rank].host : ""; }

int exchange_blame(const struct exchange *x, uint32_t rank, struct error *error) {
        if (x->n_ranks > 1)
                return error_prefix(error, "rank %u on %s", rank, x->hello[rank].host);
        return -(error->code > 0 ? error->code : EIO);
}

static const char *program_of(const struct exchange *x, uint32_t rank) {
        return x->hello[rank].program[0] ? x->hello[rank].program : "an older version";
}

/* Ranks of old versions neither compare nor leave: the first that does speaks for all, and takes them along. */
static void leave_old_versions(struct exchange *x, const struct error *error) {
        uint32_t speaker = x->n_ranks, old = 0;

        for (uint32_t r = x->n_ranks; r-- > 0;)
                if (x->hello[r].program[0])
                        speaker = r;
                else
                        old++;
        if (old == 0)
                return;
        if (x->rank == speaker)
                exchange_abort(x, error_report(error));
        for (;;)
                (void) pause();
}

static int check_program(struct exchange *x, struct error *error) {
        uint32_t r = 1;

        while (r < x->n_ranks && strcmp(x->hello[r].program, x->hello[0].program) == 0)
                r++;
        if (r >= x->n_ranks)
                return 0;
        (void) error_input(error, BERTD_EXIT_DATA,
                           "program version: %s, but rank 0 on %s runs %s: install the same bert-trainer on every host",
                           program_of(x, r), x->hello[0].host, program_of(x, 0));
        (void) exchange_blame(x, r, error);
        leave_old_versions(x, error);
        return -error->code;
}

static void release(struct exchange *x) {
        free(x->gathered);
        free(x->scratch);
        free(x->counts);
        free(x->hello);
        free(x);
}

int exchange_new(struct exchange **ret, struct error *error) {
        struct exchange *x = calloc(1, sizeof(*x));
        if (!x)
                return error_errno(error, ENOMEM, "exchange");

        x->n_ranks = x->n_local = 1;
        struct launcher launcher = launcher_read();
        int r = launcher_check(&launcher, error);
        if (r >= 0 && launcher.is_found)
                r = start_mpi(x, error);
        if (r >= 0)
                r = launcher_check_size(&launcher, x->n_ranks, error);
        if (r >= 0 && !(x->gathered = calloc(x->n_ranks, EXCHANGE_ITEM_MAX)))
                r = error_errno(error, ENOMEM, "exchange");
        if (r >= 0 && x->n_ranks > 1)
                r = say_hello(x, error);
        if (r < 0) {
                exchange_free(x);
                return r;
        }
        *ret = x;
        return 0;
}

int exchange_connect(struct exchange *x, struct error *error) {
        int r = check_program(x, error);

        if (r >= 0 && x->n_ranks > 1)
                count_local(x);
        return r;
}

void exchange_free(struct exchange *x) {
        if (!x)
                return;
        if (x->started)
                stop_mpi();
        release(x);
}

void exchange_abort(struct exchange *x, int code) {
        if (x->n_ranks > 1)
                abort_mpi(code);
        exit(code);
}

void exchange_barrier(struct exchange *x) {
        if (x->n_ranks > 1)
                barrier();
}

void exchange_broadcast(struct exchange *x, void *data, size_t size) {
        for (char *p = data; x->n_ranks > 1 && size > 0;) {
                size_t n = MIN(size, PIECE_BYTES);
                broadcast(p, n);
                p += n;
                size -= n;
        }
}

const void *exchange_gather(struct exchange *x, const void *mine, size_t size) {
        assert(size <= EXCHANGE_ITEM_MAX);
        if (x->n_ranks > 1)
                gather(mine, size, x->gathered);
        else
                memcpy(x->gathered, mine, size);
        return x->gathered;
}

uint64_t exchange_or(struct exchange *x, uint64_t bits) { return x->n_ranks > 1 ? or_bits(bits) : bits; }

void exchange_sum(struct exchange *x, void *data, size_t n_elements, size_t element_size) {
        size_t most = BUCKET_BYTES / element_size;

        for (char *p = data; x->n_ranks > 1 && n_elements > 0;) {
                size_t n = MIN(n_elements, most);
                sum_bucket(x, p, n, element_size);
                p += n * element_size;
                n_elements -= n;
        }
}

int exchange_agree(struct exchange *x, int r, struct error *error) {
        const int *codes = exchange_gather(x, &r, sizeof(r));
        uint32_t failed = 0;

        while (failed < x->n_ranks && codes[failed] >= 0)
                failed++;
        if (failed == x->n_ranks)
                return 0;
        int code = codes[failed];
        if (x->n_ranks > 1) {
                if (x->rank == failed)
                        (void) exchange_blame(x, failed, error);
                const struct error *all = exchange_gather(x, error, sizeof(*error));
                *error = all[failed];
        }
        return code;
}
