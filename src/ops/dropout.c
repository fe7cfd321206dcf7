/* dropout.c - reference dropout (Srivastava et al. 2014), scaled at training time; the mask is drawn again in backward, never stored. */
#include "cxnet/op.h"
#include "dropout.h"
#include "ref.h"

cx_status cx_infer_dropout(cx_call *c, cx_error *err)
{
    TRY(cx_op_check(c, CX_OP_DROPOUT, err));
    const cx_dropout_attr *a = c->attr;
    if (!(a->rate >= 0 && a->rate < 1))
        return cx_fail(err, CX_E_CONFIG, "dropout: rate must be 0 or more and below 1, is %g", (double)a->rate);
    c->y[0].s = c->x[0].s;
    return CX_OK;
}

int64_t cx_flops_dropout(const cx_call *c) { return c->training ? cx_elems(c->y[0].s) : 0; }

/* to = from * mask, or to += from * mask. */
static void apply_mask(const cx_call *c, const cx_tensor *from, const cx_tensor *to, bool add)
{
    float rate = c->training ? ((const cx_dropout_attr *)c->attr)->rate : 0;
    double scale = 1 / (1 - (double)rate);
    float uniform[4] = { 0 };
    for (int64_t e = 0; e < cx_elems(from->s); e++) {
        int64_t i = e / from->s.c, k = e % from->s.c;
        if (rate > 0 && e % 4 == 0)
            dropout_draw(c, e / 4, uniform);
        put(&row_at(to, i)[k], add, uniform[e % 4] >= rate ? (double)row_at(from, i)[k] * scale : 0);
    }
}

cx_status cx_ref_fwd_dropout(const cx_call *c)
{
    apply_mask(c, &c->x[0], &c->y[0], false);
    return CX_OK;
}

cx_status cx_ref_bwd_dropout(const cx_call *c)
{
    if (wants_grad(c, 0))
        apply_mask(c, &c->dy[0], &c->dx[0], c->dx_add[0]);
    return CX_OK;
}
