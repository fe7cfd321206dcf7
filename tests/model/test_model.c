/* test_model.c - the networks as graphs: counted, named as torchvision names them, refused when a spec is out of range. */
#include "cxnet/model.h"
#include "support.h"

static int64_t count_params(const cx_graph *g)
{
    int64_t n = 0;
    for (int i = 0; i < g->n_values; i++)
        if (g->values[i].kind == CX_PARAM)
            n += cx_elems(g->values[i].shape);
    return n;
}

/* Keras' formula for the base CNN: each convolution (k*k*in + 1) * 32, each dense layer (in + 1) * out. */
static int64_t base_cnn_params(int side, int channels, int outputs)
{
    int64_t n = 0, in = channels;
    for (int i = 0; i < 5; i++) {
        int kernel = i == 0 ? 5 : 3;
        n += (kernel * kernel * in + 1) * 32;
        side = (side - kernel) / 2 + 1;
        in = 32;
    }
    return n + ((int64_t)side * side * 32 + 1) * 10 + 11 * 10 + 11 * outputs;
}

static void parameters_are_counted(void **state)
{
    (void)state;
    const struct { cx_model_spec spec; int64_t params; } known[] = {
        { { "densenet121", 224, 3, .outputs = 1000 }, 7978856 },
        { { "densenet169", 224, 3, .outputs = 1000 }, 14149480 },
        { { "densenet201", 224, 3, .outputs = 1000 }, 20013928 },
        { { "densenet121", 224, 3, .outputs = 14 }, 7978856 - 1025 * 1000 + 1025 * 14 },
        { { "densenet121", 320, 3, .hidden = 10, .outputs = 1, .dropout = 0.2 }, 7978856 - 1025 * 1000 + 1025 * 10 + 11 },
        { { "densenet121", 224, 1, .outputs = 1000 }, 7978856 - 64 * 49 * 2 },
        { { "base_cnn", 320, 3, .outputs = 1 }, base_cnn_params(320, 3, 1) },
        { { "base_cnn", 224, 1, .outputs = 3 }, base_cnn_params(224, 1, 3) },
        { { "base_cnn", 65, 1, .outputs = 3 }, base_cnn_params(65, 1, 3) },
        { { "unet", 512, 1, .outputs = 1 }, 7759521 },                                  /* as Keras counts the published network */
        { { "unet", 64, 1, .outputs = 1, .norm = true }, 7759521 + 2 * 992 + 960 },     /* a bias becomes gamma and beta */
    };
    for (int i = 0; i < CX_COUNT(known); i++) {
        cx_model m;
        assert_cx_ok(cx_model_new(&known[i].spec, &m, err));
        assert_int_equal(count_params(m.graph), known[i].params);
        assert_int_equal(m.graph->values[m.logits].shape.c, known[i].spec.outputs);
        assert_true(cx_shape_eq(m.graph->values[m.input].shape, (cx_shape){ 1, known[i].spec.side, known[i].spec.side, known[i].spec.channels }));
        cx_model_free(&m);
    }
    assert_true(base_cnn_params(320, 3, 1) < 500000);
}

static bool same_row(const cx_csv *csv, int row, const cx_value *v)
{
    char cells[4][24];
    const int64_t d[4] = { v->shape.n, v->shape.h, v->shape.w, v->shape.c };
    for (int i = 0; i < 4; i++)
        snprintf(cells[i], sizeof cells[i], "%lld", (long long)d[i]);
    return strcmp(v->name, cx_csv_at(csv, row, 1)) == 0 && strcmp(cells[0], cx_csv_at(csv, row, 2)) == 0 && strcmp(cells[1], cx_csv_at(csv, row, 3)) == 0
        && strcmp(cells[2], cx_csv_at(csv, row, 4)) == 0 && strcmp(cells[3], cx_csv_at(csv, row, 5)) == 0;
}

