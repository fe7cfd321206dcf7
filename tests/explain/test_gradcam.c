/* test_gradcam.c - Grad-CAM against PyTorch on a small CNN and a small DenseNet whose weights and films come from Philox. */
#include "backend.h"
#include "cxnet/explain.h"
#include "support.h"

typedef struct { cx_model m; cx_backend *b; cx_store *store; } network;
static const uint64_t SEED = 17;

static bool ends(const char *s, const char *tail)
{
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

/* The same draws as tools/oracle/gradcam.py. */
static void fill(network *n)
{
    const cx_graph *g = n->m.graph;
    for (int v = 0; v < g->n_values; v++) {
        const cx_value *x = &g->values[v];
        if (x->kind != CX_PARAM && x->kind != CX_STATE)
            continue;
        int64_t count = cx_elems(x->shape);
        float *w = cx_alloc((size_t)count, sizeof *w);
        cx_rng r = cx_rng_new(SEED, cx_hash(x->name));
        double limit = sqrt(6.0 / (double)(x->shape.h * x->shape.w * x->shape.c));
        for (int64_t i = 0; i < count; i++) {
            double u = cx_rng_uniform(&r);
            if (ends(x->name, ".running_var") || (strstr(x->name, "norm") && ends(x->name, ".weight")))
                w[i] = (float)(u + 0.5);
            else if (ends(x->name, ".running_mean"))
                w[i] = (float)((u - 0.5) * 0.4);
            else if (ends(x->name, ".bias"))
                w[i] = (float)((u - 0.5) * 0.2);
            else
                w[i] = (float)((2 * u - 1) * limit);
        }
        assert_cx_ok(cx_store_set(n->store, v, w, err));
        free(w);
    }
}

/* b NULL: the CPU. */
static void open_network(network *n, cx_backend *b)
{
    assert_cx_ok(cx_graph_check(n->m.graph, err));
    n->b = b ? b : open_named("cpu", 2);
    assert_cx_ok(cx_store_new(n->m.graph, n->b, 1, &n->store, err));
    fill(n);
}

static void close_network(network *n)
{
    cx_store_free(n->store);
    cx_backend_close(n->b);
    cx_graph_free(n->m.graph);
}

static int conv(cx_graph *g, const char *name, int x, int out, int kernel, int stride, bool bias)
{
    return cx_conv2d(g, name, x, (cx_conv_spec) { .out = out, .kernel = kernel, .stride = stride, .pad = kernel / 2, .bias = bias });
}

static network cnn(cx_backend *b)
{
    cx_graph *g = cx_graph_new();
    int x = cx_input(g, "x", (cx_shape) { 1, 24, 20, 3 }), input = x;
    x = cx_max_pool(g, "pool1", cx_relu(g, "relu1", conv(g, "conv1", x, 8, 3, 1, true)), 2, 2, 0);
    int features = x = cx_relu(g, "relu2", conv(g, "conv2", x, 16, 3, 1, true));
    x = cx_relu(g, "relu3", cx_linear(g, "dense", cx_flatten(g, "flatten", x), 10, CX_INIT_ZERO));
    network n = { .m = { g, input, features, cx_linear(g, "output", x, 3, CX_INIT_ZERO) } };
    open_network(&n, b);
    return n;
}

static int norm_relu(cx_graph *g, const char *name, int x)
{
    char relu[CX_NAME_MAX];
    snprintf(relu, sizeof relu, "%.80s.relu", name);
    return cx_relu(g, relu, cx_batch_norm(g, name, x, (cx_norm_attr) { .eps = 1e-5f, .momentum = 0.1f, .unbiased = true }));
}

static network densenet(void)
{
    cx_graph *g = cx_graph_new();
    int x = cx_input(g, "x", (cx_shape) { 1, 32, 32, 3 }), input = x;
    char name[4][CX_NAME_MAX];
    x = norm_relu(g, "norm0", conv(g, "conv0", x, 16, 3, 2, false));
    for (int block = 1; block <= 2; block++) {
        for (int layer = 1; layer <= 3; layer++) {
            static const char *const parts[] = { "norm1", "conv1", "norm2", "conv2" };
            char concat[CX_NAME_MAX];
            for (int k = 0; k < 4; k++)
                snprintf(name[k], sizeof name[k], "block%d.layer%d.%s", block, layer, parts[k]);
            int y = conv(g, name[1], norm_relu(g, name[0], x), 32, 1, 1, false);
            y = conv(g, name[3], norm_relu(g, name[2], y), 8, 3, 1, false);
            snprintf(concat, sizeof concat, "block%d.concat%d", block, layer);
            x = cx_concat(g, concat, x, y);
        }
        if (block == 1)
            x = cx_avg_pool(g, "transition.pool", conv(g, "transition.conv", norm_relu(g, "transition.norm", x), 20, 1, 1, false), 2, 2, 0);
    }
    int features = x = norm_relu(g, "norm5", x);
    network n = { .m = { g, input, features, cx_linear(g, "classifier", cx_global_avg_pool(g, "gap", x), 1, CX_INIT_ZERO) } };
    open_network(&n, NULL);
    return n;
}

static float *films(const char *name, const network *n, int count)
{
    int64_t floats = count * cx_elems(n->m.graph->values[n->m.input].shape);
    float *x = cx_alloc((size_t)floats, sizeof *x);
    cx_rng r = cx_rng_new(SEED, cx_hash(name));
    for (int64_t i = 0; i < floats; i++)
        x[i] = (float)(2 * cx_rng_uniform(&r) - 1);
    return x;
}

static double correlation(const float *a, const float *b, int n)
{
    double sa = 0, sb = 0, aa = 0, bb = 0, ab = 0;
    for (int i = 0; i < n; i++) {
        sa += (double)a[i] / n;
        sb += (double)b[i] / n;
    }
    for (int i = 0; i < n; i++) {
        aa += (a[i] - sa) * (a[i] - sa);
        bb += (b[i] - sb) * (b[i] - sb);
        ab += (a[i] - sa) * (b[i] - sb);
    }
    return ab / sqrt(aa * bb);
}

/* Explains 3 films in batches of `batch` and compares; *want moves on. */
static void compare(network *n, const float *x, int layer, const int *cls, const float *sign, int batch, const float **want)
{
    cx_explainer *e;
    int outputs = (int)n->m.graph->values[n->m.logits].shape.c;
    int64_t film = cx_elems(n->m.graph->values[n->m.input].shape);
    assert_cx_ok(cx_explainer_new(&n->m, n->store, layer, batch, &e, err));
    int size = cx_explainer_width(e) * cx_explainer_height(e);
    float *map = cx_alloc((size_t)(3 * size), sizeof *map), logits[9];
    for (int i = 0; i < 3; i += batch) {
        int count = 3 - i < batch ? 3 - i : batch;
        assert_cx_ok(cx_gradcam(e, x + i * film, count, cls + i, sign ? sign + i : NULL, map + i * size, logits + i * outputs, err));
    }
    const float *maps = *want + 3 * outputs;
    assert_close("logits", logits, *want, 3 * outputs, 0, 1e-4);
    for (int i = 0; i < 3; i++) {
        float top = 0;
        for (int k = 0; k < size; k++)
            top = fmaxf(top, maps[i * size + k]);
        assert_close("map", map + i * size, maps + i * size, size, 0, 1e-4);
        if (top > 0)
            assert_true(correlation(map + i * size, maps + i * size, size) >= 0.9999);
    }
    *want = maps + 3 * size;
    free(map);
    cx_explainer_free(e);
}

static void equals_pytorch(void **state)
{
    (void)state;
    static const char *const layers[] = { NULL, "block1.concat2", "block1.layer2.conv2", "block2.concat1" };
    static const int three[] = { 0, 1, 2 }, zero[] = { 0, 0, 0 };
    static const float signs[] = { 1, -1, 1 };
    cx_buf file = { 0 };
    assert_cx_ok(cx_file_read("tests/golden/gradcam.npy", 1 << 20, &file, err));
    const float *start = (const float *)(void *)(file.data + 128);
    for (int batch = 1; batch <= 4; batch++) {
        const float *want = start;
        network c = cnn(NULL), d = densenet();
        float *x = films("cnn.x", &c, 3), *y = films("densenet.x", &d, 3);
        compare(&c, x, -1, three, NULL, batch, &want);
        for (int k = 0; k < CX_COUNT(layers); k++)
            compare(&d, y, layers[k] ? cx_graph_find(d.m.graph, layers[k]) : -1, zero, signs, batch, &want);
        assert_ptr_equal(want, file.data + file.len);
        free(x);
        free(y);
        close_network(&c);
        close_network(&d);
    }
    cx_buf_free(&file);
}

/* Where the backend makes the maps itself; two films, then a batch that is not full. */
static void equals_pytorch_on_the_emulated_gpu(void **state)
{
    (void)state;
    static const int three[] = { 0, 1, 2 };
    cx_backend *b = open_named("emu", 1);
    cx_buf file = { 0 };
    if (!b) {
        print_message("skipped: this build has no emulated GPU\n");
        skip();
    }
    assert_non_null(b->cam);
    assert_cx_ok(cx_file_read("tests/golden/gradcam.npy", 1 << 20, &file, err));
    const float *want = (const float *)(void *)(file.data + 128);
    network c = cnn(b);
    float *x = films("cnn.x", &c, 3);
    compare(&c, x, -1, three, NULL, 2, &want);
    free(x);
    close_network(&c);
    cx_buf_free(&file);
}

static void two_halves_and_both_signs(void **state)
{
    (void)state;
    network d = densenet();
    cx_explainer *e;
    float *x = films("densenet.x", &d, 2), logits[2], up[8 * 8 * 2], down[8 * 8 * 2], again[8 * 8 * 2];
    int cls[2] = { 0, 0 };
    float minus[2] = { -1, -1 };
    assert_cx_ok(cx_explainer_new(&d.m, d.store, -1, 2, &e, err));
    assert_int_equal(cx_explainer_width(e), 8);
    assert_cx_fails(CX_E_USAGE, "comes first", cx_explainer_maps(e, cls, NULL, up, err));
    assert_cx_ok(cx_explainer_logits(e, x, 2, logits, err));
    assert_cx_ok(cx_explainer_maps(e, cls, NULL, up, err));
    assert_cx_ok(cx_gradcam(e, x, 2, cls, minus, down, NULL, err));
    assert_cx_ok(cx_gradcam(e, x, 2, cls, NULL, again, NULL, err));
    assert_memory_equal(up, again, sizeof up);
    for (int i = 0; i < 128; i++)
        assert_true(up[i] >= 0 && down[i] >= 0 && (up[i] == 0 || down[i] == 0));       /* what speaks for a class does not speak against it */
    cx_explainer_free(e);
    free(x);
    close_network(&d);
}

static void refusals(void **state)
{
    (void)state;
    network d = densenet();
    cx_explainer *e;
    float x[32 * 32 * 3] = { 0 }, map[64];
    int one = 1, zero = 0;
    assert_cx_fails(CX_E_USAGE, "\"gap\" is a single pixel", cx_explainer_new(&d.m, d.store, cx_graph_find(d.m.graph, "gap"), 1, &e, err));
    assert_cx_fails(CX_E_USAGE, "an input", cx_explainer_new(&d.m, d.store, d.m.input, 1, &e, err));
    assert_cx_fails(CX_E_USAGE, "a weight", cx_explainer_new(&d.m, d.store, cx_graph_find(d.m.graph, "conv0.weight"), 1, &e, err));
    assert_cx_fails(CX_E_USAGE, "layer 9999", cx_explainer_new(&d.m, d.store, 9999, 1, &e, err));
    assert_cx_fails(CX_E_USAGE, "0 films", cx_explainer_new(&d.m, d.store, -1, 0, &e, err));
    assert_cx_ok(cx_explainer_new(&d.m, d.store, -1, 1, &e, err));
    assert_cx_fails(CX_E_USAGE, "2 films", cx_gradcam(e, x, 2, &zero, NULL, map, NULL, err));
    assert_cx_fails(CX_E_USAGE, "logit 1", cx_gradcam(e, x, 1, &one, NULL, map, NULL, err));
    cx_explainer_free(e);
    cx_explainer_free(NULL);
    cx_plan *p;
    cx_plan_opts opts = { .batch = 2, .backward = true, .output = d.m.logits, .keep = &d.m.features, .n_keep = 1 };
    assert_cx_ok(cx_plan_new(d.store, &opts, &p, err));
    assert_cx_fails(CX_E_USAGE, "values 0 to", cx_plan_cam(p, 9999, false, 1, map, err));
    assert_cx_fails(CX_E_USAGE, "not both kept", cx_plan_cam(p, cx_graph_find(d.m.graph, "block1.concat1"), false, 1, map, err));
    assert_cx_fails(CX_E_USAGE, "maps of 3 films", cx_plan_cam(p, d.m.features, false, 3, map, err));
    assert_cx_fails(CX_E_USAGE, "maps of 0 films", cx_plan_cam(p, d.m.features, false, 0, map, err));
    cx_plan_free(p);
    close_network(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(equals_pytorch), cmocka_unit_test(equals_pytorch_on_the_emulated_gpu),
        cmocka_unit_test(two_halves_and_both_signs), cmocka_unit_test(refusals) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
