/* pool_last.c - pass 8: a max pool is done by the convolution that writes what it reads (cx_fold.pool).
 *
 * In: needed nodes, folding, views, precision. Out: nodes[].pool and y of the convolution, nodes[].folded of the pool. Only without a backward pass, and where
 * the pool is the single reader of the finished map, with no norm between them that is not folded into the convolution; the map is not kept, lives in no other
 * buffer and holds no view: it then exists nowhere.
 *
 * Not every implementation can do it, and who can need not be the one that does the convolution best. So the backend's ordered list is asked: the pool is
 * folded in only if the first that takes the call with it does not stand behind the first that takes the call without it. A backend whose kernels cannot
 * keeps its two steps, though its reference, the last in the list, could. */
#include "node.h"
#include "plan.h"
#include "store.h"

/* The node whose step writes this value; -1: an input, or a view. */
static int writer(const cx_plan *p, int value)
{
    for (int k = 0; k < p->n_nodes; k++)
        if (p->nodes[k].needed && !p->nodes[k].folded && !cx_in_vectors(p, k) && p->nodes[k].y == value)
            return k;
    return -1;
}

static bool is_view(const cx_plan *p, int value)
{
    for (int v = 0; v < p->n_values; v++)
        if (p->values[v].parent == value)
            return true;
    return p->values[value].parent >= 0;
}

/* The convolution's call as it will be chosen for, if it writes this value. */
static cx_step call_of(const cx_plan *p, int conv, int value)
{
    const cx_node *node = &p->node[conv];
    const cx_plan_node_info *info = &p->nodes[conv];
    cx_step st = { .node = conv, .part = -1, .call = cx_node_call(node) };
    cx_call *c = &st.call;
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i] >= 0)
            c->x[i] = cx_plan_tensor(p, node->in[i], false);
    c->y[0] = cx_plan_tensor(p, value, false);
    c->training = p->opts.training;
    c->relu = info->relu >= 0;
    c->self = p->store->b->self;
    if (info->pre >= 0) {
        c->fold.pre = (cx_tensor){ .s = { 1, 1, CX_FOLD_ROWS, c->x[0].s.c }, .ld = c->x[0].s.c };
        c->fold.pre_relu = p->nodes[info->pre].relu >= 0;
    }
    if (info->post >= 0)
        c->fold.post = (cx_tensor){ .s = { 1, 1, CX_FOLD_ROWS, c->y[0].s.c }, .ld = c->y[0].s.c };
    return st;
}

/* Asks the list once, and nobody behind the one that will do the convolution: a library's accepts() may be slow. */
static bool is_best_at_once(const cx_plan *p, int conv, int pool)
{
    int n = 0;
    const cx_impl *list = p->store->b->impls(p->store->b, p->node[conv].op, &n);
    cx_step apart = call_of(p, conv, p->nodes[conv].y), together = call_of(p, conv, p->nodes[pool].y);
    together.call.fold.pool = *(const cx_pool_attr *)p->node[pool].attr.bytes;
    for (int i = 0; i < n; i++) {
        if (cx_takes_step(&list[i], &together, false))
            return true;
        if (cx_takes_step(&list[i], &apart, false))
            return false;
    }
    return false;
}

void cx_pass_pool_last(cx_plan *p)
{
    if (p->opts.backward || (p->opts.skip & CX_PASS_POOL_LAST))
        return;
    for (int k = 0; k < p->n_nodes; k++) {
        const int map = p->node[k].in[0];
        if (!p->nodes[k].needed || p->node[k].op != CX_OP_MAX_POOL || p->nodes[k].pre >= 0 || p->values[map].readers != 1 || p->values[map].kept ||
            is_view(p, map))
            continue;
        const int conv = writer(p, map);
        if (conv < 0 || !(cx_op_of(p, conv)->flags & CX_CAN_POOL) || !is_best_at_once(p, conv, k))
            continue;
        p->nodes[conv].pool = k;
        p->nodes[conv].y = p->nodes[k].y;
        p->nodes[k].folded = true;
    }
}
