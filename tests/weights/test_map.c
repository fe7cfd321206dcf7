/* test_map.c - other people's tensors find their places: by the names of Keras, PyTorch and their dialects, by order, in the right axes; and what is said
 * where they do not. Goldens: tools/oracle/foreign.py. */
#include "foreign.h"
#include "golden.h"
#include "weights/layers.h"

static const cx_model_spec DENSENET = { .arch = "densenet121", .side = 224, .channels = 3, .outputs = 14 };

/* ---- DenseNet by names ------------------------------------------------------------------------------------------------- */

/* "7x7x3x64" */
static int parse_shape(const char *text, int64_t d[4])
{
    int nd = 0;
    for (char *end; *text; text = *end ? end + 1 : end)
        d[nd++] = strtoll(text, &end, 10);
    return nd;
}

typedef struct { cx_csv csv; cx_model m; } keras_net;

static keras_net open_keras(void)
{
    keras_net k;
    assert_cx_ok(cx_csv_load("tests/golden/foreign_names.csv", &k.csv, err));
    assert_cx_ok(cx_model_new(&DENSENET, &k.m, err));
    assert_int_equal(k.csv.rows, 607);
    return k;
}

static void close_keras(keras_net *k)
{
    cx_csv_free(&k->csv);
    cx_model_free(&k->m);
}

/* Row r of the golden under prefix + its name, "conv1_conv" written as Keras 2 did where wanted. */
static void add_row(foreign *x, const keras_net *k, int r, const char *prefix, bool old)
{
    int64_t d[4];
    const int nd = parse_shape(cx_csv_at(&k->csv, r, 1), d);
    char name[200];
    snprintf(name, sizeof name, "%s%s", prefix, cx_csv_at(&k->csv, r, 0));
    char *stem = strstr(name, "conv1_conv/") ? strstr(name, "conv1_conv/") : strstr(name, "conv1_bn/");
    if (old && stem == name + strlen(prefix))
        stem[5] = '/';
    foreign_add(x, name, d, nd);
}

/* Tensor t of the file is row row[t] of the golden, and has found that row's partner. */
static void assert_partners(const keras_net *k, const foreign *x, const int *row)
{
    cx_mapping m;
    assert_cx_ok(cx_weights_map(&x->f, k->m.graph, CX_HEAD_KEEP, &m, err));
    assert_cx_ok(cx_weights_map_check(&x->f, k->m.graph, &m, err));
    assert_int_equal(m.n, 606);
    assert_int_equal(m.count[CX_PAIR_USED], 606);
    assert_int_equal(m.axes, CX_AXES_KERAS);
    assert_false(m.by_order);
    for (int i = 0; i < m.n; i++)
        assert_string_equal(k->m.graph->values[m.row[i].value].name, cx_csv_at(&k->csv, row[m.row[i].source], 2));
    cx_weights_map_free(&m);
}

static void keras_names_find_their_places(void **state)
{
    (void)state;
    static const struct { const char *prefix; bool old, shuffled; } forms[] = {
        { "", false, false }, { "", true, false }, { "densenet121/", false, false }, { "densenet121/", true, true },
    };
    keras_net k = open_keras();
    for (int form = 0; form < CX_COUNT(forms); form++) {
        foreign *x = foreign_new();
        int row[606];
        cx_rng rng = cx_rng_new(1, 1);
        for (int i = 0; i < 606; i++)
            row[i] = i + 1;
        if (forms[form].shuffled)
            cx_rng_shuffle(&rng, row, 606);
        for (int i = 0; i < 606; i++)
            add_row(x, &k, row[i], forms[form].prefix, forms[form].old);
        assert_partners(&k, x, row);
        cx_model_spec guess = { 0 };
        bool relu;
        assert_cx_ok(cx_weights_guess(&x->f, &guess, &relu, err));
        assert_string_equal(guess.arch, "densenet121");
        assert_int_equal(guess.channels, 3);
        assert_int_equal(guess.outputs, 14);
        assert_int_equal(guess.side, 224);
        assert_true(guess.norm_eps == 1.001e-5);
        assert_false(relu);
        foreign_free(x);
    }
    close_keras(&k);
}

