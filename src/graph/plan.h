/* plan.h - inside of a plan, and its passes. Each pass is one file; its contract stands at the top of that file.
 *
 * Reading order = running order: select, pool_first, relu, eval_fold, prologue, views, precision, pool_last, statistics, gradients, schedule (with carry and
 * redo inside), prepare, choose (with widen), place (then bind and run in plan.c).
 * Words: a *buffer* is a contiguous piece of ACT. Most values are the root of their own buffer; a *view* lives inside the buffer of its parent.
 * A *step* is what runs: an anchor node with what was folded into it. A norm *in vectors* is one that another step carries out (cx_fold in op.h): its own step
 * computes vectors per channel and touches no activation. */
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
    bool bf16;                 /* of a root: its buffer holds bfloat16 */
    int64_t first;             /* channel of the parent where it starts */
    int buffer, grad_buffer, redo_buffer;   /* -1 = none (yet) */
    bool stats;                /* of a root: the statistics of its channels are wanted */
    bool carry;                /* of a root of gradients: a carry waits for who reads it */
    int stats_buffer, carry_buffer;         /* of such roots; -1 = none (yet) */
} cx_plan_value_info;

/* How the carry of a gradient is handled at a backward task. */
typedef enum {
    CX_CARRY_NONE,
    CX_CARRY_IN,               /* the task reads a gradient with a carry, and applies it (cx_fold.carry) */
    CX_CARRY_BEFORE,           /* it cannot: a step before it does */
    CX_CARRY_ADD,              /* a norm in vectors adds its own to what its root carries */
    CX_CARRY_START,            /* the same, and is the first to write it */
    CX_CARRY_CLEAR,            /* the same, but covers only a part: a step before it clears the root's */
    CX_CARRY_AT_ONCE           /* it is applied by a step right behind the norm */
} cx_carry_how;

typedef struct {
    bool needed;
    int relu;                  /* the ReLU node folded into this one, -1 = none */
    int pool;                  /* the max pool folded into this one, -1 = none */
    bool folded;               /* this is such a ReLU or pool: it has no step */
    int y;                     /* value that is y[0] of the step */
    bool copied[CX_MAX_IN];    /* CX_VIEW operators: the input is moved by a step, not aliased */
    int redo_before;           /* index of the backward task that the redo step precedes, -1 = no redo */
    int pre, post;             /* norms in vectors in front of x[0], behind y[0]; -1 = none */
    int carrier;               /* a norm in vectors: the node whose pre or post it is; -1 = an ordinary node */
    bool stats;                /* its forward step delivers the statistics of y[0] */
    cx_carry_how carry;        /* of its backward task */
    int vectors_buffer, sums_buffer, carry_buffer;   /* a norm in vectors: pre or post, sums, a carry applied at once; -1 = none (yet) */
} cx_plan_node_info;

typedef enum { CX_STEP_FORWARD, CX_STEP_REDO, CX_STEP_STATS, CX_STEP_ZERO, CX_STEP_CARRY, CX_STEP_BACKWARD } cx_step_kind;

/* One place in a cx_call that carries numbers. */
typedef struct {
    uint16_t at;               /* where its cx_tensor is inside cx_call */
    bool write, grad;
    int value;                 /* -1: vectors of the plan */
    int buffer;                /* -1: the store holds it */
    int64_t first;             /* elements of this type from the start of the buffer */
    cx_dtype type;
} cx_operand;

enum { CX_MAX_OPERANDS = 2 * CX_MAX_IN + 2 * CX_MAX_OUT + 5, CX_MAX_WIDENED = CX_MAX_IN + 1 };

/* A bf16 operand of which the call is given a float32 copy. */
typedef struct {
    int operand;
    cx_tensor narrow;          /* the operand itself; the call's tensor is the copy */
    size_t at;                 /* of the copy, bytes from the start of WORK */
} cx_widened;

typedef struct {
    cx_step_kind kind;
    bool late;                 /* belongs to the backward schedule */
    bool once;                 /* depends on parameters and state only: run when these have changed */
    int node;                  /* anchor; who writes the value (stats) or reads the gradient (carry); -1 in a zero step */
    int part;                  /* a copy step of a concat moves this input only; -1 = all */
    int value;                 /* zero step: whose gradient, or carry (clears_carry) */
    bool clears_carry;
    const cx_impl *impl;       /* NULL in a zero step */
    int packed_buffer;         /* weights kept ready; -1 = none */
    union { unsigned char bytes[CX_ATTR_BYTES]; long long align; } attr;
    cx_call call;
    cx_operand operand[CX_MAX_OPERANDS]; int n_operands;
    cx_widened widened[CX_MAX_WIDENED]; int n_widened;
    size_t bytes_read, bytes_written;
    int64_t flops;
    double seconds;
} cx_step;

