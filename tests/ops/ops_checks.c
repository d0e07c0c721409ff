/* See ops_checks.h. A pair is one tensor in both backends, equal at first; drop() frees all pairs and places of a
 * check. */
#include "tests/ops/ops_checks.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "tests/close.h"
#include "tests/ops/model_helpers.h"
#include "tests/ops/narrow.h"

#define PAIRS_MAX 32

struct pair {
        struct tensor fast, twin;
        size_t n;
};

static const struct ops *backend;
static double limit, worst; /* of the NMSE; the worst as a part of its limit */
static unsigned n_kept;     /* attentions whose choices of dropout were kept */
static struct pair pairs[PAIRS_MAX];
static unsigned n_pairs;
static struct {
        void *data;
        size_t size;
} places[PAIRS_MAX];
static unsigned n_places;

static void begin(const struct ops *ops, double nmse) {
        backend = ops;
        limit = nmse;
        worst = 0;
        n_kept = 0;
}

static void end(const char *what) {
        print_message("%s, %s: NMSE at most %.2g of its limit %.0e\n", what, backend->name, worst, limit);
}

/* ---- memory of the backend ---- */

static void *place(const void *data, size_t size) {
        assert_true(n_places < PAIRS_MAX);
        places[n_places].size = size;
        places[n_places].data = backend->allocate(size);
        assert_non_null(places[n_places].data);
        if (data)
                backend->upload(places[n_places].data, data, size);
        return places[n_places++].data;
}

static void write_element(char *to, enum dtype dtype, double x) {
        uint16_t bits = dtype == DTYPE_BF16 ? bf16_from((float) x) : fp16_from((float) x);
        float single = (float) x;

        if (dtype == DTYPE_FP32)
                memcpy(to, &single, sizeof(single));
        else
                memcpy(to, &bits, sizeof(bits));
}

static double read_element(const char *from, enum dtype dtype) {
        uint16_t bits;
        float single;

        if (dtype == DTYPE_FP32) {
                memcpy(&single, from, sizeof(single));
                return single;
        }
        memcpy(&bits, from, sizeof(bits));
        return dtype == DTYPE_BF16 ? bf16_to(bits) : fp16_to(bits);
}

static void send(struct pair p) {
        size_t size = dtype_size(p.fast.dtype);
        cleanup_free char *bytes = malloc(p.n * size);

        for (size_t i = 0; i < p.n; i++) {
                write_element(bytes + i * size, p.fast.dtype, ((double *) p.twin.data)[i]);
                ((double *) p.twin.data)[i] = read_element(bytes + i * size, p.fast.dtype);
        }
        backend->upload(p.fast.data, bytes, p.n * size);
}

static double *receive(struct pair p) {
        size_t size = dtype_size(p.fast.dtype);
        cleanup_free char *bytes = malloc(p.n * size);
        double *values = malloc(p.n * sizeof(*values));

        backend->download(bytes, p.fast.data, p.n * size);
        for (size_t i = 0; i < p.n; i++)
                values[i] = read_element(bytes + i * size, p.fast.dtype);
        return values;
}

static struct pair make_of(enum dtype dtype, uint32_t rows, uint32_t columns, double low, double high) {
        struct pair p = { .n = (size_t) rows * columns };

        assert_true(n_pairs < PAIRS_MAX);
        p.fast = (struct tensor) { backend->allocate(p.n * dtype_size(dtype)), dtype, rows, columns, columns, false };
        p.twin = (struct tensor) {
                ops_fp64()->allocate(p.n * sizeof(double)), DTYPE_FP64, rows, columns, columns, false
        };
        assert_non_null(p.fast.data);
        assert_non_null(p.twin.data);
        for (size_t i = 0; i < p.n; i++)
                ((double *) p.twin.data)[i] =
                        low + (high - low) * (0.5 + 0.5 * helper_random(n_pairs + 1, (uint32_t) i));
        send(p);
        return pairs[n_pairs++] = p;
}

static struct pair make(uint32_t rows, uint32_t columns, double low, double high) {
        return make_of(backend->dtype, rows, columns, low, high);
}
static struct pair make_master(uint32_t rows, uint32_t columns, double low, double high) {
        return make_of(backend->master, rows, columns, low, high);
}

/* What is added to it next replaces what it holds, which is not to be looked at. */
static void refresh(struct pair *p) {
        for (size_t i = 0; i < p->n; i++)
                ((double *) p->twin.data)[i] = NAN;
        send(*p);
        p->fast.fresh = p->twin.fresh = true;
}