/* Names as PyTorch files have them: `form` %s stands for the module's, `old` breaks norm1 into norm.1, the classifier is renamed. */
static foreign *torch_file(const cx_graph *g, const char *prefix, bool old, const char *classifier, bool counters)
{
    foreign *x = foreign_new();
    for (int v = 0; v < g->n_values; v++) {
        char name[300];
        if (!cx_weights_kept(g, v))
            continue;
        const char *own = g->values[v].name, *layer = strstr(own, ".denselayer"), *tail = strncmp(own, "classifier.", 11) == 0 ? own + 11 : NULL;
        const cx_layout l = cx_layout_of(g, v, CX_AXES_TORCH);
        char *digit = NULL;
        snprintf(name, sizeof name, "%s%s%s", prefix, tail ? classifier : own, tail ? tail : "");
        if (old && layer)
            digit = strstr(name, ".norm") ? strstr(name, ".norm") + 5 : strstr(name, ".conv") + 5;
        if (digit) {
            memmove(digit + 1, digit, strlen(digit) + 1);
            *digit = '.';
        }
        foreign_add(x, name, l.d, l.nd);
        if (counters && strstr(own, "running_var")) {
            name[strlen(name) - strlen("running_var")] = 0;
            strcat(name, "num_batches_tracked");
            foreign_add(x, name, NULL, 0);
            x->t[x->f.n - 1].dtype = CX_I64;
        }
    }
    return x;
}

static void torch_names_find_their_places(void **state)
{
    (void)state;
    static const struct { const char *prefix; bool old; const char *classifier; bool counters; } forms[] = {
        { "", false, "classifier.", true }, { "module.", false, "classifier.", false }, { "module.densenet121.", true, "classifier.0.", true },
        { "model.", true, "classifier.", false }, { "state_dict.module.", false, "classifier.1.", false },
    };
    cx_model m;
    assert_cx_ok(cx_model_new(&DENSENET, &m, err));
    for (int form = 0; form < CX_COUNT(forms); form++) {
        foreign *x = torch_file(m.graph, forms[form].prefix, forms[form].old, forms[form].classifier, forms[form].counters);
        cx_mapping map;
        cx_model_spec guess = { 0 };
        char seen[CX_NAME_MAX];
        assert_cx_ok(cx_weights_map(&x->f, m.graph, CX_HEAD_KEEP, &map, err));
        assert_cx_ok(cx_weights_map_check(&x->f, m.graph, &map, err));
        assert_int_equal(map.axes, CX_AXES_TORCH);
        assert_int_equal(map.count[CX_PAIR_USED], 606);
        assert_int_equal(map.count[CX_PAIR_LEFT_OUT], forms[form].counters ? 121 : 0);
        for (int i = 0; i < map.n; i++)
            if (map.row[i].state == CX_PAIR_USED) {
                cx_torch_name(x->t[map.row[i].source].name, seen);
                assert_string_equal(seen, m.graph->values[map.row[i].value].name);
            }
        bool relu;
        assert_cx_ok(cx_weights_guess(&x->f, &guess, &relu, err));
        assert_string_equal(guess.arch, "densenet121");
        assert_int_equal(guess.outputs, 14);
        assert_true(guess.norm_eps == 1e-5);
        assert_true(relu && !guess.no_final_relu);
        cx_weights_map_free(&map);
        foreign_free(x);
    }
    cx_model_free(&m);
}

