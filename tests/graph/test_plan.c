/* test_plan.c - whatever passes are on or off, a plan computes the same loss and gradients, equal to finite differences, and reads nothing stale. */
#include "runs.h"

/* Loss, all parameter gradients, all state after one training step: n_values floats each, concatenated. */
typedef struct { float loss; float *grad, *state; int64_t n_grad, n_state; } outcome;

static int64_t collect(cx_store *s, const net *n, cx_value_kind kind, float *to)
{
    int64_t at = 0;
    for (int v = 0; v < n->g->n_values; v++) {
        const cx_value *value = &n->g->values[v];
        if (value->kind != kind || (kind == CX_PARAM && value->frozen))
            continue;
        cx_tensor t = kind == CX_PARAM ? cx_store_grad(s, v) : cx_store_value(s, v);
        if (to)
            memcpy(to + at, t.p, (size_t)cx_elems(t.s) * sizeof(float));
        at += cx_elems(t.s);
    }
    return at;
}

static outcome train_once(net_fn make, int bits)
{
    net n = checked(make);
    ref_backend b;
    cx_store *s;
    cx_plan *p;
    ref_open(&b);
    assert_cx_ok(cx_store_new(n.g, &b.base, 3, &s, err));
    spread_params(s, &n);
    cx_plan_opts o = training_opts(&n);
    switches(&o, bits);
    assert_cx_ok(cx_plan_new(s, &o, &p, err));
    outcome r = { 0 };
    r.loss = run_forward(s, p, &n);
    assert_cx_ok(cx_plan_backward(p, err));
    r.n_grad = collect(s, &n, CX_PARAM, NULL);
    r.n_state = collect(s, &n, CX_STATE, NULL);
    r.grad = calloc((size_t)r.n_grad, sizeof(float));
    r.state = calloc((size_t)r.n_state + 1, sizeof(float));
    collect(s, &n, CX_PARAM, r.grad);
    collect(s, &n, CX_STATE, r.state);
    cx_plan_free(p);
    cx_store_free(s);
    assert_int_equal(b.live, 0);
    cx_graph_free(n.g);
    return r;
}

static void release(outcome *r)
{
    free(r->grad);
    free(r->state);
}

/* Every pass by itself on, by itself off, and a spread of combinations: multiples of an odd number walk over all of them. */
enum { PASSES = 10, SPREAD = 24 };
static int combination(int i)
{
    if (i < PASSES)
        return CX_PASS_ALL & ~(1 << i);
    if (i < 2 * PASSES)
        return 1 << (i - PASSES);
    i -= 2 * PASSES;
    return i == 0 ? 0 : i == 1 ? RUN_LEAN : (i * 205) % (2 * CX_PASS_ALL + 2);
}

/* Bit for bit where only memory moves, but for the tangle: there a gradient has more than two writers and views change the order of the sum. Where a norm is
 * folded, or a pool and a convolution change places, sums of float32 are rounded at other points. */
static double tolerance(net_fn make, int bits)
{
    const int exact = CX_PASS_PROLOGUE | CX_PASS_POOL_FIRST;
    return (bits & exact) != exact ? 2e-5 : make == tangle && !(bits & CX_PASS_VIEWS) ? 1e-6 : 0;
}

static void test_passes_change_nothing(void **state)
{
    (void)state;
    for (int k = 0; k < CX_COUNT(every_net); k++) {
        outcome want = train_once(every_net[k], CX_PASS_ALL);
        assert_true(isfinite(want.loss));
        double norm = 0;
        for (int64_t i = 0; i < want.n_grad; i++)
            norm += fabs((double)want.grad[i]);
        assert_true(isfinite(norm) && norm > 1e-3);
        for (int i = 0; i < 2 * PASSES + SPREAD; i++) {
            const int bits = combination(i);
            const double near = tolerance(every_net[k], bits);
            outcome got = train_once(every_net[k], bits);
            char what[64];
            snprintf(what, sizeof what, "net %d, without passes %x, gradient", k, (unsigned)bits);
            assert_close(what, got.grad, want.grad, want.n_grad, near, near);
            assert_close("loss", &got.loss, &want.loss, 1, near > 1e-6 ? 1e-6 : 0, 0);
            assert_close("state", got.state, want.state, want.n_state, near > 1e-6 ? 1e-6 : 0, near > 1e-6 ? 1e-6 : 0);
            release(&got);
        }
        release(&want);
    }
}