static void drop(void) {
        while (n_pairs) {
                struct pair p = pairs[--n_pairs];
                backend->release(p.fast.data, p.n * dtype_size(p.fast.dtype));
                ops_fp64()->release(p.twin.data, p.n * sizeof(double));
        }
        while (n_places) {
                n_places--;
                backend->release(places[n_places].data, places[n_places].size);
        }
        if (backend->failed && backend->failed())
                fail_msg("%s", backend->failed());
}

#define FEW 16 /* elements: each one's rounding counts, and nothing averages it out */

static void check(const char *what, struct pair p) {
        cleanup_free double *x = receive(p);
        if (backend->failed && backend->failed()) /* x is NaN, which would hide why */
                fail_msg("%s (%u, %u): %s", what, p.twin.rows, p.twin.columns, backend->failed());
        const double *y = p.twin.data;
        double error = 0, power = 0;

        for (size_t i = 0; i < p.n; i++) {
                error += (x[i] - y[i]) * (x[i] - y[i]);
                power += y[i] * y[i];
        }
        double own = p.n >= FEW ? limit : p.n > 3 ? 8 * limit : 200 * limit;
        if (!(error <= own * power))
                fail_msg("%s (%u, %u): NMSE %g of at most %g", what, p.twin.rows, p.twin.columns, error / power, own);
        worst = worse(worst, power > 0 ? error / power / own : 0);
}

/* ---- linear ---- */

static const struct tensor absent = {};
static const enum activation all_activations[] = { ACTIVATION_NONE, ACTIVATION_GELU, ACTIVATION_GELU_NEW,
                                                   ACTIVATION_RELU, ACTIVATION_TANH };

static bool has_slope(enum activation act) {
        return act == ACTIVATION_GELU || act == ACTIVATION_GELU_NEW || act == ACTIVATION_RELU;
}

/* Of a backend that keeps slopes: its twin's argument becomes the slope, in `to`. */
static void slope(enum activation act, struct tensor argument, struct tensor to) {
        double *values = to.data;

        for (size_t i = 0; i < (size_t) to.rows * to.columns; i++)
                values[i] = 1;
        ops_fp64()->activation_backward(act, argument, to);
}

static void check_kept(enum activation act, struct pair pre) {
        struct pair kept = make(pre.twin.rows, pre.twin.columns, 0, 0);

        if (backend->keeps_slope && has_slope(act)) {
                slope(act, pre.twin, kept.twin);
                pre.twin = kept.twin;
        }
        check("what linear keeps", pre);
}

/* What linear_dx takes: the same for both, or the slope of the twin's. */
static struct pair make_saved(uint32_t rows, uint32_t columns, enum activation act) {
        struct pair saved = make(rows, columns, -1, 1), kept = make(rows, columns, 0, 0);

        if (backend->keeps_slope && has_slope(act)) {
                slope(act, saved.twin, kept.twin);
                send(kept);
                saved.fast = kept.fast;
        }
        return saved;
}

static void check_linear(uint32_t t, uint32_t k, uint32_t n, enum activation act) {
        const struct ops *twin = ops_fp64();
        struct pair x = make(t, k, -1, 1), w = make(n, k, -0.3, 0.3), b = make(1, n, -1, 1), pre = make(t, n, 0, 0),
                    y = make(t, n, 5, 6), dy = make(t, n, -1, 1);
        struct pair dx = make(t, k, -1, 1), saved = make_saved(t, k, act), dw = make_master(n, k, -1, 1),
                    db = make_master(1, n, -1, 1);
        bool add = n % 2;

        backend->linear(x.fast, w.fast, b.fast, act, pre.fast, y.fast);
        twin->linear(x.twin, w.twin, b.twin, act, pre.twin, y.twin);
        check("linear", y);
        check_kept(act, pre);
        backend->linear(x.fast, w.fast, absent, act, absent, y.fast);
        twin->linear(x.twin, w.twin, absent, act, absent, y.twin);
        check("linear without bias", y);
        struct pair below = make_master(1, k, -1, 1);
        backend->linear_dx(dy.fast, w.fast, add, act, saved.fast, dx.fast, below.fast);
        twin->linear_dx(dy.twin, w.twin, add, act, saved.twin, dx.twin, below.twin);
        check("linear_dx", dx);
        check("linear_dx's dbias", below);
        backend->linear_dw_db(dy.fast, x.fast, dw.fast, db.fast);
        twin->linear_dw_db(dy.twin, x.twin, dw.twin, db.twin);
        check("linear_dw_db's dw", dw);
        check("linear_dw_db's db", db);
        backend->activation_backward(act, saved.fast, dx.fast);
        twin->activation_backward(act, saved.twin, dx.twin);
        check("activation_backward", dx);
        refresh(&dw), refresh(&db), refresh(&below);
        backend->linear_dx(dy.fast, w.fast, false, act, saved.fast, dx.fast, below.fast);
        twin->linear_dx(dy.twin, w.twin, false, act, saved.twin, dx.twin, below.twin);
        check("linear_dx's fresh dbias", below);
        backend->linear_dw_db(dy.fast, x.fast, dw.fast, db.fast);
        twin->linear_dw_db(dy.twin, x.twin, dw.twin, db.twin);
        check("linear_dw_db's fresh dw", dw);
        check("linear_dw_db's fresh db", db);
        drop();
}