/* One channel, 18 outputs, thresholds beside the weights; blocks tell 169 and 201 apart. */
static void relatives_are_known(void **state)
{
    (void)state;
    static const cx_model_spec specs[] = { { .arch = "densenet121", .side = 224, .channels = 1, .outputs = 18 },
                                           { .arch = "densenet169", .side = 224, .channels = 3, .outputs = 1000 },
                                           { .arch = "densenet201", .side = 224, .channels = 3, .outputs = 2, .hidden = 10 } };
    for (int i = 0; i < CX_COUNT(specs); i++) {
        cx_model m;
        cx_mapping map;
        cx_model_spec guess = { 0 };
        assert_cx_ok(cx_model_new(&specs[i], &m, err));
        foreign *x = torch_file(m.graph, "", false, "classifier.", false);
        foreign_add(x, "op_threshs", (const int64_t[]){ 18 }, 1);
        assert_cx_ok(cx_weights_guess(&x->f, &guess, NULL, err));
        assert_string_equal(guess.arch, specs[i].arch);
        assert_int_equal(guess.channels, specs[i].channels);
        assert_int_equal(guess.outputs, specs[i].outputs);
        assert_int_equal(guess.hidden, specs[i].hidden);
        assert_cx_ok(cx_weights_map(&x->f, m.graph, CX_HEAD_KEEP, &map, err));
        assert_cx_ok(cx_weights_map_check(&x->f, m.graph, &map, err));
        assert_int_equal(map.count[CX_PAIR_LEFT_OUT], 1);
        cx_weights_map_free(&map);
        foreign_free(x);
        cx_model_free(&m);
    }
}

/* ---- what does not fit is said ------------------------------------------------------------------------------------------ */

static void misfits_are_named(void **state)
{
    (void)state;
    cx_model m;
    cx_mapping map;
    assert_cx_ok(cx_model_new(&DENSENET, &m, err));
    foreign *x = torch_file(m.graph, "", false, "classifier.", false);
    cx_st_tensor *last = &x->t[x->f.n - 1], *stem = &x->t[0];
    assert_string_equal(last->name, "classifier.bias");

    last->d[0] = 13;
    assert_cx_ok(cx_weights_map(&x->f, m.graph, CX_HEAD_KEEP, &map, err));
    assert_cx_fails(CX_E_DATA, "classifier.bias is 13 in the file, classifier.bias wants 14 (1 of 606", cx_weights_map_check(&x->f, m.graph, &map, err));
    cx_weights_map_free(&map);
    assert_cx_ok(cx_weights_map(&x->f, m.graph, CX_HEAD_DROP, &map, err));
    assert_cx_ok(cx_weights_map_check(&x->f, m.graph, &map, err));
    assert_int_equal(map.count[CX_PAIR_HEAD], 2);
    assert_int_equal(map.count[CX_PAIR_LEFT_OUT], 2);
    assert_int_equal(map.n, 608);
    cx_weights_map_free(&map);

    last->d[0] = 14;
    stem->d[2] = 5;
    assert_cx_ok(cx_weights_map(&x->f, m.graph, CX_HEAD_KEEP, &map, err));
    assert_cx_fails(CX_E_DATA, "features.conv0.weight is 64x3x5x7", cx_weights_map_check(&x->f, m.graph, &map, err));
    cx_weights_map_free(&map);

    stem->d[2] = 7;
    x->f.n--;
    assert_cx_ok(cx_weights_map(&x->f, m.graph, CX_HEAD_KEEP, &map, err));
    assert_cx_fails(CX_E_DATA, "nothing for classifier.bias (14)", cx_weights_map_check(&x->f, m.graph, &map, err));
    cx_weights_map_free(&map);

    x->f.n++;
    foreign_add(x, "surprise.weight", (const int64_t[]){ 7, 2 }, 2);
    assert_cx_ok(cx_weights_map(&x->f, m.graph, CX_HEAD_KEEP, &map, err));
    assert_cx_fails(CX_E_DATA, "takes the file's surprise.weight (7x2)", cx_weights_map_check(&x->f, m.graph, &map, err));
    cx_weights_map_free(&map);
    foreign_free(x);
    cx_model_free(&m);
}

/* Nothing is taken where one shape does not fit, though all others do. */
static void misfits_change_nothing(void **state)
{
    (void)state;
    running r = running_spec((cx_model_spec){ .arch = "unet", .side = 8, .channels = 1, .outputs = 1, .base = 2, .depth = 2 }, 1);
    char before[65], after[65];
    cx_mapping map;
    foreign *x = torch_file(r.m.graph, "", false, "", false);
    x->t[x->f.n - 1].d[0]++;
    assert_cx_ok(cx_weights_sha256(r.s, before, err));
    assert_cx_ok(cx_weights_map(&x->f, r.m.graph, CX_HEAD_KEEP, &map, err));
    assert_cx_fails(CX_E_DATA, "head.bias", cx_weights_take(r.s, &x->f, &map, false, err));
    assert_cx_ok(cx_weights_sha256(r.s, after, err));
    assert_string_equal(before, after);
    cx_weights_map_free(&map);
    foreign_free(x);
    running_close(&r);
}

