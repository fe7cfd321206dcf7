/* carry.c - inside pass 11: where the part of a norm's gradient that is affine in x is applied.
 *
 * In: backward tasks. Out: nodes[].carry, values[].carry. The gradient of what a norm in vectors reads is scale*g + b*x + c; b and c are known only when the
 * whole of g is. They add up per channel in the carry of the gradient's root, over all norms that read the channel, and are applied by the task that reads the
 * gradient: it comes after all of them. If it cannot (CX_CAN_CARRY), a step before it does. Where a gradient of that root is kept, or the pass is off, each
 * norm is followed by a step that applies its own. */
#include <stdlib.h>
#include "cxnet/base.h"
#include "plan.h"

/* The gradient of some value in this root stays readable after the run. */
static bool kept_inside(const cx_plan *p, int root)
{
    for (int v = 0; v < p->n_values; v++)
        if (p->values[v].grad && p->values[v].kept && cx_plan_view(p, v, true).root == root)
            return true;
    return false;
}

static cx_carry_how how_norm_adds(cx_plan *p, int norm, bool *started)
{
    int x = p->node[norm].in[0];
    if (!p->values[x].grad || !cx_batch_statistics(p, norm))
        return CX_CARRY_NONE;
    int root = cx_plan_view(p, x, true).root;
    if ((p->opts.skip & CX_PASS_AFFINE) || kept_inside(p, root))
        return CX_CARRY_AT_ONCE;
    p->values[root].carry = true;
    if (started[root])
        return CX_CARRY_ADD;
    started[root] = true;
    return p->values[x].s.c == p->values[root].s.c ? CX_CARRY_START : CX_CARRY_CLEAR;
}

cx_status cx_pass_carry(cx_plan *p, cx_error *err)
{
    bool *started = cx_alloc((size_t)p->n_values, sizeof *started);
    if (!started)
        return cx_fail(err, CX_E_MEMORY, "plan: no memory for the carries of %d values", p->n_values);
    for (int b = 0; b < p->n_backward_tasks; b++) {
        cx_task t = p->backward[b];
        cx_plan_node_info *node = &p->nodes[t.node];
        if (cx_in_vectors(p, t.node))
            node->carry = how_norm_adds(p, t.node, started);
        else if (p->values[cx_plan_view(p, node->y, true).root].carry)
            node->carry = (cx_op_of(p, t.node)->flags & CX_CAN_CARRY) ? CX_CARRY_IN : CX_CARRY_BEFORE;
    }
    free(started);
    return CX_OK;
}