void ops_check_linear(const struct ops *ops, double nmse, bool all) {
        begin(ops, nmse);
        for (size_t i = 0; i < ELEMENTSOF(all_activations); i++) {
                check_linear(1, 1, 1, all_activations[i]);
                check_linear(7, 13, 5, all_activations[i]);
                check_linear(33, 64, 104, all_activations[i]);
        }
        check_linear(64, 128, 2, ACTIVATION_NONE);
        check_linear(130, 9, 230, ACTIVATION_NONE);
        if (all) {
                check_linear(531, 70, 401, ACTIVATION_GELU);
                check_linear(130, 9, 1030, ACTIVATION_NONE);
                check_linear(384, 768, 512, ACTIVATION_GELU_NEW);
        }
        end("linear");
}

/* ---- normalisations ---- */

static void check_norm(uint32_t t, uint32_t h, double probability, bool add) {
        const struct ops *reference = ops_fp64();
        uint64_t k[1024];
        int32_t positions[1024];
        struct ops_shape shape = { t, t, 50, h, 1, 1 };
        struct pair x = make(t, h, -2, 3), r = make(t, h, -1, 1), gamma = make_master(1, h, 0.5, 1.5),
                    beta = make_master(1, h, -1, 1), y = make(t, h, 0, 0);
        struct pair mean = make_master(1, t, 0, 0), rstd = make_master(1, t, 0, 0), dy = make(t, h, -1, 1),
                    dx = make(t, h, 0, 0), dr = make(t, h, 0, 0);
        struct pair dgamma = make_master(1, h, -1, 1), dbeta = make_master(1, h, -1, 1),
                    dbias = make_master(1, h, -1, 1);

        for (uint32_t i = 0; i < t; i++) {
                k[i] = 1000 + i / 50;
                positions[i] = (int32_t) (i % 50);
        }
        struct op_norm twin = {
                .x = x.twin, .residual = r.twin, .gamma = gamma.twin, .beta = beta.twin, .y = y.twin, .mean = mean.twin, .rstd = rstd.twin,
                .dy = dy.twin, .dx = dx.twin, .dresidual = dr.twin, .dgamma = dgamma.twin, .dbeta = dbeta.twin, .dbias = dbias.twin, .epsilon = 1e-12,
                .dropout = dropout_new(probability, 9, 1, 3, DROPOUT_ATTENTION_OUTPUT), .rows = { k, positions },
        }, fast = twin;
        fast.x = x.fast, fast.residual = r.fast, fast.gamma = gamma.fast, fast.beta = beta.fast, fast.y = y.fast;
        fast.mean = mean.fast, fast.rstd = rstd.fast, fast.dy = dy.fast, fast.dx = dx.fast, fast.dresidual = dr.fast;
        fast.dgamma = dgamma.fast, fast.dbeta = dbeta.fast, fast.dbias = dbias.fast;
        fast.rows = (struct row_keys) { place(k, t * sizeof(*k)), place(positions, t * sizeof(*positions)) };
        fast.workspace.size = backend->workspace_bytes(&shape);
        fast.workspace.data = place(NULL, fast.workspace.size);
        (add ? backend->add_norm_forward : backend->norm_dropout_forward)(&fast);
        (add ? reference->add_norm_forward : reference->norm_dropout_forward)(&twin);
        check("norm's y", y);
        check("norm's sum", x);
        check("norm's mean", mean);
        check("norm's rstd", rstd);
        (add ? backend->add_norm_backward : backend->norm_dropout_backward)(&fast);
        (add ? reference->add_norm_backward : reference->norm_dropout_backward)(&twin);
        check("norm's dx", dx);
        check("norm's dresidual", dr);
        check("norm's dgamma", dgamma);
        check("norm's dbeta", dbeta);
        check("norm's dbias", dbias);
        refresh(&dgamma), refresh(&dbeta), refresh(&dbias);
        fast.dgamma = dgamma.fast, fast.dbeta = dbeta.fast, fast.dbias = dbias.fast;
        twin.dgamma = dgamma.twin, twin.dbeta = dbeta.twin, twin.dbias = dbias.twin;
        (add ? backend->add_norm_backward : backend->norm_dropout_backward)(&fast);
        (add ? reference->add_norm_backward : reference->norm_dropout_backward)(&twin);
        check("norm's fresh dgamma", dgamma);
        check("norm's fresh dbeta", dbeta);
        if (add)
                check("norm's fresh dbias", dbias);
        drop();
}

