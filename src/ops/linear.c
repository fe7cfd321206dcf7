/* linear.c - reference linear layer: y[n,o] = bias[o] + sum over i of x[n,i] * w[o,i], weights (O,1,1,I). */
#include "cxnet/op.h"
#include "ref.h"

cx_status cx_infer_linear(cx_call *c, cx_error *err)
{
    TRY(cx_op_check(c, CX_OP_LINEAR, err));
    cx_shape x = c->x[0].s, w = c->x[1].s;
    if (x.h != 1 || x.w != 1)
        return cx_fail(err, CX_E_SHAPE, "linear: x must be (N,1,1,F), is " SHAPE_FMT "; flatten or pool it first", SHAPE_ARGS(x));
    if (w.h != 1 || w.w != 1)
        return cx_fail(err, CX_E_SHAPE, "linear: weight must be (O,1,1,I), is " SHAPE_FMT, SHAPE_ARGS(w));
    if (w.c != x.c)
        return cx_fail(err, CX_E_SHAPE, "linear: weight has %lld input features, x has %lld", (long long)w.c, (long long)x.c);
    if (has_input(c, 2))
        TRY(cx_op_check_vector(c, CX_OP_LINEAR, 2, "bias", w.n, err));
    c->y[0].s = (cx_shape){ x.n, 1, 1, w.n };
    return CX_OK;
}

int64_t cx_flops_linear(const cx_call *c) { return 2 * c->x[0].s.n * cx_elems(c->x[1].s); }

cx_status cx_ref_fwd_linear(const cx_call *c)
{
    cx_shape w = c->x[1].s;
    for (int64_t n = 0; n < c->x[0].s.n; n++)
        for (int64_t o = 0; o < w.n; o++) {
            const float *in = row_at(&c->x[0], n), *weight = row_at(&c->x[1], o);
            double sum = has_input(c, 2) ? (double)c->x[2].p[o] : 0;
            for (int64_t i = 0; i < w.c; i++)
                sum += (double)in[i] * (double)weight[i];
            row_at(&c->y[0], n)[o] = (float)relu_if(c, sum);
        }
    return CX_OK;
}

static double dx_at(const cx_call *c, int64_t n, int64_t i)
{
    double sum = 0;
    for (int64_t o = 0; o < c->x[1].s.n; o++)
        sum += masked_dy(c, n, o) * (double)row_at(&c->x[1], o)[i];
    return sum;
}

static double dw_at(const cx_call *c, int64_t o, int64_t i)
{
    double sum = 0;
    for (int64_t n = 0; n < c->x[0].s.n; n++)
        sum += masked_dy(c, n, o) * (double)row_at(&c->x[0], n)[i];
    return sum;
}

cx_status cx_ref_bwd_linear(const cx_call *c)
{
    cx_shape x = c->x[0].s, w = c->x[1].s;
    if (wants_grad(c, 0))
        for (int64_t n = 0; n < x.n; n++)
            for (int64_t i = 0; i < x.c; i++)
                put(&row_at(&c->dx[0], n)[i], c->dx_add[0], dx_at(c, n, i));
    if (wants_grad(c, 1))
        for (int64_t o = 0; o < w.n; o++)
            for (int64_t i = 0; i < w.c; i++)
                put(&row_at(&c->dx[1], o)[i], c->dx_add[1], dw_at(c, o, i));
    if (wants_grad(c, 2))
        for (int64_t o = 0; o < w.n; o++) {
            double sum = 0;
            for (int64_t n = 0; n < x.n; n++)
                sum += masked_dy(c, n, o);
            put(&c->dx[2].p[o], c->dx_add[2], sum);
        }
    return CX_OK;
}
