/* conv_impls.c - conv2d, conv_transpose2d and linear as cx_impl tables: the operator's contract (folded ReLU, bias gradient, unwanted gradients) around the
 * products of conv.h and linear.h. */
#include "../impls.h"
#include "conv.h"
#include "linear.h"
#include "winograd.h"
#include <omp.h>

enum { FEW_ROWS = 48, SUM_ROWS = 512 };

static size_t max_size(size_t a, size_t b) { return a > b ? a : b; }
static int64_t up_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* ---- shared by the three operators -------------------------------------------------------------------------------- */

static cx_geometry geometry_of(const cx_call *c, cx_op_id op)
{
    cx_geometry g = { .kh = (int)c->x[1].s.h, .kw = (int)c->x[1].s.w, .stride = 1, .big = c->x[0], .small = c->y[0] };
    if (op == CX_OP_CONV2D) {
        const cx_conv_attr *a = c->attr;
        g.stride = a->stride;
        g.pad_top = a->pad_top;
        g.pad_left = a->pad_left;
    } else if (op == CX_OP_CONV_TRANSPOSE2D) {
        const cx_convt_attr *a = c->attr;
        g = (cx_geometry){ .kh = g.kh, .kw = g.kw, .stride = a->stride, .pad_top = a->pad, .pad_left = a->pad, .big = c->y[0], .small = c->x[0] };
    }
    return g;
}

/* The gradient after the ReLU mask, dense. */
static size_t masked_bytes(const cx_call *c) { return c->relu ? cx_align64((size_t)cx_elems(c->y[0].s) * sizeof(float)) : 0; }

static cx_tensor masked(const cx_call *c)
{
    cx_tensor y = c->y[0], dy = c->dy[0], out = { y.s, y.s.c, c->work };
    if (!c->relu)
        return dy;
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < cx_pixels(y.s); p++) {
        const float *from = dy.p + p * dy.ld, *gate = y.p + p * y.ld;
        for (int64_t i = 0; i < y.s.c; i++)
            out.p[p * out.ld + i] = gate[i] > 0 ? from[i] : 0;
    }
    return out;
}

static size_t sums_bytes(const cx_call *c) { return (size_t)(up_div(cx_pixels(c->y[0].s), SUM_ROWS) * c->y[0].s.c) * sizeof(float); }

/* Column sums of dy: chunks of SUM_ROWS rows in float, the chunks in double. */
static void bias_gradient(cx_tensor dy, float *db, bool add, float *sums)
{
    int64_t rows = cx_pixels(dy.s), n = dy.s.c, chunks = up_div(rows, SUM_ROWS);
#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < chunks; k++) {
        float *s = sums + k * n;
        memset(s, 0, (size_t)n * sizeof(float));
        for (int64_t r = k * SUM_ROWS; r < rows && r < (k + 1) * SUM_ROWS; r++)
            for (int64_t i = 0; i < n; i++)
                s[i] += dy.p[r * dy.ld + i];
    }
    for (int64_t i = 0; i < n; i++) {
        double s = 0;
        for (int64_t k = 0; k < chunks; k++)
            s += (double)sums[k * n + i];
        db[i] = add ? db[i] + (float)s : (float)s;
    }
}

/* The three products by one method. */
typedef struct {
    size_t (*down_bytes)(const cx_geometry *g), (*up_bytes)(const cx_geometry *g), (*weight_bytes)(const cx_geometry *g);
    void (*down)(const cx_geometry *g, const float *big, const float *w, float *small, cx_finish f, void *work, size_t bytes);
    void (*up)(const cx_geometry *g, const float *small, const float *w, float *big, cx_finish f, void *work, size_t bytes);
    void (*weight)(const cx_geometry *g, const float *big, const float *small, float *dw, bool add, void *work, size_t bytes);
} method;
static const method PLAIN = { CX_FN(conv_down_bytes), CX_FN(conv_up_bytes), CX_FN(conv_weight_bytes), CX_FN(conv_down), CX_FN(conv_up), CX_FN(conv_weight) };
static const method WINOGRAD = { CX_FN(winograd_down_bytes), CX_FN(winograd_up_bytes), CX_FN(winograd_weight_bytes),
    CX_FN(winograd_down), CX_FN(winograd_up), CX_FN(winograd_weight) };

static const float *bias_of(const cx_call *c) { return c->n_in > 2 ? c->x[2].p : NULL; }

/* conv2d and linear map big to small, conv_transpose2d small to big; the gradient of the data goes the other way. */
static cx_status forward(const cx_call *c, cx_op_id op, const method *m)
{
    cx_geometry g = geometry_of(c, op);
    cx_finish f = { bias_of(c), c->relu, false };
    (op == CX_OP_CONV_TRANSPOSE2D ? m->up : m->down)(&g, c->x[0].p, c->x[1].p, c->y[0].p, f, c->work, c->work_bytes);
    return CX_OK;
}

