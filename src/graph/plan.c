/* plan.c - a plan from the outside: compiled by the passes, bound to the arenas, run, and read. */
#include <stdlib.h>
#include <string.h>
#include "cxnet/base.h"
#include "cxnet/comm.h"
#include "plan.h"
#include "store.h"

/* ---- compile ----------------------------------------------------------------------------------------------------- */

static void *at_buffer(const cx_plan *p, int buffer)
{
    const cx_buffer *b = &p->buffers[buffer];
    return (char *)(b->prepared ? p->prepared : p->act) + b->offset;
}

static void *pointer(const cx_plan *p, const cx_operand *o)
{
    if (o->buffer >= 0)
        return (char *)at_buffer(p, o->buffer) + (size_t)o->first * cx_dtype_bytes(o->type);
    return o->grad ? cx_store_grad(p->store, o->value).p : cx_store_value(p->store, o->value).p;
}

/* Writes the data pointers of every call; again whenever another plan made the arenas grow. */
static void bind(cx_plan *p)
{
    p->act = p->store->act;
    p->work = p->store->work;
    for (int i = 0; i < p->n_steps; i++) {
        cx_step *st = &p->steps[i];
        for (int k = 0; k < st->n_operands; k++)
            cx_operand_tensor(&st->call, &st->operand[k])->p = pointer(p, &st->operand[k]);
        cx_widen_bind(st, p->work);
        st->call.work = st->call.work_bytes > 0 ? p->work : NULL;
        st->call.packed = st->packed_buffer >= 0 ? at_buffer(p, st->packed_buffer) : NULL;
    }
}

static cx_status compile(cx_plan *p, cx_error *err)
{
    p->values = cx_alloc((size_t)p->n_values, sizeof *p->values);
    p->nodes = cx_alloc((size_t)p->n_nodes, sizeof *p->nodes);
    p->node = cx_alloc((size_t)p->n_nodes, sizeof *p->node);
    if (!p->values || !p->nodes || !p->node)
        return cx_fail(err, CX_E_MEMORY, "plan: no memory for %d values and %d nodes", p->n_values, p->n_nodes);
    for (int v = 0; v < p->n_values; v++) {
        cx_plan_value_info *x = &p->values[v];
        x->parent = x->buffer = x->grad_buffer = x->redo_buffer = x->stats_buffer = x->carry_buffer = -1;
    }
    for (int k = 0; k < p->n_nodes; k++) {
        cx_plan_node_info *x = &p->nodes[k];
        x->relu = x->pool = x->pre = x->post = x->carrier = x->vectors_buffer = x->sums_buffer = x->carry_buffer = -1;
        p->node[k] = p->g->nodes[k];
    }
    TRY(cx_pass_select(p, err));
    TRY(cx_pass_pool_first(p, err));
    cx_pass_relu(p);
    cx_pass_eval_fold(p);
    cx_pass_prologue(p);
    cx_pass_views(p);
    cx_pass_precision(p);
    cx_pass_pool_last(p);
    cx_pass_statistics(p);
    TRY(cx_pass_gradients(p, err));
    TRY(cx_pass_schedule(p, err));
    TRY(cx_pass_prepare(p, err));
    TRY(cx_pass_choose(p, err));
    TRY(cx_pass_place(p, err));
    return p->opts.sync_norm ? cx_sync_open(p, err) : CX_OK;
}

static cx_status take_memory(cx_plan *p, cx_error *err)
{
    if (p->prepared_bytes > 0)
        TRY(p->store->b->alloc(p->store->b, p->prepared_bytes, &p->prepared, err));
    TRY(cx_store_reserve(p->store, p->act_bytes, p->work_bytes, err));
    bind(p);
    const float one = 1;
    return p->opts.backward && p->loss ? cx_plan_set_grad(p, p->output, &one, err) : CX_OK;
}

static cx_status open_plan(cx_store *s, const cx_plan_opts *opts, bool memory, cx_plan **out, cx_error *err)
{
    *out = NULL;
    cx_plan *p = cx_alloc(1, sizeof *p);
    if (!p)
        return cx_fail(err, CX_E_MEMORY, "no memory for a plan");
    p->store = s;
    p->id = memory ? ++s->plans : 0;
    p->g = s->g;
    p->opts = *opts;
    p->opts.sync_norm &= cx_comm_ranks(opts->comm) > 1;
    p->n_values = s->g->n_values;
    p->n_nodes = s->g->n_nodes;
    cx_status status = compile(p, err);
    if (status == CX_OK && memory) {
        status = take_memory(p, err);
        if (status == CX_E_MEMORY && s->b->free_bytes)
            status = cx_plan_unfit(p, opts, err);
    }
    p->opts.keep = NULL;                                /* the caller's array; values[].kept holds what it said */
    if (status != CX_OK) {
        cx_plan_free(p);
        return status;
    }
    *out = p;
    return CX_OK;
}

