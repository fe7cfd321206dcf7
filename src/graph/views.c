/* views.c - pass 6: operators that move no numbers become views.
 *
 * In: shapes, folding. Out: values[].parent, first; nodes[].copied. An input of a concat lives in the channel slice of its output where it belongs, so a chain
 * of pairwise concats is one buffer, that of the last. A flatten's output lives in the buffer of its input. What cannot be a view is copied by a step:
 * an input of the graph, a value that already lives in another concat, a flatten whose input is a slice of more than one pixel or whose output is
 * concatenated, and, when gradients are kept, a concat or flatten that is itself kept (inside a shared buffer its gradient would be mixed with that of
 * other readers). The gradient of a value lies in the gradient of its parent as long as the parent has one. */
#include "plan.h"

static void mark_copies(cx_plan *p, int k, bool copied)
{
    for (int i = 0; i < p->node[k].n_in; i++)
        p->nodes[k].copied[i] = copied;
}

static void view_concat(cx_plan *p, int k)
{
    const cx_node *node = &p->node[k];
    int64_t first = 0;
    for (int i = 0; i < node->n_in; i++) {
        cx_plan_value_info *x = &p->values[node->in[i]];
        if (p->g->values[node->in[i]].kind == CX_ACT && x->parent < 0) {
            x->parent = node->out[0];
            x->first = first;
        } else {
            p->nodes[k].copied[i] = true;
        }
        first += x->s.c;
    }
}

static void view_flatten(cx_plan *p, int k)
{
    const cx_node *node = &p->node[k];
    cx_plan_value_info *y = &p->values[node->out[0]];
    cx_shape s = p->values[node->in[0]].s;
    cx_view x = cx_plan_view(p, node->in[0], false);
    if (y->parent < 0 && (x.ld == s.c || s.h * s.w == 1))
        y->parent = node->in[0];
    else
        p->nodes[k].copied[0] = true;
}

void cx_pass_views(cx_plan *p)
{
    const cx_op_id order[] = { CX_OP_CONCAT, CX_OP_FLATTEN };     /* a flatten must know whether its input is a slice */
    for (int pass = 0; pass < 2; pass++)
        for (int k = 0; k < p->n_nodes; k++) {
            const cx_node *node = &p->node[k];
            if (!p->nodes[k].needed || node->op != order[pass])
                continue;
            if ((p->opts.skip & CX_PASS_VIEWS) || (p->opts.backward && p->values[node->out[0]].kept))
                mark_copies(p, k, true);
            else if (node->op == CX_OP_CONCAT)
                view_concat(p, k);
            else
                view_flatten(p, k);
        }
}

cx_view cx_plan_view(const cx_plan *p, int value, bool grad)
{
    cx_view view = { value, 0, 0 };
    bool reshaped = false;
    while (p->values[view.root].parent >= 0) {
        const cx_plan_value_info *v = &p->values[view.root];
        if (grad && !p->values[v->parent].grad)
            break;
        const cx_plan_value_info *parent = &p->values[v->parent];
        reshaped |= v->s.h * v->s.w != parent->s.h * parent->s.w;      /* a flatten: contiguous, covers its parent */
        view.channel += v->first;
        view.root = v->parent;
    }
    view.ld = reshaped ? p->values[value].s.c : p->values[view.root].s.c;
    return view;
}