void ops_check_norm(const struct ops *ops, double nmse, bool all) {
        begin(ops, nmse);
        for (int add = 0; add < 2; add++) {
                check_norm(3, 9, 0, add);
                check_norm(3, 8, 0.1, add);
                check_norm(65, 61, 0.3, add);
                check_norm(129, 768, 0.1, add);
                check_norm(5, 1024, 0.1, add);
                check_norm(5, 1031, 0.1, add);
                check_norm(3, 4096, 0.1, add);
                if (all)
                        check_norm(1000, 1024, 0.1, add);
        }
        end("norm");
}

/* ---- attention ---- */

static void check_attention_keeping(uint32_t n_sequences, uint32_t length, uint32_t heads, uint32_t width,
                                    double probability, bool keep) {
        int32_t cu_seqlens[16] = {};
        uint64_t k[16];
        uint32_t h = heads * width;

        for (uint32_t s = 0; s < n_sequences; s++) {
                cu_seqlens[s + 1] = cu_seqlens[s] + (int32_t) (s % 2 ? length / 3 + 1 : length);
                k[s] = (1ull << 40) + s;
        }
        uint32_t t = (uint32_t) cu_seqlens[n_sequences];
        struct ops_shape shape = { t, 1, length, h, heads, n_sequences };
        size_t kept = keep ? backend->kept_bytes(&shape) : 0;
        if (keep && kept == 0)
                return;
        n_kept += keep;
        struct pair qkv = make(t, 3 * h, -1.5, 1.5), context = make(t, h, 0, 0), lse = make_master(heads, t, 0, 0),
                    dcontext = make(t, h, -1, 1), dqkv = make(t, 3 * h, 7, 8);
        size_t twin_size = ops_fp64()->workspace_bytes(&shape);
        void *twin_scratch = ops_fp64()->allocate(twin_size);
        struct op_attention twin = {
                .qkv = qkv.twin, .context = context.twin, .lse = lse.twin, .dcontext = dcontext.twin, .dqkv = dqkv.twin, .cu_seqlens = cu_seqlens,
                .sample_k = k, .n_sequences = n_sequences, .n_heads = heads, .max_length = length, .workspace = { twin_scratch, twin_size },
                .dropout = dropout_new(probability, 5, 0, 2, DROPOUT_ATTENTION_PROBABILITIES),
        }, fast = twin;
        fast.qkv = qkv.fast, fast.context = context.fast, fast.lse = lse.fast, fast.dcontext = dcontext.fast;
        fast.dqkv = dqkv.fast;
        fast.cu_seqlens = place(cu_seqlens, sizeof(cu_seqlens));
        fast.sample_k = place(k, sizeof(k));
        fast.workspace.size = backend->workspace_bytes(&shape);
        fast.workspace.data = place(NULL, fast.workspace.size);
        if (keep)
                fast.kept = (struct workspace) { place(NULL, kept), kept };
        backend->attention_forward(&fast);
        ops_fp64()->attention_forward(&twin);
        check("attention's context", context);
        check("attention's lse", lse);
        backend->attention_backward(&fast);
        ops_fp64()->attention_backward(&twin);
        check("attention's dqkv", dqkv);
        ops_fp64()->release(twin_scratch, twin_size);
        drop();
}

