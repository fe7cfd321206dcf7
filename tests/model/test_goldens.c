/* test_goldens.c - logits, losses, gradients and running statistics of whole networks against PyTorch's float64 (tools/oracle/models.py).
 *
 * Weights and inputs are drawn from Philox by name in both worlds; the golden files hold only answers: of a tensor its largest magnitude, its norm
 * and a strided sample. Everything agrees to 1e-4 of the tensor's largest magnitude. */
#include "cxnet/model.h"
#include "golden.h"

enum { SAMPLES = 12 };
#define TOLERANCE 1e-4

static double draw_value(const char *name, double u, cx_shape s)
{
    size_t n = strlen(name);
    bool bias = n >= 4 && strcmp(name + n - 4, "bias") == 0, norm = strstr(name, "norm");
    if (strstr(name, "running_mean"))
        return u * 0.2 - 0.1;
    if (strstr(name, "running_var"))
        return u + 0.5;
    if (strcmp(name, "loss.weight") == 0)
        return u * 1.5 + 0.25;
    if (bias)
        return norm ? (u < 0.5 ? -1 : 1) * (u + 2) : u * 0.2 - 0.1;
    return norm ? u * 0.5 + 0.75 : (u * 2 - 1) * sqrt(6 / (double)(s.h * s.w * s.c));
}

static void draw_store(cx_store *s, uint64_t seed)
{
    const cx_graph *g = cx_store_graph(s);
    for (int i = 0; i < g->n_values; i++) {
        const cx_value *v = &g->values[i];
        if (v->kind != CX_PARAM && v->kind != CX_STATE)
            continue;
        int64_t n = cx_elems(v->shape);
        float *host = cx_alloc((size_t)n, sizeof *host);
        cx_rng rng = cx_rng_new(seed, cx_hash(v->name));
        assert_non_null(host);
        for (int64_t e = 0; e < n; e++)
            host[e] = (float)draw_value(v->name, cx_rng_uniform(&rng), v->shape);
        assert_cx_ok(cx_store_set(s, i, host, err));
        free(host);
    }
}

/* [-2, 2) by name; free() it. */
static float *draw_signed(uint64_t seed, const char *name, int64_t n)
{
    float *host = cx_alloc((size_t)n, sizeof *host);
    cx_rng rng = cx_rng_new(seed, cx_hash(name));
    assert_non_null(host);
    for (int64_t e = 0; e < n; e++)
        host[e] = (float)(cx_rng_uniform(&rng) * 4 - 2);
    return host;
}

typedef enum { LOSS_NONE, LOSS_SEEDED, LOSS_BCE, LOSS_CE, LOSS_DICE } loss_kind;
typedef struct { const char *golden; uint64_t seed; cx_model_spec spec; int batch; loss_kind loss; bool training; } network;

/* One network with its drawn numbers, compiled and ready to run. */
typedef struct {
    const network *k;
    cx_model m;
    int loss, target, weights;
    cx_backend *backend;
    cx_store *store;
    cx_plan *plan;
    golden golden;
} trial;

static void set_input(trial *t)
{
    cx_shape s = t->m.graph->values[t->m.input].shape;
    float *x = draw_signed(t->k->seed, "input", t->k->batch * s.h * s.w * s.c);
    assert_cx_ok(cx_plan_set(t->plan, t->m.input, x, err));
    free(x);
}

/* BCE, Dice: a fifth unlabelled, the rest halves; CE: classes. */
static void set_target(trial *t)
{
    int64_t classes = t->m.graph->values[t->m.logits].shape.c, n = t->k->batch * cx_elems(t->m.graph->values[t->target].shape);
    float *y = cx_alloc((size_t)n, sizeof *y);
    cx_rng rng = cx_rng_new(t->k->seed, cx_hash("target"));
    assert_non_null(y);
    for (int64_t i = 0; i < n; i++) {
        double u = cx_rng_uniform(&rng);
        y[i] = t->k->loss == LOSS_CE ? (float)floor(u * (double)classes) : u < 0.2 ? -1 : u < 0.6 ? 0 : 1;
    }
    assert_cx_ok(cx_plan_set(t->plan, t->target, y, err));
    free(y);
}

