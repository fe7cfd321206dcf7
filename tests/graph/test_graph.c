/* test_graph.c - building: shapes, names, freezing, start values, and what wrong graphs and wrong plans are told. */
#include "nets.h"
#include "graph/store.h"
#include "ref_backend.h"

/* ---- wrong graphs -------------------------------------------------------------------------------------------------- */

typedef struct { const char *what; cx_status status; const char *contains; void (*build)(cx_graph *g, int x); } wrong;
#define WRONG(fn, body) static void fn(cx_graph *g, int x) { (void)x; body; }

WRONG(taken, cx_relu(g, "film", x))
WRONG(taken_param, (cx_linear(g, "a", cx_global_avg_pool(g, "g", x), 2, CX_INIT_ZERO),
                    cx_param(g, "a.weight", CX_PARAM, (cx_shape){ 1, 1, 1, 1 }, CX_INIT_ZERO)))
WRONG(nameless, cx_relu(g, "", x))
WRONG(null_name, cx_relu(g, NULL, x))
WRONG(long_name, cx_relu(g, "a_name_that_goes_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on", x))
WRONG(long_param, cx_conv2d(g, "a_name_that_is_short_enough_for_a_node_but_not_for_the_weight_and_the_bias_that_belong_to_itttt", x,
                            (cx_conv_spec){ 2, 1, 1, 0, true, CX_INIT_ZERO }))
WRONG(no_value, cx_relu(g, "r", 99))
WRONG(negative, cx_add(g, "sum", x, -1))
WRONG(conv_negative, cx_conv2d(g, "c", -1, (cx_conv_spec){ 2, 3, 1, 0, false, CX_INIT_ZERO }))
WRONG(no_channels, cx_conv2d(g, "c", x, (cx_conv_spec){ 0, 3, 1, 0, false, CX_INIT_ZERO }))
WRONG(no_stride, cx_conv2d(g, "c", x, (cx_conv_spec){ 2, 3, 0, 0, false, CX_INIT_ZERO }))
WRONG(wide_kernel, cx_conv2d(g, "c", x, (cx_conv_spec){ 2, 11, 1, 0, false, CX_INIT_ZERO }))
WRONG(wrong_weight, cx_apply(g, "c", CX_OP_CONV2D, &(cx_conv_attr){ 1, 0, 0, 0, 0 },
                             (int[]){ x, cx_param(g, "w", CX_PARAM, (cx_shape){ 4, 3, 3, 5 }, CX_INIT_ZERO) }, 2))
WRONG(linear_on_map, cx_linear(g, "fc", x, 2, CX_INIT_ZERO))
WRONG(sum_of_others, cx_add(g, "sum", x, cx_max_pool(g, "p", x, 2, 2, 0)))
WRONG(concat_of_others, cx_concat(g, "cat", x, cx_max_pool(g, "p", x, 2, 2, 0)))
WRONG(wide_pool, cx_max_pool(g, "p", x, 9, 1, 0))
WRONG(full_dropout, cx_dropout(g, "d", x, 1.5f))
WRONG(no_attributes, cx_apply(g, "c", CX_OP_CONV2D, NULL, (int[]){ x, x }, 2))
WRONG(no_operator, cx_apply(g, "c", (cx_op_id)1234, NULL, &x, 1))
WRONG(few_inputs, cx_apply(g, "c", CX_OP_ADD, NULL, &x, 1))
WRONG(many_inputs, cx_apply(g, "c", CX_OP_RELU, NULL, (int[]){ x, x }, 2))
WRONG(wrong_target, cx_bce_loss(g, "loss", cx_global_avg_pool(g, "g", x), x, -1, 0))
WRONG(wrong_weights, cx_bce_loss(g, "loss", cx_global_avg_pool(g, "g", x), cx_input(g, "t", (cx_shape){ 1, 1, 1, 3 }),
                                 cx_param(g, "w", CX_STATE, (cx_shape){ 1, 1, 2, 7 }, CX_INIT_ONE), 0))