/* Backward with what forward kept of dropout, and with what it makes again. */
static void check_attention(uint32_t n_sequences, uint32_t length, uint32_t heads, uint32_t width, double probability) {
        check_attention_keeping(n_sequences, length, heads, width, probability, false);
        if (probability > 0 && backend->kept_bytes)
                check_attention_keeping(n_sequences, length, heads, width, probability, true);
}

void ops_check_attention(const struct ops *ops, double nmse, bool all) {
        begin(ops, nmse);
        check_attention(1, 1, 1, 1, 0);
        check_attention(3, 17, 2, 5, 0);
        check_attention(3, 17, 2, 5, 0.2);
        check_attention(4, 130, 3, 16, 0.1);
        check_attention(2, 70, 2, 64, 0.1);
        check_attention(2, 64, 1, 32, 0.3);
        check_attention(2, 150, 2, 128, 0.1);
        check_attention(4, 5, 2, 64, 0);
        if (all) {
                check_attention(2, 301, 2, 64, 0.1);
                check_attention(1, 531, 1, 8, 0.1);
                check_attention(7, 512, 4, 64, 0.1);
        }
        bool half = backend->dtype != backend->master;
        print_message("%u attentions kept their dropout\n", n_kept);
        assert_int_equal(n_kept, !half ? 0 : all ? 5 : 3); /* with heads of 32, 64 or 128 */
        end("attention");
}

/* ---- rows, loss ---- */

/* Once added to what tables hold, once in the place of that but for the positions. */
static void check_embed_backward(struct op_embed fast, struct op_embed twin) {
        struct pair word = make_master(19, 75, -1, 1), position = make_master(40, 75, -1, 1),
                    type = make_master(2, 75, -1, 1);

        for (int again = 0; again < 2; again++) {
                twin.word = word.twin, twin.position = position.twin, twin.type = type.twin;
                fast.word = word.fast, fast.position = position.fast, fast.type = type.fast;
                backend->embed_backward(&fast);
                ops_fp64()->embed_backward(&twin);
                check("embed_backward's words", word);
                check("embed_backward's positions", position);
                check("embed_backward's types", type);
                refresh(&word), refresh(&type);
        }
}

#define ROWS 1100 /* more than two chunks of a backend that sums a table's gradient by chunks */

void ops_check_rows(const struct ops *ops, double nmse, bool all) {
        int32_t ids[ROWS], positions[ROWS], types[ROWS];
        struct ops_shape shape = { ROWS, 1, 40, 75, 1, 1 };

        begin(ops, nmse);
        for (int32_t i = 0; i < ROWS; i++) {
                ids[i] = (int32_t) philox_below(philox(3, (uint32_t) i, 0, 0).v[0], 19);
                positions[i] = i % 40;
                types[i] = i % 40 > 17;
        }
        struct pair word = make(19, 75, -1, 1), position = make(40, 75, -1, 1), type = make(2, 75, -1, 1),
                    x = make(ROWS, 75, 0, 0), y = make(7, 75, 0, 0), embedded = make(ROWS, 75, 0, 0),
                    gamma = make_master(1, 75, 0.5, 1.5), beta = make_master(1, 75, -1, 1),
                    mean = make_master(1, ROWS, 0, 0), rstd = make_master(1, ROWS, 0, 0);
        struct op_embed twin = { ids, positions, types, word.twin, position.twin, type.twin, x.twin, {} }, fast = twin;
        fast.ids = place(ids, sizeof(ids)), fast.positions = place(positions, sizeof(positions));
        fast.types = place(types, sizeof(types));
        fast.word = word.fast, fast.position = position.fast, fast.type = type.fast, fast.x = x.fast;
        fast.workspace.size = backend->workspace_bytes(&shape);
        fast.workspace.data = place(NULL, fast.workspace.size);
        struct op_norm norm = { .x = x.fast,
                                .gamma = gamma.fast,
                                .beta = beta.fast,
                                .mean = mean.fast,
                                .rstd = rstd.fast,
                                .y = embedded.fast,
                                .epsilon = 1e-12 },
                       twin_norm = norm;
        twin_norm.x = x.twin, twin_norm.gamma = gamma.twin, twin_norm.beta = beta.twin, twin_norm.mean = mean.twin;
        twin_norm.rstd = rstd.twin, twin_norm.y = embedded.twin;
        backend->embed_forward(&fast, &norm);
        ops_fp64()->embed_forward(&twin, &twin_norm);
        check("embed_forward's sum", x);
        check("embed_forward", embedded);
        check_embed_backward(fast, twin);

        const int32_t rows[7] = { 2, 0, 9, 4, 1098, 11, 512 };
        const int32_t *placed = place(rows, sizeof(rows));
        backend->gather_rows(x.fast, placed, y.fast);
        ops_fp64()->gather_rows(x.twin, rows, y.twin);
        check("gather_rows", y);
        backend->scatter_add_rows(y.fast, placed, x.fast);
        ops_fp64()->scatter_add_rows(y.twin, rows, x.twin);
        check("scatter_add_rows", x);
        drop();
        end("rows");
}

