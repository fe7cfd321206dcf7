/* test_import.c - real files of other makers give the answers that their makers gave: ../shared/weights (MANIFEST.json there) and the study's own networks of
 * 2020 in ../shared/data/keras. Skipped where these are absent. */
#include <jansson.h>
#include "foreign.h"
#include "model/arch.h"
#include "weights/sandboxed.h"

#define WEIGHTS "../shared/weights/"
#define VARIETY WEIGHTS "variety/"
#define STUDY "../shared/data/keras/"

static cx_npy npy(const char *path)
{
    cx_npy a;
    assert_cx_ok(cx_npy_read(path, &a, err));
    return a;
}

/* The file's tensors all go into the network, whatever rule finds their places. */
static cx_mapping taken(running *r, const char *path)
{
    cx_st_file f;
    cx_mapping m;
    assert_cx_ok(cx_weights_read(path, &f, err));
    running_take(r, &f, &m);
    cx_st_free(&f);
    return m;
}

static running opened(const char *path, cx_model_spec spec)
{
    cx_st_file f;
    assert_cx_ok(cx_weights_read(path, &f, err));
    assert_cx_ok(cx_weights_guess(&f, &spec, NULL, err));
    cx_st_free(&f);
    running r = running_spec(spec, 1);
    cx_mapping m = taken(&r, path);
    cx_weights_map_free(&m);
    return r;
}

/* value of x against the numbers of a .npy file; tolerance as a share of its largest. */
static void assert_value(running *r, const float *x, int films, int value, const float *want, int64_t n, const char *what, double tolerance)
{
    assert_int_equal(n, cx_elems(r->m.graph->values[value].shape) * films);
    float *y = running_answer(r, x, films, value);
    assert_close(what, y, want, n, 0, tolerance);
    free(y);
}

/* ---- DenseNet-121 -------------------------------------------------------------------------------------------------------- */

/* ((u8 / 255) - mean) / std, each step rounded to float32, the grey in three channels. */
static float *imagenet(const cx_npy *grey)
{
    static const float mean[] = { 0.485f, 0.456f, 0.406f }, std[] = { 0.229f, 0.224f, 0.225f };
    float *x = cx_alloc((size_t)grey->n * 3, sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < grey->n; i++)
        for (int c = 0; c < 3; c++) {
            const float unit = grey->data[i] / 255.0f, centred = unit - mean[c];
            x[3 * i + c] = centred / std[c];
        }
    return x;
}

static void densenet_with_either_final_relu(void **state)
{
    (void)state;
    SHARED_OR_SKIP("weights/chexnet_layout_weights.h5");
    const cx_npy logits = npy(WEIGHTS "chexnet_pattern_logits.npy"), of_images = npy(WEIGHTS "chexnet_images_logits.npy");
    const cx_npy features = npy(WEIGHTS "chexnet_pattern_features.npy"), grey = npy(WEIGHTS "chexnet_images_u8.npy");
    const cx_npy first = npy(WEIGHTS "chexnet_image0_input.npy");
    float *films = imagenet(&grey), *x = pattern(224 * 224 * 3, false);
    assert_close("normalised film", films, first.data, first.n, 0, 1e-7);
    for (int off = 0; off < 2; off++) {
        running r = opened(WEIGHTS "chexnet_layout_weights.h5", (cx_model_spec){ .no_final_relu = off });
        const int pool = cx_graph_find(r.m.graph, "pool");
        assert_value(&r, x, 1, r.m.logits, logits.data + 14 * off, 14, "logits of the pattern", 1e-4);
        assert_value(&r, x, 1, pool, features.data + 1024 * off, 1024, "features of the pattern", 1e-4);
        assert_value(&r, films, 3, r.m.logits, of_images.data + 42 * off, 42, "logits of films", 1e-4);
        running_close(&r);
    }
    free(films);
    free(x);
    free(logits.data);
    free(of_images.data);
    free(features.data);
    free(grey.data);
    free(first.data);
}

/* Our value for a layer of Keras' table; -1: none. */
static int value_named(const cx_graph *g, const char *keras)
{
    static const char *const fixed[][2] = { { "conv1/conv", "features.conv0" }, { "conv1/bn", "features.norm0" }, { "conv1/relu", "features.relu0" },
                                            { "pool1", "features.pool0" }, { "bn", "features.norm5" }, { "relu", "features.relu5" }, { "avg_pool", "pool" } };
    int block, layer, end = 0;
    for (int i = 0; i < CX_COUNT(fixed); i++)
        if (strcmp(keras, fixed[i][0]) == 0)
            return cx_graph_find(g, fixed[i][1]);
    if (sscanf(keras, "conv%d_block%d_concat%n", &block, &layer, &end) == 2 && end)
        return cx_graph_find(g, name("features.denseblock%d.concat%d", block - 1, layer).text);
    if (sscanf(keras, "pool%d_%n", &block, &end) == 1 && end)
        return cx_graph_find(g, name("features.transition%d.%s", block - 1, strcmp(keras + end, "bn") == 0 ? "norm" : keras + end).text);
    return -1;
}

