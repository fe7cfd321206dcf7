/* test_cards.c - weights say what they are for, and a configuration that would feed them other pixels, or build another network around them, is refused with
 * the key to set. */
#include "app/cohort.h"
#include "weights/sandboxed.h"
#include "cxnet/train.h"

static int train_once(void **state)
{
    if (make_cohort(state) != 0)
        return -1;
    write_experiment(1);
    assert_runs(0, "epoch   1", "", "train %s/e.yaml", dir);
    return 0;
}

static void a_run_says_what_it_trained(void **state)
{
    (void)state;
    static const char *const which[] = { "best", "last" };
    char classes[200], joined[200], path[200];
    class_names(classes, sizeof classes);
    for (int i = 0; i < CX_COUNT(which); i++) {
        cx_st_file f;
        cx_weights_card c;
        snprintf(path, sizeof path, "%s/runs/e/checkpoints/%s.safetensors", dir, which[i]);
        assert_cx_ok(cx_st_read(path, &f, err));
        assert_cx_ok(cx_weights_card_read(&f, &c, err));
        assert_string_equal(c.spec.arch, "base_cnn");
        assert_int_equal(c.spec.side, 72);
        assert_int_equal(c.spec.channels, 1);
        assert_int_equal(c.spec.outputs, 1);
        assert_string_equal(c.normalise, "unit");
        assert_string_equal(c.source, "");
        assert_int_equal(c.n_classes, 2);
        snprintf(joined, sizeof joined, "%.90s, %.90s", c.classes[0], c.classes[1]);
        assert_string_equal(joined, classes);
        cx_weights_card_free(&c);
        cx_st_free(&f);
    }
}

/* What was trained goes on in another run, out to others and back; nothing is said but by the files themselves. */
static void a_run_goes_out_and_comes_back(void **state)
{
    (void)state;
    if (!sandboxed())
        skip();
    assert_runs(0, "base_cnn with 1 outputs, as keras", "", "weights export %s/runs/e --format keras --out %s/e.h5", dir, dir);
    assert_runs(0, "agrees within 0 of", "", "weights verify %s/runs/e/checkpoints/best.safetensors --against %s/e.h5", dir, dir);
    assert_runs(0, "normalise unit; from keras legacy weights", "", "weights import %s/e.h5 --side 72 --normalise unit --out %s/back.safetensors", dir, dir);
    assert_runs(0, "epoch   1", "", "train %s/e.yaml --name next --set model.weights=%s/back.safetensors", dir, dir);
    assert_runs(65, "", "does not say what it is for; `cxnet weights import`", "train %s/e.yaml --name other --set model.weights=%s", dir,
                "tests/golden/python.safetensors");
}

static void other_pixels_are_refused(void **state)
{
    (void)state;
    static const struct { const char *set, *says; } refused[] = {
        { "--set data.channels=3", "data.channels 1, the configuration says 3; set data.channels=1" },
        { "--set data.channels=3 --set data.normalise=imagenet", "data.channels 1" },
        { "--set model.arch=densenet121", "model.arch base_cnn, the configuration says densenet121" },
    };
    for (int i = 0; i < CX_COUNT(refused); i++)
        assert_runs(78, "", refused[i].says, "train %s/e.yaml --name other %s --set model.weights=%s/runs/e/checkpoints/best.safetensors", dir,
                    refused[i].set, dir);
    /* A run whose configuration was changed afterwards explains nothing. */
    char path[200], film[300];
    cx_buf text = { 0 };
    cx_manifest m;
    snprintf(path, sizeof path, "%s/manifest.csv", dir);
    assert_cx_ok(cx_manifest_load(path, &m, err));
    snprintf(film, sizeof film, "%s/%s", dir, m.samples[0].path);
    cx_manifest_free(&m);
    assert_runs(0, "1 of 1 film explained", "", "explain %s/runs/e --in %s --layer relu1 --out %s/seen", dir, film, dir);
    snprintf(path, sizeof path, "%s/runs/e/config.resolved.yaml", dir);
    assert_cx_ok(cx_file_read(path, 1 << 20, &text, err));
    char *at = strstr(text.data, "channels: 1");
    assert_non_null(at);
    at[strlen("channels: ")] = '3';
    assert_cx_ok(cx_file_write(path, text.data, text.len, err));
    assert_runs(78, "", "best.safetensors: these weights were made with data.channels 1", "explain %s/runs/e --in %s --out %s/seen", dir, film, dir);
    at[strlen("channels: ")] = '1';
    assert_cx_ok(cx_file_write(path, text.data, text.len, err));
    cx_buf_free(&text);
}

/* What a DenseNet does behind its norms, their epsilon, and the pixels are no shapes: only the card tells. */
static void cards_tell_what_shapes_do_not(void **state)
{
    (void)state;
    static const struct { const char *set, *says; } refused[] = {
        { "--set model.final_relu=true", "model.final_relu false, the configuration says true; set model.final_relu=false" },
        { "--set model.norm_eps=1e-5", "model.norm_eps 1.001e-05, the configuration says 1e-05" },
        { "--set data.normalise=imagenet", "data.normalise unit, the configuration says imagenet" },
    };
    char path[200];
    cx_backend *b;
    cx_weights_net n = { .card = { .spec = { .arch = "densenet121", .side = 32, .channels = 3, .outputs = 1, .norm_eps = 1.001e-5, .no_final_relu = true },
                                   .normalise = "unit" } };
    snprintf(path, sizeof path, "%s/densenet.safetensors", dir);
    assert_cx_ok(cx_backend_open("cpu", 1, &b, err));
    assert_cx_ok(cx_model_new(&n.card.spec, &n.model, err));
    assert_cx_ok(cx_store_new(n.model.graph, b, 1, &n.store, err));
    assert_cx_ok(cx_weights_net_save(&n, path, err));
    cx_weights_net_close(&n);
    cx_backend_close(b);
    for (int i = 0; i < CX_COUNT(refused); i++)
        assert_runs(78, "", refused[i].says, "train %s/e.yaml --name other --set model.weights=%s --set model.arch=densenet121 --set data.channels=3 "
                    "--set model.final_relu=false --set model.norm_eps=1.001e-5 %s", dir, path, refused[i].set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_says_what_it_trained),
        cmocka_unit_test(a_run_goes_out_and_comes_back),
        cmocka_unit_test(other_pixels_are_refused),
        cmocka_unit_test(cards_tell_what_shapes_do_not),
    };
    return cmocka_run_group_tests(tests, train_once, remove_cohort);
}