/* The directional derivative of the loss in each parameter, along its gradient plus a random direction. */
static void check_parameter(cx_store *s, cx_plan *p, const net *n, int v, const float *grad)
{
    int64_t elems = cx_elems(n->g->values[v].shape);
    float *start = calloc((size_t)elems, sizeof *start), *moved = calloc((size_t)elems, sizeof *moved);
    double *d = calloc((size_t)elems, sizeof *d), g2 = 0, r2 = 0, want = 0, loss[2];
    cx_rng r = cx_rng_new(8, (uint64_t)v);
    for (int64_t i = 0; i < elems; i++) {
        d[i] = cx_rng_normal(&r);
        r2 += d[i] * d[i];
        g2 += (double)grad[i] * (double)grad[i];
    }
    for (int64_t i = 0; i < elems; i++) {
        d[i] = d[i] / sqrt(r2) + (g2 > 0 ? (double)grad[i] / sqrt(g2) : 0);
        want += d[i] * (double)grad[i];
    }
    const double h = 5e-4;
    assert_cx_ok(cx_store_get(s, v, start, err));
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < elems; i++)
            moved[i] = (float)((double)start[i] + (side ? h : -h) * d[i]);
        assert_cx_ok(cx_store_set(s, v, moved, err));
        loss[side] = (double)run_forward(s, p, n);
    }
    assert_cx_ok(cx_store_set(s, v, start, err));
    double got = (loss[1] - loss[0]) / (2 * h);
    if (!(fabs(got - want) <= 0.02 * sqrt(g2) + 2e-4))
        fail_msg("%s, %s: finite difference %.6g, gradient says %.6g", n->name, n->g->values[v].name, got, want);
    free(start);
    free(moved);
    free(d);
}

static void test_gradients_are_derivatives(void **state)
{
    (void)state;
    for (int k = 0; k < CX_COUNT(every_net); k++) {
        net n = checked(every_net[k]);
        ref_backend b;
        cx_store *s;
        cx_plan *p;
        ref_open(&b);
        assert_cx_ok(cx_store_new(n.g, &b.base, 3, &s, err));
        spread_params(s, &n);
        cx_plan_opts o = training_opts(&n);
        assert_cx_ok(cx_plan_new(s, &o, &p, err));
        run_forward(s, p, &n);
        assert_cx_ok(cx_plan_backward(p, err));
        float *grads = calloc((size_t)s->trainable, sizeof *grads);
        memcpy(grads, s->grad, (size_t)s->trainable * sizeof *grads);
        for (int v = 0; v < n.g->n_values; v++)
            if (n.g->values[v].kind == CX_PARAM && !n.g->values[v].frozen)
                check_parameter(s, p, &n, v, grads + s->offset[v]);
        free(grads);
        cx_plan_free(p);
        cx_store_free(s);
        cx_graph_free(n.g);
    }
}

/* Gradient of a value under a seed at `output`, while the logits are kept too. param_grads on or off must not matter to it. */
static float *seeded_gradient(cx_store *s, const net *n, int output, int value, int bits, bool param_grads, int *steps)
{
    cx_plan *p;
    cx_plan_opts o = { .batch = BATCH, .backward = true, .output = output, .param_grads = param_grads, .keep = (int[]){ value, n->logits }, .n_keep = 2 };
    switches(&o, bits);
    assert_cx_ok(cx_plan_new(s, &o, &p, err));
    poison(s);
    set_inputs(p, n);
    cx_shape out = cx_plan_value(p, output).s;
    float *seed = calloc((size_t)cx_elems(out), sizeof *seed);
    for (int64_t i = 0; i < cx_elems(out); i += out.c)
        seed[i] = 1;
    assert_cx_ok(cx_plan_set_grad(p, output, seed, err));
    assert_cx_ok(cx_plan_forward(p, 0, 0, err));
    float *g = calloc((size_t)cx_elems(cx_plan_value(p, value).s), sizeof *g);
    assert_cx_ok(cx_plan_backward(p, err));
    assert_cx_fails(CX_E_USAGE, "forward", cx_plan_backward(p, err));
    assert_cx_ok(cx_plan_forward(p, 0, 0, err));         /* films and seed are still there */
    assert_cx_ok(cx_plan_backward(p, err));
    assert_cx_ok(cx_plan_get_grad(p, value, g, err));
    *steps = cx_plan_get_stats(p).n_steps;
    free(seed);
    cx_plan_free(p);
    return g;
}

