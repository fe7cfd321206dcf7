/* redo.c - inside pass 11: cheap outputs are dropped after their last forward reader and rebuilt just before their first backward reader.
 *
 * In: the tasks of both directions. Out: values[].redo, nodes[].redo_before. A value qualifies when its operator has CX_CHEAP, it is the root of a buffer
 * that it shares with nobody, it is not kept, some backward task reads it, and everything that its operator reads stays in memory until then for
 * other reasons. Nodes are visited from the last, so that a redo counts as a reader of what it reads. With this a DenseNet stores its block
 * buffers and bottleneck outputs; no output of a norm survives the forward pass. With cx_plan_opts.lean some bottlenecks are cheap too: a 1x1 convolution
 * behind a norm reads a block's buffer, which stays anyway. With c input channels it costs 2c FLOPs for each number that it frees, and the widest maps, which
 * hold most of the memory, have the fewest channels: rebuilding those of at most LEAN_INPUTS gives back most of the bytes for two fifths of the FLOPs. */
#include <limits.h>
#include <stdlib.h>
#include "cxnet/base.h"
#include "plan.h"

enum { LEAN_INPUTS = 256 };

typedef struct { int first, last; } reads;             /* backward tasks that read a buffer's root */

static void read_at(const cx_plan *p, reads *r, int value, int task)
{
    reads *x = &r[cx_plan_view(p, value, false).root];
    if (task < x->first)
        x->first = task;
    if (task > x->last)
        x->last = task;
}

static void count_reads(const cx_plan *p, reads *r)
{
    const cx_graph *g = p->g;
    for (int v = 0; v < p->n_values; v++)
        r[v] = (reads){ INT_MAX, -1 };
    for (int v = 0; v < p->n_values; v++)
        if (p->values[v].kept || g->values[v].kind == CX_INPUT)
            r[cx_plan_view(p, v, false).root].last = INT_MAX;
    for (int b = 0; b < p->n_backward_tasks; b++) {
        cx_task t = p->backward[b];
        if (cx_reads_y(p, t.node))
            read_at(p, r, p->nodes[t.node].y, b);
        if (p->nodes[t.node].carry == CX_CARRY_AT_ONCE)
            read_at(p, r, p->node[t.node].in[0], b);
        for (int i = cx_first_part(t); cx_reads_x(p, t.node) && i <= cx_last_part(p, t); i++)
            if (p->node[t.node].in[i] >= 0 && cx_is_activation(p, p->node[t.node].in[i]))
                read_at(p, r, p->node[t.node].in[i], b);
    }
}

static bool shared(const cx_plan *p, int value)
{
    if (p->values[value].parent >= 0)
        return true;
    for (int v = 0; v < p->n_values; v++)
        if (p->values[v].parent == value)
            return true;
    return false;
}

static bool is_cheap(const cx_plan *p, int k)
{
    if (p->opts.lean && p->node[k].op == CX_OP_CONV2D && p->nodes[k].pre >= 0) {
        cx_shape w = p->values[p->node[k].in[1]].s;
        return w.h == 1 && w.w == 1 && w.c <= LEAN_INPUTS;
    }
    return (cx_op_of(p, k)->flags & CX_CHEAP) && !cx_in_vectors(p, k);
}

/* The backward task before which node k's output is rebuilt, or -1. */
static int redo_point(const cx_plan *p, const reads *r, int k)
{
    const cx_node *node = &p->node[k];
    int y = p->nodes[k].y;
    if (!p->nodes[k].needed || p->nodes[k].folded || !is_cheap(p, k) || p->values[y].kept || r[y].last < 0 || shared(p, y))
        return -1;
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i] >= 0 && cx_is_activation(p, node->in[i]) && r[cx_plan_view(p, node->in[i], false).root].last < r[y].first)
            return -1;
    return r[y].first;
}

void cx_pass_redo(cx_plan *p)
{
    for (int k = 0; k < p->n_nodes; k++)
        p->nodes[k].redo_before = -1;
    reads *r = cx_alloc((size_t)p->n_values, sizeof *r);
    if (!r || (p->opts.skip & CX_PASS_RECOMPUTE)) {                       /* without memory for the pass, values are simply stored */
        free(r);
        return;
    }
    count_reads(p, r);
    for (int k = p->n_nodes - 1; k >= 0; k--) {
        int before = redo_point(p, r, k);
        if (before < 0)
            continue;
        p->nodes[k].redo_before = before;
        p->values[p->nodes[k].y].redo = true;
        for (int i = 0; i < p->node[k].n_in; i++)
            if (p->node[k].in[i] >= 0 && cx_is_activation(p, p->node[k].in[i]))
                read_at(p, r, p->node[k].in[i], before);
    }
    free(r);
}