/* Every parameter and statistic of torchvision's state_dict, in its order, with its shape, and nothing else. */
static void names_are_torchvision_s(void **state)
{
    (void)state;
    cx_csv csv;
    int row = 1;
    assert_cx_ok(cx_csv_load("tests/golden/model_names.csv", &csv, err));
    for (const char *const *arch = cx_model_archs; *arch; arch++) {
        cx_model_spec spec = { .side = 224, .channels = 3, .outputs = 1000 };
        cx_model m;
        if (strncmp(*arch, "densenet", 8) != 0)
            continue;
        snprintf(spec.arch, sizeof spec.arch, "%s", *arch);
        assert_cx_ok(cx_model_new(&spec, &m, err));
        for (int i = 0; i < m.graph->n_values; i++) {
            const cx_value *v = &m.graph->values[i];
            if (v->kind != CX_PARAM && v->kind != CX_STATE)
                continue;
            if (row >= csv.rows || strcmp(cx_csv_at(&csv, row, 0), *arch) != 0 || !same_row(&csv, row, v))
                fail_msg("%s has %s (%lld,%lld,%lld,%lld) where torchvision has %s %s", *arch, v->name, (long long)v->shape.n, (long long)v->shape.h,
                         (long long)v->shape.w, (long long)v->shape.c, row < csv.rows ? cx_csv_at(&csv, row, 0) : "the end",
                         row < csv.rows ? cx_csv_at(&csv, row, 1) : "");
            row++;
        }
        cx_model_free(&m);
    }
    assert_int_equal(row, csv.rows);
    cx_csv_free(&csv);
}

static void features_are_the_last_map(void **state)
{
    (void)state;
    const struct { cx_model_spec spec; cx_shape features; cx_op_id op; } known[] = {
        { { "densenet121", 224, 3, .outputs = 2 }, { 1, 7, 7, 1024 }, CX_OP_RELU },
        { { "densenet121", 224, 3, .outputs = 2, .no_final_relu = true }, { 1, 7, 7, 1024 }, CX_OP_BATCH_NORM },
        { { "densenet169", 320, 1, .outputs = 2, .hidden = 10 }, { 1, 10, 10, 1664 }, CX_OP_RELU },
        { { "densenet201", 29, 1, .outputs = 2 }, { 1, 1, 1, 1920 }, CX_OP_RELU },
        { { "base_cnn", 320, 3, .outputs = 1 }, { 1, 8, 8, 32 }, CX_OP_RELU },
        { { "unet", 64, 1, .outputs = 1 }, { 1, 64, 64, 32 }, CX_OP_RELU },
        { { "unet", 24, 1, .outputs = 1, .base = 5, .depth = 3, .norm = true }, { 1, 24, 24, 5 }, CX_OP_RELU },
    };
    for (int i = 0; i < CX_COUNT(known); i++) {
        cx_model m;
        assert_cx_ok(cx_model_new(&known[i].spec, &m, err));
        const cx_value *v = &m.graph->values[m.features];
        assert_true(cx_shape_eq(v->shape, known[i].features));
        assert_int_equal(m.graph->nodes[v->node].op, known[i].op);
        cx_model_free(&m);
    }
}

