/* prepare.c - pass 12: every cx_call is filled once: shapes, strides, flags, and which buffer each operand lives in.
 *
 * In: steps. Out: steps[].call (all but the data pointers), operand[], bytes; buffers[] without lifetimes. Backward gets numbers only for what the
 * operator's flags say that it reads; other tensors carry their shape and p == NULL. A slot that is absent is all zero. */
#include <stddef.h>
#include <string.h>
#include "cxnet/base.h"
#include "cxnet/comm.h"
#include "plan.h"

int cx_plan_new_buffer(cx_plan *p, int64_t floats, bool prepared)
{
    if (!cx_grow(&p->buffers, &p->buffers_cap, (size_t)p->n_buffers + 1, sizeof *p->buffers))
        return -1;
    p->buffers[p->n_buffers] = (cx_buffer){ .floats = floats, .prepared = prepared, .start = -1, .end = -1 };
    return p->n_buffers++;
}

int cx_plan_buffer(cx_plan *p, int value, bool grad, bool late)
{
    cx_plan_value_info *root = &p->values[cx_plan_view(p, value, grad).root];
    int *slot = grad ? &root->grad_buffer : late && root->redo ? &root->redo_buffer : &root->buffer;
    if (*slot < 0)      /* the seed of a loss stays */
        *slot = cx_plan_new_buffer(p, !grad && root->bf16 ? (cx_elems(root->s) + 1) / 2 : cx_elems(root->s), grad && p->loss && value == p->output);
    return *slot;
}

cx_tensor cx_plan_tensor(const cx_plan *p, int value, bool grad)
{
    const bool here = cx_is_activation(p, value);
    const cx_view view = here ? cx_plan_view(p, value, grad) : (cx_view){ value, 0, p->values[value].s.c };
    return (cx_tensor){ .s = p->values[value].s, .ld = view.ld, .type = here && !grad && p->values[view.root].bf16 ? CX_BF16 : CX_F32 };
}

typedef enum { SHAPE_ONLY, READ, WRITE, ADD } access;

/* Describes one tensor of the call; `channel` and `s` choose a slice of the value (a copy step of a concat). */
static cx_status set_slice(cx_plan *p, cx_step *st, cx_tensor *t, int value, bool grad, access how, cx_shape s, int64_t channel, cx_error *err)
{
    *t = cx_plan_tensor(p, value, grad);
    t->s = s;
    if (how == SHAPE_ONLY)
        return CX_OK;
    cx_operand *o = &st->operand[st->n_operands++];
    *o = (cx_operand){ .at = (uint16_t)((char *)t - (char *)&st->call), .write = how != READ, .grad = grad, .value = value, .buffer = -1,
                       .type = t->type };
    if (cx_is_activation(p, value)) {
        o->buffer = cx_plan_buffer(p, value, grad, st->late);
        o->first = cx_plan_view(p, value, grad).channel + channel;
        if (o->buffer < 0)
            return cx_fail(err, CX_E_MEMORY, "plan: no memory for another buffer");
    }
    size_t bytes = (size_t)cx_elems(s) * cx_dtype_bytes(t->type);
    st->bytes_read += how == WRITE ? 0 : bytes;
    st->bytes_written += how == READ ? 0 : bytes;
    return CX_OK;
}

static cx_status set(cx_plan *p, cx_step *st, cx_tensor *t, int value, bool grad, access how, cx_error *err)
{
    return set_slice(p, st, t, value, grad, how, p->values[value].s, 0, err);
}

/* Channels first .. first + c - 1 of `rows` vectors of `width` channels, in a buffer that is made at first asking. */
typedef struct { int *buffer; int rows; int64_t width, first, c; bool prepared; } vectors;

static cx_status set_vectors(cx_plan *p, cx_step *st, cx_tensor *t, vectors v, access how, cx_error *err)
{
    if (*v.buffer < 0)
        *v.buffer = cx_plan_new_buffer(p, v.rows * v.width, v.prepared);
    if (*v.buffer < 0)
        return cx_fail(err, CX_E_MEMORY, "plan: no memory for another buffer");
    *t = (cx_tensor){ .s = { 1, 1, v.rows, v.c }, .ld = v.width };
    st->operand[st->n_operands++] = (cx_operand){ .at = (uint16_t)((char *)t - (char *)&st->call), .write = how != READ, .value = -1, .buffer = *v.buffer,
                                                  .first = v.first };
    return CX_OK;
}

/* The statistics, or the carry, of channels `channel` .. + c - 1 of a value: a part of its root's. */
static vectors stats_of(cx_plan *p, int value, int64_t channel, int64_t c)
{
    cx_view view = cx_plan_view(p, value, false);
    return (vectors){ &p->values[view.root].stats_buffer, 2, p->values[view.root].s.c, view.channel + channel, c, false };
}

static vectors carry_of(cx_plan *p, int value, int64_t channel, int64_t c)
{
    cx_view view = cx_plan_view(p, value, true);
    return (vectors){ &p->values[view.root].carry_buffer, 2, p->values[view.root].s.c, view.channel + channel, c, false };
}