/* ---- numbers ------------------------------------------------------------------------------------------------------------ */

/* The tensors of one set, in the order of the file they stand for. */
static foreign *set_of(const golden *g, const char *set)
{
    foreign *x = foreign_new();
    char start[64];
    for (int i = 0;; i++) {
        const cx_st_tensor *t = NULL;
        snprintf(start, sizeof start, "%s|%03d|", set, i);
        for (int k = 0; k < g->n && !t; k++)
            t = strncmp(g->tensors[k].name, start, strlen(start)) == 0 ? &g->tensors[k] : NULL;
        if (!t)
            return x;
        foreign_put(x, t->name + strlen(start), t);
    }
}

static void assert_answers(running *r, const golden *g, const char *set, int value, bool by_order, cx_axes axes, int twins)
{
    foreign *x = set_of(g, set);
    const cx_shape in = r->m.graph->values[r->m.input].shape;
    char out[64];
    int64_t n = 0;
    cx_mapping map;
    snprintf(out, sizeof out, "%s.out", set);
    float *want = golden_get(g, out, &n), *film = pattern(cx_elems(in), false);
    assert_non_null(want);
    assert_int_equal(n, cx_elems(r->m.graph->values[value].shape));
    running_take(r, &x->f, &map);
    assert_int_equal(map.by_order, by_order);
    assert_int_equal(map.axes, axes);
    assert_int_equal(map.twins, twins);
    float *y = running_answer(r, film, 1, value);
    assert_close(set, y, want, n, 0, 1e-5);          /* float32 on both sides */
    cx_weights_map_free(&map);
    free(film);
    free(want);
    free(y);
    foreign_free(x);
}

static cx_model flat_graph(void)
{
    cx_model m = { .graph = cx_graph_new(), .features = -1, .probability = -1 };
    cx_graph *g = m.graph;
    m.input = cx_input(g, "input", (cx_shape){ 1, 8, 9, 3 });
    int x = cx_conv2d(g, "one", m.input, (cx_conv_spec){ 3, 3, 1, 0, true, CX_INIT_HE_NORMAL });
    x = cx_relu(g, "one.relu", x);
    x = cx_relu(g, "two.relu", cx_conv2d(g, "two", x, (cx_conv_spec){ 3, 3, 1, 0, true, CX_INIT_HE_NORMAL }));
    m.logits = cx_linear(g, "classifier", cx_flatten(g, "flatten", x), 2, CX_INIT_GLOROT_UNIFORM);
    return m;
}

static void order_gives_the_answers_of_keras_and_torch(void **state)
{
    (void)state;
    golden g;
    golden_open(&g, "tests/golden/foreign.safetensors");
    running unet = running_spec((cx_model_spec){ .arch = "unet", .side = 8, .channels = 1, .outputs = 1, .base = 2, .depth = 2 }, 1);
    running flat = running_graph(flat_graph(), 1);
    assert_answers(&unet, &g, "keras_unet", unet.m.probability, true, CX_AXES_KERAS, 0);
    assert_answers(&unet, &g, "torch_unet", unet.m.probability, true, CX_AXES_TORCH, 0);
    assert_answers(&flat, &g, "torch_flat", flat.m.logits, true, CX_AXES_TORCH, 0);
    assert_answers(&flat, &g, "keras_flat", flat.m.logits, true, CX_AXES_KERAS, 1);      /* conv2d_1 before conv2d: only the file's order tells */
    running_close(&unet);
    running_close(&flat);
    golden_close(&g);
}