static void test_activation_gradients(void **state)
{
    (void)state;
    for (int k = 0; k < CX_COUNT(every_net); k++) {
        net n = checked(every_net[k]);
        ref_backend b;
        cx_store *s;
        ref_open(&b);
        assert_cx_ok(cx_store_new(n.g, &b.base, 3, &s, err));
        spread_params(s, &n);
        const int wanted[] = { n.feature, n.x };
        for (int w = 0; w < 2; w++) {
            int all, few;
            int64_t elems = BATCH * cx_elems(n.g->values[wanted[w]].shape);
            float *want = seeded_gradient(s, &n, n.logits, wanted[w], CX_PASS_ALL, true, &all);
            for (int c = 0; c < 18 + SPREAD; c++) {
                const double near = tolerance(every_net[k], combination(c));
                float *got = seeded_gradient(s, &n, n.logits, wanted[w], combination(c), false, &few);
                assert_close(n.name, got, want, elems, near, near);
                for (int64_t i = 0; i < s->trainable; i++)
                    assert_true(isnan(s->grad[i]));     /* as poisoned: nothing writes parameter gradients */
                free(got);
            }
            if (w == 0) {
                free(seeded_gradient(s, &n, n.logits, wanted[w], 0, false, &few));
                assert_true(few < all);
            }
            free(want);
        }
        cx_store_free(s);
        cx_graph_free(n.g);
    }
}

/* The gradient of every value under a seed at every other one, with views and without: members of concats, concats themselves, values behind the seed. */
static void test_gradient_of_each_value(void **state)
{
    (void)state;
    const net_fn nets[] = { tangle, unet };
    for (int k = 0; k < CX_COUNT(nets); k++) {
        net n = checked(nets[k]);
        ref_backend b;
        cx_store *s;
        int steps, compared = 0;
        ref_open(&b);
        assert_cx_ok(cx_store_new(n.g, &b.base, 3, &s, err));
        spread_params(s, &n);
        for (int output = 0; output < n.g->n_values; output++)
            for (int v = 0; v < output; v++) {
                const cx_value *x = &n.g->values[v], *y = &n.g->values[output];
                if (y->kind != CX_ACT || x->kind != CX_ACT || y->out != 0 || x->out != 0 || output > n.logits)
                    continue;
                cx_plan_opts o = { .batch = BATCH, .backward = true, .output = output, .keep = &v, .n_keep = 1 };
                cx_plan *p;
                if (cx_plan_new(s, &o, &p, NULL) != CX_OK)        /* v does not lead to output */
                    continue;
                cx_plan_free(p);
                float *want = seeded_gradient(s, &n, output, v, 7, true, &steps), *got = seeded_gradient(s, &n, output, v, 0, false, &steps);
                char what[2 * CX_NAME_MAX + 8];
                snprintf(what, sizeof what, "d %s / d %s", y->name, x->name);
                assert_close(what, got, want, BATCH * cx_elems(x->shape), 1e-6, 1e-6);
                free(want);
                free(got);
                compared++;
            }
        assert_true(compared > 50);
        cx_store_free(s);
        cx_graph_free(n.g);
    }
}

/* Parameters beyond the output of the backward pass get zero, not the numbers of the step before. */
static void test_unreached_parameters_are_cleared(void **state)
{
    (void)state;
    net n = checked(base_net);
    ref_backend b;
    cx_store *s;
    cx_plan *p;
    ref_open(&b);
    assert_cx_ok(cx_store_new(n.g, &b.base, 3, &s, err));
    cx_plan_opts o = { .batch = BATCH, .training = true, .backward = true, .output = n.feature, .param_grads = true };
    assert_cx_ok(cx_plan_new(s, &o, &p, err));
    poison(s);
    set_inputs(p, &n);
    cx_tensor seed = cx_plan_grad(p, n.feature);
    for (int64_t i = 0; i < cx_elems(seed.s); i++)
        seed.p[i] = 1;
    assert_cx_ok(cx_plan_forward(p, 0, 0, err));
    assert_cx_ok(cx_plan_backward(p, err));
    for (int v = 0; v < n.g->n_values; v++) {
        cx_tensor g = cx_store_grad(s, v);
        double sum = 0;
        for (int64_t i = 0; g.p && i < cx_elems(g.s); i++)
            sum += fabs((double)g.p[i]);
        if (g.p && strncmp(n.g->values[v].name, "fc", 2) == 0)
            assert_true(sum == 0);
        else if (g.p)
            assert_true(sum > 0 && isfinite(sum));
    }
    cx_plan_free(p);
    cx_store_free(s);
    cx_graph_free(n.g);
}