WRONG(batched_input, cx_input(g, "t", (cx_shape){ 4, 8, 8, 1 }))
WRONG(empty_input, cx_input(g, "t", (cx_shape){ 1, 8, 0, 1 }))
WRONG(huge_input, cx_input(g, "t", (cx_shape){ 1, INT64_MAX / 2, 8, 1 }))
WRONG(act_param, cx_param(g, "t", CX_ACT, (cx_shape){ 1, 1, 1, 1 }, CX_INIT_ZERO))
WRONG(no_init, cx_param(g, "t", CX_PARAM, (cx_shape){ 1, 1, 1, 1 }, (cx_init)77))
WRONG(zero_upsample, cx_upsample(g, "u", x, 0, 4, false))
WRONG(no_eps, cx_batch_norm(g, "n", x, (cx_norm_attr){ -1, 0.1f, false, true }))

static const wrong table[] = {
    { "taken", CX_E_USAGE, "film: a value of this name exists already", taken },
    { "taken_param", CX_E_USAGE, "a.weight: a value of this name", taken_param },
    { "nameless", CX_E_USAGE, "without a name", nameless },
    { "null_name", CX_E_USAGE, "without a name", null_name },
    { "long_name", CX_E_USAGE, "at most 95 characters", long_name },
    { "long_param", CX_E_USAGE, "at most 95 characters", long_param },
    { "no_value", CX_E_USAGE, "r: relu: input 0 is value 99", no_value },
    { "negative", CX_E_USAGE, "sum: add: input 1 is value -1", negative },
    { "conv_negative", CX_E_USAGE, "c: input is value -1", conv_negative },
    { "no_channels", CX_E_SHAPE, "c.weight: shape (0,3,3,3)", no_channels },
    { "no_stride", CX_E_CONFIG, "c: conv2d: stride", no_stride },
    { "wide_kernel", CX_E_SHAPE, "c: conv2d:", wide_kernel },
    { "wrong_weight", CX_E_SHAPE, "c: conv2d:", wrong_weight },
    { "linear_on_map", CX_E_SHAPE, "fc: linear:", linear_on_map },
    { "sum_of_others", CX_E_SHAPE, "sum: add:", sum_of_others },
    { "concat_of_others", CX_E_SHAPE, "cat: concat:", concat_of_others },
    { "wide_pool", CX_E_SHAPE, "p: max_pool:", wide_pool },
    { "full_dropout", CX_E_CONFIG, "d: dropout:", full_dropout },
    { "no_attributes", CX_E_USAGE, "c: conv2d needs its attributes", no_attributes },
    { "no_operator", CX_E_USAGE, "operator 1234", no_operator },
    { "few_inputs", CX_E_USAGE, "c: add takes 2 to 2 inputs, got 1", few_inputs },
    { "many_inputs", CX_E_USAGE, "c: relu takes 1 to 1 inputs, got 2", many_inputs },
    { "wrong_target", CX_E_SHAPE, "loss: bce_loss:", wrong_target },
    { "wrong_weights", CX_E_SHAPE, "loss: bce_loss:", wrong_weights },
    { "batched_input", CX_E_SHAPE, "t: an input is given at batch 1, got 4", batched_input },
    { "empty_input", CX_E_SHAPE, "t: shape (1,8,0,1)", empty_input },
    { "huge_input", CX_E_SHAPE, "t: shape", huge_input },
    { "act_param", CX_E_USAGE, "t: cx_param makes", act_param },
    { "no_init", CX_E_USAGE, "t: unknown initialisation 77", no_init },
    { "zero_upsample", CX_E_CONFIG, "u: upsample_bilinear:", zero_upsample },
    { "no_eps", CX_E_CONFIG, "n: batch_norm:", no_eps },
};