/* A row: mean, standard deviation, and eight elements spread evenly from the first to the last. */
static void assert_row(const cx_csv *csv, int row, const float *y, int64_t n)
{
    double want[10], mean = 0, var = 0;
    const char *layer = cx_csv_at(csv, row, 0);
    for (int k = 0; k < 10; k++)
        want[k] = strtod(cx_csv_at(csv, row, 5 + k), NULL);
    for (int64_t i = 0; i < n; i++)
        mean += (double)y[i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        var += ((double)y[i] - mean) * ((double)y[i] - mean) / (double)n;
    const double near = 1e-4 * want[1];          /* of the layer's standard deviation */
    if (!(fabs(mean - want[0]) < near && fabs(sqrt(var) - want[1]) < near))
        fail_msg("%s: mean %g, want %g; standard deviation %g, want %g", layer, mean, want[0], sqrt(var), want[1]);
    for (int k = 0; k < 8; k++) {
        const double got = (double)y[(n - 1) * k / 7];
        if (!(fabs(got - want[2 + k]) < near))
            fail_msg("%s: element %d of 8 is %g, want %g", layer, k, got, want[2 + k]);
    }
}

static void densenet_layer_by_layer(void **state)
{
    (void)state;
    SHARED_OR_SKIP("weights/chexnet_pattern_activations.csv");
    cx_csv csv;
    int value[100], n = 0;
    cx_plan *p;
    running r = opened(WEIGHTS "chexnet_layout_weights.h5", (cx_model_spec){ 0 });
    float *x = pattern(224 * 224 * 3, false);
    assert_cx_ok(cx_csv_load(WEIGHTS "chexnet_pattern_activations.csv", &csv, err));
    assert_int_equal(csv.rows, 79);
    for (int i = 1; i < csv.rows - 1; i++) {
        value[n] = value_named(r.m.graph, cx_csv_at(&csv, i, 0));
        if (value[n++] < 0)
            fail_msg("%s: nothing of ours is that layer", cx_csv_at(&csv, i, 0));
    }
    assert_string_equal(cx_csv_at(&csv, csv.rows - 1, 0), "predictions");
    assert_cx_ok(cx_plan_new(r.s, &(cx_plan_opts){ .batch = 1, .output = r.m.logits, .keep = value, .n_keep = n, .skip = CX_PASS_ALL }, &p, err));
    assert_cx_ok(cx_plan_set(p, r.m.input, x, err));
    assert_cx_ok(cx_plan_forward(p, 0, 0, err));
    for (int i = 0; i < n; i++) {
        const cx_shape s = r.m.graph->values[value[i]].shape;
        float *y = cx_alloc((size_t)cx_elems(s), sizeof *y);
        assert_non_null(y);
        assert_int_equal(s.h, strtol(cx_csv_at(&csv, i + 1, 2), NULL, 10));
        assert_int_equal(s.c, strtol(cx_csv_at(&csv, i + 1, 4), NULL, 10));
        assert_cx_ok(cx_plan_get(p, value[i], y, err));
        assert_row(&csv, i + 1, y, cx_elems(s));
        free(y);
    }
    cx_plan_free(p);
    cx_csv_free(&csv);
    free(x);
    running_close(&r);
}

/* ---- a small DenseNet with the head of COVID-CXNet ------------------------------------------------------------------------ */

static int norm_relu(cx_graph *g, const char *layer, const char *which, int x)
{
    x = cx_batch_norm(g, name("%s.norm%s", layer, which).text, x, (cx_norm_attr){ .eps = 1.001e-5f, .momentum = 0.1f });
    return cx_relu(g, name("%s.relu%s", layer, which).text, x);
}

static int conv(cx_graph *g, const char *layer, const char *which, int x, int out, int kernel, int stride)
{
    const cx_conv_spec spec = { .out = out, .kernel = kernel, .stride = stride, .pad = kernel / 2, .init = CX_INIT_HE_NORMAL };
    return cx_conv2d(g, name("%s.conv%s", layer, which).text, x, spec);
}

/* Blocks of 3, 2, 2 layers, growth 8, stem 16. */
static cx_model small_densenet(int *pooled)
{
    static const int layers[] = { 3, 2, 2 };
    cx_model m = { .graph = cx_graph_new(), .features = -1, .probability = -1 };
    cx_graph *g = m.graph;
    m.input = cx_input(g, "input", (cx_shape){ 1, 64, 64, 3 });
    int x = conv(g, "features", "0", m.input, 16, 7, 2), channels = 16;
    x = cx_max_pool(g, "features.pool0", norm_relu(g, "features", "0", x), 3, 2, 1);
    for (int b = 1; b <= 3; b++) {
        for (int i = 1; i <= layers[b - 1]; i++, channels += 8) {
            const node_name layer = name("features.denseblock%d.denselayer%d", b, i);
            int y = conv(g, layer.text, "1", norm_relu(g, layer.text, "1", x), 32, 1, 1);
            y = conv(g, layer.text, "2", norm_relu(g, layer.text, "2", y), 8, 3, 1);
            x = cx_concat(g, name("features.denseblock%d.concat%d", b, i).text, x, y);
        }
        if (b == 3)
            break;
        const node_name transition = name("features.transition%d", b);
        x = conv(g, transition.text, "", norm_relu(g, transition.text, "", x), channels /= 2, 1, 1);
        x = cx_avg_pool(g, name("%s.pool", transition.text).text, x, 2, 2, 0);
    }
    *pooled = x = cx_global_avg_pool(g, "pool", norm_relu(g, "features", "5", x));
    x = cx_relu(g, "fc.relu", cx_linear(g, "fc", x, 10, CX_INIT_TORCH_LINEAR));
    m.logits = cx_linear(g, "classifier", cx_dropout(g, "dropout", x, 0.2f), 1, CX_INIT_TORCH_LINEAR);
    m.probability = cx_sigmoid(g, "probability", m.logits);
    return m;
}

static void covidcxnet_head(void **state)
{
    (void)state;
    SHARED_OR_SKIP("weights/covidcxnet_head_full_model.h5");
    int pooled;
    const cx_npy features = npy(WEIGHTS "covidcxnet_head_pattern_features.npy"), prob = npy(WEIGHTS "covidcxnet_head_pattern_prob.npy");
    running r = running_graph(small_densenet(&pooled), 1);
    float *x = pattern(2 * 64 * 64 * 3, false);
    cx_mapping m = taken(&r, WEIGHTS "covidcxnet_head_full_model.h5");
    assert_false(m.by_order);
    assert_value(&r, x, 2, pooled, features.data, features.n, "features", 1e-5);
    assert_value(&r, x, 2, r.m.probability, prob.data, prob.n, "probability", 1e-5);
    cx_weights_map_free(&m);
    free(x);
    free(features.data);
    free(prob.data);
    running_close(&r);
}

/* ---- U-Nets --------------------------------------------------------------------------------------------------------------- */

static void kaggle_unet(void **state)
{
    (void)state;
    SHARED_OR_SKIP("weights/kaggle_unet_weights.hdf5");
    const cx_npy small = npy(WEIGHTS "kaggle_unet_pattern64_prob.npy"), films = npy(WEIGHTS "kaggle_unet_images_input.npy");
    const cx_npy prob = npy(WEIGHTS "kaggle_unet_images_prob.npy");
    running r = opened(WEIGHTS "kaggle_unet_weights.hdf5", (cx_model_spec){ .side = 64 });
    float *x = pattern(64 * 64, true);
    assert_value(&r, x, 1, r.m.probability, small.data, small.n, "pattern", 1e-4);
    running_close(&r);
    r = opened(WEIGHTS "kaggle_unet_weights.hdf5", (cx_model_spec){ .side = 128 });
    assert_value(&r, films.data, 3, r.m.probability, prob.data, prob.n, "films", 1e-4);
    running_close(&r);
    free(x);
    free(small.data);
    free(films.data);
    free(prob.data);
}

static void unets_of_other_writers(void **state)
{
    (void)state;
    static const struct { const char *file, *output; } files[] = {
        { VARIETY "unet_w2_full_model.h5", VARIETY "unet_w2_full_model_output.npy" },
        { VARIETY "unet_w2_standalone_names_weights.hdf5", VARIETY "unet_w2_standalone_names_weights_output.npy" },
        { VARIETY "keras3_unet_w2.weights.h5", VARIETY "keras3_unet_w2_output.npy" },
    };
    SHARED_OR_SKIP("weights/variety/keras3_unet_w2.weights.h5");
    float *x = pattern(2 * 32 * 32, false);
    for (int i = 0; i < CX_COUNT(files); i++) {
        const cx_npy want = npy(files[i].output);
        running r = opened(files[i].file, (cx_model_spec){ .side = 32 });
        assert_value(&r, x, 2, r.m.probability, want.data, want.n, files[i].file, 1e-5);
        free(want.data);
        running_close(&r);
    }
    free(x);
}

/* ---- the study's networks of 2020 ------------------------------------------------------------------------------------------ */

static void base_cnns_of_2020(void **state)
{
    (void)state;
    SHARED_OR_SKIP("data/keras/cxnet_v_free.hdf5");
    json_t *expected = json_load_file(WEIGHTS "real/expected.json", 0, NULL), *entry;
    const char *file;
    int checked = 0;
    json_object_foreach(json_object_get(expected, "files"), file, entry) {
        const float want = (float)json_number_value(json_array_get(json_object_get(entry, "logit"), 0));
        char path[300];
        if (strncmp(file, "cxnet_v", 7) != 0)
            continue;
        snprintf(path, sizeof path, STUDY "%s", file);
        running r = opened(path, (cx_model_spec){ .arch = "base_cnn" });
        const cx_shape in = r.m.graph->values[r.m.input].shape;
        assert_int_equal(in.h, json_integer_value(json_array_get(json_object_get(entry, "input_shape"), 0)));
        assert_int_equal(in.c, json_integer_value(json_array_get(json_object_get(entry, "input_shape"), 2)));
        float *x = pattern(cx_elems(in), false);
        assert_value(&r, x, 1, r.m.logits, &want, 1, file, 1e-5);
        free(x);
        running_close(&r);
        checked++;
    }
    assert_int_equal(checked, 3);
    json_decref(expected);
}

/* A lung U-Net with other layers, and a nested MobileNet: no network of ours, and said so. */
static void strangers_are_named(void **state)
{
    (void)state;
    static const char *const files[] = { STUDY "cxr_reg_weights.best.hdf5", STUDY "teachable_machine_v1.h5" };
    SHARED_OR_SKIP("data/keras/teachable_machine_v1.h5");
    for (int i = 0; i < CX_COUNT(files); i++) {
        cx_st_file f;
        cx_model_spec spec = { 0 };
        assert_cx_ok(cx_weights_read(files[i], &f, err));
        assert_cx_fails(CX_E_DATA, "those of no network here", cx_weights_guess(&f, &spec, NULL, err));
        cx_st_free(&f);
    }
}

/* ---- small files in many dialects ------------------------------------------------------------------------------------------ */

/* conv_a 3x3 same 3 -> 8 | bn | relu | conv_b 3x3 stride 2 valid 8 -> 12 without bias | bn | relu | mean | dense 5 softmax */
static cx_model tiny(void)
{
    cx_model m = { .graph = cx_graph_new(), .features = -1 };
    cx_graph *g = m.graph;
    const cx_norm_attr norm = { .eps = 1e-3f, .momentum = 0.1f };
    m.input = cx_input(g, "input", (cx_shape){ 1, 16, 16, 3 });
    int x = cx_conv2d(g, "a", m.input, (cx_conv_spec){ .out = 8, .kernel = 3, .stride = 1, .pad = 1, .bias = true });
    x = cx_relu(g, "a.relu", cx_batch_norm(g, "a.norm", x, norm));
    x = cx_conv2d(g, "b", x, (cx_conv_spec){ .out = 12, .kernel = 3, .stride = 2 });
    x = cx_relu(g, "b.relu", cx_batch_norm(g, "b.norm", x, norm));
    m.logits = cx_linear(g, "classifier", cx_global_avg_pool(g, "mean", x), 5, CX_INIT_TORCH_LINEAR);
    m.probability = cx_softmax(g, "probability", m.logits);
    return m;
}

/* Two convolutions with norms in a nested model, then dense 4 relu, dense 1 sigmoid. */
static cx_model nested(void)
{
    cx_model m = { .graph = cx_graph_new(), .features = -1 };
    cx_graph *g = m.graph;
    const cx_norm_attr norm = { .eps = 1e-3f, .momentum = 0.1f };
    m.input = cx_input(g, "input", (cx_shape){ 1, 16, 16, 3 });
    int x = cx_conv2d(g, "a", m.input, (cx_conv_spec){ .out = 6, .kernel = 3, .stride = 1, .pad = 1, .bias = true });
    x = cx_relu(g, "a.relu", cx_batch_norm(g, "a.norm", x, norm));
    x = cx_conv2d(g, "b", x, (cx_conv_spec){ .out = 8, .kernel = 3, .stride = 1, .pad = 1, .bias = true });
    x = cx_global_avg_pool(g, "mean", cx_relu(g, "b.relu", cx_batch_norm(g, "b.norm", x, norm)));
    x = cx_relu(g, "c.relu", cx_linear(g, "c", x, 4, CX_INIT_TORCH_LINEAR));
    m.logits = cx_linear(g, "classifier", x, 1, CX_INIT_TORCH_LINEAR);
    m.probability = cx_sigmoid(g, "probability", m.logits);
    return m;
}

/* Four convolutions of one shape, whose automatic numbers run against their order. */
static cx_model backwards(void)
{
    static const char *const names[][2] = { { "a", "a.relu" }, { "b", "b.relu" }, { "c", "c.relu" }, { "d", "d.relu" } };
    cx_model m = { .graph = cx_graph_new(), .features = -1 };
    int x = m.input = cx_input(m.graph, "input", (cx_shape){ 1, 16, 16, 4 });
    for (int i = 0; i < CX_COUNT(names); i++) {
        x = cx_conv2d(m.graph, names[i][0], x, (cx_conv_spec){ .out = 4, .kernel = 3, .stride = 1, .pad = 1, .bias = true });
        x = cx_relu(m.graph, names[i][1], x);
    }
    m.logits = m.probability = cx_global_avg_pool(m.graph, "mean", x);
    return m;
}

static void dialects(void **state)
{
    (void)state;
    static const struct { cx_model (*graph)(void); const char *file, *output; int twins; } files[] = {
        { tiny, "tiny_weights.h5", "tiny_weights", 0 }, { tiny, "tiny_big_endian_weights.h5", "tiny_weights", 0 },
        { tiny, "tiny_compact_layout_weights.h5", "tiny_weights", 0 }, { tiny, "tiny_fixed_names_weights.h5", "tiny_weights", 0 },
        { tiny, "tiny_utf8_names_weights.h5", "tiny_weights", 0 }, { tiny, "tiny_libver_v110_weights.h5", "tiny_weights", 0 },
        { tiny, "tiny_gzip_chunked_weights.h5", "tiny_weights", 0 }, { tiny, "tiny_float64_weights.h5", "tiny_weights", 0 },
        { tiny, "tiny_float16_weights.h5", "tiny_float16_weights", 0 }, { tiny, "keras215_tiny.weights.h5", "keras215_tiny", 0 },
        { tiny, "keras215_tiny.keras", "keras215_tiny", 0 }, { tiny, "keras3_tiny.weights.h5", "keras3_tiny", 0 },
        { tiny, "keras3_tiny.keras", "keras3_tiny", 0 },
        { tiny, "keras3_tiny_trained.keras", "keras3_tiny_trained", 0 }, { tiny, "keras3_tiny_legacy_full_model.h5", "keras3_tiny_legacy_full_model", 0 },
        { tiny, "keras3_float16.weights.h5", "keras3_float16", 0 }, { tiny, "keras3_bfloat16.weights.h5", "keras3_bfloat16", 0 },
        { nested, "nested_full_model.h5", "nested_full_model", 0 }, { nested, "keras3_nested.weights.h5", "keras3_nested", 0 },
        { nested, "nested_functional_in_sequential_weights.h5", "nested_functional_in_sequential_weights", 0 },
        { nested, "nested_frozen_backbone_weights.h5", "nested_frozen_backbone_weights", 0 },
        { backwards, "order_created_backwards_weights.h5", "order_created_backwards_weights", 3 },
    };
    SHARED_OR_SKIP("weights/variety/tiny_weights.h5");
    for (int i = 0; i < CX_COUNT(files); i++) {
        running r = running_graph(files[i].graph(), 1);
        char path[300], output[300];
        snprintf(path, sizeof path, VARIETY "%s", files[i].file);
        snprintf(output, sizeof output, VARIETY "%s_output.npy", files[i].output);
        const cx_npy want = npy(output);
        float *x = pattern(2 * cx_elems(r.m.graph->values[r.m.input].shape), false);
        cx_mapping m = taken(&r, path);
        assert_int_equal(m.twins, files[i].twins);
        assert_value(&r, x, 2, r.m.probability, want.data, want.n, files[i].file, 1e-5);
        cx_weights_map_free(&m);
        free(want.data);
        free(x);
        running_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(densenet_with_either_final_relu),
        cmocka_unit_test(densenet_layer_by_layer),
        cmocka_unit_test(covidcxnet_head),
        cmocka_unit_test(kaggle_unet),
        cmocka_unit_test(unets_of_other_writers),
        cmocka_unit_test(base_cnns_of_2020),
        cmocka_unit_test(strangers_are_named),
        cmocka_unit_test(dialects),
    };
    return sandboxed() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
