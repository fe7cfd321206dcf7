/* share.c - what a rank's part of a batch weighs in the loss of the whole. Depends on stepper.h. */
#include <stdlib.h>
#include "cxnet/base.h"
#include "store.h"
#include "cxnet/stepper.h"

cx_status cx_share_open(cx_store *store, const cx_stepper_opts *o, cx_share *s, cx_error *err)
{
    const cx_graph *g = store->g;
    const int k = g->values[o->loss].node, weights = k >= 0 && g->nodes[k].n_in > 2 ? g->nodes[k].in[2] : -1;
    const cx_op_id op = k >= 0 ? g->nodes[k].op : CX_OP_COUNT;
    *s = (cx_share){ .comm = o->comm };
    if (op != CX_OP_BCE_LOSS && op != CX_OP_CE_LOSS)
        return cx_fail(err, CX_E_UNSUPPORTED, "stepper: '%s' is no mean over the films of a batch, so ranks cannot share it", g->values[o->loss].name);
    s->n = cx_elems(cx_plan_value(o->plan, o->target).s);
    s->classes = op == CX_OP_CE_LOSS ? (int)g->values[g->nodes[k].in[0]].shape.c : 0;
    s->all = cx_alloc((size_t)s->comm->ranks, sizeof *s->all);
    s->weight = cx_alloc((size_t)s->classes, sizeof *s->weight);
    if (!s->all || !s->weight)
        return cx_fail(err, CX_E_MEMORY, "no memory for a stepper");
    for (int c = 0; c < s->classes; c++)
        s->weight[c] = 1;
    return s->classes && weights >= 0 ? cx_store_get(store, weights, s->weight, err) : CX_OK;
}

void cx_share_close(cx_share *s)
{
    free(s->all);
    free(s->weight);
    *s = (cx_share){ 0 };
}

/* A class that is none is the loss' to refuse. */
double cx_share_weight(const cx_share *s, const float *target)
{
    double sum = 0;
    for (int64_t i = 0; i < s->n; i++) {
        if (target[i] < 0)
            continue;
        sum += !s->classes ? 1 : target[i] < (float)s->classes ? (double)s->weight[(int)target[i]] : 0;
    }
    return sum;
}

cx_status cx_share_of(cx_share *s, const float *target, float *share, cx_error *err)
{
    const double mine = cx_share_weight(s, target);
    double sum = 0;
    TRY(s->comm->gather(s->comm, &mine, s->all, sizeof mine, err));
    for (int r = 0; r < s->comm->ranks; r++)
        sum += s->all[r];
    *share = (float)(sum > 0 ? mine / sum : 0);
    return CX_OK;
}

cx_status cx_share_loss(cx_share *s, float share, float *loss, cx_error *err)
{
    const double mine = (double)share * (double)*loss;
    double sum = 0;
    TRY(s->comm->gather(s->comm, &mine, s->all, sizeof mine, err));
    for (int r = 0; r < s->comm->ranks; r++)
        sum += s->all[r];
    *loss = (float)sum;
    return CX_OK;
}