static void test_wrong_graphs(void **state)
{
    (void)state;
    for (int i = 0; i < CX_COUNT(table); i++) {
        cx_graph *g = cx_graph_new();
        int x = cx_input(g, "film", (cx_shape){ 1, 8, 8, 3 });
        cx_error err = { 0 };
        table[i].build(g, x);
        cx_status s = cx_graph_check(g, &err);
        if (s != table[i].status || !strstr(err.text, table[i].contains))
            fail_msg("%s: status %d, message \"%s\"", table[i].what, (int)s, err.text);
        char first[512];
        memcpy(first, err.text, sizeof first);
        int values = g->n_values, nodes = g->n_nodes;
        assert_int_equal(cx_conv2d(g, "later", x, (cx_conv_spec){ 2, 1, 1, 0, true, CX_INIT_ZERO }), -1);
        assert_int_equal(cx_relu(g, "later", x), -1);
        assert_int_equal(cx_input(g, "later", (cx_shape){ 1, 1, 1, 1 }), -1);
        assert_int_equal(g->n_values, values);           /* after a failure nothing is built, and the first message stays */
        assert_int_equal(g->n_nodes, nodes);
        cx_graph_check(g, &err);
        assert_string_equal(err.text, first);
        ref_backend b;
        cx_store *store;
        ref_open(&b);
        assert_cx_fails(table[i].status, table[i].contains, cx_store_new(g, &b.base, 1, &store, err));
        cx_graph_free(g);
    }
}

static void test_no_graph(void **state)
{
    (void)state;
    assert_int_equal(cx_relu(NULL, "r", 0), -1);
    assert_int_equal(cx_conv2d(NULL, "c", 0, (cx_conv_spec){ 1, 1, 1, 0, false, CX_INIT_ZERO }), -1);
    assert_int_equal(cx_input(NULL, "x", (cx_shape){ 1, 1, 1, 1 }), -1);
    assert_int_equal(cx_graph_find(NULL, "x"), -1);
    assert_int_equal(cx_graph_freeze(NULL, "*"), 0);
    assert_cx_fails(CX_E_MEMORY, "no memory", cx_graph_check(NULL, err));
    cx_graph_free(NULL);
    cx_plan_free(NULL);
    cx_store_free(NULL);
}

/* ---- right graphs -------------------------------------------------------------------------------------------------- */

static void test_shapes_and_names(void **state)
{
    (void)state;
    net n = dense_net(64, 3, 16, 8, (const int[]){ 2, 3 }, 2, 5);
    assert_cx_ok(cx_graph_check(n.g, err));
    const struct { const char *name; cx_shape s; } want[] = {
        { "conv0", { 1, 32, 32, 16 } }, { "pool0", { 1, 16, 16, 16 } }, { "block0.layer1.cat", { 1, 16, 16, 32 } },
        { "transition0.pool", { 1, 8, 8, 16 } }, { "block1.layer2.cat", { 1, 8, 8, 40 } }, { "classifier", { 1, 1, 1, 5 } },
        { "conv0.weight", { 16, 7, 7, 3 } }, { "block1.layer0.conv2.weight", { 8, 3, 3, 32 } }, { "norm5.running_var", { 1, 1, 1, 40 } },
        { "norm0:1", { 1, 1, 1, 16 } }, { "loss", { 1, 1, 1, 1 } },
    };
    for (int i = 0; i < CX_COUNT(want); i++) {
        int v = cx_graph_find(n.g, want[i].name);
        if (v < 0 || !cx_shape_eq(n.g->values[v].shape, want[i].s))
            fail_msg("%s: absent or of another shape", want[i].name);
    }
    for (int k = 0; k < n.g->n_nodes; k++)               /* topological order */
        for (int i = 0; i < n.g->nodes[k].n_in; i++)
            assert_true(n.g->nodes[k].in[i] < 0 || n.g->values[n.g->nodes[k].in[i]].node < k);
    cx_graph_free(n.g);
}