/* A node (or one input of a concat) that has a forward step and perhaps a backward one. */
typedef struct { int node, part; } cx_task;

typedef struct {
    int64_t floats;
    bool prepared;             /* lies in the plan's own arena and stays true from run to run */
    int start, end;            /* first and last step that touch it */
    size_t offset;             /* bytes from the start of ACT, or of the plan's own arena */
} cx_buffer;

struct cx_plan {
    cx_store *store;
    int id;                    /* among the plans of the store, from 1 */
    const cx_graph *g;
    cx_plan_opts opts;
    int output;
    bool loss;                 /* output is a loss, or a sum of losses: backward starts from 1 */
    int n_values, n_nodes;
    cx_node *node;             /* the graph's nodes as the passes have rewritten them */
    cx_plan_value_info *values;
    cx_plan_node_info *nodes;
    cx_task *forward, *backward; int n_forward_tasks, n_backward_tasks;
    cx_step *steps; int n_steps, n_forward; size_t steps_cap;
    cx_buffer *buffers; int n_buffers; size_t buffers_cap;
    size_t act_bytes, work_bytes, prepared_bytes;
    void *act, *work;          /* what the calls are bound to */
    void *prepared;            /* the plan's own arena: vectors and packed weights of a plan without a backward pass, the seed of one with */
    uint64_t version;          /* of the store, when they were prepared; 0 = never */
    bool profile;
    float *sync;               /* host: what cx_sync_before and _after work on; NULL without sync_norm */
};

cx_status cx_pass_select(cx_plan *p, cx_error *err);
cx_status cx_pass_pool_first(cx_plan *p, cx_error *err);
void cx_pass_relu(cx_plan *p);
void cx_pass_eval_fold(cx_plan *p);
void cx_pass_prologue(cx_plan *p);
void cx_pass_views(cx_plan *p);
void cx_pass_precision(cx_plan *p);
void cx_pass_pool_last(cx_plan *p);
void cx_pass_statistics(cx_plan *p);
cx_status cx_pass_gradients(cx_plan *p, cx_error *err);
cx_status cx_pass_schedule(cx_plan *p, cx_error *err);
cx_status cx_pass_carry(cx_plan *p, cx_error *err);   /* these two are called by schedule, when it has listed both directions */
void cx_pass_redo(cx_plan *p);
cx_status cx_pass_prepare(cx_plan *p, cx_error *err);
cx_status cx_pass_place(cx_plan *p, cx_error *err);
cx_status cx_pass_choose(cx_plan *p, cx_error *err);

/* ---- what several passes ask ------------------------------------------------------------------------------------ */

/* Where a value (or its gradient) lives: the root value whose buffer holds it, its first channel there, the distance of two pixels. */
typedef struct { int root; int64_t channel, ld; } cx_view;
cx_view cx_plan_view(const cx_plan *p, int value, bool grad);          /* views.c */
/* The shapes of node k's outputs from those of its inputs. */
cx_status cx_plan_infer(cx_plan *p, int k, cx_error *err);             /* select.c */
/* A value or gradient as calls see it, without its place: shape, distance of pixels, type. */
cx_tensor cx_plan_tensor(const cx_plan *p, int value, bool grad);      /* prepare.c */
/* The buffer of a value or gradient, made at first asking; late: as the backward schedule sees it. -1 when out of memory. */
int cx_plan_buffer(cx_plan *p, int value, bool grad, bool late);       /* prepare.c */
/* Another buffer. -1 when out of memory. */
int cx_plan_new_buffer(cx_plan *p, int64_t floats, bool prepared);     /* prepare.c */
/* The value that a task writes, forward, and whose gradient it reads, backward: its shape there and its first channel in `value`. */
typedef struct { int value; cx_shape s; int64_t channel; } cx_written;
cx_written cx_task_writes(const cx_plan *p, cx_task t);                /* prepare.c */
/* Where the numbers of an operand lie in a call. */
static inline cx_tensor *cx_operand_tensor(cx_call *c, const cx_operand *o) { return (cx_tensor *)(void *)((char *)c + o->at); }