/* The label of every third row is the greatest logit, and first where another is as great. */
static void check_xent(uint32_t m, uint32_t v) {
        int32_t labels[64];
        struct pair logits = make(m, v, -4, 4);
        struct xent_sums mine = {}, expected = {};
        struct ops_shape shape = { 1, m, 1, 1, 1, 1 };

        for (uint32_t i = 0; i < m; i++) {
                labels[i] = i % 5 == 4 ? -1 : (int32_t) (i * 7 % v);
                double *row = (double *) logits.twin.data + (size_t) i * v;
                if (i % 3 == 0 && labels[i] >= 0)
                        row[labels[i]] = row[v - 1] = 5;
        }
        send(logits);
        struct op_xent twin = { .logits = logits.twin,
                                .labels = labels,
                                .scale = 0.25,
                                .gradient = true,
                                .sums = &expected },
                       fast = twin;
        fast.logits = logits.fast;
        fast.labels = place(labels, sizeof(labels));
        fast.sums = place(&mine, sizeof(mine));
        fast.workspace.size = backend->workspace_bytes(&shape);
        fast.workspace.data = place(NULL, fast.workspace.size);
        backend->softmax_xent(&fast);
        ops_fp64()->softmax_xent(&twin);
        check("softmax_xent's gradient", logits);
        backend->download(&mine, fast.sums, sizeof(mine));
        assert_true(is_close(mine.loss, expected.loss, 1e-7 * expected.loss)); /* 1.0e-8 measured */
        assert_int_equal(mine.count, expected.count);
        assert_int_equal(mine.correct, expected.correct);
        drop();
}

void ops_check_xent(const struct ops *ops, double nmse, bool all) {
        begin(ops, nmse / 10); /* one rounding of each element */
        check_xent(1, 2);
        check_xent(9, 2);
        check_xent(13, 101);
        check_xent(all ? 64 : 5, 30522);
        end("xent");
}

/* ---- flat runs ---- */

#define FLAT_LIMIT 5e-14 /* fp32 whatever the dtype; 9.8e-15 measured */

/* Of a backend without `update`. */
static void check_one_by_one(struct pair g, struct pair p, struct pair m, struct pair v) {
        struct op_adam op = { 1e-2, 0.9, 0.999, 1e-6, 0.01, 1 - pow(0.9, 3), 1 - pow(0.999, 3), 0.7 };
        const struct ops *reference = ops_fp64();
        uint64_t before = backend->hash(g.fast.data, g.n * sizeof(float));

        backend->adamw(&op, g.n, g.fast.data, p.fast.data, m.fast.data, v.fast.data);
        reference->adamw(&op, g.n, g.twin.data, p.twin.data, m.twin.data, v.twin.data);
        check("adamw's parameters", p);
        check("adamw's first moments", m);
        check("adamw's second moments", v);
        backend->adam_direction(&op, g.n, g.fast.data, p.fast.data, m.fast.data, v.fast.data);
        reference->adam_direction(&op, g.n, g.twin.data, p.twin.data, m.twin.data, v.twin.data);
        check("adam's direction", g);
        check("adam's first moments", m);
        check("adam's second moments", v);
        assert_true(before != backend->hash(g.fast.data, g.n * sizeof(float)));
        backend->descend(0.3, g.n, g.fast.data, p.fast.data);
        reference->descend(0.3, g.n, g.twin.data, p.twin.data);
        check("descend", p);
}