/* Dropout is a function of seed and step, and of nothing else. */
static void test_dropout_follows_seed_and_step(void **state)
{
    (void)state;
    net n = checked(dropped);
    ref_backend b;
    cx_store *s;
    cx_plan *p;
    ref_open(&b);
    assert_cx_ok(cx_store_new(n.g, &b.base, 3, &s, err));
    cx_plan_opts o = training_opts(&n);
    assert_cx_ok(cx_plan_new(s, &o, &p, err));
    const struct { uint64_t seed, step; } at[] = { { 1, 0 }, { 1, 1 }, { 2, 0 }, { 1, 0 } };
    float loss[4];
    set_inputs(p, &n);
    for (int i = 0; i < 4; i++) {
        assert_cx_ok(cx_plan_forward(p, at[i].seed, at[i].step, err));
        assert_cx_ok(cx_plan_get(p, n.loss, &loss[i], err));
    }
    assert_true(loss[0] == loss[3] && loss[0] != loss[1] && loss[0] != loss[2] && loss[1] != loss[2]);
    cx_plan_free(p);
    cx_store_free(s);
    cx_graph_free(n.g);
}

/* The gradient of the film, against finite differences of a logit's sum. */
static double logit_sum(cx_store *s, const net *n, const float *film)
{
    cx_plan *p;
    cx_plan_opts o = { .batch = BATCH, .output = n->logits };
    assert_cx_ok(cx_plan_new(s, &o, &p, err));
    poison(s);
    assert_cx_ok(cx_plan_set(p, n->x, film, err));
    assert_cx_ok(cx_plan_forward(p, 0, 0, err));
    cx_shape out = cx_plan_value(p, n->logits).s;
    float *y = calloc((size_t)cx_elems(out), sizeof *y);
    assert_cx_ok(cx_plan_get(p, n->logits, y, err));
    double sum = 0;
    for (int64_t i = 0; i < cx_elems(out); i += out.c)
        sum += (double)y[i];
    free(y);
    cx_plan_free(p);
    return sum;
}

static void test_film_gradient(void **state)
{
    (void)state;
    for (int k = 0; k < CX_COUNT(every_net); k++) {
        net n = checked(every_net[k]);
        ref_backend b;
        cx_store *s;
        int steps;
        ref_open(&b);
        assert_cx_ok(cx_store_new(n.g, &b.base, 3, &s, err));
        spread_params(s, &n);
        float *g = seeded_gradient(s, &n, n.logits, n.x, 0, false, &steps);
        int64_t elems = BATCH * cx_elems(n.g->values[n.x].shape);
        float *film = calloc((size_t)elems, sizeof *film);
        double want = 0, side[2], norm = 0;
        for (int half = 0; half < 2; half++) {
            cx_rng r = cx_rng_new(77, 0), d = cx_rng_new(78, 0);
            want = norm = 0;
            for (int64_t i = 0; i < elems; i++) {
                double step = cx_rng_normal(&d);
                film[i] = (float)(cx_rng_normal(&r) + (half ? 5e-4 : -5e-4) * step);
                want += step * (double)g[i];
                norm += (double)g[i] * (double)g[i];
            }
            side[half] = logit_sum(s, &n, film);
        }
        double got = (side[1] - side[0]) / 1e-3;
        if (!(fabs(got - want) <= 0.03 * sqrt(norm) + 1e-3))
            fail_msg("%s: finite difference %.6g, gradient says %.6g", n.name, got, want);
        free(film);
        free(g);
        cx_store_free(s);
        cx_graph_free(n.g);
    }
}