/* Scale, shift, mean, r of a norm in vectors; its sums; a carry of its own. */
static vectors of_norm(cx_plan *p, int norm, int *buffer, int rows)
{
    int64_t c = p->values[p->node[norm].in[0]].s.c;
    bool once = !p->opts.backward && !cx_batch_statistics(p, norm);
    return (vectors){ buffer, rows, c, 0, c, rows == CX_FOLD_ROWS && once };
}

cx_written cx_task_writes(const cx_plan *p, cx_task t)
{
    cx_written w = { .value = p->nodes[t.node].y, .s = p->values[p->nodes[t.node].y].s };
    if (t.part < 0)
        return w;
    w.s.c = p->values[p->node[t.node].in[t.part]].s.c;
    for (int i = 0; i < t.part; i++)
        w.channel += p->values[p->node[t.node].in[i]].s.c;
    return w;
}

/* x and, in a backward step, dx. Slot 0 of a copy step is the input that it moves. */
static cx_status set_inputs(cx_plan *p, cx_step *st, cx_error *err)
{
    const cx_node *node = &p->node[st->node];
    cx_task t = { st->node, st->part };
    bool backward = st->kind == CX_STEP_BACKWARD;
    for (int i = cx_first_part(t); i <= cx_last_part(p, t); i++) {
        int v = node->in[i], slot = st->part < 0 ? i : 0;
        if (v < 0)
            continue;
        bool vectors_only = i == 0 && cx_in_vectors(p, st->node);
        access how = vectors_only || (backward && cx_is_activation(p, v) && !cx_reads_x(p, st->node)) ? SHAPE_ONLY : READ;
        TRY(set(p, st, &st->call.x[slot], v, false, how, err));
        if (backward && p->values[v].grad && !vectors_only)
            TRY(set(p, st, &st->call.dx[slot], v, true, st->call.dx_add[slot] ? ADD : WRITE, err));
    }
    return CX_OK;
}

static cx_status set_outputs(cx_plan *p, cx_step *st, cx_error *err)
{
    const cx_node *node = &p->node[st->node];
    bool backward = st->kind == CX_STEP_BACKWARD, vectors_only = cx_in_vectors(p, st->node);
    cx_written w = cx_task_writes(p, (cx_task){ st->node, st->part });
    access how = vectors_only ? SHAPE_ONLY : !backward ? WRITE : cx_reads_y(p, st->node) ? READ : SHAPE_ONLY;
    TRY(set_slice(p, st, &st->call.y[0], w.value, false, how, w.s, w.channel, err));
    if (backward)
        TRY(set_slice(p, st, &st->call.dy[0], w.value, true, vectors_only ? SHAPE_ONLY : READ, w.s, w.channel, err));
    for (int j = 1; j < node->n_out; j++) {
        access saved = vectors_only ? SHAPE_ONLY : st->kind == CX_STEP_FORWARD ? WRITE : READ;
        TRY(set(p, st, &st->call.y[j], node->out[j], false, saved, err));
    }
    return CX_OK;
}

/* ---- folds -------------------------------------------------------------------------------------------------------- */

/* A norm in vectors: its own step. */
static cx_status set_norm(cx_plan *p, cx_step *st, cx_error *err)
{
    cx_plan_node_info *info = &p->nodes[st->node];
    cx_fold *f = &st->call.fold;
    int x = p->node[st->node].in[0];
    int64_t c = p->values[x].s.c;
    bool backward = st->kind == CX_STEP_BACKWARD;
    TRY(set_vectors(p, st, &f->pre, of_norm(p, st->node, &info->vectors_buffer, CX_FOLD_ROWS), backward ? READ : WRITE, err));
    f->parts = p->opts.sync_norm ? p->opts.comm->ranks : 0;
    if (!backward)
        return cx_batch_statistics(p, st->node) ? set_vectors(p, st, &f->stats, stats_of(p, x, 0, c), READ, err) : CX_OK;
    TRY(set_vectors(p, st, &f->sums, of_norm(p, st->node, &info->sums_buffer, 2), READ, err));
    f->carry_add = info->carry == CX_CARRY_ADD || info->carry == CX_CARRY_CLEAR;
    if (info->carry == CX_CARRY_AT_ONCE)
        return set_vectors(p, st, &f->carry, of_norm(p, st->node, &info->carry_buffer, 2), WRITE, err);
    return info->carry != CX_CARRY_NONE ? set_vectors(p, st, &f->carry, carry_of(p, x, 0, c), f->carry_add ? ADD : WRITE, err) : CX_OK;
}

