/* eval_fold.c - pass 4: a norm behind a convolution becomes part of the convolution's weights.
 *
 * In: needed nodes, ReLUs. Out: nodes[].post and relu of the convolution, nodes[].carrier of the norm, nodes[].y. Only without a backward pass and where the
 * norm uses running statistics: scale and shift are then known before the step (they are computed once, and again when parameters change). Only where the
 * norm is the single reader of the convolution's output, no ReLU stands between them, and that output is not kept. */
#include "plan.h"

void cx_pass_eval_fold(cx_plan *p)
{
    if (p->opts.backward || (p->opts.skip & CX_PASS_EVAL_FOLD))
        return;
    for (int k = 0; k < p->n_nodes; k++) {
        const cx_node *norm = &p->node[k];
        if (!p->nodes[k].needed || norm->op != CX_OP_BATCH_NORM || cx_batch_statistics(p, k))
            continue;
        int x = norm->in[0], anchor = p->g->values[x].node;
        if (anchor < 0 || !(cx_op_of(p, anchor)->flags & CX_CAN_POST) || p->nodes[anchor].relu >= 0 || p->nodes[anchor].post >= 0)
            continue;
        if (p->values[x].readers != 1 || p->values[x].kept || cx_reads_vectors(p, k))
            continue;
        p->nodes[anchor].post = k;
        p->nodes[anchor].relu = p->nodes[k].relu;
        p->nodes[anchor].y = p->nodes[k].y;
        p->nodes[k].carrier = anchor;
    }
}