static bool norm_frozen(const cx_graph *g, const char *name)
{
    cx_norm_attr attr;
    memcpy(&attr, g->nodes[g->values[cx_graph_find(g, name)].node].attr.bytes, sizeof attr);
    return attr.frozen;
}

static void test_freeze(void **state)
{
    (void)state;
    net n = small_dense_net();
    int params = 0;
    for (int v = 0; v < n.g->n_values; v++)
        params += n.g->values[v].kind == CX_PARAM;
    assert_int_equal(cx_graph_freeze(n.g, "nothing"), 0);
    assert_int_equal(cx_graph_freeze(n.g, "norm?.weight"), 2);
    assert_false(norm_frozen(n.g, "norm0"));             /* beta still learns */
    assert_int_equal(cx_graph_freeze(n.g, "norm0.b*"), 1);
    assert_true(norm_frozen(n.g, "norm0"));
    assert_false(norm_frozen(n.g, "norm5"));
    assert_int_equal(cx_graph_freeze(n.g, "*layer?.c*2.*t"), 5);
    assert_int_equal(cx_graph_freeze(n.g, "conv0.weigh"), 0);
    assert_int_equal(cx_graph_freeze(n.g, "*"), params);
    cx_graph_free(n.g);
}

/* Layout: trainable, then frozen, then state, in graph order, at multiples of 64 bytes. Start values depend on seed and name alone. */
static void test_store(void **state)
{
    (void)state;
    net n = small_dense_net();
    ref_backend b;
    cx_store *s, *same, *other;
    ref_open(&b);
    cx_graph_freeze(n.g, "block0.*");
    assert_cx_ok(cx_store_new(n.g, &b.base, 7, &s, err));
    assert_cx_ok(cx_store_new(n.g, &b.base, 7, &same, err));
    assert_cx_ok(cx_store_new(n.g, &b.base, 8, &other, err));
    int64_t at[3] = { 0, cx_store_trainable(s), 0 };
    for (int pass = 0; pass < 3; pass++) {
        at[pass] = pass == 0 ? 0 : at[pass - 1];
        for (int v = 0; v < n.g->n_values; v++) {
            const cx_value *x = &n.g->values[v];
            int part = x->kind == CX_PARAM ? x->frozen : x->kind == CX_STATE ? 2 : -1;
            if (part != pass)
                continue;
            cx_tensor t = cx_store_value(s, v), g = cx_store_grad(s, v);
            assert_ptr_equal(t.p, cx_store_params(s) + at[pass]);
            if (pass == 0)
                assert_ptr_equal(g.p, cx_store_grads(s) + at[pass]);
            else
                assert_null(g.p);
            assert_int_equal((uintptr_t)t.p % 64, 0);
            at[pass] += (cx_elems(x->shape) + 15) / 16 * 16;
        }
    }
    assert_int_equal(at[0], cx_store_trainable(s));
    assert_memory_equal(s->param, same->param, (size_t)s->total * sizeof(float));
    assert_memory_not_equal(s->param, other->param, (size_t)s->total * sizeof(float));
    float *m, *v, one = 0;
    assert_cx_ok(cx_store_moments(s, &m, NULL, err));
    assert_null(s->v);
    assert_cx_ok(cx_store_moments(s, &m, &v, err));
    assert_true(m && v && m[0] == 0 && v[0] == 0);
    assert_null(cx_store_value(s, n.x).p);
    assert_cx_fails(CX_E_USAGE, "film is neither", cx_store_get(s, n.x, &one, err));
    assert_cx_fails(CX_E_USAGE, "value -1", cx_store_set(s, -1, &one, err));
    cx_store_free(s);
    cx_store_free(same);
    cx_store_free(other);
    assert_int_equal(b.live, 0);
    cx_graph_free(n.g);
}

