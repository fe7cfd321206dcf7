/* conv_impls.c - conv2d, conv_transpose2d and linear as cx_impl tables: the operator's contract (folded ReLU, bias gradient, unwanted gradients) around the
 * products of conv.h and linear.h. */
#include "../impls.h"
#include "conv.h"
#include "conv_transpose.h"
#include "linear.h"
#include <omp.h>

enum { FEW_ROWS = 48, SUM_ROWS = 512, COPY_ROWS = 64, LITTLE_TILES = 16, LITTLE_WEIGHTS = 64 * 64 };

static size_t max_size(size_t a, size_t b) { return a > b ? a : b; }

/* ---- shared by the three operators -------------------------------------------------------------------------------- */

static cx_geometry geometry_of(const cx_call *c, cx_op_id op)
{
    cx_geometry g = { .kh = (int)c->x[1].s.h, .kw = (int)c->x[1].s.w, .stride = 1, .big = c->x[0], .small = c->y[0] };
    if (op == CX_OP_CONV2D) {
        const cx_conv_attr *a = c->attr;
        g.stride = a->stride;
        g.pad_top = a->pad_top;
        g.pad_left = a->pad_left;
        if (c->fold.pool.kernel) {
            g.pool = c->fold.pool;
            g.small = (cx_tensor){ .s = cx_conv_map(c), .ld = c->y[0].s.c };
        }
    } else if (op == CX_OP_CONV_TRANSPOSE2D) {
        const cx_convt_attr *a = c->attr;
        g = (cx_geometry){ .kh = g.kh, .kw = g.kw, .stride = a->stride, .pad_top = a->pad, .pad_left = a->pad, .big = c->y[0], .small = c->x[0] };
    }
    return g;
}

/* dy with its carry, and zero where a folded ReLU cut, as a dense tensor: for products that do not read through the cut. */
static size_t dense_bytes(const cx_call *c) { return cx_align64((size_t)cx_elems(c->y[0].s) * sizeof(float)); }

static cx_source dense_dy(const cx_call *c, float *to)
{
    const cx_source s = cx_source_dy(c);
    const cx_tensor t = { .s = s.t.s, .ld = s.t.s.c, .p = to };
    const int64_t px = cx_pixels(t.s);
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < px; p += COPY_ROWS)
        CX_FN(read_rows)(&s, p, px - p < COPY_ROWS ? px - p : COPY_ROWS, 0, t.s.c, t.p + p * t.ld, t.ld);
    return cx_plain(t);
}

static size_t sums_bytes(const cx_call *c) { return (size_t)(up_div(cx_pixels(c->y[0].s), SUM_ROWS) * c->y[0].s.c) * sizeof(float); }

INLINE void sum_part(int V, int lanes, const cx_source *dy, int64_t first, int64_t rows, int64_t k, float *sums)
{
    vf s[WIDE] = { 0 };
    for (int64_t r = first; r < first + rows; r++)
        for (int v = 0; v < V; v++)
            s[v] += cx_read(dy, r * dy->t.ld, r * dy->with.ld, k + v * VL, lanes);
    for (int v = 0; v < V; v++)
        vf_store(sums + k + v * VL, s[v], lanes);
}

/* Column sums of dy: chunks of SUM_ROWS rows in float, the chunks in double. */
static void bias_gradient(const cx_source *dy, float *db, bool add, float *sums)
{
    int64_t rows = cx_pixels(dy->t.s), n = dy->t.s.c, chunks = up_div(rows, SUM_ROWS);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < chunks; i++) {
        const int64_t first = i * SUM_ROWS, some = rows - first < SUM_ROWS ? rows - first : SUM_ROWS;
#define CALL(V, lanes) sum_part(V, lanes, dy, first, some, k, sums + i * n)
        OVER_CHANNELS(n, CALL);
#undef CALL
    }
    for (int64_t i = 0; i < n; i++) {
        double s = 0;
        for (int64_t k = 0; k < chunks; k++)
            s += (double)sums[k * n + i];
        db[i] = add ? db[i] + (float)s : (float)s;
    }
}

/* ---- the operators ------------------------------------------------------------------------------------------------ */

/* An operator, by one method. */
typedef struct { cx_op_id op; const cx_method *m; bool pairs; } way;

static cx_geometry geometry_by(const way *by, const cx_call *c)
{
    cx_geometry g = geometry_of(c, by->op);
    g.pairs = by->pairs;
    return g;
}

/* A piece of scratch. */
typedef struct { char *p; size_t left; } scratch;