cx_status cx_plan_new(cx_store *s, const cx_plan_opts *opts, cx_plan **out, cx_error *err)
{
    return open_plan(s, opts, true, out, err);
}

cx_status cx_plan_describe(cx_store *s, const cx_plan_opts *opts, cx_plan_stats *out, cx_error *err)
{
    cx_plan *p;
    TRY(open_plan(s, opts, false, &p, err));
    *out = cx_plan_get_stats(p);
    cx_plan_free(p);
    return CX_OK;
}

cx_status cx_plan_moments(cx_plan *p, float **m, float **v, cx_error *err)
{
    *m = *v = NULL;
    return cx_store_moments(p->store, p->opts.moments > 0 ? m : NULL, p->opts.moments > 1 ? v : NULL, err);
}

void cx_plan_free(cx_plan *p)
{
    if (!p)
        return;
    if (p->prepared)
        p->store->b->release(p->store->b, p->prepared);
    free(p->values);
    free(p->nodes);
    free(p->node);
    free(p->forward);
    free(p->backward);
    free(p->steps);
    free(p->buffers);
    free(p->sync);
    free(p);
}

/* ---- read and write ---------------------------------------------------------------------------------------------- */

static cx_status rebind(cx_plan *p, cx_error *err)
{
    if (p->act == p->store->act && p->work == p->store->work && p->act)
        return CX_OK;
    if (!p->store->act || p->store->act_bytes < p->act_bytes || p->store->work_bytes < p->work_bytes)
        return cx_fail(err, CX_E_MEMORY, "plan: the arenas were lost when a larger plan did not fit; free both plans and ask for a smaller batch");
    bind(p);
    return CX_OK;
}

static cx_tensor locate(cx_plan *p, int value, bool grad)
{
    cx_tensor t = { 0 };
    if (value < 0 || value >= p->n_values)
        return t;
    const cx_plan_value_info *x = &p->values[value];
    if (!cx_is_activation(p, value))
        return grad ? cx_store_grad(p->store, value) : cx_store_value(p->store, value);
    t.s = x->s;
    bool readable = x->needed && (grad ? x->grad && x->kept : x->kept || p->g->values[value].kind == CX_INPUT);
    if (!readable || rebind(p, NULL) != CX_OK)
        return t;
    cx_view view = cx_plan_view(p, value, grad);
    int buffer = grad ? p->values[view.root].grad_buffer : p->values[view.root].buffer;
    t.ld = view.ld;
    t.p = (float *)at_buffer(p, buffer) + view.channel;
    return t;
}

cx_tensor cx_plan_value(cx_plan *p, int value) { return locate(p, value, false); }
cx_tensor cx_plan_grad(cx_plan *p, int value) { return locate(p, value, true); }

static cx_status placed(cx_plan *p, int value, bool grad, cx_tensor *t, cx_error *err)
{
    if (value < 0 || value >= p->n_values)
        return cx_fail(err, CX_E_USAGE, "value %d: the plan has values 0 to %d", value, p->n_values - 1);
    TRY(rebind(p, err));
    *t = locate(p, value, grad);
    if (!t->p)
        return cx_fail(err, CX_E_USAGE, "%s of '%s' is not in this plan: name it in cx_plan_opts.keep%s", grad ? "the gradient" : "the value",
                       p->g->values[value].name, grad ? " of a plan with backward whose output it leads to" : ", or make it lead to the output");
    return CX_OK;
}

/* A slice is fetched with the channels between its pixels and gathered here. */
static cx_status fetch(cx_plan *p, cx_tensor t, float *host, cx_error *err)
{
    cx_backend *b = p->store->b;
    int64_t pixels = cx_pixels(t.s), span = (pixels - 1) * t.ld + t.s.c;
    if (t.ld == t.s.c)
        return b->download(b, host, t.p, (size_t)span * sizeof *host, err);
    float *wide = cx_alloc_aligned((size_t)span, sizeof *wide);
    if (!wide)
        return cx_fail(err, CX_E_MEMORY, "no memory to gather %lld floats", (long long)span);
    cx_status s = b->download(b, wide, t.p, (size_t)span * sizeof *wide, err);
    for (int64_t i = 0; s == CX_OK && i < pixels; i++)
        memcpy(host + i * t.s.c, wide + i * t.ld, (size_t)t.s.c * sizeof *host);
    free(wide);
    return s;
}

cx_status cx_plan_get(cx_plan *p, int value, float *host, cx_error *err)
{
    cx_tensor t = { 0 };
    TRY(placed(p, value, false, &t, err));
    return fetch(p, t, host, err);
}

cx_status cx_plan_get_grad(cx_plan *p, int value, float *host, cx_error *err)
{
    cx_tensor t = { 0 };
    TRY(placed(p, value, true, &t, err));
    return fetch(p, t, host, err);
}

