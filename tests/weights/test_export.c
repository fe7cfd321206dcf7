/* test_export.c - what is written for PyTorch, Keras and ONNX holds the same numbers: read back, or walked field by field. tools/oracle/check_exports.py shows
 * the files to those programs themselves. */
#include "foreign.h"
#include "weights/sandboxed.h"
#include "weights/layers.h"
#include <unistd.h>

static const cx_model_spec specs[] = {
    { .arch = "unet", .side = 8, .channels = 1, .outputs = 1, .base = 2, .depth = 2 },
    { .arch = "unet", .side = 8, .channels = 3, .outputs = 2, .base = 3, .depth = 1, .norm = true },
    { .arch = "base_cnn", .side = 97, .channels = 3, .outputs = 2, .dropout = 0.3 },
    { .arch = "densenet121", .side = 32, .channels = 1, .outputs = 3, .hidden = 10, .norm_eps = 1.001e-5, .no_final_relu = true },
};

typedef struct { cx_backend *b; cx_weights_net net; char path[40], sha[65]; } written;

/* A network with weights drawn from a seed, and a file name for it. */
static written made(const cx_model_spec *spec)
{
    static char *classes[] = { "Clear", "Opacity", "Edema" };
    written w = { .path = "/tmp/cxnet-test-XXXXXX" };
    close(mkstemp(w.path));
    assert_cx_ok(cx_backend_open("cpu", 1, &w.b, err));
    w.net.card = (cx_weights_card){ .spec = *spec, .normalise = "unit", .classes = classes, .n_classes = spec->outputs, .source = "nowhere" };
    assert_cx_ok(cx_model_new(spec, &w.net.model, err));
    assert_cx_ok(cx_store_new(w.net.model.graph, w.b, 5, &w.net.store, err));
    cx_rng rng = cx_rng_new(1, 2);
    for (int v = 0; v < w.net.model.graph->n_values; v++) {       /* biases and statistics begin alike; nothing may be mistaken here */
        const int64_t n = cx_elems(w.net.model.graph->values[v].shape);
        if (!cx_weights_kept(w.net.model.graph, v))
            continue;
        float *host = cx_alloc((size_t)n, sizeof *host);
        assert_non_null(host);
        for (int64_t i = 0; i < n; i++)
            host[i] = (float)cx_rng_uniform(&rng);
        assert_cx_ok(cx_store_set(w.net.store, v, host, err));
        free(host);
    }
    assert_cx_ok(cx_weights_sha256(w.net.store, w.sha, err));
    return w;
}

static void forget(written *w)
{
    w->net.card.classes = NULL;
    w->net.card.n_classes = 0;
    cx_weights_net_close(&w->net);
    cx_backend_close(w->b);
    unlink(w->path);
}

/* The file, mapped into a fresh network, is the network that was written. */
static void assert_comes_back(written *w, cx_axes axes)
{
    cx_st_file f;
    cx_mapping m;
    char sha[65];
    running r = running_spec(w->net.card.spec, 77);
    assert_cx_ok(cx_weights_read(w->path, &f, err));
    running_take(&r, &f, &m);
    assert_int_equal(m.axes, axes);
    assert_int_equal(m.count[CX_PAIR_USED], m.n);
    assert_cx_ok(cx_weights_sha256(r.s, sha, err));
    assert_string_equal(sha, w->sha);
    cx_weights_map_free(&m);
    cx_st_free(&f);
    running_close(&r);
}

static void ours_come_back_with_their_card(void **state)
{
    (void)state;
    for (int i = 0; i < CX_COUNT(specs); i++) {
        written w = made(&specs[i]);
        cx_weights_net back;
        char sha[65];
        assert_cx_ok(cx_weights_net_save(&w.net, w.path, err));
        assert_comes_back(&w, CX_AXES_OURS);
        assert_cx_ok(cx_weights_open(w.path, w.b, &back, err));
        assert_memory_equal(&back.card.spec, &specs[i], sizeof specs[i]);
        assert_int_equal(back.card.n_classes, specs[i].outputs);
        assert_cx_ok(cx_weights_sha256(back.store, sha, err));
        assert_string_equal(sha, w.sha);
        cx_weights_net_close(&back);
        forget(&w);
    }
}

static void torch_files_come_back(void **state)
{
    (void)state;
    for (int i = 0; i < CX_COUNT(specs); i++) {
        written w = made(&specs[i]);
        cx_st_file f;
        cx_weights_card card;
        assert_cx_ok(cx_weights_export_torch(&w.net, w.path, err));
        assert_comes_back(&w, CX_AXES_TORCH);
        assert_cx_ok(cx_st_read(w.path, &f, err));
        assert_cx_ok(cx_weights_card_read(&f, &card, err));
        assert_memory_equal(&card.spec, &specs[i], sizeof specs[i]);
        cx_weights_card_free(&card);
        cx_st_free(&f);
        forget(&w);
    }
}