void ops_check_flat(const struct ops *ops, double nmse, bool all) {
        begin(ops, FLAT_LIMIT);
        struct pair g = make_master(1, 200003, -1, 1), p = make_master(1, 200003, -1, 1),
                    m = make_master(1, 200003, -0.1, 0.1), v = make_master(1, 200003, 0, 0.1);
        const struct ops *reference = ops_fp64();

        double fast = backend->sum_squares(g.fast.data, g.n), twin = reference->sum_squares(g.twin.data, g.n);
        assert_true(is_close(fast, twin, 1e-12 * twin)); /* 1.2e-13 measured */
        uint64_t before = backend->hash(g.fast.data, g.n * sizeof(float));
        assert_true(before == backend->hash(g.fast.data, g.n * sizeof(float)));
        if (backend->adamw)
                check_one_by_one(g, p, m, v);
        backend->zero(g.fast.data, g.n * sizeof(float));
        reference->zero(g.twin.data, g.n * sizeof(double));
        check("zero", g);
        assert_true(backend->sum_squares(g.fast.data, g.n) == 0);
        assert_true(before != backend->hash(g.fast.data, g.n * sizeof(float)));
        drop();
        end("flat");
}

/* The reference has no `update`: it goes tensor by tensor, as optimizer.c. */
static void reference_update(const struct op_update *op, const struct op_update_tensor *t) {
        const struct ops *reference = ops_fp64();
        double *g = (double *) op->g + t->offset, *p = (double *) op->p + t->offset, *m = (double *) op->m + t->offset,
               *v = (double *) op->v + t->offset, ratio = 1;
        struct op_adam adam = op->adam;
        double norm = adam.gradient_scale * sqrt(reference->sum_squares(g, t->n));

        adam.rate = t->rate;
        adam.weight_decay = t->weight_decay;
        if (op->clip_norm > 0 && norm > op->clip_norm)
                adam.gradient_scale *= op->clip_norm / norm;
        if (!op->trust_ratio) {
                reference->adamw(&adam, t->n, g, p, m, v);
                return;
        }
        reference->adam_direction(&adam, t->n, g, p, m, v);
        double weights = sqrt(reference->sum_squares(p, t->n)), steps = sqrt(reference->sum_squares(g, t->n));
        if (t->adapt && weights > 0 && steps > 0)
                ratio = weights / steps;
        reference->descend(adam.rate * ratio, t->n, g, p);
}

static void check_update(bool trust_ratio, double clip_norm) {
        const struct op_update_tensor tensors[] = { { 0, 70001, 1e-2, 0.01, true },
                                                    { 70016, 5, 3e-3, 0, false },
                                                    { 70032, 131072, 1e-3, 0.02, true } };
        const uint32_t n = 70032 + 131072;
        struct pair g = make_master(1, n, -1, 1), p = make_master(1, n, -1, 1), m = make_master(1, n, -0.1, 0.1),
                    v = make_master(1, n, 0, 0.1), values = make(1, n, 0, 0);
        struct op_update twin = {
                .adam = { 0, 0.9, 0.999, 1e-6, 0, 1 - pow(0.9, 3), 1 - pow(0.999, 3), 0.7 },
                .trust_ratio = trust_ratio, .clip_norm = clip_norm, .n_tensors = ELEMENTSOF(tensors), .tensors = tensors,
                .g = g.twin.data, .p = p.twin.data, .m = m.twin.data, .v = v.twin.data,
        }, fast = twin;
        fast.g = g.fast.data, fast.p = p.fast.data, fast.m = m.fast.data, fast.v = v.fast.data;
        fast.values = backend->dtype != backend->master ? values.fast.data : NULL;

        backend->update(&fast);
        for (size_t i = 0; i < ELEMENTSOF(tensors); i++)
                reference_update(&twin, &tensors[i]);
        check("update's parameters", p);
        check("update's first moments", m);
        check("update's second moments", v);
        if (fast.values) {
                double nmse = limit;
                limit = backend->dtype == DTYPE_BF16 ? 1e-5 : 2e-7; /* one rounding: 2.2e-6, 3.4e-8 measured */
                for (size_t i = 0; i < ELEMENTSOF(tensors); i++)
                        memcpy((double *) values.twin.data + tensors[i].offset,
                               (double *) p.twin.data + tensors[i].offset, tensors[i].n * sizeof(double));
                check("update's rounded parameters", values);
                limit = nmse;
        }
        drop();
}

void ops_check_update(const struct ops *ops, double nmse, bool all) {
        begin(ops, FLAT_LIMIT);
        check_update(false, 0);
        check_update(false, 0.5);
        check_update(true, 0);
        check_update(true, 0.5);
        end("update");
}
