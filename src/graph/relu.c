/* relu.c - pass 3: a ReLU becomes a flag of the operator whose output it reads.
 *
 * In: needed nodes. Out: nodes[].relu of the anchor, nodes[].folded of the ReLU, nodes[].y = the value that the anchor's step writes. Only where the
 * operator has CX_CAN_RELU, the ReLU is the single reader of its output, and that output is not kept: the value before the ReLU then exists nowhere. */
#include "plan.h"

void cx_pass_relu(cx_plan *p)
{
    const cx_graph *g = p->g;
    for (int k = 0; k < p->n_nodes; k++)
        p->nodes[k].y = p->node[k].out[0];
    for (int k = 0; k < p->n_nodes && !(p->opts.skip & CX_PASS_RELU); k++) {
        if (!p->nodes[k].needed || p->node[k].op != CX_OP_RELU)
            continue;
        int x = p->node[k].in[0], anchor = g->values[x].node;
        if (anchor < 0 || g->values[x].out != 0 || p->values[x].readers != 1 || p->values[x].kept)
            continue;
        if (!(cx_op_of(p, anchor)->flags & CX_CAN_RELU) || p->nodes[anchor].relu >= 0)
            continue;
        p->nodes[anchor].relu = k;
        p->nodes[anchor].y = p->node[k].out[0];
        p->nodes[k].folded = true;
    }
}
