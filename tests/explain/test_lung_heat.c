/* test_lung_heat.c - `cxnet explain --lungs`: shares of heat against masks that are known, by class and label, of a run's own films. */
#include "backend.h"
#include <jansson.h>
#include "app/saved_run.h"
#include "cxnet/explain.h"

enum { FILM = 64, FILMS = 4 };

/* Is this pixel of a film lung? Left and right lung, two rectangles. */
static bool lung(int x, int y) { return y >= 12 && y < 52 && ((x >= 8 && x < 28) || (x >= 36 && x < 56)); }

/* A U-Net that marks what is bright: its first channel carries the film through, whatever lies deeper adds nothing. */
static void write_lung_net(void)
{
    cx_weights_net n = { .card = { .spec = { .arch = "unet", .side = FILM, .channels = 1, .outputs = 1, .base = 2, .depth = 1 }, .task = "segmentation",
                                   .normalise = "unit" } };
    cx_backend *b;
    char *path = cx_path_join(folder, "lungs.safetensors");
    assert_cx_ok(cx_backend_open("cpu", 1, &b, err));
    assert_cx_ok(cx_model_new(&n.card.spec, &n.model, err));
    assert_cx_ok(cx_store_new(n.model.graph, b, 1, &n.store, err));
    for (int v = 0; v < n.model.graph->n_values; v++) {
        const cx_value *value = &n.model.graph->values[v];
        const cx_shape s = value->shape;
        float *w = cx_alloc((size_t)(s.n * s.h * s.w * s.c), sizeof *w);
        if (value->kind != CX_PARAM) {
            free(w);
            continue;
        }
        if ((strstr(value->name, "enc1") || strstr(value->name, "dec1")) && strstr(value->name, "weight"))
            for (int in = 0; in < s.c; in++)
                w[4 * s.c + in] = 1;                  /* the middle of the 3 x 3 that makes channel 0 */
        if (strcmp(value->name, "head.weight") == 0)
            w[0] = 10;
        if (strcmp(value->name, "head.bias") == 0)
            w[0] = -5;
        assert_cx_ok(cx_store_set(n.store, v, w, err));
        free(w);
    }
    assert_cx_ok(cx_weights_net_save(&n, path, err));
    cx_weights_net_close(&n);
    cx_backend_close(b);
    free(path);
}

/* A network that names classes, as a weight file. */
static void write_classifier(void)
{
    static char *classes[] = { "No Finding", "COVID-19" };
    cx_weights_net n = { .card = { .spec = { .arch = "base_cnn", .side = SIDE, .channels = 1, .outputs = 1 }, .task = "binary", .normalise = "unit",
                                   .classes = classes, .n_classes = 2 } };
    cx_backend *b;
    char *path = cx_path_join(folder, "classes.safetensors");
    assert_cx_ok(cx_backend_open("cpu", 1, &b, err));
    assert_cx_ok(cx_model_new(&n.card.spec, &n.model, err));
    assert_cx_ok(cx_store_new(n.model.graph, b, 1, &n.store, err));
    assert_cx_ok(cx_weights_net_save(&n, path, err));
    n.card.classes = NULL;
    n.card.n_classes = 0;
    cx_weights_net_close(&n);
    cx_backend_close(b);
    free(path);
}

/* Film k: lungs 230, the rest 20 with some texture; of film `dark` only the left lung. */
static void write_lungs(const char *name, int k, bool dark)
{
    static uint16_t px[FILM * FILM];
    cx_buf png = { 0 };
    for (int i = 0; i < FILM * FILM; i++)
        px[i] = (uint16_t)(lung(i % FILM, i / FILM) && !(dark && i % FILM >= 32) ? 230 : 20 + 10 * ((i * (k + 3) / 7) % 5));
    assert_cx_ok(cx_png_grey(px, FILM, FILM, 255, &png, err));
    write_at(name, png.data, png.len);
    cx_buf_free(&png);
}

