/* test_plan_eval.c - plans without a backward pass: norms folded into weights or into readers, what is prepared once, and when it is prepared anew. */
#include "runs.h"

/* The logits of a plan that lives for this run only. */
static void fresh_logits(cx_store *s, const net *n, unsigned skip, float *to)
{
    cx_plan *p;
    assert_cx_ok(cx_plan_new(s, &(cx_plan_opts){ .batch = BATCH, .output = n->logits, .skip = skip }, &p, err));
    set_inputs(p, n);
    assert_cx_ok(cx_plan_forward(p, 0, 0, err));
    assert_cx_ok(cx_plan_get(p, n->logits, to, err));
    cx_plan_free(p);
}

static void check_passes(cx_backend *b)
{
    for (int k = 0; k < CX_COUNT(every_net); k++) {
        net n = checked(every_net[k]);
        cx_store *s;
        assert_cx_ok(cx_store_new(n.g, b, 3, &s, err));
        spread_params(s, &n);
        const int64_t elems = BATCH * cx_elems(n.g->values[n.logits].shape);
        float *want = calloc((size_t)elems, sizeof *want), *got = calloc((size_t)elems, sizeof *got);
        fresh_logits(s, &n, CX_PASS_ALL, want);
        for (unsigned skip = 0; skip <= CX_PASS_ALL; skip += skip < 16 ? 1 : 37) {
            fresh_logits(s, &n, skip, got);
            assert_close(n.name, got, want, elems, 2e-5, 2e-5);       /* scale and weight are rounded together */
        }
        free(want);
        free(got);
        cx_store_free(s);
        cx_graph_free(n.g);
    }
}

/* In the dense net, norm2 of each layer and norm0 stand behind a convolution; the others are carried out by a convolution or a pool that reads. */
static void test_passes_change_nothing(void **state)
{
    (void)state;
    ref_backend r;
    cx_backend *cpu;
    ref_open(&r);
    check_passes(&r.base);
    const char *const names[] = { "cpu:avx512_bf16", "cpu:avx512", "cpu:avx2", "cpu:portable", "emu", "cuda" };
    for (int i = 0; i < CX_COUNT(names); i++) {
        cpu = open_named(names[i], 2);
        if (!cpu)
            continue;
        check_passes(cpu);
        cx_backend_close(cpu);
    }
    net n = checked(small_dense_net);
    cx_store *s;
    cx_plan *p;
    int post = 0, pre = 0, pool = 0;
    assert_cx_ok(cx_store_new(n.g, &r.base, 3, &s, err));
    assert_cx_ok(cx_plan_new(s, &(cx_plan_opts){ .batch = BATCH, .output = n.logits }, &p, err));
    for (int i = 0; i < cx_plan_get_stats(p).n_steps; i++) {
        post += strstr(cx_plan_step(p, i).folds, "post") != NULL;
        pre += strstr(cx_plan_step(p, i).folds, "pre+relu") != NULL;
        pool += strstr(cx_plan_step(p, i).folds, "post pool") != NULL;
    }
    assert_int_equal(post, 1 + 5);
    assert_int_equal(pre, 5 + 1 + 1);
    assert_int_equal(pool, 1);
    assert_true(cx_plan_get_stats(p).prepared_bytes > 0);
    cx_plan_free(p);
    cx_store_free(s);
    cx_graph_free(n.g);
}

/* How many steps of a plan that computes `output` pool at once, and whether a pool is a step of its own. */
static int pooling_steps(cx_store *s, cx_plan_opts o, int *apart)
{
    cx_plan *p;
    int n = 0;
    *apart = 0;
    o.batch = BATCH;
    assert_cx_ok(cx_plan_new(s, &o, &p, err));
    for (int i = 0; i < cx_plan_get_stats(p).n_steps; i++) {
        const cx_step_info step = cx_plan_step(p, i);
        n += strstr(step.folds, "pool") != NULL;
        *apart += strcmp(step.op, "max_pool") == 0 && strcmp(step.phase, "forward") == 0;
    }
    cx_plan_free(p);
    return n;
}