static void *take(scratch *s, size_t bytes)
{
    void *p = s->p;
    s->p += bytes;
    s->left -= bytes;
    return p;
}

static const float *bias_of(const cx_call *c) { return c->n_in > 2 ? c->x[2].p : NULL; }
static bool is_transposed(cx_op_id op) { return op == CX_OP_CONV_TRANSPOSE2D; }

/* Weights of a forward pass, packed: [bias of each output, where post makes one][what the method packs]. */
static size_t bias_bytes(const cx_call *c) { return c->fold.post.s.c ? cx_align64((size_t)c->y[0].s.c * sizeof(float)) : 0; }

static size_t packed_bytes(const way *by, const cx_call *c)
{
    cx_geometry g = geometry_by(by, c);
    return is_transposed(by->op) ? 0 : bias_bytes(c) + by->m->down_packed(&g);
}

static void pack_weights(const way *by, const cx_call *c, void *to)
{
    cx_geometry g = geometry_by(by, c);
    const float *scale = cx_row(&c->fold.post, CX_FOLD_SCALE), *shift = cx_row(&c->fold.post, CX_FOLD_SHIFT), *bias = bias_of(c);
    for (int64_t o = 0; scale && o < c->y[0].s.c; o++)
        ((float *)to)[o] = (bias ? bias[o] * scale[o] : 0) + shift[o];
    by->m->down_pack(&g, c->x[1].p, scale, (float *)((char *)to + bias_bytes(c)));
}

/* conv2d and linear map big to small, conv_transpose2d small to big; the gradient of the data goes the other way. */
static cx_status forward(const way *by, const cx_call *c)
{
    cx_geometry g = geometry_by(by, c);
    scratch w = { c->work, c->work_bytes };
    cx_pass p = { .src = cx_source_x(c), .w = c->x[1].p, .dst = c->y[0],
        .finish = { .bias = bias_of(c), .relu = c->relu, .stats = c->fold.stats.s.c && !c->redo ? &c->fold.stats : NULL } };
    if (is_transposed(by->op)) {
        p.work = w.p;
        p.bytes = w.left;
        by->m->up(&g, &p);
        return CX_OK;
    }
    char *packed = c->packed;
    if (!packed) {
        packed = take(&w, packed_bytes(by, c));
        pack_weights(by, c, packed);
    }
    p.w = (float *)(packed + bias_bytes(c));
    p.work = w.p;
    p.bytes = w.left;
    if (c->fold.post.s.c)
        p.finish.bias = (float *)packed;
    by->m->down(&g, &p);
    return CX_OK;
}

static bool copies_dy(const way *by, const cx_call *c) { return c->relu && by->m->back; }

static bool wants_data(const cx_call *c) { return c->dx[0].p || c->fold.sums.s.c; }

/* The gradient of the data. */
static void backward_data(const way *by, const cx_call *c, const cx_geometry *g, const cx_source *dy, scratch w)
{
    cx_gate gate = cx_gate_of(c);
    cx_pass p = { .src = *dy, .w = c->x[1].p, .dst = c->dx[0], .finish = { .add = c->dx_add[0] && !gate.scale } };
    if (is_transposed(by->op)) {
        float *packed = take(&w, by->m->down_packed(g));
        by->m->down_pack(g, c->x[1].p, NULL, packed);
        p.w = packed;
    }
    if (gate.scale) {
        p.finish.gate = &gate;
        p.finish.sums = gate.sums ? &c->fold.sums : NULL;
    }
    p.work = w.p;
    p.bytes = w.left;
    (is_transposed(by->op) ? by->m->down : by->m->up)(g, &p);
}

/* The gradients of the data, of the weights, or both, of a method that does them in one pass. */
static void backward_once(const way *by, const cx_call *c, const cx_geometry *g, const cx_source *x, const cx_source *dy, scratch w)
{
    const cx_gate gate = cx_gate_of(c);
    cx_pass p = { .src = *dy, .w = c->x[1].p, .dst = c->dx[0], .finish = { .add = c->dx_add[0] && !gate.scale }, .work = w.p, .bytes = w.left };
    if (gate.scale && wants_data(c)) {
        p.finish.gate = &gate;
        p.finish.sums = gate.sums ? &c->fold.sums : NULL;
    }
    by->m->back(g, &p, *x, c->dx[1].p, c->dx_add[1]);
}