static int make(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    const char manifest[] = "path,labels\nfilms/0.png,x\n";
    const char rows[] = "path,split,group,patient_id,source,labels,target,p_No Finding,p_COVID-19,predicted\n"
                        "films/0.png,test,0,a,s,COVID-19,COVID-19,.1,.9,COVID-19\n"
                        "films/1.png,test,0,a,s,COVID-19,COVID-19,.1,.9,COVID-19\n"
                        "films/2.png,train,2,b,s,COVID-19,COVID-19,.1,.9,COVID-19\n"
                        "films/2.png,test,3,c,s,No Finding,No Finding,.9,.1,COVID-19\n"
                        "films/3.png,test,4,d,s,No Finding,No Finding,.9,.1,COVID-19\n";
    for (int k = 0; k < FILMS; k++) {
        char *name = cx_sprintf("films/%d.png", k);
        write_lungs(name, k, k == 3);
        free(name);
    }
    write_at("manifest.csv", manifest, strlen(manifest));
    write_run("binary", "binary", "[No Finding, COVID-19]", 1, 3);
    write_run("silent", "binary", "[No Finding, COVID-19]", 1, 3);
    write_at("binary/predictions.csv", rows, strlen(rows));
    write_run("garbled", "binary", "[No Finding, COVID-19]", 1, 3);
    write_at("garbled/predictions.csv", "path,split,group,target\nfilms/0.png,test,x,COVID-19\n", 52);
    write_at("silent/predictions.csv", "path,split\nfilms/0.png,test\n", 28);
    write_lung_net();
    write_classifier();
    return 0;
}

static const char TEST_SIDE[] = "--side test --out seen --lungs lungs.safetensors --layer conv3 --class COVID-19";

static double share_by_hand(const char *npy)
{
    static uint8_t mask[256 * 256];
    cx_buf raw = { 0 };
    char *path = cx_path_join(folder, npy);
    int w = 0, h = 0;
    for (int i = 0; i < 256 * 256; i++)
        mask[i] = lung(i % 256 / 4, i / 256 / 4);
    assert_cx_ok(cx_file_read(path, 1 << 20, &raw, err));
    const char *shape = strstr(raw.data + 10, "'shape': (");
    assert_non_null(shape);
    assert_int_equal(sscanf(shape, "'shape': (%d, %d)", &h, &w), 2);
    assert_int_equal(raw.len, 128 + (size_t)w * (size_t)h * sizeof(float));
    float *map = cx_alloc((size_t)(w * h), sizeof *map);
    memcpy(map, raw.data + 128, (size_t)(w * h) * sizeof *map);
    const double share = cx_heat_share(map, w, h, mask, 256);
    cx_buf_free(&raw);
    free(map);
    free(path);
    return share;
}

static double value_at(const json_t *row, const char *key, const char *what)
{
    const json_t *v = json_object_get(json_object_get(row, key), what);
    return json_is_null(v) ? NAN : json_real_value(v);
}

/* The document that explain prints; json_decref it. */
static json_t *explain(const char *args)
{
    cx_buf out = { 0 }, errors = { 0 };
    assert_int_equal(run_verb("explain", args, &out, &errors), 0);
    json_t *j = json_loads(out.data, 0, NULL);
    assert_non_null(j);
    cx_buf_free(&out);
    cx_buf_free(&errors);
    return j;
}

