/* verb_plan.c - `cxnet plan FILE`: the steps that an experiment's network is compiled to, with their implementations, bytes and FLOPs. */
#include "app.h"

/* `plain` is the same plan without any pass: what folding is held against. */
typedef struct { cx_config c; cx_model m; cx_backend *backend; cx_store *store; cx_plan *plan; cx_plan_stats plain; bool training; int batch; } planned;

/* The plain plan only describes itself: its arenas stay empty, since it may want more memory than there is. */
static cx_status build_plans(planned *p, const cx_plan_opts *o, const cx_plan_opts *plain, cx_error *err)
{
    float *m, *v;
    TRY(cx_plan_describe(p->store, plain, &p->plain, err));
    TRY(cx_plan_new(p->store, o, &p->plan, err));
    return p->training ? cx_plan_moments(p->plan, &m, &v, err) : CX_OK;     /* so that OPT is counted */
}

static cx_status build(planned *p, cx_error *err)
{
    const cx_config *c = &p->c;
    int loss, target, weights;
    TRY(cx_config_network(c, &p->m, &loss, &target, &weights, err));
    TRY(cx_backend_open(c->run.device, c->run.threads, &p->backend, err));
    cx_app_note_device(p->backend);
    TRY(cx_store_new(p->m.graph, p->backend, (uint64_t)c->run.seed, &p->store, err));
    cx_plan_opts o = cx_config_plan(c), plain;
    o.batch = p->batch;
    o.training = o.backward = o.param_grads = p->training;
    o.output = p->training ? loss : p->m.logits;
    plain = o;
    plain.skip = CX_PASS_ALL & ~CX_PASS_LIVENESS;
    plain.lean = plain.bf16 = false;
    return build_plans(p, &o, &plain, err);
}

static int64_t parameters(const cx_graph *g, bool trainable_only)
{
    int64_t n = 0;
    for (int i = 0; i < g->n_values; i++)
        if (g->values[i].kind == CX_PARAM && !(trainable_only && g->values[i].frozen))
            n += cx_elems(g->values[i].shape);
    return n;
}

static json_t *step_json(const cx_plan *plan, int i)
{
    cx_step_info s = cx_plan_step(plan, i);
    return json_pack("{s:s, s:s, s:s, s:b, s:s, s:s, s:[i, i, i, i], s:I, s:I, s:I}", "phase", s.phase, "node", s.node, "op", s.op,
                     "folded_relu", s.folded_relu, "folds", s.folds, "implementation", s.impl, "output", (int)s.out.n, (int)s.out.h, (int)s.out.w, (int)s.out.c,
                     "bytes_read", (json_int_t)s.bytes_read,
                     "bytes_written", (json_int_t)s.bytes_written, "flops", (json_int_t)s.flops);
}

static json_t *totals_json(cx_plan_stats t)
{
    return json_pack("{s:i, s:I, s:I, s:I, s:I}", "steps", t.n_steps, "moved_bytes", (json_int_t)t.moved_bytes, "act_bytes", (json_int_t)t.act_bytes,
                     "flops_forward", (json_int_t)t.flops_forward, "flops_backward", (json_int_t)t.flops_backward);
}

static cx_status print_json(const planned *p, cx_error *err)
{
    cx_plan_stats t = cx_plan_get_stats(p->plan);
    json_t *steps = json_array();
    for (int i = 0; i < t.n_steps; i++)
        json_array_append_new(steps, step_json(p->plan, i));
    return cx_app_print_json(json_pack(
        "{s:s, s:s, s:i, s:b, s:s, s:I, s:I, s:{s:I, s:I, s:I, s:I, s:I}, s:I, s:I, s:o, s:o, s:o}", "arch", p->c.model.arch,
        "precision", p->c.plan.precision, "batch", p->batch,
        "training", p->training,
        "backend", p->backend->description, "parameters", (json_int_t)parameters(p->m.graph, false), "trainable", (json_int_t)parameters(p->m.graph, true),
        "bytes", "param", (json_int_t)t.param_bytes, "grad", (json_int_t)t.grad_bytes, "opt", (json_int_t)t.opt_bytes, "act", (json_int_t)t.act_bytes,
        "work", (json_int_t)t.work_bytes, "flops_forward", (json_int_t)t.flops_forward, "flops_backward", (json_int_t)t.flops_backward,
        "without_passes", totals_json(p->plain), "with_passes", totals_json(t), "steps", steps), err);
}

static void print_before(const planned *p)
{
    cx_plan_stats now = cx_plan_get_stats(p->plan), was = p->plain;
    char a[16], b[16], c[16], d[16];
    cx_format_bytes(was.moved_bytes, a);
    cx_format_bytes(now.moved_bytes, b);
    cx_format_bytes(was.act_bytes, c);
    cx_format_bytes(now.act_bytes, d);
    printf("by the passes: %d -> %d steps, %s -> %s read and written, %.3f -> %.3f GFLOP, ACT %s -> %s\n", was.n_steps, now.n_steps, a, b,
           (double)(was.flops_forward + was.flops_backward) / 1e9, (double)(now.flops_forward + now.flops_backward) / 1e9, c, d);
}

static cx_status run(const cx_verb *v, const cx_args *a, cx_error *err)
{
    (void)v;
    planned p = { .training = !cx_arg(a, "--eval") };
    TRY(cx_app_config(a, a->positional[0], &p.c, err));
    cx_status s = cx_arg_int(a, "--batch", p.c.optim.batch, 1, 4096, &p.batch, err);
    if (s == CX_OK)
        s = build(&p, err);
    if (s == CX_OK && cx_arg(a, "--json"))
        s = print_json(&p, err);
    else if (s == CX_OK) {
        printf("%s, %d x %d px, %d channels, %lld parameters (%lld train); ", p.c.model.arch, p.c.data.side, p.c.data.side, p.c.data.channels,
               (long long)parameters(p.m.graph, false), (long long)parameters(p.m.graph, true));
        printf("%s plan in %s for a batch of %d on %s\n\n", p.training ? "training" : "evaluation", p.c.plan.precision, p.batch, p.backend->description);
        cx_plan_print(p.plan, stdout);
        print_before(&p);
    }
    cx_plan_free(p.plan);
    cx_store_free(p.store);
    if (p.backend)
        cx_backend_close(p.backend);
    cx_model_free(&p.m);
    cx_config_free(&p.c);
    return s;
}

static const cx_flag flags[] = {
    CX_FLAG_SET,
    { "--batch", "N", "films per step; absent: optim.batch" },
    { "--eval", NULL, "the plan of inference instead of training" },
    CX_FLAG_DEVICE("run.device"),
    CX_FLAG_JSON,
};
const cx_verb cx_verb_plan = {
    .name = "plan", .args = "FILE.yaml", .doc = "print how an experiment's network is run: steps, implementations, bytes, FLOPs", .min_args = 1, .max_args = 1,
    .run = run, .flags = flags, .n_flags = CX_COUNT(flags),
    .more = "Needs no films. Column folds: what a step does besides its operator. pre: the norm in front is applied while reading; post: the norm\n"
            "behind is part of the weights; pool: the max pool behind is done as the map is made; stats: mean and variance of what it writes; carry: the\n"
            "rest of the gradients of norms is applied while reading; sums: what the gradients of the norm in front need; vectors: a norm of which only\n"
            "these vectors are left to compute; widened: bfloat16 reaches it by way of float32 copies.\n"
            "plan.fuse chooses the passes. The last lines are what a training holds in memory, by arena, and what the passes saved, with plan.precision\n"
            "and plan.memory, against a plain float32 plan."
};
