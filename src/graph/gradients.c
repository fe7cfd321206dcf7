/* gradients.c - pass 10: which values need a gradient.
 *
 * In: needed nodes. Out: values[].grad: the value leads to the output, and something that is wanted (a trainable parameter, when param_grads; a kept value)
 * lies at or before it. Backward steps exist only for nodes whose output has a gradient and that have an input with one, so the backward pass stops where
 * nobody needs it: below a kept feature map, at frozen layers, at films and targets. */
#include "cxnet/base.h"
#include "plan.h"
#include <stdlib.h>

static bool wanted(const cx_plan *p, int v)
{
    const cx_value *value = &p->g->values[v];
    if (value->kind == CX_PARAM)
        return p->opts.param_grads && !value->frozen;
    return p->values[v].kept && v != p->output;
}

static void mark(cx_plan *p, bool *leads)
{
    const cx_graph *g = p->g;
    leads[p->output] = true;
    for (int k = g->values[p->output].node; k >= 0; k--) {
        bool reached = false;
        for (int j = 0; j < p->node[k].n_out; j++)
            reached |= leads[p->node[k].out[j]];
        for (int i = 0; reached && i < p->node[k].n_in; i++)
            if (p->node[k].in[i] >= 0)
                leads[p->node[k].in[i]] = true;
        for (int i = 1; reached && p->nodes[k].pre >= 0 && i < 3; i++)
            leads[p->node[p->nodes[k].pre].in[i]] = true;       /* gamma and beta of a norm that this node carries out */
    }
    for (int v = 0; v < p->n_values; v++)
        p->values[v].grad = wanted(p, v);
    for (int k = 0; k < p->n_nodes; k++) {
        for (int i = 0; i < p->node[k].n_in; i++)
            if (p->node[k].in[i] >= 0 && p->values[p->node[k].in[i]].grad)
                p->values[p->node[k].out[0]].grad = true;
        if (p->nodes[k].pre >= 0 && cx_norm_backward(p, p->nodes[k].pre))
            p->values[p->node[k].out[0]].grad = true;
    }
    for (int v = 0; v < p->n_values; v++)
        p->values[v].grad &= leads[v] && g->values[v].kind != CX_STATE;
}

cx_status cx_pass_gradients(cx_plan *p, cx_error *err)
{
    if (!p->opts.backward)
        return CX_OK;
    bool *leads = cx_alloc((size_t)p->n_values, sizeof *leads);
    if (!leads)
        return cx_fail(err, CX_E_MEMORY, "plan: no memory for %d values", p->n_values);
    mark(p, leads);
    free(leads);
    if (!p->values[p->output].grad)
        return cx_fail(err, CX_E_USAGE, "plan: backward from '%s' reaches no trainable parameter and no kept value: everything is frozen, or "
                       "param_grads is off and keep is empty", p->g->values[p->output].name);
    return CX_OK;
}