/* A BGR network answers for an RGB film what it answered for the same film in BGR. */
static void bgr_becomes_rgb(void **state)
{
    (void)state;
    golden g;
    cx_mapping map;
    golden_open(&g, "tests/golden/foreign.safetensors");
    foreign *x = set_of(&g, "torch_flat");
    running r = running_graph(flat_graph(), 1);
    int64_t n = 0;
    float *film = pattern(8 * 9 * 3, false), *want = golden_get(&g, "torch_flat.out", &n);
    for (int i = 0; i < 8 * 9; i++) {
        const float blue = film[3 * i];
        film[3 * i] = film[3 * i + 2];
        film[3 * i + 2] = blue;
    }
    assert_cx_ok(cx_weights_map(&x->f, r.m.graph, CX_HEAD_KEEP, &map, err));
    assert_cx_ok(cx_weights_take(r.s, &x->f, &map, true, err));
    float *y = running_answer(&r, film, 1, r.m.logits);
    assert_close("bgr", y, want, n, 0, 1e-5);
    cx_weights_map_free(&map);
    free(film);
    free(want);
    free(y);
    running_close(&r);
    foreign_free(x);
    golden_close(&g);
}

/* ---- guessing ----------------------------------------------------------------------------------------------------------- */

static void add_layer(foreign *x, const char *name, const int64_t *d, int nd)
{
    char full[100];
    snprintf(full, sizeof full, "%s/kernel", name);
    foreign_add(x, full, d, nd);
    snprintf(full, sizeof full, "%s/bias", name);
    foreign_add(x, full, &d[nd - 1], 1);
}

static foreign *base_cnn_file(int64_t flat)
{
    foreign *x = foreign_new();
    for (int i = 1; i <= 5; i++) {
        char name[20];
        snprintf(name, sizeof name, "conv_layer%d", i);
        add_layer(x, name, (const int64_t[]){ i == 1 ? 5 : 3, i == 1 ? 5 : 3, i == 1 ? 3 : 32, 32 }, 4);
    }
    add_layer(x, "a", (const int64_t[]){ flat, 10 }, 2);
    add_layer(x, "b", (const int64_t[]){ 10, 10 }, 2);
    add_layer(x, "c", (const int64_t[]){ 10, 1 }, 2);
    return x;
}

/* The last map of the base CNN is 11 x 11 for films of 385 to 416 px: the weights alone do not tell. */
static void sides_are_asked_for_or_read(void **state)
{
    (void)state;
    foreign *x = base_cnn_file(11 * 11 * 32);
    cx_model_spec spec = { 0 }, given = { .side = 400 }, other = { .arch = "densenet121" };
    assert_cx_fails(CX_E_DATA, "films of 385 to 416 px", cx_weights_guess(&x->f, &spec, NULL, err));
    assert_cx_ok(cx_weights_guess(&x->f, &given, NULL, err));
    assert_string_equal(given.arch, "base_cnn");
    assert_int_equal(given.channels, 3);
    assert_int_equal(given.outputs, 1);
    assert_cx_fails(CX_E_DATA, "those of base_cnn, not of densenet121", cx_weights_guess(&x->f, &other, NULL, err));
    foreign_meta(x, "keras.model_config", "{\"class_name\": \"Model\", \"config\": {\"layers\": [{\"class_name\": \"InputLayer\", "
                    "\"config\": {\"batch_input_shape\": [null, 400, 400, 3]}}]}}");
    spec = (cx_model_spec){ 0 };
    assert_cx_ok(cx_weights_guess(&x->f, &spec, NULL, err));
    assert_int_equal(spec.side, 400);
    foreign_free(x);
    x = base_cnn_file(11 * 11 * 32 + 1);
    spec = (cx_model_spec){ 0 };
    assert_cx_fails(CX_E_DATA, "no square film", cx_weights_guess(&x->f, &spec, NULL, err));
    foreign_free(x);
}

