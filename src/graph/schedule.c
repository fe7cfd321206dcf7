/* schedule.c - pass 11: the list of steps, forward then backward, and who overwrites and who adds to a gradient.
 *
 * In: views, folding, gradients. Out: steps[] with kind, node, part, dx_add. Forward in node order. Backward in reverse: the first writer of a gradient
 * overwrites, later ones add. Where gradients share a root buffer and the first writer covers only part of it, a zero step clears the root before.
 * Parameters that no step writes are cleared first, so no gradient is ever stale. A concat that is a view has no step in either direction. */
#include <stdlib.h>
#include "cxnet/base.h"
#include "plan.h"

static bool view_only(const cx_plan *p, int k)
{
    for (int i = 0; i < p->node[k].n_in; i++)
        if (p->nodes[k].copied[i])
            return false;
    return (cx_op_of(p, k)->flags & CX_VIEW) != 0;
}

static bool all_copied(const cx_plan *p, int k)
{
    for (int i = 0; i < p->node[k].n_in; i++)
        if (!p->nodes[k].copied[i])
            return false;
    return true;
}

static void list_forward(cx_plan *p)
{
    for (int k = 0; k < p->n_nodes; k++) {
        if (!p->nodes[k].needed || p->nodes[k].folded || view_only(p, k))
            continue;
        if (!(cx_op_of(p, k)->flags & CX_VIEW) || all_copied(p, k)) {
            p->forward[p->n_forward_tasks++] = (cx_task){ k, -1 };
            continue;
        }
        for (int i = 0; i < p->node[k].n_in; i++)
            if (p->nodes[k].copied[i])
                p->forward[p->n_forward_tasks++] = (cx_task){ k, i };
    }
}

static bool has_backward(const cx_plan *p, cx_task t)
{
    if (cx_in_vectors(p, t.node))
        return has_backward(p, (cx_task){ p->nodes[t.node].carrier, -1 }) && cx_norm_backward(p, t.node);
    bool any = p->nodes[t.node].pre >= 0 && cx_norm_backward(p, p->nodes[t.node].pre);
    for (int i = cx_first_part(t); i <= cx_last_part(p, t); i++)
        any |= p->node[t.node].in[i] >= 0 && p->values[p->node[t.node].in[i]].grad;
    return any && p->values[p->nodes[t.node].y].grad;
}

static void list_backward(cx_plan *p)
{
    for (int f = p->n_forward_tasks - 1; f >= 0; f--)
        if (has_backward(p, p->forward[f]))
            p->backward[p->n_backward_tasks++] = p->forward[f];
}

static cx_step *add_step(cx_plan *p, cx_step_kind kind, cx_task t, bool late)
{
    if (!cx_grow(&p->steps, &p->steps_cap, (size_t)p->n_steps + 1, sizeof *p->steps))
        return NULL;
    cx_step *s = &p->steps[p->n_steps++];
    *s = (cx_step){ .kind = kind, .late = late, .node = t.node, .part = t.part, .value = -1, .packed_buffer = -1 };
    return s;
}

static bool add_zero(cx_plan *p, int value, bool carry)
{
    cx_step *s = add_step(p, CX_STEP_ZERO, (cx_task){ -1, -1 }, true);
    if (s) {
        s->value = value;
        s->clears_carry = carry;
    }
    return s != NULL;
}

/* The value that stands for the gradient's memory, and whether writing `value` covers all of it. */
static int gradient_root(const cx_plan *p, int value, bool *covers)
{
    if (!cx_is_activation(p, value)) {
        *covers = true;
        return value;
    }
    int root = cx_plan_view(p, value, true).root;
    *covers = cx_elems(p->values[root].s) == cx_elems(p->values[value].s);
    return root;
}

