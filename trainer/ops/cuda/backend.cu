/* The module's face: which GPU, what it can do, and the table. See backend.h. */
#include "trainer/ops/cuda/backend.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

struct cuda_backend cuda_backend;

static char variant_text[CUDA_TEXT_MAX];

void cuda_fail(const char *what, const char *text) {
        static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

        (void) pthread_mutex_lock(&lock);
        if (cuda_works())
                snprintf(cuda_backend.failed, sizeof(cuda_backend.failed), "CUDA: %s: %s", what, text);
        (void) pthread_mutex_unlock(&lock);
}

bool cuda_check(cudaError_t r, const char *what) {
        if (r != cudaSuccess)
                cuda_fail(what, cudaGetErrorString(r));
        return r == cudaSuccess;
}

static const char *failed(void) { return cuda_works() ? NULL : cuda_backend.failed; }
static const char *variant(void) { return variant_text; }

/* The kernel's names of devices are in lower case. */
static const char *location(void) {
        static char address[32];

        if (cudaDeviceGetPCIBusId(address, sizeof(address), cuda_backend.device) != cudaSuccess) {
                (void) cudaGetLastError();
                return NULL;
        }
        for (char *c = address; *c; c++)
                *c = *c >= 'A' && *c <= 'F' ? *c + ('a' - 'A') : *c;
        return address;
}

static const struct cuda_counts *counts(void) { return &cuda_backend.counts; }

static struct ops table;

static void fill_table(enum cuda_precision precision) {
        table = {};
        table.name = "cuda";
        table.dtype = cuda_dtype(precision);
        table.master = DTYPE_FP32;
        table.variant = variant;
        table.location = location;
        table.allocate = cuda_allocate;
        table.release = cuda_release;
        table.workspace_bytes = cuda_workspace_bytes;
        table.kept_bytes = cuda_attention_kept_bytes;
        table.allocate_host = cuda_allocate_host;
        table.release_host = cuda_release_host;
        table.upload = cuda_upload;
        table.download = cuda_download;
        table.zero = cuda_zero;
        table.copy = cuda_copy;
        table.allocate_spare = cuda_allocate_spare;
        table.memory = cuda_memory;
        table.later_bytes = cuda_later_bytes;
        table.mark = cuda_mark;
        table.fetch = cuda_fetch;
        table.begin_graph = cuda_begin_graph;
        table.end_graph = cuda_end_graph;
        table.stamp = cuda_stamp;
        table.between = cuda_between;
        table.store = cuda_store;
        table.load = cuda_load;
        table.round = table.dtype == DTYPE_FP32 ? NULL : cuda_round;
        table.hash = cuda_hash;
        table.failed = failed;
        table.peak_flops = gemm_peak_flops;
        table.collective = &cuda_collective;
        table.embed_forward = cuda_embed_forward;
        table.embed_backward = cuda_embed_backward;
        table.linear = cuda_linear;
        table.linear_dx = cuda_linear_dx;
        table.linear_dw_db = cuda_linear_dw_db;
        table.activation_backward = cuda_activation_backward;
        table.attention_forward = cuda_attention_forward;
        table.attention_backward = cuda_attention_backward;
        table.add_norm_forward = cuda_add_norm_forward;
        table.add_norm_backward = cuda_add_norm_backward;
        table.norm_dropout_forward = cuda_norm_dropout_forward;
        table.norm_dropout_backward = cuda_norm_dropout_backward;
        table.gather_rows = cuda_gather_rows;
        table.scatter_add_rows = cuda_scatter_add_rows;
        table.softmax_xent = cuda_softmax_xent;
        table.sum_squares = cuda_sum_squares;
        table.update = cuda_update;
}

static int choose_device(uint32_t local_rank, char *text, size_t size) {
        int n = 0;
        cudaError_t r = cudaGetDeviceCount(&n);

        if (r == cudaErrorInsufficientDriver || r == cudaErrorInitializationError)
                snprintf(text, size, "no usable NVIDIA driver (%s)", cudaGetErrorString(r));
        else if (r != cudaSuccess || n == 0)
                snprintf(text, size, "no GPU is visible (%s)",
                         cudaGetErrorString(r == cudaSuccess ? cudaErrorNoDevice : r));
        else if (local_rank >= (uint32_t) n)
                snprintf(text, size, "no GPU for rank %u of this host, %d %s visible", local_rank, n,
                         n == 1 ? "is" : "are");
        else if ((r = cudaSetDevice((int) local_rank)) != cudaSuccess)
                snprintf(text, size, "GPU %u cannot be used: %s", local_rank, cudaGetErrorString(r));
        else
                return 0;
        return -ENODEV;
}

/* Tensor cores take fp16 from compute capability 7.0, bf16 and tf32 from 8.0. */
static int settle_precision(enum cuda_precision *precision, const struct cudaDeviceProp *p, char *text, size_t size) {
        int has = 10 * p->major + p->minor;

        if (has < 70)
                snprintf(text, size, "device: cuda needs compute capability 7.0, %s has %d.%d", p->name, p->major,
                         p->minor);
        else if (has < 80 && (*precision == CUDA_BF16 || *precision == CUDA_TF32))
                snprintf(text, size, "train.precision: %s needs compute capability 8.0, %s has %d.%d; use fp16 there",
                         *precision == CUDA_BF16 ? "bf16" : "tf32", p->name, p->major, p->minor);
        else {
                if (*precision == CUDA_AUTO)
                        *precision = has < 80 ? CUDA_FP16 : CUDA_FP32;
                return 0;
        }
        return -ENOSYS;
}

static void close_backend(void) {
        (void) cudaDeviceSynchronize();
        cuda_graphs_close();
        cuda_clock_close();
        gemm_close();
        cuda_memory_close();
        if (cuda_backend.stream)
                (void) cudaStreamDestroy(cuda_backend.stream);
        cuda_backend = {};
}

static int open_backend(enum cuda_precision precision, uint32_t local_rank, const struct ops **ret, char *text,
                        size_t size) {
        struct cudaDeviceProp p = {};
        int version = 0;

        int r = choose_device(local_rank, text, size);
        if (r < 0)
                return r;
        if (cudaGetDeviceProperties(&p, (int) local_rank) != cudaSuccess ||
            cudaStreamCreateWithFlags(&cuda_backend.stream, cudaStreamNonBlocking) != cudaSuccess) {
                snprintf(text, size, "GPU %u cannot be used", local_rank);
                return -ENODEV;
        }
        cuda_backend.device = (int) local_rank;
        cuda_backend.sm = 10 * p.major + p.minor;
        r = settle_precision(&precision, &p, text, size);
        cuda_backend.precision = precision;
        if (r >= 0)
                r = cuda_memory_open(text, size);
        if (r >= 0)
                r = gemm_open(text, size);
        if (r >= 0 && !cuda_attention_open()) {
                snprintf(text, size, "%s", cuda_backend.failed);
                r = -EIO;
        }
        if (r < 0) {
                close_backend();
                return r;
        }
        (void) cudaRuntimeGetVersion(&version);
        snprintf(variant_text, sizeof(variant_text), "%s/sm_%d/cuda %d.%d/%s", p.name, cuda_backend.sm, version / 1000,
                 version % 1000 / 10, gemm_version());
        fill_table(precision);
        *ret = &table;
        return 0;
}

extern "C" {
extern const struct cuda_module bert_trainer_cuda;
const struct cuda_module bert_trainer_cuda = { BERTD_VERSION, open_backend, close_backend, counts };
}