/* Epsilon and the final ReLU stand in Keras' own description, however deep. */
static void keras_config_is_read(void **state)
{
    (void)state;
    static const char *const with = "{\"class_name\": \"Sequential\", \"config\": {\"layers\": [{\"class_name\": \"Functional\", \"config\": {\"name\": "
        "\"densenet121\", \"layers\": [{\"class_name\": \"InputLayer\", \"config\": {\"batch_shape\": [null, 320, 320, 3]}}, {\"class_name\": "
        "\"BatchNormalization\", \"config\": {\"name\": \"bn\", \"epsilon\": 0.001}}, {\"class_name\": \"Activation\", \"config\": {\"name\": \"relu\"}}]}}]}}";
    keras_net k = open_keras();
    for (int relu = 0; relu < 2; relu++) {
        foreign *x = foreign_new();
        cx_model_spec spec = { 0 };
        bool known;
        char text[1000];
        snprintf(text, sizeof text, "%s", with);
        memcpy(strstr(text, "\"relu\""), relu ? "\"relu\"" : "\"RELU\"", 6);
        for (int r = 1; r < k.csv.rows; r++)
            add_row(x, &k, r, "", false);
        foreign_meta(x, "keras.model_config", text);
        assert_cx_ok(cx_weights_guess(&x->f, &spec, &known, err));
        assert_true(known);
        assert_int_equal(spec.no_final_relu, !relu);
        assert_true(spec.norm_eps == 0.001);
        assert_int_equal(spec.side, 320);
        foreign_free(x);
    }
    close_keras(&k);
}

static void unknown_networks_are_refused(void **state)
{
    (void)state;
    foreign *x = foreign_new();
    cx_model_spec spec = { 0 };
    add_layer(x, "conv2d", (const int64_t[]){ 3, 3, 1, 8 }, 4);
    assert_cx_fails(CX_E_DATA, "1 convolutions, 0 transposed", cx_weights_guess(&x->f, &spec, NULL, err));
    foreign_add(x, "conv2_block1_1_conv/kernel", (const int64_t[]){ 1, 1, 8, 8 }, 4);
    assert_cx_fails(CX_E_DATA, "blocks of 1, 0, 0 and 0 layers", cx_weights_guess(&x->f, &spec, NULL, err));
    foreign_free(x);
}

/* Whatever names, shapes and types a file has, each kept value and each tensor stands in exactly one row, or in one together. */
static void every_tensor_is_accounted_for(void **state)
{
    (void)state;
    static const char *const layers[] = { "conv1/conv", "a/conv1/conv", "conv2_block1_1_conv", "conv5_block16_2_conv", "bn", "conv1_bn", "conv2d", "conv2d_1",
        "conv2d_transpose", "dense", "features.conv0", "features.norm0", "module.features.denseblock1.denselayer1.norm.1", "classifier", "classifier.0", "head",
        "enc1.conv1", "up1", "optimizer/vars", "features.denseblock9.denselayer1.conv1", "pool2_conv", "", "/", ".", "conv99999999999_block1_1_conv" };
    static const char *const parts[] = { "/kernel", "/bias", "/gamma", "/beta", "/moving_mean", "/moving_variance", ".weight", ".bias", ".running_mean",
        ".running_var", ".num_batches_tracked", "/0", "/1", "/2", "/3", "" };
    static const cx_model_spec specs[] = { { .arch = "unet", .side = 8, .channels = 1, .outputs = 1, .base = 2, .depth = 2, .norm = true },
        { .arch = "densenet121", .side = 32, .channels = 3, .outputs = 2, .hidden = 3 }, { .arch = "base_cnn", .side = 65, .channels = 1, .outputs = 2 } };
    cx_rng rng = cx_rng_new(11, 0);
    FILE *nowhere = fopen("/dev/null", "w");
    assert_non_null(nowhere);
    for (int round = 0; round < 120; round++) {
        cx_model m;
        cx_mapping map;
        foreign *x = foreign_new();
        const int tensors = (int)cx_rng_below(&rng, 60);
        assert_cx_ok(cx_model_new(&specs[round % CX_COUNT(specs)], &m, err));
        for (int i = 0; i < tensors; i++) {
            char name[200];
            int64_t d[CX_ST_DIMS];
            const int nd = (int)cx_rng_below(&rng, round % 2 ? 5 : CX_ST_DIMS + 1);
            snprintf(name, sizeof name, "%s%s", layers[cx_rng_below(&rng, CX_COUNT(layers))], parts[cx_rng_below(&rng, CX_COUNT(parts))]);
            for (int k = 0; k < nd; k++)
                d[k] = cx_rng_below(&rng, 4);
            foreign_add(x, name, d, nd);
            x->t[i].dtype = cx_rng_below(&rng, 8) ? CX_F32 : CX_I64;
        }
        cx_model_spec guess = { 0 };
        (void)cx_weights_guess(&x->f, &guess, NULL, NULL);
        for (int head = 0; head < 2; head++) {
            int values = 0, sources = 0, kept = 0, rows = 0;
            assert_cx_ok(cx_weights_map(&x->f, m.graph, (cx_head)head, &map, err));
            for (int v = 0; v < m.graph->n_values; v++)
                kept += cx_weights_kept(m.graph, v);
            for (int i = 0; i < map.n; i++) {
                values += map.row[i].value >= 0;
                sources += map.row[i].source >= 0;
            }
            for (int k = 0; k < CX_PAIR_STATES; k++)
                rows += map.count[k];
            assert_int_equal(values, kept);
            assert_int_equal(sources, tensors);
            assert_int_equal(rows, map.n);
            assert_int_equal(map.count[CX_PAIR_USED] == map.n - map.count[CX_PAIR_LEFT_OUT] - map.count[CX_PAIR_HEAD],
                             cx_weights_map_check(&x->f, m.graph, &map, NULL) == CX_OK);
            cx_weights_map_print(&x->f, m.graph, &map, nowhere);
            cx_weights_map_free(&map);
        }
        foreign_free(x);
        cx_model_free(&m);
    }
    fclose(nowhere);
}