/* An anchor with what was folded into it. */
static cx_status set_folds(cx_plan *p, cx_step *st, cx_error *err)
{
    const cx_plan_node_info *info = &p->nodes[st->node];
    cx_fold *f = &st->call.fold;
    cx_written w = cx_task_writes(p, (cx_task){ st->node, st->part });
    if (info->pre >= 0) {
        cx_plan_node_info *norm = &p->nodes[info->pre];
        f->pre_relu = norm->relu >= 0;
        TRY(set_vectors(p, st, &f->pre, of_norm(p, info->pre, &norm->vectors_buffer, CX_FOLD_ROWS), READ, err));
        if (st->kind == CX_STEP_BACKWARD && cx_norm_backward(p, info->pre))
            TRY(set_vectors(p, st, &f->sums, of_norm(p, info->pre, &norm->sums_buffer, 2), WRITE, err));
    }
    if (info->post >= 0)
        TRY(set_vectors(p, st, &f->post, of_norm(p, info->post, &p->nodes[info->post].vectors_buffer, CX_FOLD_ROWS), READ, err));
    if (info->pool >= 0)
        f->pool = *(const cx_pool_attr *)p->node[info->pool].attr.bytes;
    if (info->stats && st->kind == CX_STEP_FORWARD)
        TRY(set_vectors(p, st, &f->stats, stats_of(p, w.value, w.channel, w.s.c), WRITE, err));
    if (info->carry == CX_CARRY_IN && st->kind == CX_STEP_BACKWARD)
        TRY(set_vectors(p, st, &f->carry, carry_of(p, w.value, w.channel, w.s.c), READ, err));
    return CX_OK;
}

/* The two kinds of steps that a plan adds by itself. */
static cx_status prepare_own(cx_plan *p, cx_step *st, cx_error *err)
{
    cx_plan_node_info *info = &p->nodes[st->node];
    cx_call *c = &st->call;
    cx_written w = cx_task_writes(p, (cx_task){ st->node, st->part });
    bool at_once = cx_in_vectors(p, st->node);
    if (at_once)
        w = (cx_written){ .value = p->node[st->node].in[0], .s = p->values[p->node[st->node].in[0]].s };
    c->n_in = 1;
    c->attr = st->attr.bytes;
    TRY(set_slice(p, st, &c->x[0], w.value, false, READ, w.s, w.channel, err));
    if (st->kind == CX_STEP_STATS)
        return set_vectors(p, st, &c->fold.stats, stats_of(p, w.value, w.channel, w.s.c), WRITE, err);
    TRY(set_slice(p, st, &c->dx[0], w.value, true, ADD, w.s, w.channel, err));
    c->dx_add[0] = true;
    vectors carry = at_once ? of_norm(p, st->node, &info->carry_buffer, 2) : carry_of(p, w.value, w.channel, w.s.c);
    return set_vectors(p, st, &c->fold.carry, carry, READ, err);
}

/* A forward pass by the table; a backward pass costs that much for each of dx[0] and dx[1] that is wanted. */
static int64_t count_flops(const cx_plan *p, const cx_step *st)
{
    const cx_op *op = cx_op_of(p, st->node);
    int64_t n = op->flops ? op->flops(&st->call) : cx_elems(st->call.y[0].s);
    if (st->kind != CX_STEP_BACKWARD)
        return n;
    int times = 0;
    for (int i = 0; i < 2; i++)
        times += st->call.dx[i].s.c != 0;
    return n * (times > 0 ? times : 1);
}

static cx_status prepare_zero(cx_plan *p, cx_step *st, cx_error *err)
{
    if (st->clears_carry)
        return set_vectors(p, st, &st->call.dx[0], carry_of(p, st->value, 0, p->values[st->value].s.c), WRITE, err);
    return set(p, st, &st->call.dx[0], st->value, true, WRITE, err);
}

cx_status cx_pass_prepare(cx_plan *p, cx_error *err)
{
    for (int i = 0; i < p->n_steps; i++) {
        cx_step *st = &p->steps[i];
        if (st->kind == CX_STEP_ZERO) {
            TRY(prepare_zero(p, st, err));
            continue;
        }
        if (st->kind == CX_STEP_STATS || st->kind == CX_STEP_CARRY) {
            TRY(prepare_own(p, st, err));
            continue;
        }
        const cx_node *node = &p->node[st->node];
        memcpy(st->attr.bytes, node->attr.bytes, sizeof st->attr.bytes);
        st->call.attr = st->attr.bytes;
        st->call.n_in = st->part < 0 ? node->n_in : 1;
        st->call.n_out = node->n_out;
        st->call.training = p->opts.training;
        st->call.relu = p->nodes[st->node].relu >= 0;
        st->call.redo = st->kind == CX_STEP_REDO;
        st->call.stream = cx_hash(node->name);
        TRY(set_inputs(p, st, err));
        TRY(set_outputs(p, st, err));
        st->call.first = cx_comm_rank(p->opts.comm) * cx_elems(st->call.y[0].s);
        TRY(cx_in_vectors(p, st->node) ? set_norm(p, st, err) : set_folds(p, st, err));
        st->flops = cx_in_vectors(p, st->node) ? 0 : count_flops(p, st);
    }
    return CX_OK;
}
