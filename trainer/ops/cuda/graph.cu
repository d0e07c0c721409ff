/*
 * A micro-batch as one CUDA graph: its operations are recorded in place of being done, and given to the device in one piece. Micro-batches
 * are unpadded, so hardly two have the same shapes; but nearly all launch the same kernels in the same order, so the recording need not
 * become a new graph: one of the same kind that was made before takes over its grids and arguments, which costs the host microseconds a
 * kernel. Where a recording fails, none is tried again and the caller does the operations one by one.
 */
#include "trainer/ops/cuda/backend.h"

/* Kinds: other algorithms of cuBLASLt have other kernels, more of them, or clusters of other sizes. */
constexpr unsigned MADE_MAX = 8;

struct made {
        cudaGraphExec_t graph; /* NULL: none yet */
        size_t n_nodes;
};

static struct {
        struct made made[MADE_MAX];
        unsigned next; /* whose place another kind takes */
        bool off;
} graphs;

bool cuda_begin_graph(void) {
        if (graphs.off || !cuda_works())
                return false;
        /* relaxed: what other threads do does not concern a recording, and a kernel's first use may load it */
        graphs.off = cudaStreamBeginCapture(cuda_backend.stream, cudaStreamCaptureModeRelaxed) != cudaSuccess;
        (void) cudaGetLastError();
        cuda_backend.recording = !graphs.off;
        return !graphs.off;
}

/* One that was made before and takes over the recording; NULL: none does. */
static cudaGraphExec_t update(cudaGraph_t recorded, size_t n_nodes) {
        cudaGraphExecUpdateResultInfo why = {};

        for (struct made &made : graphs.made) {
                if (!made.graph || made.n_nodes != n_nodes)
                        continue;
                if (cudaGraphExecUpdate(made.graph, recorded, &why) == cudaSuccess)
                        return made.graph;
                (void) cudaGetLastError(); /* of another kind, with as many nodes */
        }
        return NULL;
}

static cudaGraphExec_t make(cudaGraph_t recorded, size_t n_nodes) {
        struct made *made = &graphs.made[graphs.next++ % MADE_MAX];

        if (made->graph)
                (void) cudaGraphExecDestroy(made->graph);
        *made = { NULL, n_nodes };
        if (cudaGraphInstantiate(&made->graph, recorded, 0) != cudaSuccess)
                made->graph = NULL;
        cuda_backend.counts.graphs_made++;
        return made->graph;
}

static cudaGraphExec_t graph_of(cudaGraph_t recorded) {
        size_t n_nodes = 0;

        if (cudaGraphGetNodes(recorded, NULL, &n_nodes) != cudaSuccess)
                return NULL;
        cudaGraphExec_t graph = update(recorded, n_nodes);
        return graph ? graph : make(recorded, n_nodes);
}

bool cuda_end_graph(void) {
        cudaGraph_t recorded = NULL;
        cuda_backend.recording = false;
        bool ok = cudaStreamEndCapture(cuda_backend.stream, &recorded) == cudaSuccess && cuda_works();
        cudaGraphExec_t graph = ok ? graph_of(recorded) : NULL;

        if (recorded)
                (void) cudaGraphDestroy(recorded);
        if (graph && cudaGraphLaunch(graph, cuda_backend.stream) == cudaSuccess) {
                cuda_backend.counts.graphs++;
                return true;
        }
        (void) cudaGetLastError();
        cuda_backend.failed[0] = '\0'; /* nothing was done: what is truly broken will break again */
        graphs.off = true;
        return false;
}

void cuda_graphs_close(void) {
        for (struct made &made : graphs.made)
                if (made.graph)
                        (void) cudaGraphExecDestroy(made.graph);
        graphs = {};
}
