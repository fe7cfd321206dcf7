/* shape.c - reference concat (along channels) and flatten: operators that only move numbers. */
#include "cxnet/op.h"
#include "ref.h"

/* ---- concat: channels of all inputs side by side ---- */

cx_status cx_infer_concat(cx_call *c, cx_error *err)
{
    TRY(cx_op_check(c, CX_OP_CONCAT, err));
    cx_shape y = c->x[0].s;
    for (int j = 1; j < c->n_in; j++) {
        cx_shape x = c->x[j].s;
        if (!has_input(c, j))
            return cx_fail(err, CX_E_SHAPE, "concat: input %d is absent", j);
        if (x.n != y.n || x.h != y.h || x.w != y.w)
            return cx_fail(err, CX_E_SHAPE, "concat: inputs may differ in channels only, input 0 is " SHAPE_FMT ", input %d is " SHAPE_FMT,
                           SHAPE_ARGS(c->x[0].s), j, SHAPE_ARGS(x));
        y.c += x.c;
    }
    c->y[0].s = y;
    return CX_OK;
}

int64_t cx_flops_concat(const cx_call *c)
{
    (void)c;
    return 0;
}

cx_status cx_ref_fwd_concat(const cx_call *c)
{
    for (int64_t i = 0; i < cx_pixels(c->y[0].s); i++) {
        float *out = row_at(&c->y[0], i);
        for (int j = 0; j < c->n_in; j++)
            for (int64_t k = 0; k < c->x[j].s.c; k++)
                *out++ = row_at(&c->x[j], i)[k];
    }
    return CX_OK;
}

cx_status cx_ref_bwd_concat(const cx_call *c)
{
    int64_t from = 0;
    for (int j = 0; j < c->n_in; from += c->x[j].s.c, j++)
        if (wants_grad(c, j))
            for (int64_t i = 0; i < cx_pixels(c->y[0].s); i++)
                for (int64_t k = 0; k < c->x[j].s.c; k++)
                    put(&row_at(&c->dx[j], i)[k], c->dx_add[j], (double)row_at(&c->dy[0], i)[from + k]);
    return CX_OK;
}

/* ---- flatten: (N,H,W,C) to (N,1,1,H*W*C), in NHWC order ---- */

cx_status cx_infer_flatten(cx_call *c, cx_error *err)
{
    TRY(cx_op_check(c, CX_OP_FLATTEN, err));
    cx_shape x = c->x[0].s;
    c->y[0].s = (cx_shape){ x.n, 1, 1, x.h * x.w * x.c };
    return CX_OK;
}

int64_t cx_flops_flatten(const cx_call *c)
{
    (void)c;
    return 0;
}

cx_status cx_ref_fwd_flatten(const cx_call *c)
{
    cx_shape x = c->x[0].s;
    int64_t area = x.h * x.w;
    for (int64_t i = 0; i < cx_pixels(x); i++)
        for (int64_t k = 0; k < x.c; k++)
            row_at(&c->y[0], i / area)[i % area * x.c + k] = row_at(&c->x[0], i)[k];
    return CX_OK;
}

cx_status cx_ref_bwd_flatten(const cx_call *c)
{
    cx_shape x = c->x[0].s;
    int64_t area = x.h * x.w;
    if (!wants_grad(c, 0))
        return CX_OK;
    for (int64_t i = 0; i < cx_pixels(x); i++)
        for (int64_t k = 0; k < x.c; k++)
            put(&row_at(&c->dx[0], i)[k], c->dx_add[0], (double)row_at(&c->dy[0], i / area)[i % area * x.c + k]);
    return CX_OK;
}
