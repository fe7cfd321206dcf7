/* plan.h - inside of a plan, and its passes. Each pass is one file; its contract stands at the top of that file.
 *
 * Reading order = running order: select, fold, views, gradients, redo + schedule, prepare, place, choose (then bind and run in plan.c).
 * Words: a *buffer* is a contiguous piece of ACT. Most values are the root of their own buffer; a *view* lives inside the buffer of its parent.
 * A *step* is what runs: an anchor node with what was folded into it. */
#ifndef CX_GRAPH_PLAN_H
#define CX_GRAPH_PLAN_H
#include "cxnet/graph.h"

typedef struct {
    cx_shape s;                /* at the plan's batch */
    bool needed, kept;         /* leads to the output or a kept value; readable after the run */
    bool grad;                 /* its gradient is computed */
    bool redo;                 /* dropped after the forward pass, rebuilt before its first backward reader */
    int readers;               /* needed nodes that read it, each operand counted */
    int parent;                /* value whose buffer it lives in, -1 = its own */
    int64_t first;             /* channel of the parent where it starts */
    int buffer, grad_buffer, redo_buffer;   /* -1 = none (yet) */
} cx_plan_value_info;

typedef struct {
    bool needed;
    int relu;                  /* the ReLU node folded into this one, -1 = none */
    bool folded;               /* this is such a ReLU: it has no step */
    int y;                     /* value that is y[0] of the step */
    bool copied[CX_MAX_IN];    /* CX_VIEW operators: the input is moved by a step, not aliased */
    int redo_before;           /* index of the backward task that the redo step precedes, -1 = no redo */
} cx_plan_node_info;

typedef enum { CX_STEP_FORWARD, CX_STEP_REDO, CX_STEP_ZERO, CX_STEP_BACKWARD } cx_step_kind;

/* One place in a cx_call that carries numbers. */
typedef struct {
    uint16_t at;               /* where its cx_tensor is inside cx_call */
    bool write, grad;
    int value;
    int buffer;                /* -1: the store holds it */
    int64_t first;             /* floats from the start of the buffer */
} cx_operand;

enum { CX_MAX_OPERANDS = 2 * CX_MAX_IN + 2 * CX_MAX_OUT };

typedef struct {
    cx_step_kind kind;
    bool late;                 /* belongs to the backward schedule */
    int node;                  /* anchor; -1 in a zero step */
    int part;                  /* a copy step of a concat moves this input only; -1 = all */
    int value;                 /* zero step: whose gradient */
    const cx_impl *impl;       /* NULL in a zero step */
    union { unsigned char bytes[CX_ATTR_BYTES]; long long align; } attr;
    cx_call call;
    cx_operand operand[CX_MAX_OPERANDS]; int n_operands;
    size_t bytes_read, bytes_written;
    int64_t flops;
    double seconds;
} cx_step;

/* A node (or one input of a concat) that has a forward step and perhaps a backward one. */
typedef struct { int node, part; } cx_task;

typedef struct {
    int64_t floats;
    int start, end;            /* first and last step that touch it */
    size_t offset;             /* bytes from the start of ACT */
} cx_buffer;

struct cx_plan {
    cx_store *store;
    int id;                    /* among the plans of the store, from 1 */
    const cx_graph *g;
    cx_plan_opts opts;
    int output;
    bool loss;                 /* output is a loss: backward starts from 1 */
    int n_values, n_nodes;
    cx_plan_value_info *values;
    cx_plan_node_info *nodes;
    cx_task *forward, *backward; int n_forward_tasks, n_backward_tasks;
    cx_step *steps; int n_steps, n_forward; size_t steps_cap;
    cx_buffer *buffers; int n_buffers; size_t buffers_cap;
    size_t act_bytes, work_bytes;
    void *act, *work;          /* what the calls are bound to */
    bool profile;
};

cx_status cx_pass_select(cx_plan *p, cx_error *err);
void cx_pass_fold(cx_plan *p);
void cx_pass_views(cx_plan *p);
cx_status cx_pass_gradients(cx_plan *p, cx_error *err);
cx_status cx_pass_schedule(cx_plan *p, cx_error *err);
void cx_pass_redo(cx_plan *p);                     /* called by schedule, between its two halves */
cx_status cx_pass_prepare(cx_plan *p, cx_error *err);
cx_status cx_pass_place(cx_plan *p, cx_error *err);
cx_status cx_pass_choose(cx_plan *p, cx_error *err);

/* ---- what several passes ask ------------------------------------------------------------------------------------ */

/* Where a value (or its gradient) lives: the root value whose buffer holds it, its first channel there, the distance of two pixels. */
typedef struct { int root; int64_t channel, ld; } cx_view;
cx_view cx_plan_view(const cx_plan *p, int value, bool grad);          /* views.c */
/* The buffer of a value or gradient, made at first asking; late: as the backward schedule sees it. -1 when out of memory. */
int cx_plan_buffer(cx_plan *p, int value, bool grad, bool late);       /* prepare.c */

static inline const cx_op *cx_op_of(const cx_plan *p, int node)
{
    return &cx_ops[p->g->nodes[node].op];
}

static inline bool cx_is_activation(const cx_plan *p, int value)
{
    return p->g->values[value].kind == CX_ACT || p->g->values[value].kind == CX_INPUT;
}

/* Backward reads the activations among x. */
static inline bool cx_reads_x(const cx_plan *p, int node)
{
    return (cx_op_of(p, node)->flags & CX_BWD_X) != 0;
}

/* Backward reads y[0]. A folded ReLU takes its mask from y[0], except in an operator whose output may be dropped: that one recomputes the mask. */
static inline bool cx_reads_y(const cx_plan *p, int node)
{
    unsigned flags = cx_op_of(p, node)->flags;
    return (flags & CX_BWD_Y) || (p->nodes[node].relu >= 0 && !(flags & CX_CHEAP));
}

static inline int cx_first_part(cx_task t) { return t.part < 0 ? 0 : t.part; }
static inline int cx_last_part(const cx_plan *p, cx_task t) { return t.part < 0 ? p->g->nodes[t.node].n_in - 1 : t.part; }

#endif