/* Of a plan whose memory was refused by a backend that knows what is free: fails with what each arena wants, and with the largest batch that would fit. opts:
 * what the plan was made from. Always CX_E_MEMORY. */
cx_status cx_plan_unfit(const cx_plan *p, const cx_plan_opts *opts, cx_error *err);      /* unfit.c */

/* ---- widen.c: float32 copies around an implementation that does not take bf16 -------------------------------------- */

cx_call cx_widen_call(const cx_step *st);                              /* the call as such an implementation sees it */
static inline bool cx_takes_step(const cx_impl *impl, const cx_step *st, bool backward)      /* it takes the call as it would be given to it */
{
    const cx_call wide = cx_widen_call(st);
    return cx_impl_takes(impl, impl->bf16 ? &st->call : &wide, backward);
}
size_t cx_widen(cx_step *st, size_t at);                               /* makes it so, copies from byte `at` of WORK on; the bytes of WORK up to their end */
void cx_widen_bind(cx_step *st, void *work);                           /* when the operands' pointers have been written */
cx_status cx_widen_before(const cx_plan *p, const cx_step *st);        /* copies what is read */
cx_status cx_widen_after(const cx_plan *p, const cx_step *st);         /* and what was written */

/* ---- sync.c: norms that see the films of all ranks ------------------------------------------------------------------ */

cx_status cx_sync_open(cx_plan *p, cx_error *err);                     /* last, in a plan with sync_norm and more than one rank */
cx_status cx_sync_before(cx_plan *p, const cx_step *st, cx_error *err);       /* around each step of it */
cx_status cx_sync_after(cx_plan *p, const cx_step *st, cx_error *err);

static inline const cx_op *cx_op_of(const cx_plan *p, int node)
{
    return &cx_ops[p->node[node].op];
}

static inline bool cx_is_activation(const cx_plan *p, int value)
{
    return p->g->values[value].kind == CX_ACT || p->g->values[value].kind == CX_INPUT;
}

/* A norm whose activations another step handles. */
static inline bool cx_in_vectors(const cx_plan *p, int node) { return p->nodes[node].carrier >= 0; }

/* Somebody wants the mean or 1/sqrt(var + eps) that the norm would save: it must then be carried out in full. */
static inline bool cx_reads_vectors(const cx_plan *p, int norm)
{
    for (int j = 1; j < p->node[norm].n_out; j++)
        if (p->values[p->node[norm].out[j]].kept || p->values[p->node[norm].out[j]].readers > 0)
            return true;
    return false;
}

/* Such a norm uses statistics of the batch; otherwise running ones. */
static inline bool cx_batch_statistics(const cx_plan *p, int norm)
{
    return p->opts.training && !((const cx_norm_attr *)p->node[norm].attr.bytes)->frozen;
}

/* A norm in vectors has something to do in the backward pass: a parameter to train, or a carry for the gradient of what it reads. */
static inline bool cx_norm_backward(const cx_plan *p, int norm)
{
    const cx_node *n = &p->node[norm];
    return p->values[n->in[1]].grad || p->values[n->in[2]].grad || (p->values[n->in[0]].grad && cx_batch_statistics(p, norm));
}

/* Backward reads the activations among x. */
static inline bool cx_reads_x(const cx_plan *p, int node)
{
    return !cx_in_vectors(p, node) && ((cx_op_of(p, node)->flags & CX_BWD_X) || p->nodes[node].pre >= 0);
}

/* Backward (or a step right before it) reads y[0]. A folded ReLU takes its mask from y[0], except in an operator whose output may be dropped: that one
 * recomputes the mask. */
static inline bool cx_reads_y(const cx_plan *p, int node)
{
    unsigned flags = cx_op_of(p, node)->flags;
    if (cx_in_vectors(p, node))
        return false;
    return (flags & CX_BWD_Y) || p->nodes[node].carry == CX_CARRY_IN || p->nodes[node].carry == CX_CARRY_BEFORE ||
           (p->nodes[node].relu >= 0 && !(flags & CX_CHEAP));
}

static inline int cx_first_part(cx_task t) { return t.part < 0 ? 0 : t.part; }
static inline int cx_last_part(const cx_plan *p, cx_task t) { return t.part < 0 ? p->node[t.node].n_in - 1 : t.part; }

#endif
