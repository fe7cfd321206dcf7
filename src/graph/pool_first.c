/* pool_first.c - pass 2: an average pool that reads a 1x1 convolution changes places with it.
 *
 * In: needed nodes, shapes. Out: node[], values[].s. Both are linear, one over channels and the other over pixels, so they commute exactly; with stride s the
 * convolution then has a share of 1/s^2 of the pixels. Only where nothing else reads the value between them, it is not kept, and no padding is counted. The
 * value between them then stands for the pooled input; its number and name stay. */
#include "plan.h"

static bool swaps(const cx_plan *p, int pool)
{
    const cx_node *node = &p->node[pool];
    if (!p->nodes[pool].needed || node->op != CX_OP_AVG_POOL)
        return false;
    const cx_pool_attr *window = (const cx_pool_attr *)node->attr.bytes;
    const cx_plan_value_info *between = &p->values[node->in[0]];
    int k = p->g->values[node->in[0]].node;
    if (k < 0 || p->node[k].op != CX_OP_CONV2D || between->readers != 1 || between->kept || window->pad != 0 || window->stride < 2)
        return false;
    const cx_conv_attr *a = (const cx_conv_attr *)p->node[k].attr.bytes;
    cx_shape w = p->values[p->node[k].in[1]].s;
    return w.h == 1 && w.w == 1 && a->stride == 1 && !a->pad_top && !a->pad_bottom && !a->pad_left && !a->pad_right;
}

/* conv x -> y, pool y -> z becomes pool x -> y, conv y -> z. */
static void swap_nodes(cx_plan *p, int pool)
{
    int conv = p->g->values[p->node[pool].in[0]].node, x = p->node[conv].in[0], y = p->node[conv].out[0], z = p->node[pool].out[0];
    cx_node second = p->node[conv];
    p->node[conv] = p->node[pool];
    p->node[conv].in[0] = x;
    p->node[conv].out[0] = y;
    second.in[0] = y;
    second.out[0] = z;
    p->node[pool] = second;
}

cx_status cx_pass_pool_first(cx_plan *p, cx_error *err)
{
    for (int k = 0; k < p->n_nodes && !(p->opts.skip & CX_PASS_POOL_FIRST); k++)
        if (swaps(p, k)) {
            int first = p->g->values[p->node[k].in[0]].node;
            swap_nodes(p, k);
            TRY(cx_plan_infer(p, first, err));
            TRY(cx_plan_infer(p, k, err));
        }
    return CX_OK;
}