static cx_status backward(const way *by, const cx_call *c)
{
    cx_geometry g = geometry_by(by, c);
    scratch w = { c->work, c->work_bytes };
    const cx_source x = cx_source_x(c), dy = copies_dy(by, c) ? dense_dy(c, take(&w, dense_bytes(c))) : cx_source_dy(c);
    *(is_transposed(by->op) ? &g.big : &g.small) = dy.t;
    if (by->m->back)
        backward_once(by, c, &g, &x, &dy, w);
    else if (c->dx[1].p)
        by->m->weight(&g, is_transposed(by->op) ? dy : x, is_transposed(by->op) ? x : dy, c->dx[1].p, c->dx_add[1], w.p, w.left);
    if (c->n_in > 2 && c->dx[2].p)
        bias_gradient(&dy, c->dx[2].p, c->dx_add[2], (float *)w.p);
    if (!by->m->back && wants_data(c))
        backward_data(by, c, &g, &dy, w);
    return CX_OK;
}

static size_t workspace(const way *by, const cx_call *c, bool backward)
{
    cx_geometry g = geometry_by(by, c);
    const size_t down = by->m->down_bytes(&g) + by->m->down_packed(&g) + bias_bytes(c);
    if (!backward && !is_transposed(by->op))
        return down;
    const size_t up = by->m->back ? 0 : by->m->up_bytes(&g);
    if (!backward)
        return up;
    const size_t back = by->m->back ? by->m->back_bytes(&g) : max_size(is_transposed(by->op) ? down : up, by->m->weight_bytes(&g));
    return (copies_dy(by, c) ? dense_bytes(c) : 0) + max_size(back, sums_bytes(c));
}

#define FORWARD(prefix, ...) \
    static const way prefix = { __VA_ARGS__ }; \
    static cx_status prefix##_forward(const cx_call *c) { return forward(&prefix, c); } \
    static size_t prefix##_workspace(const cx_call *c, bool backward) { return workspace(&prefix, c, backward); }
#define PACK(prefix) \
    static size_t prefix##_packed(const cx_call *c) { return packed_bytes(&prefix, c); } \
    static cx_status prefix##_pack(const cx_call *c) { pack_weights(&prefix, c, c->packed); return CX_OK; }
#define BACKWARD(prefix) static cx_status prefix##_backward(const cx_call *c) { return backward(&prefix, c); }
FORWARD(window, CX_OP_CONV2D, &CX_FN(window_method), false) PACK(window) BACKWARD(window)
FORWARD(pointwise, CX_OP_CONV2D, &CX_FN(pointwise_method), false) PACK(pointwise) BACKWARD(pointwise)
FORWARD(winograd, CX_OP_CONV2D, &CX_FN(winograd_method), false) PACK(winograd) BACKWARD(winograd)
FORWARD(wide, CX_OP_LINEAR, &CX_FN(pointwise_method), false) PACK(wide) BACKWARD(wide)
FORWARD(transposed, CX_OP_CONV_TRANSPOSE2D, &CX_FN(window_method), false) BACKWARD(transposed)
#if defined(CX_ISA_avx512_bf16)
FORWARD(dot, CX_OP_CONV2D, &CX_FN(pointwise_method), true) PACK(dot) BACKWARD(dot)
FORWARD(dot_window, CX_OP_CONV2D, &CX_FN(window_method), true) PACK(dot_window)
#endif

static bool pointwise_accepts(const cx_call *c)
{
    cx_geometry g = geometry_of(c, CX_OP_CONV2D);
    return cx_is_pointwise(&g);
}

/* There is none, or it may be done at once. */
static bool pool_fits(const cx_call *c)
{
    cx_geometry g = geometry_of(c, CX_OP_CONV2D);
    return !g.pool.kernel || (!c->fold.stats.s.c && CX_FN(pool_accepts)(&g));
}

static bool winograd_accepts(const cx_call *c)
{
    cx_geometry g = geometry_of(c, CX_OP_CONV2D);
    return CX_FN(winograd_accepts)(&g);
}

/* With few tiles and few weights, what surrounds Winograd's products costs more than they save: the 14 x 14 and 7 x 7 maps of a DenseNet at batch 1. */
static bool little_accepts(const cx_call *c)
{
    const cx_shape s = cx_conv_map(c);
    return winograd_accepts(c) && pool_fits(c) && s.n * up_div(s.h, 4) * up_div(s.w, 4) <= LITTLE_TILES && c->x[0].s.c * s.c <= LITTLE_WEIGHTS;
}

static bool window_accepts(const cx_call *c)
{
    cx_geometry g = geometry_of(c, CX_OP_CONV2D);
    return !cx_is_pointwise(&g) && pool_fits(c);
}