static void wrong_specs_are_refused(void **state)
{
    (void)state;
    const struct { cx_model_spec spec; const char *text; } wrong[] = {
        { { "resnet50", 224, 3, .outputs = 1 }, "unknown architecture \"resnet50\"; known are base_cnn, densenet121, densenet169, densenet201" },
        { { "", 224, 3, .outputs = 1 }, "unknown architecture \"\"" },
        { { "densenet1", 224, 3, .outputs = 1 }, "unknown architecture \"densenet1\"" },
        { { "densenet121", 28, 3, .outputs = 1 }, "densenet121: side must be 29 to 8192, is 28" },
        { { "base_cnn", 64, 3, .outputs = 1 }, "base_cnn: side must be 65 to 8192, is 64" },
        { { "base_cnn", 100000, 3, .outputs = 1 }, "side must be 65 to 8192, is 100000" },
        { { "densenet121", 224, 0, .outputs = 1 }, "channels must be 1 to 64, is 0" },
        { { "densenet121", 224, 3, .outputs = 0 }, "outputs must be 1 to 65536, is 0" },
        { { "densenet121", 224, 3, .outputs = -4 }, "outputs must be 1 to 65536, is -4" },
        { { "densenet121", 224, 3, .outputs = 1, .hidden = -1 }, "hidden must be 0 to 65536, is -1" },
        { { "densenet121", 224, 3, .outputs = 1, .dropout = 1 }, "dropout must be 0 or more and below 1, is 1" },
        { { "densenet121", 224, 3, .outputs = 1, .dropout = NAN }, "dropout must be 0 or more and below 1, is nan" },
        { { "densenet121", 224, 3, .outputs = 1, .norm_eps = -1e-5 }, "norm_eps must be 0 (meaning 1e-5) to 0.1, is -1e-05" },
        { { "base_cnn", 224, 3, .outputs = 1, .hidden = 10 }, "base_cnn: has two hidden layers of 10 of its own; set hidden to 0, is 10" },
        { { "base_cnn", 224, 3, .outputs = 1, .no_final_relu = true }, "only a DenseNet can do without its final ReLU" },
        { { "densenet121", 224, 3, .outputs = 1, .base = 32 }, "densenet121: base, depth and norm belong to unet; leave them at 0, are 32, 0 and 0" },
        { { "base_cnn", 224, 3, .outputs = 1, .norm = true }, "base_cnn: base, depth and norm belong to unet" },
        { { "unet", 100, 1, .outputs = 1 }, "unet: side must be a multiple of 16, since the map is halved 4 times, is 100; take 96 or 112" },
        { { "unet", 6, 1, .outputs = 1, .depth = 3 }, "multiple of 8, since the map is halved 3 times, is 6; take 8 or 16" },
        { { "unet", 64, 1, .outputs = 1, .base = -1 }, "unet: base must be 0 (meaning 32) to 1024, is -1" },
        { { "unet", 64, 1, .outputs = 1, .depth = 9 }, "unet: depth must be 0 (meaning 4) to 8, is 9" },
        { { "unet", 64, 1, .outputs = 1, .hidden = 10 }, "unet: gives maps and has no hidden layer; set hidden to 0, is 10" },
        { { "unet", 64, 1, .outputs = 1, .dropout = 0.2 }, "unet: has no dropout; set it to 0, is 0.2" },
        { { "unet", 64, 1, .outputs = 1, .no_final_relu = true }, "only a DenseNet can do without its final ReLU" },
    };
    for (int i = 0; i < CX_COUNT(wrong); i++) {
        cx_model m;
        assert_cx_fails(CX_E_CONFIG, wrong[i].text, cx_model_new(&wrong[i].spec, &m, err));
        assert_null(m.graph);
        assert_int_equal(m.logits, -1);
        cx_model_free(&m);
    }
}

/* The smallest side that a spec accepts builds; a pixel less would not, so the limits are exact. At it the smallest map is a single pixel. */
static void smallest_sides_build(void **state)
{
    (void)state;
    for (const char *const *arch = cx_model_archs; *arch; arch++) {
        cx_model_spec spec = { .side = 1, .channels = 1, .outputs = 1 };
        cx_model m;
        snprintf(spec.arch, sizeof spec.arch, "%s", *arch);
        while (cx_model_new(&spec, &m, NULL) != CX_OK)
            assert_true(spec.side++ < 100);
        int last = strcmp(*arch, "unet") == 0 ? cx_graph_find(m.graph, "bottom.relu2") : m.features;
        assert_int_equal(m.graph->values[last].shape.h, 1);
        cx_model_free(&m);
    }
}

/* Maps of the film's size, before and after the sigmoid, whatever the number of levels. */
static void unet_gives_maps(void **state)
{
    (void)state;
    for (int depth = 1; depth <= 5; depth++) {
        const cx_model_spec spec = { "unet", 64, 1, .outputs = 2, .base = 3, .depth = depth };
        cx_model m;
        int target, weights;
        assert_cx_ok(cx_model_new(&spec, &m, err));
        const cx_graph *g = m.graph;
        const cx_value *p = &g->values[m.probability];
        assert_true(cx_shape_eq(g->values[m.logits].shape, (cx_shape){ 1, 64, 64, 2 }));
        assert_true(cx_shape_eq(p->shape, (cx_shape){ 1, 64, 64, 2 }));
        assert_int_equal(g->nodes[p->node].op, CX_OP_SIGMOID);
        assert_int_equal(g->nodes[p->node].in[0], m.logits);
        assert_int_equal(g->values[cx_graph_find(g, "bottom.conv1.weight")].shape.n, 3 << depth);
        assert_true(cx_shape_eq(g->values[cx_graph_find(g, "up1.weight")].shape, (cx_shape){ 6, 2, 2, 3 }));
        assert_int_equal(g->values[cx_graph_find(g, "dec1.conv1.weight")].init, CX_INIT_GLOROT_UNIFORM);
        int loss = cx_model_loss(&m, CX_LOSS_DICE, 0, &target, &weights);
        assert_cx_ok(cx_graph_check(g, err));
        assert_int_equal(weights, -1);
        assert_true(cx_shape_eq(g->values[target].shape, (cx_shape){ 1, 64, 64, 2 }));
        assert_int_equal(g->nodes[g->values[loss].node].in[0], m.probability);
        assert_int_equal(cx_elems(g->values[loss].shape), 1);
        cx_model_free(&m);
    }
}