/* A convolution with its norm and ReLU, and a max pool; with a second reader between them, with other windows. */
typedef enum { ALONE, READ_TWICE, POINTWISE, WIDE_WINDOW } stem_kind;
static net stem_net(stem_kind kind)
{
    net n = { .name = "stem", .g = cx_graph_new() };
    n.x = cx_input(n.g, "film", (cx_shape){ 1, 34, 30, 1 });
    int map = norm_relu(n.g, "norm0", conv(n.g, "conv0", n.x, 9, kind == POINTWISE ? 1 : 7, 2, kind == POINTWISE ? 0 : 3, true));
    int x = kind == WIDE_WINDOW ? cx_max_pool(n.g, "pool0", map, 9, 1, 4) : cx_max_pool(n.g, "pool0", map, 3, 2, 1);
    n.feature = map;
    n.logits = cx_linear(n.g, "fc", cx_global_avg_pool(n.g, "gap", x), 2, CX_INIT_GLOROT_UNIFORM);
    if (kind == READ_TWICE)
        n.logits = cx_add(n.g, "sum", n.logits, cx_linear(n.g, "fc2", cx_global_avg_pool(n.g, "gap2", map), 2, CX_INIT_GLOROT_UNIFORM));
    n.loss = with_bce(&n, 0);
    return n;
}

/* Where it happens, and each condition by itself. */
static void test_pool_last(void **state)
{
    (void)state;
    static const struct { const char *backend; bool pools[4]; } want[] = {
        { NULL, { true, false, true, true } }, { "cpu", { true, false, true, false } }, { "emu", { true, false, false, false } },
        { "cuda", { true, false, false, false } },
    };
    for (int i = 0; i < CX_COUNT(want); i++)
        for (int kind = ALONE; kind <= WIDE_WINDOW; kind++) {
            ref_backend r;
            ref_open(&r);
            cx_backend *b = want[i].backend ? open_named(want[i].backend, 2) : &r.base;
            net n = stem_net((stem_kind)kind);
            cx_store *s;
            int apart;
            assert_cx_ok(cx_graph_check(n.g, err));
            if (b) {
                assert_cx_ok(cx_store_new(n.g, b, 3, &s, err));
                const bool pools = want[i].pools[kind];
                assert_int_equal(pooling_steps(s, (cx_plan_opts){ .output = n.logits }, &apart), pools);
                assert_int_equal(apart, !pools);
                assert_int_equal(pooling_steps(s, (cx_plan_opts){ .output = n.logits, .bf16 = true }, &apart), pools);
                assert_int_equal(pooling_steps(s, (cx_plan_opts){ .output = n.logits, .skip = CX_PASS_POOL_LAST }, &apart), 0);
                assert_int_equal(pooling_steps(s, (cx_plan_opts){ .output = n.logits, .keep = &n.feature, .n_keep = 1 }, &apart), 0);
                assert_int_equal(pooling_steps(s, (cx_plan_opts){ .output = n.logits, .training = true }, &apart), 0);
                assert_int_equal(pooling_steps(s, (cx_plan_opts){ .output = n.loss, .backward = true, .param_grads = true }, &apart), 0);
                assert_int_equal(apart, 1);
                cx_store_free(s);
            }
            if (b && b != &r.base)
                cx_backend_close(b);
            cx_graph_free(n.g);
        }
}

/* Whatever way the store changes, a plan that has run before sees it: a training step, cx_store_set of a weight or of a statistic, a write through
 * cx_store_params. What is the same stays the same. */
