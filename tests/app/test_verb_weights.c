/* test_verb_weights.c - weights import, export and verify, as a user runs them, on a narrow U-Net. */
#include "app/program.h"
#include "weights/sandboxed.h"
#include <jansson.h>
#include "cxnet/weights.h"

static char dir[] = "/tmp/cxnet-weights-XXXXXX";
static const cx_model_spec SPEC = { .arch = "unet", .side = 512, .channels = 1, .outputs = 1, .base = 2, .depth = 2 };
enum { SIDE = 16, FILMS = 5 };       /* more films than go at once */

/* keras.h5: a network's weights as Keras has them, which say nothing of pixels; x.npy, y.npy: what it is fed and what it answers at 16 px. */
static int setup(void **state)
{
    (void)state;
    char path[100];
    float *x = cx_alloc(FILMS * SIDE * SIDE, sizeof *x), *y = cx_alloc(FILMS * SIDE * SIDE, sizeof *y);
    cx_backend *b;
    cx_plan *p;
    cx_rng rng = cx_rng_new(3, 3);
    cx_weights_net n = { .card = { .spec = SPEC, .normalise = "unit" } };
    n.card.spec.side = SIDE;
    assert_non_null(mkdtemp(dir));
    assert_cx_ok(cx_backend_open("cpu", 1, &b, err));
    assert_cx_ok(cx_model_new(&n.card.spec, &n.model, err));
    assert_cx_ok(cx_store_new(n.model.graph, b, 9, &n.store, err));
    snprintf(path, sizeof path, "%s/keras.h5", dir);
    assert_cx_ok(cx_weights_export_keras(&n, path, err));
    for (int i = 0; i < FILMS * SIDE * SIDE; i++)
        x[i] = (float)cx_rng_uniform(&rng);
    assert_cx_ok(cx_plan_new(n.store, &(cx_plan_opts){ .batch = FILMS, .output = n.model.probability }, &p, err));
    assert_cx_ok(cx_plan_set(p, n.model.input, x, err));
    assert_cx_ok(cx_plan_forward(p, 0, 0, err));
    assert_cx_ok(cx_plan_get(p, n.model.probability, y, err));
    cx_plan_free(p);
    snprintf(path, sizeof path, "%s/x.npy", dir);
    assert_cx_ok(cx_npy_write(path, x, (const int[]){ FILMS, SIDE, SIDE, 1 }, 4, err));
    snprintf(path, sizeof path, "%s/y.npy", dir);
    assert_cx_ok(cx_npy_write(path, y, (const int[]){ FILMS, SIDE, SIDE, 1 }, 4, err));
    cx_weights_net_close(&n);
    cx_backend_close(b);
    free(x);
    free(y);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    return system(command) != 0;
}

static void import_prints_and_writes(void **state)
{
    (void)state;
    assert_runs(0, "used            conv2d_transpose/kernel", "", "weights import %s/keras.h5 --normalise signed --side 16 --out %s/ours.safetensors", dir,
                dir);
    assert_runs(0, "26 used, 0 missing, 0 unused, 0 misfits", "", "weights import %s/keras.h5 --normalise unit", dir);
    assert_runs(0, "unet, side 512, 1 channel, 1 output, normalise unit; from keras legacy weights, sha256 ", "",
                "weights import %s/keras.h5 --normalise unit", dir);
    cx_st_file f;
    cx_weights_card c;
    char path[100], sha[65];
    snprintf(path, sizeof path, "%s/keras.h5", dir);
    assert_cx_ok(cx_sha256_file(path, sha, err));
    snprintf(path, sizeof path, "%s/ours.safetensors", dir);
    assert_cx_ok(cx_st_read(path, &f, err));
    assert_cx_ok(cx_weights_card_read(&f, &c, err));
    assert_string_equal(c.normalise, "signed");
    assert_int_equal(c.spec.base, 2);
    assert_int_equal(c.spec.depth, 2);
    assert_int_equal(c.spec.side, 16);
    assert_non_null(strstr(c.source, sha));
    assert_non_null(strstr(c.source, "keras.h5"));
    cx_weights_card_free(&c);
    cx_st_free(&f);
}