static void keras_files_come_back(void **state)
{
    (void)state;
    for (int i = 0; i < CX_COUNT(specs); i++) {
        written w = made(&specs[i]);
        cx_st_file f;
        const bool densenet = strncmp(specs[i].arch, "densenet", 8) == 0;
        assert_cx_ok(cx_weights_export_keras(&w.net, w.path, err));
        assert_comes_back(&w, CX_AXES_KERAS);
        assert_cx_ok(cx_weights_read(w.path, &f, err));
        assert_string_equal(cx_st_meta_get(&f, "format"), "keras legacy weights");
        assert_string_equal(f.tensors[0].name, densenet ? "conv1/conv/kernel" : "conv2d/kernel");
        assert_string_equal(f.tensors[f.n - 1].name, densenet ? "predictions/bias" : i == 2 ? "dense_2/bias" : i == 0 ? "conv2d_10/bias" : "conv2d_6/bias");
        cx_st_free(&f);
        forget(&w);
    }
}

/* The same weights give the same file, to the byte. */
static void files_are_reproducible(void **state)
{
    (void)state;
    static cx_status (*const export[])(const cx_weights_net *, const char *, cx_error *) = { cx_weights_export_torch, cx_weights_export_keras,
                                                                                            cx_weights_export_onnx };
    for (int i = 0; i < CX_COUNT(export); i++) {
        char one[65], two[65];
        written w = made(&specs[1]);
        assert_cx_ok(export[i](&w.net, w.path, err));
        assert_cx_ok(cx_sha256_file(w.path, one, err));
        assert_cx_ok(export[i](&w.net, w.path, err));
        assert_cx_ok(cx_sha256_file(w.path, two, err));
        assert_string_equal(one, two);
        assert_cx_fails(CX_E_CREATE, "/nowhere/x", export[i](&w.net, "/nowhere/x", err));
        forget(&w);
    }
}

/* ---- ONNX, walked by its wire format --------------------------------------------------------------------------------------- */

typedef struct { const unsigned char *p; size_t n; } span;
typedef struct { uint64_t field, type, number; span bytes; } field;

static uint64_t varint(span *s)
{
    uint64_t v = 0;
    for (int shift = 0;; shift += 7) {
        assert_true(s->n > 0 && shift < 64);
        v |= (uint64_t)(*s->p & 127) << shift;
        s->n--;
        if (!(*s->p++ & 128))
            return v;
    }
}

static bool next(span *s, field *f)
{
    if (s->n == 0)
        return false;
    const uint64_t tag = varint(s);
    *f = (field){ .field = tag >> 3, .type = tag & 7 };
    size_t n = 0;
    if (f->type == 0)
        f->number = varint(s);
    else if (f->type == 2)
        n = varint(s);
    else {
        assert_int_equal(f->type, 5);
        n = 4;
    }
    assert_true(n <= s->n);
    f->bytes = (span){ s->p, n };
    s->p += n;
    s->n -= n;
    return true;
}

/* The `nth` field of this number, as text; "" where there is none. */
static void text_at(span s, uint64_t number, int nth, char out[200])
{
    field f;
    out[0] = 0;
    while (next(&s, &f))
        if (f.field == number && nth-- == 0)
            snprintf(out, 200, "%.*s", (int)f.bytes.n, (const char *)f.bytes.p);
}

static span message_at(span s, uint64_t number)
{
    field f;
    while (next(&s, &f))
        if (f.field == number)
            return f.bytes;
    fail_msg("no field %d", (int)number);
    return s;
}

enum { GRAPH = 7, OPSET = 8, META = 14, NODE = 1, INITIALIZER = 5, INPUT = 11, OUTPUT = 12, MOST_NAMES = 1500 };
typedef struct { char (*known)[200]; int n; } names;

static bool is_known(const names *k, const char *name)
{
    for (int i = 0; i < k->n; i++)
        if (strcmp(k->known[i], name) == 0)
            return true;
    return false;
}

static void learn(names *k, const char *name)
{
    assert_true(k->n < MOST_NAMES);
    if (is_known(k, name))
        fail_msg("%s is defined twice", name);
    snprintf(k->known[k->n++], 200, "%s", name);
}