static void follow_changes(cx_backend *b)
{
    net n = checked(small_dense_net);
    cx_store *s;
    cx_plan *p, *train;
    const int64_t elems = BATCH * cx_elems(n.g->values[n.logits].shape);
    float *want = calloc((size_t)elems, sizeof *want), *got = calloc((size_t)elems, sizeof *got), *last = calloc((size_t)elems, sizeof *last);
    assert_cx_ok(cx_store_new(n.g, b, 3, &s, err));
    spread_params(s, &n);
    cx_plan_opts o = training_opts(&n);
    assert_cx_ok(cx_plan_new(s, &(cx_plan_opts){ .batch = BATCH, .output = n.logits }, &p, err));
    assert_cx_ok(cx_plan_new(s, &o, &train, err));
    const char *const changed[] = { "nothing", "block0.layer0.conv1.weight", "block0.layer1.norm2.running_var", "block1.layer0.norm1.weight",
                                    "step", "params" };
    for (int i = 0; i < CX_COUNT(changed); i++) {
        const int v = cx_graph_find(n.g, changed[i]);
        float values[256] = { 0 };
        if (v >= 0) {
            assert_true(cx_elems(n.g->values[v].shape) <= CX_COUNT(values));
            assert_cx_ok(cx_store_get(s, v, values, err));
            for (int64_t e = 0; e < cx_elems(n.g->values[v].shape); e++)
                values[e] *= 1.5f;
            assert_cx_ok(cx_store_set(s, v, values, err));
        } else if (!strcmp(changed[i], "step")) {
            run_forward(s, train, &n);
        } else if (!strcmp(changed[i], "params")) {
            float *params = cx_store_params(s);
            for (int64_t e = 0; e < cx_store_trainable(s); e++)
                params[e] *= 0.9f;
        }
        set_inputs(p, &n);
        assert_cx_ok(cx_plan_forward(p, 0, 0, err));
        assert_cx_ok(cx_plan_get(p, n.logits, got, err));
        fresh_logits(s, &n, 0, want);
        assert_memory_equal(got, want, (size_t)elems * sizeof *got);
        assert_true(i == 0 || memcmp(got, last, (size_t)elems * sizeof *got) != 0);
        memcpy(last, got, (size_t)elems * sizeof *got);
        set_inputs(p, &n);
        assert_cx_ok(cx_plan_forward(p, 0, 0, err));
        assert_cx_ok(cx_plan_get(p, n.logits, got, err));
        assert_memory_equal(got, last, (size_t)elems * sizeof *got);
    }
    cx_plan_free(p);
    cx_plan_free(train);
    cx_store_free(s);
    cx_graph_free(n.g);
    free(want);
    free(got);
    free(last);
}

static void test_prepared_follows_the_store(void **state)
{
    (void)state;
    ref_backend r;
    cx_backend *cpu;
    ref_open(&r);
    follow_changes(&r.base);
    assert_int_equal(r.live, 0);
    assert_cx_ok(cx_backend_open("cpu", 2, &cpu, err));
    follow_changes(cpu);
    cx_backend_close(cpu);
}

/* A described plan has the totals of a real one and takes no memory for numbers. */
static void test_describe(void **state)
{
    (void)state;
    net n = checked(small_dense_net);
    ref_backend b;
    cx_store *s;
    cx_plan *p;
    ref_open(&b);
    assert_cx_ok(cx_store_new(n.g, &b.base, 3, &s, err));
    const size_t live = b.live;
    cx_plan_opts o = training_opts(&n);
    cx_plan_stats told, is;
    assert_cx_ok(cx_plan_describe(s, &o, &told, err));
    assert_int_equal(b.live, live);
    assert_cx_ok(cx_plan_new(s, &o, &p, err));
    is = cx_plan_get_stats(p);
    assert_memory_equal(&told, &is, sizeof is);
    cx_plan_free(p);
    cx_store_free(s);
    cx_graph_free(n.g);
}

static void test_names_of_passes(void **state)
{
    (void)state;
    unsigned skip;
    assert_cx_ok(cx_passes_parse("all", &skip, err));
    assert_int_equal(skip, 0);
    assert_cx_ok(cx_passes_parse("none", &skip, err));
    assert_int_equal(skip, CX_PASS_ALL);
    assert_cx_ok(cx_passes_parse("views,affine", &skip, err));
    assert_int_equal(skip, CX_PASS_ALL & ~(CX_PASS_VIEWS | CX_PASS_AFFINE));
    assert_cx_ok(cx_passes_parse("views,relu,pool_first,eval_fold,prologue,statistics,affine,recompute,liveness,pool_last", &skip, err));
    assert_int_equal(skip, 0);
    const char *const wrong[] = { "", ",", "views,", "view", "viewsx", "all,views", "views relu", "Views" };
    for (int i = 0; i < CX_COUNT(wrong); i++)
        assert_cx_fails(CX_E_CONFIG, "is no pass; want all, none", cx_passes_parse(wrong[i], &skip, err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passes_change_nothing), cmocka_unit_test(test_pool_last),
        cmocka_unit_test(test_prepared_follows_the_store), cmocka_unit_test(test_describe),
        cmocka_unit_test(test_names_of_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
