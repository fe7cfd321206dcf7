/* select.c - pass 1: which nodes the plan needs, and every shape at its batch.
 *
 * In: options. Out: nodes[].needed = ancestors of the output and of kept values; values[].needed, kept, readers, s. Inputs get n = batch, parameters
 * and state keep their shape, the operators' own infer gives the rest. A node that is not needed (the loss, in an eval plan) gets no step. */
#include <stdlib.h>
#include "cxnet/base.h"
#include "node.h"
#include "plan.h"
#include "store.h"

/* A loss, or the sum of two. */
static bool is_loss(const cx_graph *g, int value)
{
    const cx_value *v = &g->values[value];
    if (v->node < 0 || v->out != 0)
        return false;
    const cx_node *n = &g->nodes[v->node];
    return (cx_ops[n->op].flags & CX_LOSS) || (n->op == CX_OP_ADD && is_loss(g, n->in[0]) && is_loss(g, n->in[1]));
}

static cx_status check_options(cx_plan *p, cx_error *err)
{
    const cx_graph *g = p->g;
    const cx_plan_opts *o = &p->opts;
    if (o->batch < 1)
        return cx_fail(err, CX_E_USAGE, "plan: want a batch >= 1, got %d", o->batch);
    if (g->n_nodes == 0)
        return cx_fail(err, CX_E_USAGE, "plan: the graph has no nodes");
    if (g->n_values != p->store->n_values)
        return cx_fail(err, CX_E_USAGE, "plan: the graph grew from %d to %d values after its store was made; build first, then cx_store_new",
                       p->store->n_values, g->n_values);
    p->output = o->output == -1 ? p->node[p->n_nodes - 1].out[0] : o->output;
    if (p->output < 0 || p->output >= g->n_values || g->values[p->output].kind != CX_ACT)
        return cx_fail(err, CX_E_USAGE, "plan: output is value %d (%s), which no node makes", p->output,
                       p->output >= 0 && p->output < g->n_values ? g->values[p->output].name : "out of range");
    p->loss = is_loss(g, p->output);
    for (int i = 0; i < o->n_keep; i++) {
        int v = o->keep[i];
        if (v < 0 || v >= g->n_values || g->values[v].kind == CX_PARAM || g->values[v].kind == CX_STATE)
            return cx_fail(err, CX_E_USAGE, "plan: keep[%d] is value %d (%s); only inputs and what nodes make can be kept", i, v,
                           v >= 0 && v < g->n_values ? g->values[v].name : "out of range");
        p->values[v].kept = true;
    }
    p->values[p->output].kept = true;
    return CX_OK;
}

cx_status cx_plan_infer(cx_plan *p, int k, cx_error *err)
{
    const cx_node *node = &p->node[k];
    cx_call c = cx_node_call(node);
    c.training = p->opts.training;
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i] >= 0)
            c.x[i].s = p->values[node->in[i]].s;
    cx_status s = cx_ops[node->op].infer(&c, err);
    if (s != CX_OK)
        return cx_prefix(err, s, "plan at batch %d: %s", p->opts.batch, node->name);
    for (int j = 0; j < node->n_out; j++)
        p->values[node->out[j]].s = c.y[j].s;
    return CX_OK;
}

cx_status cx_pass_select(cx_plan *p, cx_error *err)
{
    const cx_graph *g = p->g;
    TRY(check_options(p, err));
    for (int v = 0; v < p->n_values; v++) {
        p->values[v].needed = p->values[v].kept;
        p->values[v].s = g->values[v].shape;
        if (g->values[v].kind == CX_INPUT)
            p->values[v].s.n = p->opts.batch;
    }
    for (int k = p->n_nodes - 1; k >= 0; k--) {
        const cx_node *node = &p->node[k];
        for (int j = 0; j < node->n_out; j++)
            p->nodes[k].needed |= p->values[node->out[j]].needed;
        for (int i = 0; p->nodes[k].needed && i < node->n_in; i++) {
            if (node->in[i] < 0)
                continue;
            p->values[node->in[i]].needed = true;
            p->values[node->in[i]].readers++;
        }
    }
    for (int k = 0; k < p->n_nodes; k++)
        if (p->nodes[k].needed)
            TRY(cx_plan_infer(p, k, err));
    return CX_OK;
}