static void open_trial(trial *t, const network *k, const char *backend, cx_plan_opts opts)
{
    *t = (trial){ .k = k, .loss = -1, .target = -1, .weights = -1 };
    char *path = cx_sprintf("tests/golden/model_%s.safetensors", k->golden);
    golden_open(&t->golden, path);
    free(path);
    assert_cx_ok(cx_model_new(&k->spec, &t->m, err));
    if (k->loss >= LOSS_BCE)
        t->loss = cx_model_loss(&t->m, (cx_loss_kind)(k->loss - LOSS_BCE), k->loss == LOSS_DICE ? 0 : 0.1, &t->target, &t->weights);
    assert_cx_ok(cx_backend_open(backend, 2, &t->backend, err));
    assert_cx_ok(cx_store_new(t->m.graph, t->backend, 1, &t->store, err));
    draw_store(t->store, k->seed);
    const int keep[] = { t->m.input, t->m.logits };
    opts.batch = k->batch;
    opts.training = k->training;
    opts.backward = k->loss != LOSS_NONE;
    opts.output = k->loss >= LOSS_BCE ? t->loss : t->m.logits;
    opts.param_grads = opts.backward;
    opts.keep = keep;
    opts.n_keep = opts.backward ? 2 : 0;
    assert_cx_ok(cx_plan_new(t->store, &opts, &t->plan, err));
    set_input(t);
    if (t->target >= 0)
        set_target(t);
}

static void close_trial(trial *t)
{
    cx_plan_free(t->plan);
    cx_store_free(t->store);
    cx_backend_close(t->backend);
    cx_model_free(&t->m);
    golden_close(&t->golden);
}

static void compare_whole(trial *t, const char *name, int value)
{
    int64_t n = 0;
    float *want = golden_get(&t->golden, name, &n), *got = cx_alloc((size_t)n, sizeof *got);
    assert_true(want && got);
    assert_cx_ok(cx_plan_get(t->plan, value, got, err));
    assert_close(name, got, want, n, 0, TOLERANCE);
    free(want);
    free(got);
}

/* Largest magnitude, norm and sample of x against the golden summary `what`/`name`. */
static void compare_summary(trial *t, const char *what, const char *name, const float *x, int64_t n)
{
    char *key = cx_sprintf("%s/%s", what, name);
    int64_t n_want = 0, stride = 1 + n / SAMPLES;
    float *want = golden_get(&t->golden, key, &n_want);
    if (!want)
        fail_msg("%s: no golden for %s", t->k->golden, key);
    assert_int_equal(n_want, 2 + (n + stride - 1) / stride);
    double largest = 0, squares = 0, scale = (double)want[0];
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)x[i]));
        squares += (double)x[i] * (double)x[i];
    }
    if (!(fabs(largest - scale) <= TOLERANCE * scale) || !(fabs(sqrt(squares) - (double)want[1]) <= TOLERANCE * (double)want[1]))
        fail_msg("%s: %s has largest %.8g and norm %.8g, want %.8g and %.8g", t->k->golden, key, largest, sqrt(squares), scale, (double)want[1]);
    for (int64_t i = 0; i * stride < n; i++)
        if (!(fabs((double)x[i * stride] - (double)want[2 + i]) <= TOLERANCE * scale))
            fail_msg("%s: %s[%lld] = %.8g, want %.8g (largest %.8g)", t->k->golden, key, (long long)(i * stride), (double)x[i * stride],
                     (double)want[2 + i], scale);
    free(want);
    free(key);
}

static void compare_gradients(trial *t)
{
    const cx_graph *g = t->m.graph;
    for (int i = 0; i < g->n_values; i++) {
        bool state = g->values[i].kind == CX_STATE && i != t->weights && t->k->training;
        if (i != t->m.input && g->values[i].kind != CX_PARAM && !state)
            continue;
        int64_t n = cx_elems(g->values[i].shape) * (i == t->m.input ? t->k->batch : 1);
        float *host = cx_alloc((size_t)n, sizeof *host);
        assert_non_null(host);
        if (i == t->m.input) {
            assert_cx_ok(cx_plan_get_grad(t->plan, i, host, err));
        } else if (state) {
            assert_cx_ok(cx_store_get(t->store, i, host, err));
        } else {
            cx_tensor grad = cx_store_grad(t->store, i);
            assert_non_null(grad.p);
            assert_cx_ok(t->backend->download(t->backend, host, grad.p, (size_t)n * sizeof *host, err));
        }
        compare_summary(t, state ? "state" : "grad", g->values[i].name, host, n);
        free(host);
    }
}