/* All that stdout holds is one document; the caller's. */
static json_t *document_of(int code, const char *says, const char *fmt, ...)
{
    json_error_t why;
    char args[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(args, sizeof args, fmt, ap);
    va_end(ap);
    const ran *r = run_program("weights %s --json", args);
    if (r->code != code || !strstr(r->err, says))
        fail_msg("%s: exit %d, want %d; stderr: %s", args, r->code, code, r->err);
    json_t *j = json_loads(r->out, 0, &why);
    if (!j)
        fail_msg("%s: %s in %s", args, why.text, r->out);
    return j;
}

static const char *text_of(const json_t *j, const char *key) { return json_string_value(json_object_get(j, key)); }
static json_int_t int_of(const json_t *j, const char *key) { return json_integer_value(json_object_get(j, key)); }
static double real_of(const json_t *j, const char *key) { return json_real_value(json_object_get(j, key)); }
static size_t count_of(const json_t *j, const char *key) { return json_array_size(json_object_get(j, key)); }
static bool is_true(const json_t *j, const char *key) { return json_is_true(json_object_get(j, key)); }

static void import_as_json(void **state)
{
    (void)state;
    char path[100], sha[65];
    json_t *j = document_of(0, "", "import %s/keras.h5 --normalise signed --side 16 --out %s/json.safetensors", dir, dir);
    const json_t *card = json_object_get(j, "card"), *row = json_array_get(json_object_get(j, "mapping"), 0);
    snprintf(path, sizeof path, "%s/keras.h5", dir);
    assert_cx_ok(cx_sha256_file(path, sha, err));
    assert_string_equal(text_of(j, "file"), path);
    assert_string_equal(text_of(j, "format"), "keras legacy weights");
    assert_string_equal(text_of(j, "sha256"), sha);
    assert_string_equal(text_of(j, "head"), "keep");
    assert_true(is_true(j, "fits") && json_is_null(json_object_get(j, "problem")));
    assert_true(count_of(j, "mapping") == 26 && !count_of(j, "missing") && !count_of(j, "unused") && !count_of(j, "misfits"));
    assert_string_equal(text_of(row, "state"), "used");
    assert_string_equal(text_of(row, "ours"), "enc1.conv1.weight");
    assert_string_equal(text_of(row, "source"), "conv2d/kernel");
    assert_string_equal(text_of(row, "how"), "order");
    static const json_int_t file[] = { 3, 3, 1, 2 }, ours[] = { 2, 3, 3, 1 };
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(json_integer_value(json_array_get(json_object_get(row, "source_shape"), i)), file[i]);
        assert_int_equal(json_integer_value(json_array_get(json_object_get(row, "shape"), i)), ours[i]);
    }
    assert_string_equal(text_of(card, "arch"), "unet");
    assert_string_equal(text_of(card, "normalise"), "signed");
    assert_string_equal(text_of(card, "task"), "segmentation");
    assert_non_null(strstr(text_of(card, "source"), sha));
    assert_true(int_of(card, "side") == 16 && int_of(card, "channels") == 1 && int_of(card, "outputs") == 1 && int_of(card, "base") == 2);
    assert_true(is_true(card, "final_relu") && json_is_real(json_object_get(card, "norm_eps")));
    /* The file that "out" names holds the same card; its names are ours. */
    assert_string_equal(text_of(j, "out"), (snprintf(path, sizeof path, "%s/json.safetensors", dir), path));
    json_t *again = document_of(0, "", "import %s", path);
    assert_true(json_is_null(json_object_get(again, "out")));
    assert_string_equal(text_of(json_array_get(json_object_get(again, "mapping"), 0), "how"), "name");
    assert_true(int_of(json_object_get(again, "card"), "side") == 16);
    json_decref(j);
    json_decref(again);
}

