/* eltwise.c - reference relu, leaky_relu, sigmoid, softmax (over the channels of a pixel) and add. */
#include <math.h>
#include "cxnet/op.h"
#include "ref.h"

/* Walks all elements; the body sees the pixel i and channel k. */
#define EACH(shape) for (int64_t i = 0; i < cx_pixels(shape); i++) for (int64_t k = 0; k < (shape).c; k++)

static cx_status same_shape(cx_call *c, cx_op_id id, cx_error *err)
{
    TRY(cx_op_check(c, id, err));
    c->y[0].s = c->x[0].s;
    return CX_OK;
}

/* ---- relu ---- */

cx_status cx_infer_relu(cx_call *c, cx_error *err) { return same_shape(c, CX_OP_RELU, err); }
int64_t cx_flops_relu(const cx_call *c) { return cx_elems(c->y[0].s); }

cx_status cx_ref_fwd_relu(const cx_call *c)
{
    EACH(c->x[0].s) {
        float v = row_at(&c->x[0], i)[k];
        row_at(&c->y[0], i)[k] = v < 0 ? 0 : v;
    }
    return CX_OK;
}

cx_status cx_ref_bwd_relu(const cx_call *c)
{
    if (wants_grad(c, 0))
        EACH(c->x[0].s)
            put(&row_at(&c->dx[0], i)[k], c->dx_add[0], row_at(&c->y[0], i)[k] <= 0 ? 0 : (double)row_at(&c->dy[0], i)[k]);
    return CX_OK;
}

/* ---- leaky_relu ---- */

cx_status cx_infer_leaky_relu(cx_call *c, cx_error *err)
{
    TRY(same_shape(c, CX_OP_LEAKY_RELU, err));
    const cx_leaky_attr *a = c->attr;
    if (!isfinite(a->slope))
        return cx_fail(err, CX_E_CONFIG, "leaky_relu: slope must be a finite number, is %g", (double)a->slope);
    return CX_OK;
}

int64_t cx_flops_leaky_relu(const cx_call *c) { return cx_elems(c->y[0].s); }

cx_status cx_ref_fwd_leaky_relu(const cx_call *c)
{
    const cx_leaky_attr *a = c->attr;
    EACH(c->x[0].s) {
        double v = (double)row_at(&c->x[0], i)[k];
        row_at(&c->y[0], i)[k] = (float)(v <= 0 ? v * (double)a->slope : v);
    }
    return CX_OK;
}

cx_status cx_ref_bwd_leaky_relu(const cx_call *c)
{
    const cx_leaky_attr *a = c->attr;
    if (wants_grad(c, 0))
        EACH(c->x[0].s) {
            double g = (double)row_at(&c->dy[0], i)[k];
            put(&row_at(&c->dx[0], i)[k], c->dx_add[0], row_at(&c->x[0], i)[k] <= 0 ? g * (double)a->slope : g);
        }
    return CX_OK;
}

/* ---- sigmoid ---- */

cx_status cx_infer_sigmoid(cx_call *c, cx_error *err) { return same_shape(c, CX_OP_SIGMOID, err); }
int64_t cx_flops_sigmoid(const cx_call *c) { return 4 * cx_elems(c->y[0].s); }

cx_status cx_ref_fwd_sigmoid(const cx_call *c)
{
    EACH(c->x[0].s)
        row_at(&c->y[0], i)[k] = (float)(1 / (1 + exp(-(double)row_at(&c->x[0], i)[k])));
    return CX_OK;
}

cx_status cx_ref_bwd_sigmoid(const cx_call *c)
{
    if (wants_grad(c, 0))
        EACH(c->x[0].s) {
            double y = (double)row_at(&c->y[0], i)[k];
            put(&row_at(&c->dx[0], i)[k], c->dx_add[0], (double)row_at(&c->dy[0], i)[k] * y * (1 - y));
        }
    return CX_OK;
}

/* ---- softmax ---- */

cx_status cx_infer_softmax(cx_call *c, cx_error *err) { return same_shape(c, CX_OP_SOFTMAX, err); }
int64_t cx_flops_softmax(const cx_call *c) { return 5 * cx_elems(c->y[0].s); }

cx_status cx_ref_fwd_softmax(const cx_call *c)
{
    cx_shape s = c->x[0].s;
    for (int64_t i = 0; i < cx_pixels(s); i++) {
        const float *x = row_at(&c->x[0], i);
        double largest = (double)x[0], sum = 0;
        for (int64_t k = 1; k < s.c; k++)
            largest = (double)x[k] > largest ? (double)x[k] : largest;
        for (int64_t k = 0; k < s.c; k++)
            sum += exp((double)x[k] - largest);
        for (int64_t k = 0; k < s.c; k++)
            row_at(&c->y[0], i)[k] = (float)(exp((double)x[k] - largest) / sum);
    }
    return CX_OK;
}

cx_status cx_ref_bwd_softmax(const cx_call *c)
{
    cx_shape s = c->x[0].s;
    if (!wants_grad(c, 0))
        return CX_OK;
    for (int64_t i = 0; i < cx_pixels(s); i++) {
        const float *y = row_at(&c->y[0], i), *dy = row_at(&c->dy[0], i);
        double dot = 0;
        for (int64_t k = 0; k < s.c; k++)
            dot += (double)y[k] * (double)dy[k];
        for (int64_t k = 0; k < s.c; k++)
            put(&row_at(&c->dx[0], i)[k], c->dx_add[0], (double)y[k] * ((double)dy[k] - dot));
    }
    return CX_OK;
}

/* ---- add ---- */

cx_status cx_infer_add(cx_call *c, cx_error *err)
{
    TRY(same_shape(c, CX_OP_ADD, err));
    if (!cx_shape_eq(c->x[0].s, c->x[1].s))
        return cx_fail(err, CX_E_SHAPE, "add: both inputs must have the same shape, are " SHAPE_FMT " and " SHAPE_FMT,
                       SHAPE_ARGS(c->x[0].s), SHAPE_ARGS(c->x[1].s));
    return CX_OK;
}

int64_t cx_flops_add(const cx_call *c) { return cx_elems(c->y[0].s); }

cx_status cx_ref_fwd_add(const cx_call *c)
{
    EACH(c->x[0].s)
        row_at(&c->y[0], i)[k] = (float)relu_if(c, (double)row_at(&c->x[0], i)[k] + (double)row_at(&c->x[1], i)[k]);
    return CX_OK;
}

cx_status cx_ref_bwd_add(const cx_call *c)
{
    for (int j = 0; j < 2; j++)
        if (wants_grad(c, j))
            EACH(c->x[0].s)
                put(&row_at(&c->dx[j], i)[k], c->dx_add[j], masked_dy(c, i, k));
    return CX_OK;
}