static cx_status backward(const cx_call *c, cx_op_id op, const method *m)
{
    bool transposed = op == CX_OP_CONV_TRANSPOSE2D;
    cx_geometry g = geometry_of(c, op);
    cx_tensor dy = masked(c), *in = transposed ? &g.small : &g.big, *out = transposed ? &g.big : &g.small;
    size_t used = masked_bytes(c), left = c->work_bytes - used;
    void *work = (char *)c->work + used;
    *out = dy;
    if (c->dx[1].p)
        m->weight(&g, g.big.p, g.small.p, c->dx[1].p, c->dx_add[1], work, left);
    if (c->n_in > 2 && c->dx[2].p)
        bias_gradient(dy, c->dx[2].p, c->dx_add[2], work);
    if (c->dx[0].p) {
        *in = c->dx[0];
        (transposed ? m->down : m->up)(&g, dy.p, c->x[1].p, c->dx[0].p, (cx_finish){ NULL, false, c->dx_add[0] }, work, left);
    }
    return CX_OK;
}

static size_t workspace(const cx_call *c, bool backward, cx_op_id op, const method *m)
{
    bool transposed = op == CX_OP_CONV_TRANSPOSE2D;
    cx_geometry g = geometry_of(c, op);
    if (!backward)
        return (transposed ? m->up_bytes : m->down_bytes)(&g);
    size_t data = (transposed ? m->down_bytes : m->up_bytes)(&g);
    return masked_bytes(c) + max_size(max_size(data, m->weight_bytes(&g)), sums_bytes(c));
}

#define METHOD(prefix, op, method) \
    static cx_status prefix##_forward(const cx_call *c) { return forward(c, op, &method); } \
    static cx_status prefix##_backward(const cx_call *c) { return backward(c, op, &method); } \
    static size_t prefix##_workspace(const cx_call *c, bool backward) { return workspace(c, backward, op, &method); }
METHOD(conv, CX_OP_CONV2D, PLAIN)
METHOD(winograd, CX_OP_CONV2D, WINOGRAD)
METHOD(wide, CX_OP_LINEAR, PLAIN)
METHOD(transposed, CX_OP_CONV_TRANSPOSE2D, PLAIN)

static bool is_pointwise(const cx_call *c)
{
    cx_geometry g = geometry_of(c, CX_OP_CONV2D);
    return cx_is_pointwise(&g);
}

static bool winograd_accepts(const cx_call *c)
{
    cx_geometry g = geometry_of(c, CX_OP_CONV2D);
    return CX_FN(winograd_accepts)(&g);
}

/* ---- linear of few rows ------------------------------------------------------------------------------------------- */

static bool few_accepts(const cx_call *c) { return cx_pixels(c->x[0].s) <= FEW_ROWS; }

static cx_status few_forward(const cx_call *c)
{
    CX_FN(linear_forward)(c->x[0], c->x[1].p, bias_of(c), c->relu, c->y[0]);
    return CX_OK;
}

static cx_status few_backward(const cx_call *c)
{
    cx_tensor dy = masked(c);
    if (c->dx[1].p)
        CX_FN(linear_weight)(dy, c->x[0], c->dx[1].p, c->dx_add[1]);
    if (c->n_in > 2 && c->dx[2].p)
        bias_gradient(dy, c->dx[2].p, c->dx_add[2], (float *)((char *)c->work + masked_bytes(c)));
    if (c->dx[0].p)
        CX_FN(linear_input)(dy, c->x[1].p, c->dx[0], c->dx_add[0]);
    return CX_OK;
}

static size_t few_workspace(const cx_call *c, bool backward) { return backward ? masked_bytes(c) + sums_bytes(c) : 0; }

/* ---- tables ------------------------------------------------------------------------------------------------------- */

const cx_impl CX_FN(conv2d_impls)[] = {
    { "gemm 1x1 " CX_ISA_NAME, is_pointwise, conv_workspace, conv_forward, conv_backward },
    { "winograd 4x4 " CX_ISA_NAME, winograd_accepts, winograd_workspace, winograd_forward, winograd_backward },
    { "window gemm " CX_ISA_NAME, NULL, conv_workspace, conv_forward, conv_backward },
};
const int CX_FN(conv2d_n) = sizeof CX_FN(conv2d_impls) / sizeof CX_FN(conv2d_impls)[0];

const cx_impl CX_FN(linear_impls)[] = {
    { "few rows " CX_ISA_NAME, few_accepts, few_workspace, few_forward, few_backward },
    { "gemm " CX_ISA_NAME, NULL, wide_workspace, wide_forward, wide_backward },
};
const int CX_FN(linear_n) = sizeof CX_FN(linear_impls) / sizeof CX_FN(linear_impls)[0];

const cx_impl CX_FN(conv_transpose2d_impls)[] = {
    { "window gemm " CX_ISA_NAME, NULL, transposed_workspace, transposed_forward, transposed_backward },
};
const int CX_FN(conv_transpose2d_n) = sizeof CX_FN(conv_transpose2d_impls) / sizeof CX_FN(conv_transpose2d_impls)[0];