/* A document says what does not fit; the exit code is that of the table. */
static void import_says_what_does_not_fit(void **state)
{
    (void)state;
    json_t *j = document_of(65, "do not fit", "import %s/keras.h5 --normalise unit --depth 3 --arch unet --out %s/never.safetensors", dir, dir);
    assert_false(is_true(j, "fits"));
    assert_non_null(strstr(text_of(j, "problem"), "do not fit"));
    assert_true(json_is_null(json_object_get(j, "out")) && count_of(j, "missing") > 0);
    json_decref(j);
    j = document_of(65, "head drop", "import %s/keras.h5 --normalise unit --outputs 3", dir);
    assert_string_equal(json_string_value(json_array_get(json_object_get(j, "misfits"), 0)), "head.weight");
    json_decref(j);
    j = document_of(65, "do not fit", "import %s/keras.h5 --normalise unit --outputs 3 --loose", dir);
    assert_int_equal(count_of(j, "misfits"), 2);
    json_decref(j);
    cx_st_file f;
    char path[100];
    assert_runs(0, "", "", "weights import %s/keras.h5 --normalise unit --side 16 --out %s/ours.safetensors", dir, dir);
    snprintf(path, sizeof path, "%s/ours.safetensors", dir);
    assert_cx_ok(cx_st_read(path, &f, err));
    snprintf(path, sizeof path, "%s/lacking", dir);
    assert_cx_ok(cx_st_write(path, f.tensors, f.n - 1, f.meta, f.n_meta, err));
    j = document_of(0, "", "import %s/lacking --loose --out %s/filled.safetensors", dir, dir);
    assert_true(!is_true(j, "fits") && count_of(j, "missing") == 1 && strstr(text_of(j, "out"), "/filled.safetensors"));
    assert_string_equal(json_string_value(json_array_get(json_object_get(j, "missing"), 0)), f.tensors[f.n - 1].name);
    json_decref(j);
    cx_st_free(&f);
    j = document_of(0, "", "import %s/keras.h5 --normalise unit --head replace:3 --classes a,b,c", dir);
    assert_string_equal(text_of(j, "head"), "replace:3");
    assert_true(is_true(j, "fits") && count_of(j, "as_initialised") == 2 && count_of(j, "left_out") == 2);
    assert_int_equal(count_of(json_object_get(j, "card"), "classes"), 3);
    json_decref(j);
    assert_runs(65, "", "keras.h5\\xFF: this name is no valid UTF-8", "weights import \"%s/keras.h5$(printf '\\377')\" --normalise unit --json", dir);
    const ran *r = run_program("weights import %s/keras.h5 --json", dir);
    assert_true(r->code == 64 && !*r->out);
}

/* Nothing is assumed and nothing left out in silence. */
static void import_is_strict(void **state)
{
    (void)state;
    assert_runs(64, "", "want --normalise imagenet", "weights import %s/keras.h5", dir);
    assert_runs(64, "", "imagenet has a mean for each of 3", "weights import %s/keras.h5 --normalise imagenet", dir);
    assert_runs(65, "", "those of unet, not of densenet121", "weights import %s/keras.h5 --normalise unit --arch densenet121", dir);
    assert_runs(65, "misfit", "conv2d_10/kernel is 1x1x2x1 in the file, head.weight wants 1x1x2x3",
                "weights import %s/keras.h5 --normalise unit --outputs 3", dir);
    assert_runs(65, "", "head drop or --head replace:N", "weights import %s/keras.h5 --normalise unit --outputs 3", dir);
    assert_runs(0, "as initialised  -", "", "weights import %s/keras.h5 --normalise unit --head replace:3", dir);
    assert_runs(0, "3 outputs", "", "weights import %s/keras.h5 --normalise unit --head replace:3 --classes a,b,c", dir);
    assert_runs(64, "", "want 3 names, got 2", "weights import %s/keras.h5 --normalise unit --head replace:3 --classes a,b", dir);
    assert_runs(64, "", "item 2 is empty", "weights import %s/keras.h5 --normalise unit --head replace:3 --classes a,,c", dir);
    assert_runs(64, "", "want keep, drop or replace:N", "weights import %s/keras.h5 --normalise unit --head replace:", dir);
    assert_runs(64, "", "--order bgr is for 3 channels", "weights import %s/keras.h5 --normalise unit --order bgr", dir);
    assert_runs(65, "missing", "do not fit", "weights import %s/keras.h5 --normalise unit --arch unet --depth 3", dir);
    assert_runs(66, "", "no/such.h5", "weights import no/such.h5 --normalise unit");
}

