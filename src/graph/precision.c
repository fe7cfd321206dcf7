/* precision.c - pass 7: which activations lie in memory as bfloat16 (cx_plan_opts.bf16).
 *
 * In: operands as the folding passes left them, views. Out: values[].bf16 of roots. A buffer holds bfloat16 when all that lives in it are maps (more than one
 * pixel) that one operator hands to others: not an input, not kept or asked for, not among what a forward step saves for the backward one, and read by no
 * operator with CX_FLOAT32. So logits, probabilities and the features of a last linear layer stay float32, as do all gradients: up to 60 readers add to the
 * gradient of one channel of a DenseNet, and 8 bits do not hold such sums. */
#include "plan.h"

static bool is_wide(const cx_plan *p, int v)
{
    const cx_plan_value_info *x = &p->values[v];
    const cx_value *g = &p->g->values[v];
    return x->kept || v == p->output || g->kind == CX_INPUT || g->out > 0 || x->s.h * x->s.w <= 1;
}

void cx_pass_precision(cx_plan *p)
{
    if (!p->opts.bf16)
        return;
    for (int v = 0; v < p->n_values; v++)
        p->values[v].bf16 = p->values[v].needed && cx_is_activation(p, v) && p->values[v].parent < 0;
    for (int v = 0; v < p->n_values; v++)
        if (p->values[v].needed && cx_is_activation(p, v) && is_wide(p, v))
            p->values[cx_plan_view(p, v, false).root].bf16 = false;
    for (int k = 0; k < p->n_nodes; k++)
        for (int i = 0; p->nodes[k].needed && (cx_op_of(p, k)->flags & CX_FLOAT32) && i < p->node[k].n_in; i++)
            if (p->node[k].in[i] >= 0 && cx_is_activation(p, p->node[k].in[i]))
                p->values[cx_plan_view(p, p->node[k].in[i], false).root].bf16 = false;
}