/* Two films of one patient, one of another, and one with a single lung, which is left out: shares are those of the known masks, means are means. */
static void shares_of_known_lungs(void **state)
{
    (void)state;
    char *args = cx_sprintf("binary %s --json", TEST_SIDE);
    json_t *j = explain(args);
    const json_t *films = json_object_get(j, "films"), *means = json_object_get(j, "lungs");
    assert_int_equal(json_array_size(films), FILMS);
    assert_int_equal(json_array_size(means), 2);
    static const char *const maps[] = { "seen/0001-0.npy", "seen/0002-1.npy", "seen/0003-2.npy" };
    double share[3];
    for (int i = 0; i < 3; i++) {
        const json_t *film = json_array_get(films, (size_t)i);
        share[i] = share_by_hand(maps[i]);
        assert_true(share[i] > 0 && share[i] < 1);
        assert_true(fabs(json_real_value(json_object_get(film, "heat_in_lungs")) - share[i]) < 1e-6);
        assert_true(fabs(json_real_value(json_object_get(film, "lungs_share")) - 1600.0 / 4096) < 1e-9);
        assert_string_equal(json_string_value(json_object_get(film, "doubt")), "");
    }
    assert_string_equal(json_string_value(json_object_get(json_array_get(films, 3), "doubt")), "not_two");
    const json_t *covid = json_array_get(means, 0), *normal = json_array_get(means, 1);
    assert_string_equal(json_string_value(json_object_get(covid, "label")), "COVID-19");
    assert_true(fabs(value_at(covid, "heat_in_lungs", "value") - (share[0] + share[1]) / 2) < 1e-6);
    assert_true(isnan(value_at(covid, "heat_in_lungs", "lo")));               /* one patient has no interval */
    assert_string_equal(json_string_value(json_object_get(normal, "label")), "No Finding");
    assert_string_equal(json_string_value(json_object_get(normal, "explained")), "COVID-19");
    assert_int_equal(json_integer_value(json_object_get(normal, "films")), 2);
    assert_int_equal(json_integer_value(json_object_get(normal, "doubted")), 1);
    assert_true(fabs(value_at(normal, "heat_in_lungs", "value") - share[2]) < 1e-6);
    json_decref(j);
    free(args);
}

static void a_table_and_a_file(void **state)
{
    (void)state;
    cx_buf out = { 0 }, errors = { 0 };
    cx_csv csv;
    char *args = cx_sprintf("binary %s", TEST_SIDE), *path = cx_path_join(folder, "seen/heat.csv");
    assert_int_equal(run_verb("explain", args, &out, &errors), 0);
    assert_non_null(strstr(out.data, "heat in the lungs (95 %)"));
    assert_null(strstr(out.data, "nan"));                /* one patient: a mean, no interval */
    assert_non_null(strstr(out.data, "1 whose lungs are doubted, 0 without heat"));
    assert_cx_ok(cx_csv_load(path, &csv, err));
    assert_int_equal(csv.rows, 1 + FILMS);
    assert_string_equal(cx_csv_at(&csv, 4, cx_csv_column(&csv, "doubt")), "not_two");
    assert_string_equal(cx_csv_at(&csv, 3, cx_csv_column(&csv, "label")), "No Finding");
    cx_csv_free(&csv);
    free(args);
    free(path);
    cx_buf_free(&out);
    cx_buf_free(&errors);
}

/* Films named by --in have no label; with all classes each has a row of its own. */
static void all_classes_of_any_films(void **state)
{
    (void)state;
    json_t *j = explain("binary --in films --out any --lungs lungs.safetensors --layer conv3 --class all --json");
    assert_int_equal(json_array_size(json_object_get(j, "lungs")), 2);
    const json_t *film = json_array_get(json_object_get(j, "films"), 0), *heat = json_object_get(film, "heat_in_lungs");
    assert_int_equal(json_object_size(heat), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(json_object_get(j, "lungs"), 1), "label")), "");
    json_decref(j);
}

static void wrong_words(void **state)
{
    (void)state;
    static const ending cases[] = {
        { "binary --side test --in films --out x", 64, "exclude each other" },
        { "binary --side both --out x", 64, "want train|val|test|external" },
        { "binary --side val --out x", 66, "has no film on the side val" },
        { "lungs.safetensors --side test --out x", 64, "marks pixels" },
        { "garbled --side test --out x", 65, "predictions.csv:2: the group 'x' is no number" },
        { "classes.safetensors --side test --out x", 64, "is a weight file: name films by --in" },
        { "binary --in films --out manifest.csv", 73, "manifest.csv" },
        { "silent --side test --out x", 65, "wants columns path, split, group and target" },
        { "binary --in films --out x --lungs silent", 64, "--lungs: a network of architecture base_cnn names classes" },
        { "binary --in films --out x --lungs nowhere", 66, "nowhere" },
        { "binary --out x", 64, "--side" },
    };
    assert_endings("explain", cases, CX_COUNT(cases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_of_known_lungs), cmocka_unit_test(a_table_and_a_file), cmocka_unit_test(all_classes_of_any_films),
        cmocka_unit_test(wrong_words),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