/* One backward task: a zero step for every gradient that it starts only in part, then the step, with what its carry needs around it. */
static bool add_backward(cx_plan *p, cx_task t, bool *started)
{
    const cx_node *node = &p->node[t.node];
    const cx_carry_how carry = p->nodes[t.node].carry;
    bool add[CX_MAX_IN] = { false };
    for (int i = cx_first_part(t) + cx_in_vectors(p, t.node); i <= cx_last_part(p, t); i++) {
        if (node->in[i] < 0 || !p->values[node->in[i]].grad)
            continue;
        bool covers;
        int root = gradient_root(p, node->in[i], &covers);
        add[t.part < 0 ? i : 0] = started[root];
        if (!started[root] && !covers && !add_zero(p, root, false))
            return false;
        started[root] = true;
    }
    if (carry == CX_CARRY_CLEAR && !add_zero(p, cx_plan_view(p, node->in[0], true).root, true))
        return false;
    if (carry == CX_CARRY_BEFORE && !add_step(p, CX_STEP_CARRY, t, true))
        return false;
    cx_step *s = add_step(p, CX_STEP_BACKWARD, t, true);
    for (int i = 0; s && i < CX_MAX_IN; i++)
        s->call.dx_add[i] = add[i];
    return s && (carry != CX_CARRY_AT_ONCE || add_step(p, CX_STEP_CARRY, t, true));
}

/* Gradients of trainable parameters that nothing in this plan writes. */
static bool clear_unreached(cx_plan *p, bool *reached)
{
    for (int b = 0; b < p->n_backward_tasks; b++) {
        const cx_node *node = &p->node[p->backward[b].node];
        for (int i = 0; i < node->n_in; i++)
            if (node->in[i] >= 0)
                reached[node->in[i]] = true;
    }
    bool ok = true;
    for (int v = 0; v < p->n_values && ok && p->opts.param_grads; v++)
        if (p->g->values[v].kind == CX_PARAM && !p->g->values[v].frozen && !reached[v])
            ok = add_zero(p, v, false);
    return ok;
}

/* A step, and another for the statistics of what it writes, if they are wanted and it does not deliver them. */
static bool add_forward(cx_plan *p, cx_task t)
{
    bool vectors = cx_in_vectors(p, t.node);
    cx_step *s = add_step(p, CX_STEP_FORWARD, t, false);
    if (!s)
        return false;
    s->once = vectors && !p->opts.backward && !cx_batch_statistics(p, t.node);
    if (vectors || p->nodes[t.node].stats || !p->values[cx_plan_view(p, p->nodes[t.node].y, false).root].stats)
        return true;
    return add_step(p, CX_STEP_STATS, t, false) != NULL;
}

static bool emit(cx_plan *p, bool *started, bool *reached)
{
    for (int f = 0; f < p->n_forward_tasks; f++)
        if (!add_forward(p, p->forward[f]))
            return false;
    p->n_forward = p->n_steps;
    if (!p->opts.backward)
        return true;
    if (!clear_unreached(p, reached))
        return false;
    for (int b = 0; b < p->n_backward_tasks; b++) {
        for (int k = 0; k < p->n_nodes; k++)
            if (p->nodes[k].redo_before == b && !add_step(p, CX_STEP_REDO, (cx_task){ k, -1 }, true))
                return false;
        if (!add_backward(p, p->backward[b], started))
            return false;
    }
    return true;
}

cx_status cx_pass_schedule(cx_plan *p, cx_error *err)
{
    size_t tasks = (size_t)p->n_nodes * CX_MAX_IN;
    p->forward = cx_alloc(tasks, sizeof *p->forward);
    p->backward = cx_alloc(tasks, sizeof *p->backward);
    bool *started = cx_alloc((size_t)p->n_values, sizeof *started), *reached = cx_alloc((size_t)p->n_values, sizeof *reached);
    bool ok = p->forward && p->backward && started && reached;
    if (ok) {
        list_forward(p);
        if (p->opts.backward)
            list_backward(p);
        ok = cx_pass_carry(p, err) == CX_OK;
        cx_pass_redo(p);
        ok = ok && emit(p, started, reached);
    }
    free(started);
    free(reached);
    return ok ? CX_OK : cx_fail(err, CX_E_MEMORY, "plan: no memory for the steps of %d nodes", p->n_nodes);
}