/* Mean and deviation of every initialisation, against its formula; 5 standard errors. */
static void test_start_values(void **state)
{
    (void)state;
    cx_graph *g = cx_graph_new();
    const cx_shape s = { 40, 3, 3, 50 };
    const double fan_in = 450, fan_out = 360;
    const double want[] = { 0, 0, sqrt(2 / fan_in), sqrt(2 / (fan_in + fan_out)), 1 / sqrt(3 * fan_in) };
    const double bound[] = { 0, 1, 6 * sqrt(2 / fan_in), sqrt(6 / (fan_in + fan_out)), 1 / sqrt(fan_in) };
    char name[5][16];
    int v[5];
    for (int i = 0; i < 5; i++) {
        snprintf(name[i], sizeof name[i], "p%d", i);
        v[i] = cx_param(g, name[i], CX_PARAM, s, (cx_init)i);
    }
    ref_backend b;
    cx_store *store;
    ref_open(&b);
    assert_cx_ok(cx_store_new(g, &b.base, 1, &store, err));
    double n = (double)cx_elems(s);
    for (int i = 0; i < 5; i++) {
        double sum = 0, sum2 = 0, largest = 0;
        cx_tensor t = cx_store_value(store, v[i]);
        for (int64_t k = 0; k < cx_elems(s); k++) {
            sum += (double)t.p[k];
            sum2 += (double)t.p[k] * (double)t.p[k];
            largest = fmax(largest, fabs((double)t.p[k]));
        }
        double mean = sum / n, deviation = sqrt(fmax(0, sum2 / n - mean * mean));
        assert_true(fabs(mean - (i == CX_INIT_ONE)) <= 5 * want[i] / sqrt(n));
        assert_true(fabs(deviation - want[i]) <= 5 * want[i] / sqrt(2 * n));
        assert_true(largest <= bound[i] && largest >= 0.5 * bound[i]);
    }
    cx_store_free(store);
    cx_graph_free(g);
}

/* ---- wrong plans --------------------------------------------------------------------------------------------------- */

/* Threads make the pieces of a large value; each element is what one sequence of draws gives. */
static void test_start_values_are_one_sequence(void **state)
{
    (void)state;
    ref_backend b;
    ref_open(&b);
    cx_graph *g = cx_graph_new();
    int x = cx_conv2d(g, "conv", cx_input(g, "film", (cx_shape){ 1, 4, 4, 50 }), (cx_conv_spec){ 67, 3, 1, 1, false, CX_INIT_HE_NORMAL });
    x = cx_linear(g, "head", cx_global_avg_pool(g, "pool", x), 151, CX_INIT_TORCH_LINEAR);
    assert_true(x >= 0);
    assert_cx_ok(cx_graph_check(g, err));
    cx_store *s;
    assert_cx_ok(cx_store_new(g, &b.base, 9, &s, err));
    for (int v = 0; v < g->n_values; v++) {
        const cx_value *value = &g->values[v];
        if (value->kind != CX_PARAM || (value->init != CX_INIT_HE_NORMAL && value->init != CX_INIT_TORCH_LINEAR))
            continue;
        const int64_t n = cx_elems(value->shape);
        const double fan_in = (double)(value->shape.h * value->shape.w * value->shape.c);
        float *got = calloc((size_t)n, sizeof *got);
        cx_rng r = cx_rng_new(9, cx_hash(value->name));
        assert_cx_ok(cx_store_get(s, v, got, err));
        assert_true(n > 8192);
        for (int64_t i = 0; i < n; i++) {
            const float want = (float)(value->init == CX_INIT_HE_NORMAL ? sqrt(2 / fan_in) * cx_rng_normal(&r)
                                                                        : 1 / sqrt(fan_in) * (2 * cx_rng_uniform(&r) - 1));
            if (got[i] != want)
                fail_msg("%s[%lld] is %.9g, want %.9g", value->name, (long long)i, (double)got[i], (double)want);
        }
        free(got);
    }
    cx_store_free(s);
    cx_graph_free(g);
}