/* An eval plan has no step for the loss, and no input that only the loss reads. */
static void test_eval_plan_leaves_the_loss_out(void **state)
{
    (void)state;
    net n = checked(base_net);
    ref_backend b;
    cx_store *s;
    cx_plan *p;
    ref_open(&b);
    assert_cx_ok(cx_store_new(n.g, &b.base, 3, &s, err));
    cx_plan_opts o = { .batch = 2, .output = n.logits };
    assert_cx_ok(cx_plan_new(s, &o, &p, err));
    for (int i = 0; i < cx_plan_get_stats(p).n_steps; i++)
        assert_string_not_equal(cx_plan_step(p, i).op, "bce_loss");
    float target[4] = { 0 }, loss;
    assert_null(cx_plan_value(p, n.target).p);
    assert_cx_fails(CX_E_USAGE, "target", cx_plan_set(p, n.target, target, err));
    assert_cx_fails(CX_E_USAGE, "keep", cx_plan_get(p, n.feature, target, err));
    assert_cx_fails(CX_E_USAGE, "loss", cx_plan_get(p, n.loss, &loss, err));
    assert_cx_fails(CX_E_USAGE, "not an input", cx_plan_set(p, n.logits, target, err));
    assert_cx_fails(CX_E_USAGE, "without backward", cx_plan_backward(p, err));
    cx_plan_free(p);
    cx_store_free(s);
    cx_graph_free(n.g);
}

/* Train and eval plans of one store: a larger plan moves the arenas, and the older plan still runs right. */
static void test_plans_share_arenas(void **state)
{
    (void)state;
    net n = checked(small_dense_net);
    ref_backend b;
    cx_store *s;
    cx_plan *small, *large;
    ref_open(&b);
    assert_cx_ok(cx_store_new(n.g, &b.base, 3, &s, err));
    cx_plan_opts o = { .batch = BATCH, .output = n.loss }, wide = training_opts(&n);
    wide.batch = 9;
    assert_cx_ok(cx_plan_new(s, &o, &small, err));
    size_t before = s->act_bytes;
    float first = run_forward(s, small, &n);
    assert_cx_ok(cx_plan_new(s, &wide, &large, err));
    assert_true(s->act_bytes > before);
    assert_true(isfinite(run_forward(s, large, &n)));
    assert_cx_ok(cx_plan_backward(large, err));
    float again = NAN;                                   /* the training run moved the running statistics: restore by a new store */
    cx_store *fresh;
    assert_cx_ok(cx_store_new(n.g, &b.base, 3, &fresh, err));
    for (int v = 0; v < n.g->n_values; v++)
        if (n.g->values[v].kind == CX_STATE)
            assert_cx_ok(cx_store_set(s, v, cx_store_value(fresh, v).p, err));
    again = run_forward(s, small, &n);
    assert_true(again == first);
    cx_plan_free(small);
    cx_plan_free(large);
    cx_store_free(fresh);
    cx_store_free(s);
    assert_int_equal(b.live, 0);
    cx_graph_free(n.g);
}

/* Kept values survive, whatever else the arena is used for; a kept concat is the same numbers as its members. */
static void test_kept_values(void **state)
{
    (void)state;
    net n = checked(small_dense_net);
    ref_backend b;
    cx_store *s;
    ref_open(&b);
    assert_cx_ok(cx_store_new(n.g, &b.base, 3, &s, err));
    int n_acts = 0, *keep = calloc((size_t)n.g->n_values, sizeof *keep);
    for (int v = 0; v < n.g->n_values; v++)
        if (n.g->values[v].kind == CX_ACT)
            keep[n_acts++] = v;
    cx_plan *all;
    cx_plan_opts o = { .batch = BATCH, .training = true, .output = n.loss, .keep = keep, .n_keep = n_acts };
    assert_cx_ok(cx_plan_new(s, &o, &all, err));
    run_forward(s, all, &n);
    float **want = calloc((size_t)n_acts, sizeof *want);
    for (int i = 0; i < n_acts; i++) {
        want[i] = calloc((size_t)cx_elems(cx_plan_value(all, keep[i]).s), sizeof **want);
        assert_cx_ok(cx_plan_get(all, keep[i], want[i], err));
    }
    cx_plan_free(all);
    for (int i = 0; i < n_acts; i++) {
        cx_plan *p;
        cx_plan_opts one = training_opts(&n);
        one.keep = &keep[i];
        one.n_keep = 1;
        assert_cx_ok(cx_plan_new(s, &one, &p, err));
        run_forward(s, p, &n);
        assert_cx_ok(cx_plan_backward(p, err));
        int64_t elems = cx_elems(cx_plan_value(p, keep[i]).s);
        float *got = calloc((size_t)elems, sizeof *got);
        assert_cx_ok(cx_plan_get(p, keep[i], got, err));
        assert_close(n.g->values[keep[i]].name, got, want[i], elems, 1e-6, 1e-6);     /* a norm whose output is kept is not folded */
        free(got);
        free(want[i]);
        cx_plan_free(p);
    }
    free(want);
    free(keep);
    cx_store_free(s);
    cx_graph_free(n.g);
}