static void every_format_comes_back(void **state)
{
    (void)state;
    static const char *const formats[] = { "safetensors", "torchvision", "keras" };
    assert_runs(0, "", "", "weights import %s/keras.h5 --normalise unit --side 16 --out %s/ours.safetensors", dir, dir);
    for (int i = 0; i < CX_COUNT(formats); i++) {
        assert_runs(0, formats[i], "", "weights export %s/ours.safetensors --format %s --out %s/%s", dir, formats[i], dir, formats[i]);
        assert_runs(0, "agrees within 0 of", "", "weights verify %s/ours.safetensors --against %s/%s", dir, dir, formats[i]);
    }
    assert_runs(0, "as onnx", "", "weights export %s/ours.safetensors --format onnx --out %s/x.onnx", dir, dir);
    char command[200];
    snprintf(command, sizeof command, "mkdir -p '%s/run/checkpoints' && cp '%s/ours.safetensors' '%s/run/checkpoints/best.safetensors'", dir, dir, dir);
    assert_int_equal(system(command), 0);
    assert_runs(0, "as torchvision", "", "weights export %s/run --format torchvision --out %s/of-run", dir, dir);
    assert_runs(0, "agrees within 0 of", "", "weights verify %s/ours.safetensors --against %s/of-run", dir, dir);
    /* What was exported with its card is imported without a word about pixels. */
    assert_runs(0, "side 16, 1 channel, 1 output, normalise unit", "", "weights import %s/torchvision", dir);
    assert_runs(64, "", "wants --format", "weights export %s/ours.safetensors", dir);
    assert_runs(65, "", "torchvision: weights: ", "weights verify %s/torchvision", dir);
    assert_runs(65, "", "the file does not say which network", "weights export tests/golden/python.safetensors --format onnx --out %s/y.onnx", dir);
    assert_runs(73, "", "/nowhere/x", "weights export %s/ours.safetensors --format onnx --out /nowhere/x", dir);
}

static void verify_holds_to_answers(void **state)
{
    (void)state;
    assert_runs(0, "", "", "weights import %s/keras.h5 --normalise unit --side 16 --out %s/ours.safetensors", dir, dir);
    assert_runs(0, "outputs agree", "", "weights verify %s/ours.safetensors --inputs %s/x.npy --outputs %s/y.npy --of sigmoid", dir, dir, dir);
    assert_runs(65, "", "apart by", "weights verify %s/ours.safetensors --inputs %s/x.npy --outputs %s/y.npy", dir, dir, dir);
    assert_runs(65, "", "want (N, 16, 16, 1)", "weights verify %s/ours.safetensors --inputs tests/golden/gradcam.npy --outputs %s/y.npy", dir, dir);
    assert_runs(64, "", "go together", "weights verify %s/ours.safetensors --inputs %s/x.npy", dir, dir);
    assert_runs(0, "", "", "weights import %s/keras.h5 --normalise unit --side 16 --head drop --out %s/new.safetensors", dir, dir);
    assert_runs(65, "", "tensor 'head.", "weights verify %s/ours.safetensors --against %s/new.safetensors", dir, dir);
}

static void verify_as_json(void **state)
{
    (void)state;
    assert_runs(0, "", "", "weights import %s/keras.h5 --normalise unit --side 16 --out %s/ours.safetensors", dir, dir);
    json_t *j = document_of(0, "", "verify %s/ours.safetensors", dir);
    assert_true(is_true(j, "holds") && int_of(j, "tensors") == 26);
    assert_true(json_is_null(json_object_get(j, "against")) && json_is_null(json_object_get(j, "answers")));
    assert_int_equal(strlen(text_of(j, "sha256_of_weights")), 64);
    json_decref(j);
    j = document_of(0, "", "verify %s/ours.safetensors --against %s/keras.h5 --inputs %s/x.npy --outputs %s/y.npy --of sigmoid", dir, dir, dir, dir);
    const json_t *answers = json_object_get(j, "answers"), *against = json_object_get(j, "against");
    assert_true(is_true(j, "holds") && is_true(answers, "holds") && is_true(against, "holds") && real_of(j, "tolerance") == 1e-4);
    assert_true(count_of(against, "tensors") == 26 && real_of(against, "absolute") == 0 && count_of(answers, "outputs") == 1);
    assert_true(int_of(answers, "films") == FILMS && real_of(answers, "relative") < 1e-4);
    json_decref(j);
    /* Whatever is too far apart is said of, and of what else was compared too. */
    assert_runs(0, "", "", "weights import %s/keras.h5 --normalise unit --side 16 --head drop --out %s/new.safetensors", dir, dir);
    j = document_of(65, "tensor 'head.", "verify %s/ours.safetensors --against %s/new.safetensors --inputs %s/x.npy --outputs %s/y.npy --of sigmoid", dir, dir,
                    dir, dir);
    against = json_object_get(j, "against");
    assert_false(is_true(j, "holds") || is_true(against, "holds"));
    assert_true(is_true(json_object_get(j, "answers"), "holds"));
    for (size_t i = 0; i < count_of(against, "tensors"); i++) {
        const json_t *t = json_array_get(json_object_get(against, "tensors"), i);
        if (is_true(t, "holds") != (real_of(t, "relative") <= 1e-4) || (!is_true(t, "holds") && strncmp(text_of(t, "tensor"), "head.", 5) != 0))
            fail_msg("%s: %g", text_of(t, "tensor"), real_of(t, "relative"));
    }
    json_decref(j);
}

