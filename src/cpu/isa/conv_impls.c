/* conv_impls.c - conv2d, conv_transpose2d and linear as cx_impl tables: the operator's contract (folded ReLU, bias gradient, unwanted gradients) around the
 * products of conv.h and linear.h. */
#include "../impls.h"
#include "conv.h"
#include "linear.h"
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

static size_t gradient_bytes(const cx_call *c, const cx_geometry *g, bool towards_big)
{
    size_t data = towards_big ? CX_FN(conv_up_bytes)(g) : CX_FN(conv_down_bytes)(g);
    return masked_bytes(c) + max_size(max_size(data, CX_FN(conv_weight_bytes)(g)), sums_bytes(c));
}

static const float *bias_of(const cx_call *c) { return c->n_in > 2 ? c->x[2].p : NULL; }

/* ---- conv2d and the wide linear layer ----------------------------------------------------------------------------- */

static cx_status down_forward(const cx_call *c, cx_op_id op)
{
    cx_geometry g = geometry_of(c, op);
    cx_finish f = { bias_of(c), c->relu, false };
    CX_FN(conv_down)(&g, c->x[0].p, c->x[1].p, c->y[0].p, f, c->work, c->work_bytes);
    return CX_OK;
}

static cx_status down_backward(const cx_call *c, cx_op_id op)
{
    cx_geometry g = geometry_of(c, op);
    cx_tensor dy = masked(c);
    size_t used = masked_bytes(c), left = c->work_bytes - used;
    void *work = (char *)c->work + used;
    g.small = dy;
    if (c->dx[1].p)
        CX_FN(conv_weight)(&g, c->x[0].p, dy.p, c->dx[1].p, c->dx_add[1], work, left);
    if (c->n_in > 2 && c->dx[2].p)
        bias_gradient(dy, c->dx[2].p, c->dx_add[2], work);
    if (c->dx[0].p) {
        g.big = c->dx[0];
        CX_FN(conv_up)(&g, dy.p, c->x[1].p, c->dx[0].p, (cx_finish){ NULL, false, c->dx_add[0] }, work, left);
    }
    return CX_OK;
}

static size_t down_workspace(const cx_call *c, bool backward, cx_op_id op)
{
    cx_geometry g = geometry_of(c, op);
    return backward ? gradient_bytes(c, &g, true) : CX_FN(conv_down_bytes)(&g);
}

static cx_status conv_forward(const cx_call *c) { return down_forward(c, CX_OP_CONV2D); }
static cx_status conv_backward(const cx_call *c) { return down_backward(c, CX_OP_CONV2D); }
static size_t conv_workspace(const cx_call *c, bool backward) { return down_workspace(c, backward, CX_OP_CONV2D); }
static bool conv_is_pointwise(const cx_call *c)
{
    cx_geometry g = geometry_of(c, CX_OP_CONV2D);
    return cx_is_pointwise(&g);
}

static cx_status wide_forward(const cx_call *c) { return down_forward(c, CX_OP_LINEAR); }
static cx_status wide_backward(const cx_call *c) { return down_backward(c, CX_OP_LINEAR); }
static size_t wide_workspace(const cx_call *c, bool backward) { return down_workspace(c, backward, CX_OP_LINEAR); }

/* ---- conv_transpose2d --------------------------------------------------------------------------------------------- */

static cx_status transposed_forward(const cx_call *c)
{
    cx_geometry g = geometry_of(c, CX_OP_CONV_TRANSPOSE2D);
    cx_finish f = { bias_of(c), c->relu, false };
    CX_FN(conv_up)(&g, c->x[0].p, c->x[1].p, c->y[0].p, f, c->work, c->work_bytes);
    return CX_OK;
}

static cx_status transposed_backward(const cx_call *c)
{
    cx_geometry g = geometry_of(c, CX_OP_CONV_TRANSPOSE2D);
    cx_tensor dy = masked(c);
    size_t used = masked_bytes(c), left = c->work_bytes - used;
    void *work = (char *)c->work + used;
    g.big = dy;
    if (c->dx[1].p)
        CX_FN(conv_weight)(&g, dy.p, c->x[0].p, c->dx[1].p, c->dx_add[1], work, left);
    if (c->n_in > 2 && c->dx[2].p)
        bias_gradient(dy, c->dx[2].p, c->dx_add[2], work);
    if (c->dx[0].p) {
        g.small = c->dx[0];
        CX_FN(conv_down)(&g, dy.p, c->x[1].p, c->dx[0].p, (cx_finish){ NULL, false, c->dx_add[0] }, work, left);
    }
    return CX_OK;
}

static size_t transposed_workspace(const cx_call *c, bool backward)
{
    cx_geometry g = geometry_of(c, CX_OP_CONV_TRANSPOSE2D);
    return backward ? gradient_bytes(c, &g, false) : CX_FN(conv_up_bytes)(&g);
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
    { "gemm 1x1 " CX_ISA_NAME, conv_is_pointwise, conv_workspace, conv_forward, conv_backward },
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
