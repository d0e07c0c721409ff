/* CPU backend, fp32: its memory, and the table of its entries. */
#include "trainer/ops/ops.h"

#include <sys/mman.h>

#include "common/cleanup.h"
#include "trainer/ops/cpu/attention.h"
#include "trainer/ops/cpu/flat.h"
#include "trainer/ops/cpu/host.h"
#include "trainer/ops/cpu/linear.h"
#include "trainer/ops/cpu/norm.h"
#include "trainer/ops/cpu/peak.h"
#include "trainer/ops/cpu/rows.h"

#define HUGE_PAGE ((size_t) 2 << 20)

/* Whole pages from the kernel, huge where it gives them: activations and weights are walked with large strides. */
static size_t rounded_size(size_t size) {
        size_t unit = size >= HUGE_PAGE ? HUGE_PAGE : 4096;

        return (size + unit - 1) / unit * unit;
}

static void *cpu_allocate(size_t size) {
        void *data = mmap(NULL, rounded_size(MAX(size, (size_t) 1)), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (data == MAP_FAILED)
                return NULL;
        (void) madvise(data, rounded_size(size), MADV_HUGEPAGE);
        return data;
}

static void cpu_release(void *data, size_t size) { (void) munmap(data, rounded_size(MAX(size, (size_t) 1))); }

static size_t cpu_workspace_bytes(const struct ops_shape *shape) {
        return MAX(cpu_rows_workspace_bytes(shape),
                   MAX(cpu_norm_workspace_bytes(shape), cpu_attention_workspace_bytes(shape)));
}

static void cpu_store(enum dtype of, void *data, size_t first, const double *values, size_t n) {
        (void) of;
        for (size_t i = 0; i < n; i++)
                ((float *) data)[first + i] = (float) values[i];
}

static void cpu_load(enum dtype of, const void *data, size_t first, double *values, size_t n) {
        (void) of;
        for (size_t i = 0; i < n; i++)
                values[i] = ((const float *) data)[first + i];
}

static const struct ops table = {
        .name = "cpu",
        .dtype = DTYPE_FP32,
        .master = DTYPE_FP32,
        .host_memory = true,
        .keeps_slope = true,
        .variant = ops_cpu_variant,
        .allocate = cpu_allocate,
        .release = cpu_release,
        .workspace_bytes = cpu_workspace_bytes,
        .allocate_host = host_allocate,
        .release_host = host_release,
        .upload = host_copy,
        .download = host_copy,
        .copy = host_copy,
        .allocate_spare = host_allocate_spare,
        .mark = host_mark,
        .fetch = host_fetch,
        .hash = host_hash,
        .peak_flops = cpu_peak_flops,
        .zero = cpu_zero,
        .store = cpu_store,
        .load = cpu_load,
        .embed_forward = cpu_embed_forward,
        .embed_backward = cpu_embed_backward,
        .linear = cpu_linear,
        .linear_dx = cpu_linear_dx,
        .linear_dw_db = cpu_linear_dw_db,
        .activation_backward = cpu_activation_backward,
        .attention_forward = cpu_attention_forward,
        .attention_backward = cpu_attention_backward,
        .add_norm_forward = cpu_add_norm_forward,
        .add_norm_backward = cpu_add_norm_backward,
        .norm_dropout_forward = cpu_norm_dropout_forward,
        .norm_dropout_backward = cpu_norm_dropout_backward,
        .gather_rows = cpu_gather_rows,
        .scatter_add_rows = cpu_scatter_add_rows,
        .softmax_xent = cpu_softmax_xent,
        .sum_squares = cpu_sum_squares,
        .adamw = cpu_adamw,
        .adam_direction = cpu_adam_direction,
        .descend = cpu_descend,
};

const struct ops *ops_cpu(void) { return &table; }