/* An initializer holds the value of its name, in PyTorch's axes. */
static void assert_initializer(const written *w, span t)
{
    char name[200];
    field f;
    int nd = 0;
    text_at(t, 8, 0, name);
    const int value = cx_graph_find(w->net.model.graph, name);
    assert_true(value >= 0);
    const cx_layout l = cx_layout_of(w->net.model.graph, value, CX_AXES_TORCH);
    const int64_t n = cx_elems(w->net.model.graph->values[value].shape);
    float *ours = cx_alloc((size_t)n, sizeof *ours), *back = cx_alloc((size_t)n, sizeof *back), *raw = cx_alloc((size_t)n, sizeof *raw);
    const span bytes = message_at(t, 9);
    assert_int_equal(bytes.n, (size_t)n * sizeof *raw);
    memcpy(raw, bytes.p, bytes.n);
    while (next(&t, &f))
        if (f.field == 1) {
            assert_true(nd < l.nd);
            assert_int_equal(f.number, l.d[nd++]);
        }
    assert_int_equal(nd, l.nd);
    cx_layout_in(&l, raw, back);
    assert_cx_ok(cx_store_get(w->net.store, value, ours, err));
    assert_memory_equal(ours, back, (size_t)n * sizeof *ours);
    free(ours);
    free(back);
    free(raw);
}

/* Every input of every node is there before it, every name is defined once, and the nodes are those of the graph but dropout, with a Flatten where a vector
 * is needed. */
static void assert_graph(const written *w, span graph)
{
    const cx_graph *g = w->net.model.graph;
    names k = { cx_alloc(MOST_NAMES, 200), 0 };
    char name[200];
    field f;
    int nodes = 0, flattens = 0, weights = 0, dropouts = 0, kept = 0;
    assert_non_null(k.known);
    for (span s = graph; next(&s, &f);)
        if (f.field == INITIALIZER || f.field == INPUT) {
            text_at(f.bytes, f.field == INPUT ? 1 : 8, 0, name);
            learn(&k, name);
            weights += f.field == INITIALIZER;
            if (f.field == INITIALIZER)
                assert_initializer(w, f.bytes);
        }
    for (span s = graph; next(&s, &f);) {
        if (f.field != NODE)
            continue;
        for (int i = 0; text_at(f.bytes, 1, i, name), *name; i++)
            if (!is_known(&k, name))
                fail_msg("%s is read before it is made", name);
        text_at(f.bytes, 2, 0, name);
        learn(&k, name);
        text_at(f.bytes, 4, 0, name);
        nodes++;
        flattens += strcmp(name, "Flatten") == 0;
    }
    for (span s = graph; next(&s, &f);)
        if (f.field == OUTPUT) {
            text_at(f.bytes, 1, 0, name);
            assert_true(is_known(&k, name));
        }
    for (int v = 0; v < g->n_values; v++)
        kept += cx_weights_kept(g, v);
    for (int n = 0; n < g->n_nodes; n++)
        dropouts += g->nodes[n].op == CX_OP_DROPOUT;
    assert_int_equal(weights, kept);
    assert_int_equal(nodes, g->n_nodes - dropouts + (strncmp(w->net.card.spec.arch, "densenet", 8) == 0 ? flattens : 0));
    assert_int_equal(flattens, w->net.model.probability >= 0 ? 0 : 1);
    free(k.known);
}

static void onnx_files_are_sound(void **state)
{
    (void)state;
    for (int i = 0; i < CX_COUNT(specs); i++) {
        written w = made(&specs[i]);
        cx_buf b = { 0 };
        field f;
        char key[200], value[200];
        bool normalise = false;
        assert_cx_ok(cx_weights_export_onnx(&w.net, w.path, err));
        assert_cx_ok(cx_file_read(w.path, 64 << 20, &b, err));
        const span model = { (const unsigned char *)b.data, b.len };
        assert_graph(&w, message_at(model, GRAPH));
        for (span s = model; next(&s, &f);)
            if (f.field == META) {
                text_at(f.bytes, 1, 0, key);
                text_at(f.bytes, 2, 0, value);
                normalise |= strcmp(key, "preprocessing") == 0 && strstr(value, "value = grey / 255;");
            }
        assert_true(normalise);
        for (span s = message_at(model, OPSET); next(&s, &f);)
            if (f.field == 2)
                assert_int_equal(f.number, 17);
        cx_buf_free(&b);
        forget(&w);
    }
}

/* An operator without a form there is named, and no file is left. */
static void onnx_knows_its_limits(void **state)
{
    (void)state;
    written w = made(&specs[0]);
    cx_graph *g = w.net.model.graph;
    assert_true(cx_upsample(g, "finer", w.net.model.probability, 16, 16, false) >= 0);
    unlink(w.path);
    assert_cx_fails(CX_E_UNSUPPORTED, "finer: operator upsample_bilinear", cx_weights_export_onnx(&w.net, w.path, err));
    assert_false(cx_file_exists(w.path));
    forget(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ours_come_back_with_their_card),
        cmocka_unit_test(torch_files_come_back),
        cmocka_unit_test(keras_files_come_back),
        cmocka_unit_test(files_are_reproducible),
        cmocka_unit_test(onnx_files_are_sound),
        cmocka_unit_test(onnx_knows_its_limits),
    };
    return sandboxed() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
