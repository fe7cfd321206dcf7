/* runs.h - runs a net under given plan options with a poisoned arena, and collects its numbers. */
#ifndef CX_TESTS_RUNS_H
#define CX_TESTS_RUNS_H
#include "backend.h"
#include "graph/store.h"
#include "nets.h"
#include "ref_backend.h"

enum { BATCH = 3, RUN_LEAN = CX_PASS_ALL + 1, RUN_BF16 = 2 * RUN_LEAN };

/* Deterministic inputs; the parameters get some spread, so that norms and biases matter too. */
static void set_inputs(cx_plan *p, const net *n)
{
    const int input[] = { n->x, n->target };
    for (int k = 0; k < 2; k++) {
        cx_tensor t = cx_plan_value(p, input[k]);
        if (!t.p)
            continue;
        float *host = calloc((size_t)cx_elems(t.s), sizeof *host);
        cx_rng r = cx_rng_new(77, (uint64_t)k);
        for (int64_t i = 0; i < cx_elems(t.s); i++)
            host[i] = k == 0 ? (float)cx_rng_normal(&r) : (float)cx_rng_below(&r, n->classes ? (uint32_t)n->g->values[n->logits].shape.c : 2);
        assert_cx_ok(cx_plan_set(p, input[k], host, err));
        free(host);
    }
}

static void spread_params(cx_store *s, const net *n)
{
    for (int v = 0; v < n->g->n_values; v++) {
        if (n->g->values[v].kind != CX_PARAM && n->g->values[v].kind != CX_STATE)
            continue;
        int64_t elems = cx_elems(n->g->values[v].shape);
        float *host = calloc((size_t)elems, sizeof *host);
        cx_rng r = cx_rng_new(5, cx_hash(n->g->values[v].name));
        assert_cx_ok(cx_store_get(s, v, host, err));
        for (int64_t i = 0; i < elems; i++)
            host[i] += n->g->values[v].kind == CX_STATE ? 0.3f * (float)cx_rng_uniform(&r) : 0.1f * (float)cx_rng_normal(&r);
        assert_cx_ok(cx_store_set(s, v, host, err));
        free(host);
    }
}

static void fill_ff(cx_store *s, void *p, size_t bytes)
{
    if (!p || !bytes)
        return;
    void *ff = malloc(bytes);
    memset(ff, 0xff, bytes);
    assert_cx_ok(s->b->upload(s->b, p, ff, bytes, err));
    free(ff);
}

/* NaN everywhere that a run must not read before it writes. */
static void poison(cx_store *s)
{
    fill_ff(s, s->act, s->act_bytes);
    fill_ff(s, s->work, s->work_bytes);
    fill_ff(s, s->grad, (size_t)s->trainable * sizeof(float));
}

static cx_plan_opts training_opts(const net *n)
{
    return (cx_plan_opts){ .batch = BATCH, .training = true, .backward = true, .output = n->loss, .param_grads = true, .moments = 2 };
}

static inline void switches(cx_plan_opts *o, int bits)
{
    o->skip = (unsigned)bits & CX_PASS_ALL;
    o->lean = (bits & RUN_LEAN) != 0;
    o->bf16 = (bits & RUN_BF16) != 0;
}

static inline float run_forward(cx_store *s, cx_plan *p, const net *n)
{
    float loss = NAN;
    poison(s);
    set_inputs(p, n);
    assert_cx_ok(cx_plan_forward(p, 11, 4, err));
    assert_cx_ok(cx_plan_get(p, n->loss, &loss, err));
    return loss;
}

static net checked(net_fn make)
{
    net n = make();
    assert_cx_ok(cx_graph_check(n.g, err));
    return n;
}

/* One training step of a fresh store: the loss, and a copy of all gradients one after the other. */
static inline float *train_step(cx_backend *b, net_fn make, int bits, float *loss, int64_t *n_grad)
{
    net n = checked(make);
    cx_store *s;
    cx_plan *p;
    assert_cx_ok(cx_store_new(n.g, b, 3, &s, err));
    spread_params(s, &n);
    cx_plan_opts o = training_opts(&n);
    switches(&o, bits);
    assert_cx_ok(cx_plan_new(s, &o, &p, err));
    *loss = run_forward(s, p, &n);
    assert_cx_ok(cx_plan_backward(p, err));
    *n_grad = 0;
    float *grad = calloc((size_t)s->trainable, sizeof *grad);
    for (int v = 0; v < n.g->n_values; v++) {                  /* the gaps between parameters are still poisoned */
        cx_tensor g = cx_store_grad(s, v);
        if (g.p)
            assert_cx_ok(b->download(b, grad + *n_grad, g.p, (size_t)cx_elems(g.s) * sizeof *grad, err));
        *n_grad += g.p ? cx_elems(g.s) : 0;
    }
    cx_plan_free(p);
    cx_store_free(s);
    cx_graph_free(n.g);
    return grad;
}

/* The CPU gives the same loss and gradients, bit for bit, in all these ways. */
typedef struct { int threads, bits; } run_how;
static inline void assert_same_steps(net_fn make, const run_how *how, int n_how)
{
    float *first = NULL, loss[2];
    for (int i = 0; i < n_how; i++) {
        cx_backend *b;
        int64_t n;
        assert_cx_ok(cx_backend_open("cpu", how[i].threads, &b, err));
        float *grad = train_step(b, make, how[i].bits, &loss[i > 0], &n);
        if (i > 0) {
            assert_memory_equal(first, grad, (size_t)n * sizeof *grad);
            assert_memory_equal(&loss[0], &loss[1], sizeof(float));
            free(grad);
        } else {
            first = grad;
        }
        cx_backend_close(b);
    }
    free(first);
}
#endif
