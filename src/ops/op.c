/* op.c - the operator table made from ops.def, and the checks that every shape rule begins with. */
#include "cxnet/op.h"
#include "ref.h"

const cx_op cx_ops[CX_OP_COUNT] = {
#define OP(ID, name, lo, hi, out, attr, flags, rtol, atol) \
    [CX_OP_##ID] = { #name, lo, hi, out, sizeof(attr), flags, cx_infer_##name, cx_ref_fwd_##name, cx_ref_bwd_##name, cx_flops_##name, rtol, atol },
#include "cxnet/ops.def"
#undef OP
};

#define OP(ID, name, lo, hi, out, attr, flags, rtol, atol) \
    _Static_assert(sizeof(attr) <= CX_ATTR_BYTES && (hi) <= CX_MAX_IN && (out) <= CX_MAX_OUT, #name " does not fit into a cx_call");
#include "cxnet/ops.def"
#undef OP

static cx_status check_dims(const char *name, int i, cx_shape s, cx_error *err)
{
    int64_t product = 1;
    const int64_t dims[4] = { s.n, s.h, s.w, s.c };
    for (int d = 0; d < 4; d++)
        if (dims[d] < 1 || __builtin_mul_overflow(product, dims[d], &product) || product > INT64_MAX / 8)
            return cx_fail(err, CX_E_SHAPE, "%s: input %d is " SHAPE_FMT "; every dimension must be at least 1 and all elements addressable",
                           name, i, SHAPE_ARGS(s));
    return CX_OK;
}

cx_status cx_op_check(const cx_call *c, cx_op_id id, cx_error *err)
{
    const cx_op *op = &cx_ops[id];
    if (c->n_in < op->in_min || c->n_in > op->in_max)
        return cx_fail(err, CX_E_USAGE, "%s: takes %d to %d inputs, got %d", op->name, op->in_min, op->in_max, c->n_in);
    if (!c->attr && op->attr_size > sizeof(cx_no_attr))
        return cx_fail(err, CX_E_USAGE, "%s: its attributes are missing; pass the struct that ops.def names", op->name);
    if (c->relu && !(op->flags & CX_CAN_RELU))
        return cx_fail(err, CX_E_USAGE, "%s: cannot fold a ReLU; keep it as a node of its own", op->name);
    for (int i = 0; i < c->n_in; i++) {
        if (!has_input(c, i) && i < op->in_min)
            return cx_fail(err, CX_E_SHAPE, "%s: input %d is absent, only inputs from %d on are optional", op->name, i, op->in_min);
        if (has_input(c, i))
            TRY(check_dims(op->name, i, c->x[i].s, err));
    }
    return CX_OK;
}

cx_status cx_op_check_vector(const cx_call *c, cx_op_id id, int i, const char *what, int64_t channels, cx_error *err)
{
    if (cx_shape_eq(c->x[i].s, (cx_shape){ 1, 1, 1, channels }))
        return CX_OK;
    return cx_fail(err, CX_E_SHAPE, "%s: %s must be (1,1,1,%lld), is " SHAPE_FMT, cx_ops[id].name, what, (long long)channels, SHAPE_ARGS(c->x[i].s));
}