/* What a loss counts for: twice half a gradient is the gradient, to the bit, and it stays so until it is set again. */
static void test_seed_of_a_loss(void **state)
{
    (void)state;
    net n = checked(small_dense_net);
    ref_backend b;
    cx_store *s;
    cx_plan *p;
    const float half = 0.5f;
    cx_plan_opts o = training_opts(&n);
    ref_open(&b);
    assert_cx_ok(cx_store_new(n.g, &b.base, 3, &s, err));
    assert_cx_ok(cx_plan_new(s, &o, &p, err));
    const int64_t count = cx_store_trainable(s);
    float *whole = calloc((size_t)count, sizeof *whole);
    set_inputs(p, &n);
    for (int i = 0; i < 3; i++) {
        assert_cx_ok(cx_plan_forward(p, 0, 0, err));
        assert_cx_ok(cx_plan_backward(p, err));
        const float *grad = cx_store_grads(s);
        for (int64_t k = 0; k < count && i > 0; k++)
            if (2 * grad[k] != whole[k])
                fail_msg("gradient %lld: twice %g, want %g", (long long)k, (double)grad[k], (double)whole[k]);
        if (i == 0) {
            memcpy(whole, grad, (size_t)count * sizeof *whole);
            assert_cx_ok(cx_plan_set_grad(p, n.loss, &half, err));
        }
    }
    free(whole);
    cx_plan_free(p);
    cx_store_free(s);
    cx_graph_free(n.g);
}

/* Every allocation of the backend made to fail in turn: an error, no leak, and the older plan still works. */
static void test_out_of_memory(void **state)
{
    (void)state;
    net n = checked(small_dense_net);
    for (int after = 0; after < 4; after++) {
        ref_backend b;
        cx_store *s = NULL;
        cx_plan *p = NULL, *small;
        ref_open(&b);
        b.until_failure = after;
        cx_plan_opts o = training_opts(&n);
        if (after < 2) {
            assert_cx_fails(CX_E_MEMORY, "told to fail", cx_store_new(n.g, &b.base, 3, &s, err));
            assert_null(s);
        } else {
            assert_cx_ok(cx_store_new(n.g, &b.base, 3, &s, err));
            assert_cx_fails(CX_E_MEMORY, "told to fail", cx_plan_new(s, &o, &p, err));
            b.until_failure = -1;
            cx_plan_opts eval = { .batch = 1, .output = n.logits };
            assert_cx_ok(cx_plan_new(s, &eval, &small, err));
            b.until_failure = 1;                         /* the plan's own arena is made; the larger ACT fails, and so does the way back */
            assert_cx_fails(CX_E_MEMORY, "told to fail", cx_plan_new(s, &o, &p, err));
            assert_cx_fails(CX_E_MEMORY, "arenas were lost", cx_plan_forward(small, 0, 0, err));
            b.until_failure = -1;
            assert_cx_ok(cx_plan_new(s, &o, &p, err));
            set_inputs(small, &n);
            assert_cx_ok(cx_plan_forward(small, 0, 0, err));
            cx_plan_free(p);
            cx_plan_free(small);
            cx_store_free(s);
        }
        assert_int_equal(b.live, 0);
    }
    cx_graph_free(n.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passes_change_nothing),
        cmocka_unit_test(test_gradients_are_derivatives),
        cmocka_unit_test(test_activation_gradients),
        cmocka_unit_test(test_gradient_of_each_value),
        cmocka_unit_test(test_unreached_parameters_are_cleared),
        cmocka_unit_test(test_dropout_follows_seed_and_step),
        cmocka_unit_test(test_film_gradient),
        cmocka_unit_test(test_eval_plan_leaves_the_loss_out),
        cmocka_unit_test(test_plans_share_arenas),
        cmocka_unit_test(test_kept_values),
        cmocka_unit_test(test_seed_of_a_loss),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
