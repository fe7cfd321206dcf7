/* prologue.c - pass 5: a norm, with its ReLU, is carried out by the convolution or pool that reads it.
 *
 * In: needed nodes, ReLUs. Out: nodes[].pre of the reader, whose in[0] becomes what the norm reads; nodes[].carrier of the norm. Only where that reader is the
 * single one and can (CX_CAN_PRE), and the norm's output is not kept: it then exists nowhere. What the norm reads must be made by a node and have its channels
 * where the norm sees them, so not behind a flatten. */
#include "plan.h"

void cx_pass_prologue(cx_plan *p)
{
    for (int k = 0; k < p->n_nodes && !(p->opts.skip & CX_PASS_PROLOGUE); k++) {
        int norm, u = p->node[k].in[0];
        if (!p->nodes[k].needed || p->nodes[k].folded || !(cx_op_of(p, k)->flags & CX_CAN_PRE))
            continue;
        norm = p->g->values[u].node;
        if (norm >= 0 && p->nodes[norm].folded)                      /* u is the ReLU behind the norm */
            norm = p->g->values[p->node[norm].in[0]].node;
        if (norm < 0 || p->node[norm].op != CX_OP_BATCH_NORM || p->nodes[norm].y != u || cx_in_vectors(p, norm))
            continue;
        int x = p->node[norm].in[0], producer = p->g->values[x].node;
        if (p->values[u].readers != 1 || p->values[u].kept || cx_reads_vectors(p, norm) || producer < 0 || p->node[producer].op == CX_OP_FLATTEN)
            continue;
        p->nodes[k].pre = norm;
        p->node[k].in[0] = x;
        p->nodes[norm].carrier = k;
    }
}