/* One answer that is no number is not lost among the numbers behind it. */
static void verify_sees_one_nan(void **state)
{
    (void)state;
    cx_npy y;
    char path[100];
    assert_runs(0, "", "", "weights import %s/keras.h5 --normalise unit --side 16 --out %s/ours.safetensors", dir, dir);
    snprintf(path, sizeof path, "%s/y.npy", dir);
    assert_cx_ok(cx_npy_read(path, &y, err));
    y.data[7] = NAN;
    snprintf(path, sizeof path, "%s/nan.npy", dir);
    assert_cx_ok(cx_npy_write(path, y.data, (const int[]){ FILMS, SIDE, SIDE, 1 }, 4, err));
    free(y.data);
    assert_runs(65, "", "output 7 is", "weights verify %s/ours.safetensors --inputs %s/x.npy --outputs %s/nan.npy --of sigmoid", dir, dir, dir);
    json_t *j = document_of(65, "output 7 is", "verify %s/ours.safetensors --inputs %s/x.npy --outputs %s/nan.npy --of sigmoid", dir, dir, dir);
    const json_t *answers = json_object_get(j, "answers");
    assert_true(!is_true(j, "holds") && json_is_null(json_object_get(answers, "absolute")) && json_is_null(json_object_get(answers, "relative")));
    json_decref(j);
}

/* A number that is none, and a negative variance, are found wherever they lie. */
static void verify_finds_what_is_no_number(void **state)
{
    (void)state;
    static const struct { const char *tensor; float value; const char *says; } broken[] = {
        { "enc1.norm1.running_var", -1, "'enc1.norm1.running_var': element 1 is -1" }, { "bottom.conv1.weight", NAN, "'bottom.conv1.weight': element 1 is" },
    };
    for (int i = 0; i < CX_COUNT(broken); i++) {
        char path[100];
        cx_backend *b;
        cx_weights_net n = { .card = { .spec = SPEC, .normalise = "unit" } };
        n.card.spec.norm = true;
        assert_cx_ok(cx_backend_open("cpu", 1, &b, err));
        assert_cx_ok(cx_model_new(&n.card.spec, &n.model, err));
        assert_cx_ok(cx_store_new(n.model.graph, b, 9, &n.store, err));
        const int v = cx_graph_find(n.model.graph, broken[i].tensor);
        float *host = cx_alloc((size_t)cx_elems(n.model.graph->values[v].shape), sizeof *host);
        assert_cx_ok(cx_store_get(n.store, v, host, err));
        host[1] = broken[i].value;
        assert_cx_ok(cx_store_set(n.store, v, host, err));
        snprintf(path, sizeof path, "%s/broken", dir);
        assert_cx_ok(cx_weights_net_save(&n, path, err));
        assert_runs(65, "", broken[i].says, "weights verify %s", path);
        free(host);
        cx_weights_net_close(&n);
        cx_backend_close(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(import_prints_and_writes),
        cmocka_unit_test(import_as_json),
        cmocka_unit_test(import_says_what_does_not_fit),
        cmocka_unit_test(import_is_strict),
        cmocka_unit_test(every_format_comes_back),
        cmocka_unit_test(verify_holds_to_answers),
        cmocka_unit_test(verify_as_json),
        cmocka_unit_test(verify_sees_one_nan),
        cmocka_unit_test(verify_finds_what_is_no_number),
    };
    return sandboxed() ? cmocka_run_group_tests(tests, setup, teardown) : 0;
}
