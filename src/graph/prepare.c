/* prepare.c - pass 7: every cx_call is filled once: shapes, strides, flags, and which buffer each operand lives in.
 *
 * In: steps. Out: steps[].call (all but the data pointers), operand[], bytes; buffers[] without lifetimes. Backward gets numbers only for what the
 * operator's flags say that it reads; other tensors carry their shape and p == NULL. A slot that is absent is all zero. */
#include <stddef.h>
#include <string.h>
#include "cxnet/base.h"
#include "plan.h"

static int new_buffer(cx_plan *p, int64_t floats)
{
    if (!cx_grow(&p->buffers, &p->buffers_cap, (size_t)p->n_buffers + 1, sizeof *p->buffers))
        return -1;
    p->buffers[p->n_buffers] = (cx_buffer){ .floats = floats, .start = -1, .end = -1 };
    return p->n_buffers++;
}

int cx_plan_buffer(cx_plan *p, int value, bool grad, bool late)
{
    cx_plan_value_info *root = &p->values[cx_plan_view(p, value, grad).root];
    int *slot = grad ? &root->grad_buffer : late && root->redo ? &root->redo_buffer : &root->buffer;
    if (*slot < 0)
        *slot = new_buffer(p, cx_elems(root->s));
    return *slot;
}

typedef enum { SHAPE_ONLY, READ, WRITE, ADD } access;

/* Describes one tensor of the call; `channel` and `s` choose a slice of the value (a copy step of a concat). */
static cx_status set_slice(cx_plan *p, cx_step *st, cx_tensor *t, int value, bool grad, access how, cx_shape s, int64_t channel, cx_error *err)
{
    bool here = cx_is_activation(p, value);
    cx_view view = here ? cx_plan_view(p, value, grad) : (cx_view){ value, 0, p->values[value].s.c };
    *t = (cx_tensor){ .s = s, .ld = view.ld };
    if (how == SHAPE_ONLY)
        return CX_OK;
    cx_operand *o = &st->operand[st->n_operands++];
    *o = (cx_operand){ .at = (uint16_t)((char *)t - (char *)&st->call), .write = how != READ, .grad = grad, .value = value, .buffer = -1 };
    if (here) {
        o->buffer = cx_plan_buffer(p, value, grad, st->late);
        o->first = view.channel + channel;
        if (o->buffer < 0)
            return cx_fail(err, CX_E_MEMORY, "plan: no memory for another buffer");
    }
    size_t bytes = (size_t)cx_elems(s) * sizeof(float);
    st->bytes_read += how == WRITE ? 0 : bytes;
    st->bytes_written += how == READ ? 0 : bytes;
    return CX_OK;
}

static cx_status set(cx_plan *p, cx_step *st, cx_tensor *t, int value, bool grad, access how, cx_error *err)
{
    return set_slice(p, st, t, value, grad, how, p->values[value].s, 0, err);
}

/* x and, in a backward step, dx. Slot 0 of a copy step is the input that it moves. */
static cx_status set_inputs(cx_plan *p, cx_step *st, cx_error *err)
{
    const cx_node *node = &p->g->nodes[st->node];
    cx_task t = { st->node, st->part };
    bool backward = st->kind == CX_STEP_BACKWARD;
    for (int i = cx_first_part(t); i <= cx_last_part(p, t); i++) {
        int v = node->in[i], slot = st->part < 0 ? i : 0;
        if (v < 0)
            continue;
        access how = backward && cx_is_activation(p, v) && !cx_reads_x(p, st->node) ? SHAPE_ONLY : READ;
        TRY(set(p, st, &st->call.x[slot], v, false, how, err));
        if (backward && p->values[v].grad)
            TRY(set(p, st, &st->call.dx[slot], v, true, st->call.dx_add[slot] ? ADD : WRITE, err));
    }
    return CX_OK;
}

static cx_status set_outputs(cx_plan *p, cx_step *st, cx_error *err)
{
    const cx_node *node = &p->g->nodes[st->node];
    bool backward = st->kind == CX_STEP_BACKWARD;
    int y = p->nodes[st->node].y;
    cx_shape s = p->values[y].s;
    int64_t channel = 0;
    if (st->part >= 0) {
        s.c = p->values[node->in[st->part]].s.c;
        for (int i = 0; i < st->part; i++)
            channel += p->values[node->in[i]].s.c;
    }
    access how = !backward ? WRITE : cx_reads_y(p, st->node) ? READ : SHAPE_ONLY;
    TRY(set_slice(p, st, &st->call.y[0], y, false, how, s, channel, err));
    if (backward)
        TRY(set_slice(p, st, &st->call.dy[0], y, true, READ, s, channel, err));
    for (int j = 1; j < node->n_out; j++)
        TRY(set(p, st, &st->call.y[j], node->out[j], false, st->kind == CX_STEP_FORWARD ? WRITE : READ, err));
    return CX_OK;
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
        const cx_node *node = &p->g->nodes[st->node];
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
        st->flops = count_flops(p, st);
    }
    return CX_OK;
}
