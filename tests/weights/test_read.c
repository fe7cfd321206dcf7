/* test_read.c - every weight file that Keras wrote for us gives the tensors that its writer noted: names, shapes, bits; from any thread. */
#include "support.h"
#include "weights/sandboxed.h"
#include <jansson.h>
#include "cxnet/weights.h"

#define WEIGHTS "../shared/weights/"

/* ---- against tensors.csv ------------------------------------------------------------------------------------------------- */

/* Without ":0". */
static void name_of(const char *text, char *out, size_t n)
{
    const size_t len = strlen(text), cut = len > 2 && strcmp(text + len - 2, ":0") == 0 ? 2 : 0;
    snprintf(out, n, "%.*s", (int)(len - cut), text);
}

static bool has_shape(const cx_st_tensor *t, const char *shape)
{
    char text[128] = "";
    for (int k = 0, n = 0; k < t->nd; k++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%lld", k ? "x" : "", (long long)t->d[k]);
    return strcmp(text, shape) == 0;
}

static bool has_bits(const cx_st_tensor *t, const char *want)
{
    cx_sha256 h;
    char hex[65];
    cx_sha256_init(&h);
    cx_sha256_update(&h, t->data, t->bytes);
    cx_sha256_hex(&h, hex);
    return t->dtype == CX_F32 && strcmp(hex, want) == 0;
}

/* What the files of the old layout must call a weight; Keras 3's are called by their path there, and the column "layer" has the name. */
static void want_name(const cx_csv *csv, int row, char *out, size_t n)
{
    const char *layer = cx_csv_at(csv, row, cx_csv_column(csv, "layer")), *weight = cx_csv_at(csv, row, cx_csv_column(csv, "weight"));
    char rest[CX_ST_DIMS * 512];
    const size_t len = strlen(layer);
    if (strstr(weight, "layers/")) {
        name_of(layer, out, n);
        return;
    }
    name_of(strncmp(weight, layer, len) == 0 && weight[len] == '/' ? weight + len + 1 : weight, rest, sizeof rest);
    snprintf(out, n, "%s/%s", layer, rest);
}

/* Two files do not say what the column "layer" has: without a name of the layers, or nested, where the column leaves out the outer one. */
static bool unnamed(const char *file)
{
    return strstr(file, "keras215_tiny.weights.h5") || strstr(file, "keras3_nested");
}

static const cx_st_tensor *find(const cx_st_file *f, const cx_csv *csv, int row, const char *file, int index)
{
    char name[8192];
    const char *shape = cx_csv_at(csv, row, cx_csv_column(csv, "shape")), *sha256 = cx_csv_at(csv, row, cx_csv_column(csv, "sha256_f32le"));
    want_name(csv, row, name, sizeof name);
    if (!unnamed(file)) {
        const cx_st_tensor *t = cx_st_find(f, name);
        if (!t)
            fail_msg("%s: no tensor '%s'", file, name);
        if (!has_shape(t, shape) || !has_bits(t, sha256))
            fail_msg("%s: tensor '%s' has another shape or other bits", file, name);
        if (!strstr(cx_csv_at(csv, row, cx_csv_column(csv, "weight")), "layers/") && t != &f->tensors[index])
            fail_msg("%s: tensor '%s' is not the file's number %d", file, name, index);
        return t;
    }
    for (int i = 0; i < f->n; i++)
        if (strcmp(strrchr(f->tensors[i].name, '/'), strrchr(name, '/')) == 0 && has_shape(&f->tensors[i], shape) && has_bits(&f->tensors[i], sha256))
            return &f->tensors[i];
    fail_msg("%s: no tensor like '%s'", file, name);
    return NULL;
}

/* The rows of one file, from `row`; returns the row behind them. */
static int check_file(const cx_csv *csv, int row)
{
    const int file_column = cx_csv_column(csv, "file"), layer_column = cx_csv_column(csv, "layer");
    const char *file = cx_csv_at(csv, row, file_column);
    char path[512], others[32];
    int weights = 0, rest = 0;
    cx_st_file f;
    snprintf(path, sizeof path, WEIGHTS "%s", file);
    assert_cx_ok(cx_weights_read(path, &f, err));
    for (; row < csv->rows && strcmp(cx_csv_at(csv, row, file_column), file) == 0; row++) {
        if (cx_csv_at(csv, row, layer_column)[0] == '(')
            rest++;
        else
            find(&f, csv, row, file, weights++);
    }
    if (f.n != weights)
        fail_msg("%s: %d tensors, want %d", file, f.n, weights);
    snprintf(others, sizeof others, "%d", rest);
    if (cx_st_meta_get(&f, "keras.other_tensors"))
        assert_string_equal(cx_st_meta_get(&f, "keras.other_tensors"), others);
    else
        assert_int_equal(rest, 0);
    cx_st_free(&f);
    return row;
}

static void every_file_gives_its_tensors(void **state)
{
    (void)state;
    SHARED_OR_SKIP("weights/tensors.csv");
    cx_csv csv;
    int files = 0;
    assert_cx_ok(cx_csv_load(WEIGHTS "tensors.csv", &csv, err));
    for (int row = 1; row < csv.rows; files++) {
        if (strstr(cx_csv_at(&csv, row, 0), ".json")) {           /* the list of shards */
            for (const char *first = cx_csv_at(&csv, row, 0); row < csv.rows && strcmp(cx_csv_at(&csv, row, 0), first) == 0; )
                row++;
            continue;
        }
        row = check_file(&csv, row);
    }
    assert_true(files >= 30);
    cx_csv_free(&csv);
}

static void shards_are_not_put_together(void **state)
{
    (void)state;
    SHARED_OR_SKIP("weights/variety/keras3_sharded.weights.json");
    cx_st_file f;
    assert_cx_fails(CX_E_DATA, "save its weights as one file", cx_weights_read(WEIGHTS "variety/keras3_sharded.weights.json", &f, err));
    assert_cx_ok(cx_weights_read(WEIGHTS "variety/keras3_sharded_00000.weights.h5", &f, err));
    assert_int_equal(f.n, 6);
    cx_st_free(&f);
}

/* ---- against Keras 3 (tools/oracle/keras_files.py) ---------------------------------------------------------------------- */

static void assert_is_expected(const char *file, const cx_st_file *expected, const char *unnamed_norm[2])
{
    char path[128];
    cx_st_file f;
    snprintf(path, sizeof path, "tests/golden/keras_read/%s", file);
    assert_cx_ok(cx_weights_read(path, &f, err));
    assert_int_equal(f.n, expected->n);
    for (int i = 0; i < expected->n; i++) {
        const cx_st_tensor *want = &expected->tensors[i];
        const char *name = want->name;
        if (unnamed_norm && strcmp(name, unnamed_norm[0]) == 0)
            name = "no_gamma/vars/0";
        if (unnamed_norm && strcmp(name, unnamed_norm[1]) == 0)
            name = "no_beta/vars/0";
        const cx_st_tensor *got = cx_st_find(&f, name);
        if (!got || got->nd != want->nd || memcmp(got->d, want->d, sizeof got->d) != 0 || memcmp(got->data, want->data, want->bytes) != 0)
            fail_msg("%s: '%s' is absent, or has another shape or other bits", file, name);
    }
    cx_st_free(&f);
}

/* Of a norm with three variables, weights alone do not say whether the first is gamma or beta; the archive's configuration does. */
static void keras_3_is_read(void **state)
{
    (void)state;
    cx_st_file expected;
    assert_cx_ok(cx_st_read("tests/golden/keras_read/expected.safetensors", &expected, err));
    assert_is_expected("net.keras", &expected, NULL);
    assert_is_expected("net.h5", &expected, NULL);
    assert_is_expected("net.weights.h5", &expected, (const char *[]){ "no_gamma/beta", "no_beta/gamma" });
    cx_st_free(&expected);
}

/* ---- what files say of themselves ---------------------------------------------------------------------------------------- */

static void assert_meta(const char *file, const char *key, const char *want)
{
    cx_st_file f;
    char path[512];
    snprintf(path, sizeof path, WEIGHTS "%s", file);
    assert_cx_ok(cx_weights_read(path, &f, err));
    const char *got = cx_st_meta_get(&f, key);
    if (!want ? got != NULL : !got || strcmp(got, want) != 0)
        fail_msg("%s: %s is %s, want %s", file, key, got ? got : "absent", want ? want : "none");
    cx_st_free(&f);
}

static void files_say_what_they_are(void **state)
{
    (void)state;
    SHARED_OR_SKIP("weights/variety/tiny_weights.h5");
    assert_meta("variety/tiny_weights.h5", "format", "keras legacy weights");
    assert_meta("variety/tiny_weights.h5", "keras.backend", "tensorflow");
    assert_meta("variety/tiny_weights.h5", "keras.version", "2.15.0");
    assert_meta("variety/tiny_weights.h5", "keras.model_config", NULL);
    assert_meta("variety/tiny_weights.h5", "source.bytes", "30240");
    assert_meta("variety/tiny_weights.h5", "source.sha256", "02e77a56eaf6d2896b1bc6dc34ba4930b5dfa9d44409eb8534b729ed618de810");
    assert_meta("variety/order_right_first_weights.h5", "keras.layers", "[\"input_2\",\"right\",\"left\",\"sum\",\"gap\",\"out\"]");
    assert_meta("variety/nested_full_model.h5", "format", "keras legacy model");
    assert_meta("variety/nested_full_model.h5", "keras.layers", "[\"backbone\",\"dense\",\"dense_1\"]");
    assert_meta("variety/keras3_tiny.weights.h5", "format", "keras weights.h5");
    assert_meta("variety/keras3_tiny_trained.keras", "format", "keras archive");
    assert_meta("variety/keras3_tiny_trained.keras", "keras.version", "3.15.1");
    assert_meta("variety/keras215_tiny.keras", "keras.layers", "[\"input_1\",\"conv_a\",\"bn_a\",\"relu_a\",\"conv_b\",\"bn_b\",\"relu_b\",\"gap\",\"head\"]");
}

/* The number of values of each file of 2020, as Keras counts them; the configurations are JSON that lists as many layers. */
static void the_studys_own_files_are_read(void **state)
{
    (void)state;
    SHARED_OR_SKIP("weights/real/expected.json");
    json_error_t e;
    json_t *expected = json_load_file(WEIGHTS "real/expected.json", 0, &e), *want;
    const char *name;
    assert_non_null(expected);
    json_object_foreach(json_object_get(expected, "files"), name, want) {
        char path[512];
        int64_t numbers = 0;
        cx_st_file f;
        snprintf(path, sizeof path, "../shared/data/keras/%s", name);
        assert_cx_ok(cx_weights_read(path, &f, err));
        for (int i = 0; i < f.n; i++)
            numbers += (int64_t)(f.tensors[i].bytes / 4);
        if (!json_object_get(want, "params")) {                    /* weights alone: Keras finds no configuration either */
            assert_null(cx_st_meta_get(&f, "keras.model_config"));
            cx_st_free(&f);
            continue;
        }
        assert_int_equal(numbers, json_integer_value(json_object_get(want, "params")));
        json_t *config = json_loads(cx_st_meta_get(&f, "keras.model_config"), 0, &e), *layers = json_loads(cx_st_meta_get(&f, "keras.layers"), 0, &e);
        assert_non_null(config);
        assert_int_equal(json_array_size(layers), json_array_size(json_object_get(json_object_get(config, "config"), "layers")));
        json_decref(config);
        json_decref(layers);
        cx_st_free(&f);
    }
    json_decref(expected);
    cx_st_file f;
    assert_cx_ok(cx_weights_read("../shared/data/keras/teachable_machine_v1.h5", &f, err));
    assert_int_equal(f.n, 263);
    assert_non_null(cx_st_find(&f, "sequential_1/expanded_conv_depthwise/depthwise_kernel"));
    cx_st_free(&f);
}

/* ---- threads, files ------------------------------------------------------------------------------------------------------- */

static void any_thread_reads(void **state)
{
    (void)state;
    SHARED_OR_SKIP("weights/variety/tiny_weights.h5");
    int wrong = 0;
    #pragma omp parallel for num_threads(4) reduction(+ : wrong)
    for (int i = 0; i < 8; i++) {
        cx_st_file f;
        void *p = malloc(100000);                                  /* malloc's locks are busy while others fork */
        wrong += cx_weights_read(WEIGHTS "variety/tiny_weights.h5", &f, NULL) != CX_OK || f.n != 13;
        free(p);
        cx_st_free(&f);
    }
    assert_int_equal(wrong, 0);
}

static void files_that_are_none(void **state)
{
    (void)state;
    cx_st_file f;
    assert_cx_fails(CX_E_NOINPUT, "no/such.h5", cx_weights_read("no/such.h5", &f, err));
    assert_cx_fails(CX_E_NOINPUT, "tests: is a folder", cx_weights_read("tests", &f, err));
    assert_cx_fails(CX_E_DATA, "CMakeLists.txt: is no weight file", cx_weights_read("CMakeLists.txt", &f, err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_file_gives_its_tensors), cmocka_unit_test(shards_are_not_put_together), cmocka_unit_test(keras_3_is_read),
        cmocka_unit_test(files_say_what_they_are),
        cmocka_unit_test(the_studys_own_files_are_read), cmocka_unit_test(any_thread_reads), cmocka_unit_test(files_that_are_none),
    };
    return sandboxed() ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