/* ---- cards --------------------------------------------------------------------------------------------------------------- */

static void cards_come_back(void **state)
{
    (void)state;
    char *classes[] = { "No Finding", "COVID-19 \"x\"" };
    const cx_weights_card c = { .spec = { .arch = "densenet169", .side = 320, .channels = 3, .hidden = 10, .dropout = 0.2, .outputs = 1, .norm_eps = 1.001e-5,
                                          .no_final_relu = true },
                                .normalise = "unit", .classes = classes, .n_classes = 2, .source = "keras legacy weights, sha256 1, x.h5" };
    cx_weights_card back;
    cx_st_meta meta[CX_CARD_META];
    cx_st_file f = { .meta = meta };
    assert_cx_fails(CX_E_DATA, "does not say", cx_weights_card_read(&f, &back, err));
    assert_cx_ok(cx_weights_card_write(&c, meta, err));
    f.n_meta = CX_CARD_META;
    assert_cx_ok(cx_weights_card_read(&f, &back, err));
    assert_memory_equal(&back.spec, &c.spec, sizeof c.spec);
    assert_string_equal(back.normalise, "unit");
    assert_string_equal(back.source, c.source);
    assert_int_equal(back.n_classes, 2);
    assert_string_equal(back.classes[1], classes[1]);
    cx_weights_card_free(&back);

    static const struct { int key; const char *value, *says; } broken[] = {
        { 0, "{", "cxnet.model" }, { 0, "{\"arch\": \"unet\"}", "cxnet.model" }, { 0, "{\"arch\": 3}", "cxnet.model" }, { 1, "{}", "cxnet.input" },
        { 1, "{\"normalise\": \"unit\", \"order\": \"bgr\"}", "rgb" }, { 2, "[1]", "cxnet.classes: item 0" },
    };
    for (int i = 0; i < CX_COUNT(broken); i++) {
        const char *good = meta[broken[i].key].value;
        meta[broken[i].key].value = broken[i].value;
        assert_cx_fails(CX_E_DATA, broken[i].says, cx_weights_card_read(&f, &back, err));
        meta[broken[i].key].value = good;
    }
    cx_weights_card_unwrite(meta);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keras_names_find_their_places),
        cmocka_unit_test(torch_names_find_their_places),
        cmocka_unit_test(relatives_are_known),
        cmocka_unit_test(misfits_are_named),
        cmocka_unit_test(misfits_change_nothing),
        cmocka_unit_test(order_gives_the_answers_of_keras_and_torch),
        cmocka_unit_test(bgr_becomes_rgb),
        cmocka_unit_test(sides_are_asked_for_or_read),
        cmocka_unit_test(keras_config_is_read),
        cmocka_unit_test(unknown_networks_are_refused),
        cmocka_unit_test(every_tensor_is_accounted_for),
        cmocka_unit_test(cards_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
