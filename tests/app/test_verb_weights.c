/* test_verb_weights.c - weights import, export and verify, as a user runs them, on a narrow U-Net. */
#include "app/program.h"
#include "weights/sandboxed.h"
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
        cmocka_unit_test(import_is_strict),
        cmocka_unit_test(every_format_comes_back),
        cmocka_unit_test(verify_holds_to_answers),
        cmocka_unit_test(verify_finds_what_is_no_number),
    };
    return sandboxed() ? cmocka_run_group_tests(tests, setup, teardown) : 0;
}