static void losses_take_their_targets(void **state)
{
    (void)state;
    const cx_model_spec spec = { "base_cnn", 65, 1, .outputs = 3 };
    cx_model m;
    int target, weights;
    assert_cx_ok(cx_model_new(&spec, &m, err));
    int loss = cx_model_loss(&m, CX_LOSS_BCE, 0.1, &target, &weights);
    assert_cx_ok(cx_graph_check(m.graph, err));
    assert_int_equal(cx_graph_find(m.graph, "target"), target);
    assert_int_equal(cx_graph_find(m.graph, "loss.weight"), weights);
    assert_true(cx_shape_eq(m.graph->values[target].shape, (cx_shape){ 1, 1, 1, 3 }));
    assert_true(cx_shape_eq(m.graph->values[weights].shape, (cx_shape){ 1, 1, 2, 3 }));
    assert_int_equal(m.graph->values[weights].kind, CX_STATE);
    assert_int_equal(cx_elems(m.graph->values[loss].shape), 1);
    cx_model_free(&m);
    assert_cx_ok(cx_model_new(&spec, &m, err));
    assert_true(cx_model_loss(&m, CX_LOSS_CE, 0, &target, &weights) >= 0);
    assert_true(cx_shape_eq(m.graph->values[target].shape, (cx_shape){ 1, 1, 1, 1 }));
    assert_true(cx_shape_eq(m.graph->values[weights].shape, (cx_shape){ 1, 1, 1, 3 }));
    cx_model_free(&m);
    assert_cx_ok(cx_model_new(&spec, &m, err));
    assert_int_equal(cx_model_loss(&m, CX_LOSS_BCE, 1.5, &target, &weights), -1);
    assert_cx_fails(CX_E_CONFIG, "smoothing", cx_graph_check(m.graph, err));
    cx_model_free(&m);
    assert_cx_ok(cx_model_new(&spec, &m, err));
    assert_int_equal(cx_model_loss(&m, CX_LOSS_DICE, 0, &target, &weights), -1);
    assert_cx_fails(CX_E_CONFIG, "Dice needs a network that ends in a map of probabilities", cx_graph_check(m.graph, err));
    cx_model_free(&m);
    const cx_model_spec maps = { "unet", 32, 1, .outputs = 3, .base = 2 };
    assert_cx_ok(cx_model_new(&maps, &m, err));
    assert_true(cx_model_loss(&m, CX_LOSS_CE, 0, &target, &weights) >= 0);
    assert_true(cx_shape_eq(m.graph->values[target].shape, (cx_shape){ 1, 32, 32, 1 }));
    cx_model_free(&m);
    assert_cx_ok(cx_model_new(&maps, &m, err));
    assert_int_equal(cx_model_loss(&m, CX_LOSS_DICE, 0.1, &target, &weights), -1);
    assert_cx_fails(CX_E_CONFIG, "Dice takes no label smoothing; set it to 0, is 0.1", cx_graph_check(m.graph, err));
    cx_model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_are_counted), cmocka_unit_test(names_are_torchvision_s), cmocka_unit_test(features_are_the_last_map),
        cmocka_unit_test(wrong_specs_are_refused), cmocka_unit_test(smallest_sides_build),
        cmocka_unit_test(unet_gives_maps), cmocka_unit_test(losses_take_their_targets),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