cx_status cx_plan_set(cx_plan *p, int value, const float *host, cx_error *err)
{
    cx_tensor t = { 0 };
    TRY(placed(p, value, false, &t, err));
    if (p->g->values[value].kind != CX_INPUT)
        return cx_fail(err, CX_E_USAGE, "'%s' is not an input: only inputs are set from outside", p->g->values[value].name);
    return p->store->b->upload(p->store->b, t.p, host, (size_t)cx_elems(t.s) * sizeof *host, err);
}

cx_status cx_plan_set_grad(cx_plan *p, int value, const float *host, cx_error *err)
{
    cx_tensor t = { 0 };
    TRY(placed(p, value, true, &t, err));
    if (value != p->output)
        return cx_fail(err, CX_E_USAGE, "the gradient of '%s' cannot be set: the backward pass starts from '%s'", p->g->values[value].name,
                       p->g->values[p->output].name);
    return p->store->b->upload(p->store->b, t.p, host, (size_t)cx_elems(t.s) * sizeof *host, err);
}

/* ---- run --------------------------------------------------------------------------------------------------------- */

static cx_status run_step(cx_plan *p, cx_step *st, cx_error *err)
{
    cx_backend *b = p->store->b;
    if (st->kind == CX_STEP_ZERO)
        return b->zero(b, st->call.dx[0].p, (size_t)cx_elems(st->call.dx[0].s) * sizeof(float), err);
    cx_status s = cx_widen_before(p, st);
    if (s == CX_OK)
        s = (st->kind == CX_STEP_BACKWARD || st->kind == CX_STEP_CARRY ? st->impl->bwd : st->impl->fwd)(&st->call);
    if (s == CX_OK)
        s = cx_widen_after(p, st);
    if (s == CX_OK)
        return CX_OK;
    const char *why = b->why ? b->why(b) : "";
    return cx_fail(err, s, "%s: %s by '%s' failed%s%s", p->node[st->node].name, cx_op_of(p, st->node)->name, st->impl->name, *why ? ": " : "", why);
}

/* What depends on parameters and state alone: vectors of norms first, then the weights that take them along. */
static cx_status prepare(cx_plan *p, cx_error *err)
{
    if (p->opts.backward || p->version == p->store->version)
        return CX_OK;
    for (int i = 0; i < p->n_forward; i++)
        if (p->steps[i].once)
            TRY(run_step(p, &p->steps[i], err));
    for (int i = 0; i < p->n_forward; i++) {
        cx_step *st = &p->steps[i];
        cx_status s = st->packed_buffer >= 0 ? st->impl->pack(&st->call) : CX_OK;
        if (s != CX_OK)
            return cx_fail(err, s, "%s: packing the weights by '%s' failed", p->node[st->node].name, st->impl->name);
    }
    p->version = p->store->version;
    return CX_OK;
}

static cx_status run_range(cx_plan *p, int from, int to, cx_error *err)
{
    cx_backend *b = p->store->b;
    for (int i = from; i < to; i++) {
        if (p->steps[i].once)
            continue;
        double t0 = p->profile ? cx_now_s() : 0;
        if (p->sync)
            TRY(cx_sync_before(p, &p->steps[i], err));
        TRY(run_step(p, &p->steps[i], err));
        if (p->sync)
            TRY(cx_sync_after(p, &p->steps[i], err));
        if (p->profile && b->finish)
            TRY(b->finish(b, err));
        if (p->profile)
            p->steps[i].seconds += cx_now_s() - t0;
    }
    return CX_OK;
}

cx_status cx_plan_forward(cx_plan *p, uint64_t seed, uint64_t step, cx_error *err)
{
    TRY(rebind(p, err));
    for (int i = 0; i < p->n_steps; i++) {
        p->steps[i].call.seed = seed;
        p->steps[i].call.step = step;
    }
    p->store->forward = p->id;
    TRY(prepare(p, err));
    p->store->version += p->opts.training;              /* running statistics move */
    return run_range(p, 0, p->n_forward, err);
}

cx_status cx_plan_backward(cx_plan *p, cx_error *err)
{
    if (!p->opts.backward)
        return cx_fail(err, CX_E_USAGE, "this plan was made without backward");
    if (p->store->forward != p->id)
        return cx_fail(err, CX_E_USAGE, "cx_plan_backward: no forward pass of this plan is stored; run cx_plan_forward before each backward pass");
    TRY(rebind(p, err));
    p->store->forward = 0;                              /* gradients take the place of activations as they are used up */
    return run_range(p, p->n_forward, p->n_steps, err);
}

void cx_plan_profile(cx_plan *p, bool on)
{
    for (int i = 0; on && !p->profile && i < p->n_steps; i++)
        p->steps[i].seconds = 0;
    p->profile = on;
}