static void check_network(const network *k, const char *backend, cx_plan_opts opts)
{
    trial t;
    open_trial(&t, k, backend, opts);
    assert_cx_ok(cx_plan_forward(t.plan, 1, 0, err));
    compare_whole(&t, "logits", t.m.logits);
    if (t.loss >= 0)
        compare_whole(&t, "loss", t.loss);
    if (k->loss == LOSS_SEEDED) {
        float *gradient = draw_signed(k->seed, "seed", k->batch * k->spec.outputs);
        assert_cx_ok(cx_plan_set_grad(t.plan, t.m.logits, gradient, err));
        free(gradient);
    }
    if (k->loss != LOSS_NONE) {
        assert_cx_ok(cx_plan_backward(t.plan, err));
        compare_gradients(&t);
    }
    close_trial(&t);
}

static const network networks[] = {
    { "base_cnn", 2054, { "base_cnn", 97, 3, .outputs = 3 }, 3, LOSS_CE, true },
    { "densenet121_train", 2024, { "densenet121", 64, 3, .outputs = 14 }, 3, LOSS_BCE, true },
    { "densenet121_eval", 2054,
      { "densenet121", 64, 3, .hidden = 10, .dropout = 0.2, .outputs = 1, .norm_eps = 1.001e-5, .no_final_relu = true }, 2, LOSS_SEEDED, false },
    { "densenet169", 2054, { "densenet169", 48, 3, .outputs = 5 }, 2, LOSS_NONE, false },
    { "densenet201", 2054, { "densenet201", 48, 3, .outputs = 2 }, 2, LOSS_NONE, false },
    { "unet", 2101, { "unet", 32, 1, .outputs = 1, .base = 2 }, 2, LOSS_DICE, true },
    { "unet_norm", 2082, { "unet", 12, 3, .outputs = 2, .base = 3, .depth = 2, .norm = true }, 3, LOSS_DICE, true },
};

static void base_cnn(void **state) { (void)state; check_network(&networks[0], "cpu", (cx_plan_opts){ 0 }); }
static void densenet121_train(void **state) { (void)state; check_network(&networks[1], "cpu", (cx_plan_opts){ 0 }); }
static void densenet121_eval(void **state) { (void)state; check_network(&networks[2], "cpu", (cx_plan_opts){ 0 }); }
static void densenet169(void **state) { (void)state; check_network(&networks[3], "cpu", (cx_plan_opts){ 0 }); }
static void densenet201(void **state) { (void)state; check_network(&networks[4], "cpu", (cx_plan_opts){ 0 }); }

static void unet(void **state) { (void)state; check_network(&networks[5], "cpu", (cx_plan_opts){ 0 }); }
static void unet_norm(void **state) { (void)state; check_network(&networks[6], "cpu", (cx_plan_opts){ 0 }); }

static void portable_backend(void **state)
{
    (void)state;
    check_network(&networks[0], "cpu:portable", (cx_plan_opts){ 0 });
    check_network(&networks[5], "cpu:portable", (cx_plan_opts){ 0 });
}

static void without_the_plan_s_passes(void **state)
{
    (void)state;
    check_network(&networks[2], "cpu", (cx_plan_opts){ .skip = CX_PASS_ALL });
    check_network(&networks[6], "cpu", (cx_plan_opts){ .skip = CX_PASS_ALL });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base_cnn), cmocka_unit_test(densenet121_train), cmocka_unit_test(densenet121_eval), cmocka_unit_test(densenet169),
        cmocka_unit_test(densenet201), cmocka_unit_test(unet), cmocka_unit_test(unet_norm),
        cmocka_unit_test(portable_backend), cmocka_unit_test(without_the_plan_s_passes),
    };
    return cmocka_run_group_tests_name("model goldens", tests, NULL, NULL);
}
