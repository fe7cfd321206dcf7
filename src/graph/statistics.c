/* statistics.c - pass 9: who delivers the batch statistics that norms in vectors need.
 *
 * In: views, prologues. Out: values[].stats of every root whose channels such a norm reads; nodes[].stats of the nodes that write into these roots and can
 * deliver the statistics of what they write (CX_CAN_STATS, and no pool folded in). Where they cannot, the schedule adds a step behind them. Mean and variance
 * of a channel are computed once, when it is written, and serve every norm that reads it. */
#include "plan.h"

void cx_pass_statistics(cx_plan *p)
{
    for (int k = 0; k < p->n_nodes; k++)
        if (p->nodes[k].needed && cx_in_vectors(p, k) && cx_batch_statistics(p, k))
            p->values[cx_plan_view(p, p->node[k].in[0], false).root].stats = true;
    for (int k = 0; k < p->n_nodes && !(p->opts.skip & CX_PASS_STATISTICS); k++)
        if (p->nodes[k].needed && (cx_op_of(p, k)->flags & CX_CAN_STATS) && p->nodes[k].pool < 0)
            p->nodes[k].stats = p->values[cx_plan_view(p, p->nodes[k].y, false).root].stats;
}