#if defined(CX_ISA_avx512_bf16)
/* Whose x is bfloat16 has said that such precision will do: not of a film, which stays float32. With one channel each word would be half empty. */
static bool takes_pairs(const cx_call *c) { return c->x[0].type == CX_BF16 && c->x[0].s.c > 1; }

static bool dot_accepts(const cx_call *c) { return takes_pairs(c) && pointwise_accepts(c); }
static bool dot_little_accepts(const cx_call *c) { return takes_pairs(c) && little_accepts(c); }
static bool dot_window_accepts(const cx_call *c) { return takes_pairs(c) && window_accepts(c); }
#endif

/* ---- linear of few rows ------------------------------------------------------------------------------------------- */

static bool few_accepts(const cx_call *c) { return cx_pixels(c->x[0].s) <= FEW_ROWS; }

static cx_status few_forward(const cx_call *c)
{
    CX_FN(linear_forward)(c->x[0], c->x[1].p, bias_of(c), c->relu, c->y[0]);
    return CX_OK;
}

static cx_status few_backward(const cx_call *c)
{
    scratch w = { c->work, c->work_bytes };
    const cx_source from = c->relu ? dense_dy(c, take(&w, dense_bytes(c))) : cx_plain(c->dy[0]);
    const cx_tensor dy = from.t;
    if (c->dx[1].p)
        CX_FN(linear_weight)(dy, c->x[0], c->dx[1].p, c->dx_add[1]);
    if (c->n_in > 2 && c->dx[2].p)
        bias_gradient(&from, c->dx[2].p, c->dx_add[2], (float *)w.p);
    if (c->dx[0].p)
        CX_FN(linear_input)(dy, c->x[1].p, c->dx[0], c->dx_add[0]);
    return CX_OK;
}

static size_t few_workspace(const cx_call *c, bool backward) { return backward ? (c->relu ? dense_bytes(c) : 0) + sums_bytes(c) : 0; }

/* ---- tables ------------------------------------------------------------------------------------------------------- */

#define FORWARD_ROW(title, accept, prefix) .name = title, .accepts = accept, .workspace = prefix##_workspace, .fwd = prefix##_forward, \
    .packed = prefix##_packed, .pack = prefix##_pack, .bf16 = true
#define ROW(title, accept, prefix) { FORWARD_ROW(title " " CX_ISA_NAME, accept, prefix), .bwd = prefix##_backward }
#define POOL_ROW(title, accept, prefix) { FORWARD_ROW(title " " CX_ISA_NAME, accept, prefix), .bwd = prefix##_backward, .pool = true }
const cx_impl CX_FN(conv2d_impls)[] = {
#if defined(CX_ISA_avx512_bf16)
    { FORWARD_ROW("dot 1x1 avx512_bf16", dot_accepts, dot), .bwd = dot_backward, .dot = true },
    { FORWARD_ROW("dot window avx512_bf16", dot_little_accepts, dot_window), .dot = true, .pool = true },
#endif
    ROW("gemm 1x1", pointwise_accepts, pointwise),
    POOL_ROW("window gemm", little_accepts, window),
    ROW("winograd 4x4", winograd_accepts, winograd),
#if defined(CX_ISA_avx512_bf16)
    { FORWARD_ROW("dot window avx512_bf16", dot_window_accepts, dot_window), .dot = true, .pool = true },
#endif
    POOL_ROW("window gemm", window_accepts, window),
};
const int CX_FN(conv2d_n) = sizeof CX_FN(conv2d_impls) / sizeof CX_FN(conv2d_impls)[0];

const cx_impl CX_FN(linear_impls)[] = {
    { .name = "few rows " CX_ISA_NAME, .accepts = few_accepts, .workspace = few_workspace, .fwd = few_forward, .bwd = few_backward },
    ROW("gemm", NULL, wide),
};
const int CX_FN(linear_n) = sizeof CX_FN(linear_impls) / sizeof CX_FN(linear_impls)[0];

const cx_impl CX_FN(conv_transpose2d_impls)[] = {
    { .name = "tap gemm " CX_ISA_NAME, .accepts = CX_FN(tap_accepts), .workspace = CX_FN(tap_workspace), .fwd = CX_FN(tap_forward),
      .bwd = CX_FN(tap_backward) },
    { .name = "window gemm " CX_ISA_NAME, .workspace = transposed_workspace, .fwd = transposed_forward, .bwd = transposed_backward },
};
const int CX_FN(conv_transpose2d_n) = sizeof CX_FN(conv_transpose2d_impls) / sizeof CX_FN(conv_transpose2d_impls)[0];