static void test_wrong_plans(void **state)
{
    (void)state;
    net n = small_dense_net();
    ref_backend b;
    cx_store *s;
    cx_plan *p;
    ref_open(&b);
    assert_cx_ok(cx_store_new(n.g, &b.base, 7, &s, err));
    int weight = cx_graph_find(n.g, "conv0.weight"), beyond = n.g->n_values;
    const struct { cx_plan_opts o; cx_status status; const char *contains; } bad[] = {
        { { .batch = 0, .output = -1 }, CX_E_USAGE, "want a batch >= 1, got 0" },
        { { .batch = 1, .output = n.x }, CX_E_USAGE, "(film), which no node makes" },
        { { .batch = 1, .output = weight }, CX_E_USAGE, "(conv0.weight), which no node makes" },
        { { .batch = 1, .output = beyond }, CX_E_USAGE, "out of range" },
        { { .batch = 1, .output = -1, .keep = &beyond, .n_keep = 1 }, CX_E_USAGE, "keep[0]" },
        { { .batch = 1, .output = -1, .keep = &weight, .n_keep = 1 }, CX_E_USAGE, "conv0.weight" },
        { { .batch = 1, .output = n.logits, .backward = true }, CX_E_USAGE, "reaches no trainable parameter" },
    };
    for (int i = 0; i < CX_COUNT(bad); i++) {
        assert_cx_fails(bad[i].status, bad[i].contains, cx_plan_new(s, &bad[i].o, &p, err));
        assert_null(p);
    }
    b.impl[CX_OP_MAX_POOL].bwd = NULL;
    cx_plan_opts o = { .batch = 1, .output = -1, .backward = true, .param_grads = true };
    assert_cx_fails(CX_E_UNSUPPORTED, "no backward of max_pool (node pool0)", cx_plan_new(s, &o, &p, err));
    cx_relu(n.g, "one more", n.x);
    assert_cx_fails(CX_E_USAGE, "grew", cx_plan_new(s, &o, &p, err));
    cx_store_free(s);
    cx_graph_free(n.g);
    n.g = cx_graph_new();
    cx_input(n.g, "film", (cx_shape){ 1, 1, 1, 1 });
    assert_cx_ok(cx_store_new(n.g, &b.base, 7, &s, err));
    assert_cx_fails(CX_E_USAGE, "no nodes", cx_plan_new(s, &o, &p, err));
    cx_store_free(s);
    cx_graph_free(n.g);
    assert_int_equal(b.live, 0);
}

static void test_backend_names(void **state)
{
    (void)state;
    cx_backend *b;
    const char *const bad[] = { "gpu", "", "cpux", "cudas", "cuda:-1", "emu:x", NULL };
    for (int i = 0; i < CX_COUNT(bad); i++)
        assert_cx_fails(CX_E_UNSUPPORTED, "want auto, cpu", cx_backend_open(bad[i], 1, &b, err));
    assert_cx_fails(CX_E_UNSUPPORTED, "sse9", cx_backend_open("cpu:sse9", 1, &b, err));
    assert_cx_fails(CX_E_USAGE, "threads", cx_backend_open("cpu", -1, &b, err));
    const char *const good[] = { "cpu", "cpu:avx512_bf16", "cpu:avx512", "cpu:avx2", "cpu:portable" };
    for (int i = 0; i < CX_COUNT(good); i++) {
        assert_cx_ok(cx_backend_open(good[i], 1, &b, err));
        assert_string_equal(b->name, "cpu");
        cx_backend_close(b);
    }
    cx_backend_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_graphs), cmocka_unit_test(test_no_graph), cmocka_unit_test(test_shapes_and_names), cmocka_unit_test(test_freeze),
        cmocka_unit_test(test_store), cmocka_unit_test(test_start_values), cmocka_unit_test(test_start_values_are_one_sequence),
        cmocka_unit_test(test_wrong_plans), cmocka_unit_test(test_backend_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
