/* test_verb_explain.c - the verb from the outside: pictures, maps, table, JSON, bad films and wrong words, on an untrained network saved as a run. */
#include "backend.h"
#include <jansson.h>
#include "app/saved_run.h"

static int make(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    write_film("films/a.png", 0, 1);
    write_film("films/b.png", 1, 1);
    write_film("films/cut.png", 2, 0.5);
    write_at("films/notes.txt", "no film", 7);
    write_at("bad/notes.txt", "no film", 7);
    write_at("manifest.csv", "path,labels\nfilms/b.png,x\nfilms/missing.png,x\nfilms/a.png,x\n", 60);
    write_run("binary", "binary", "[No Finding, COVID-19]", 1, 3);
    write_run("multi", "multiclass", "[No Finding, COVID-19, Pneumonia]", 3, 3);
    write_run("tree", "hierarchical", "[No Finding, CAP, CP]", 0, 3);
    write_run("tree/stage1", "binary", "[No Finding, Sick=CAP+CP]", 1, 4);
    write_run("tree/stage2", "binary", "[CAP, CP]", 1, 5);
    return 0;
}

static int explain(const char *args, cx_buf *out, cx_buf *errors) { return run_verb("explain", args, out, errors); }

static void assert_picture(const char *name)
{
    char *path = cx_path_join(folder, name);
    cx_film f;
    assert_cx_ok(cx_film_load(path, &f, err));
    assert_true(f.width > 600 && f.channels == 3);
    cx_film_free(&f);
    free(path);
}

static void a_folder(void **state)
{
    (void)state;
    cx_buf out = { 0 }, errors = { 0 }, raw = { 0 };
    assert_int_equal(explain("binary --in films --out seen", &out, &errors), 0);
    assert_non_null(strstr(out.data, "COVID-19"));
    assert_non_null(strstr(out.data, "films/a.png"));
    assert_non_null(strstr(out.data, "2 of 4 films explained"));
    assert_null(strstr(out.data, "cut.png"));
    assert_non_null(strstr(errors.data, "films/cut.png: damaged PNG"));
    assert_non_null(strstr(errors.data, "films/notes.txt: no PNG, JPEG or WebP picture: it looks like text"));
    assert_picture("seen/0001-a.png");
    assert_picture("seen/0002-b.png");
    char *path = cx_path_join(folder, "seen/0001-a.npy");
    assert_cx_ok(cx_file_read(path, 4096, &raw, err));
    assert_int_equal(raw.len, 128 + 9 * 4);
    assert_non_null(strstr(raw.data + 10, "(3, 3)"));
    free(path);
    cx_buf_free(&out);
    cx_buf_free(&errors);
    cx_buf_free(&raw);
}

static double real_at(const json_t *j, int film, const char *key)
{
    return json_real_value(json_object_get(json_array_get(json_object_get(j, "films"), (size_t)film), key));
}

/* The two classes of a binary network are explained by the two signs of one logit: the maps differ, the probabilities do not. */
static void json_and_classes(void **state)
{
    (void)state;
    cx_buf out[2] = { { 0 }, { 0 } }, errors = { 0 };
    json_t *j[2];
    for (int k = 0; k < 2; k++) {
        char *args = cx_sprintf("binary --in manifest.csv --out seen%d --json --scale fixed --class %s --layer conv3", k, k ? "'No Finding'" : "COVID-19");
        assert_int_equal(explain(args, &out[k], &errors), 0);
        assert_non_null(strstr(errors.data, "films/missing.png"));
        j[k] = json_loads(out[k].data, 0, NULL);
        assert_non_null(j[k]);
        assert_string_equal(json_string_value(json_object_get(j[k], "layer")), "conv3");
        assert_int_equal(json_array_size(json_object_get(j[k], "films")), 3);
        free(args);
    }
    const json_t *film = json_array_get(json_object_get(j[0], "films"), 0), *missing = json_array_get(json_object_get(j[0], "films"), 1);
    assert_string_equal(json_string_value(json_object_get(film, "path")), "./films/b.png");       /* the manifest lies in "." */
    assert_string_equal(json_string_value(json_object_get(film, "explained")), "COVID-19");
    assert_non_null(json_object_get(missing, "error"));
    const json_t *p = json_object_get(film, "probability"), *q = json_object_get(json_array_get(json_object_get(j[1], "films"), 0), "probability");
    assert_true(fabs(json_real_value(json_object_get(p, "COVID-19")) + json_real_value(json_object_get(p, "No Finding")) - 1) < 1e-9);
    assert_true(json_equal(p, q));
    assert_true(real_at(j[0], 0, "map_max") != real_at(j[1], 0, "map_max"));
    assert_picture("seen1/0003-a.png");
    for (int k = 0; k < 2; k++) {
        json_decref(j[k]);
        cx_buf_free(&out[k]);
    }
    cx_buf_free(&errors);
}

/* The numbers of a map that explain wrote; free() them. */
static float *map_of(const char *name, int64_t n)
{
    cx_buf raw = { 0 };
    char *path = cx_path_join(folder, name);
    float *map = cx_alloc((size_t)n, sizeof *map);
    assert_cx_ok(cx_file_read(path, 1 << 20, &raw, err));
    assert_int_equal(raw.len, 128 + (size_t)n * sizeof *map);
    memcpy(map, raw.data + 128, (size_t)n * sizeof *map);
    cx_buf_free(&raw);
    free(path);
    return map;
}

/* What the CPU sees, the emulated GPU sees too: probabilities and raw maps of both methods. */
static void devices_agree(void **state)
{
    (void)state;
    static const char *const methods[] = { "gradcam", "hirescam" }, *const files[] = { "0001-a.npy", "0002-b.npy" };
    if (!has_device("emu"))
        skip();
    for (int m = 0; m < CX_COUNT(methods); m++) {
        cx_buf out[2] = { { 0 }, { 0 } }, errors = { 0 };
        json_t *j[2];
        for (int k = 0; k < 2; k++) {
            char *args = cx_sprintf("binary --in films --out %s%d --json --class COVID-19 --layer relu3 --method %s --device %s", methods[m], k, methods[m],
                                    k ? "emu" : "cpu");
            assert_int_equal(explain(args, &out[k], &errors), 0);
            assert_non_null(j[k] = json_loads(out[k].data, 0, NULL));
            free(args);
        }
        for (int film = 0; film < 2; film++) {
            float *map[2];
            double p[2];
            for (int k = 0; k < 2; k++) {
                char *name = cx_sprintf("%s%d/%s", methods[m], k, files[film]);
                map[k] = map_of(name, 18 * 18);
                p[k] = json_real_value(json_object_get(json_object_get(json_array_get(json_object_get(j[k], "films"), (size_t)film), "probability"),
                                                       "COVID-19"));
                free(name);
            }
            assert_true(p[0] > 0 && p[0] < 1 && fabs(p[0] - p[1]) < 1e-5);
            assert_close(methods[m], map[1], map[0], 18 * 18, 0, 1e-4);
            free(map[0]), free(map[1]);
        }
        for (int k = 0; k < 2; k++) {
            json_decref(j[k]);
            cx_buf_free(&out[k]);
        }
        cx_buf_free(&errors);
    }
}

static void other_tasks_and_limits(void **state)
{
    (void)state;
    cx_buf out = { 0 }, errors = { 0 };
    assert_int_equal(explain("multi --in films --out many --max 1", &out, &errors), 0);
    assert_non_null(strstr(out.data, "Pneumonia"));
    assert_non_null(strstr(out.data, "1 of 1 film explained"));
    assert_int_equal(explain("multi --in films/b.png --out one --class Pneumonia", &out, &errors), 0);
    assert_picture("one/0001-b.png");
    cx_buf_free(&out);
    cx_buf_free(&errors);
}

/* With --class all the maps of a file are those that each class has alone; a hierarchy's are those of the stage that decides on the class. */
static void all_classes_at_once(void **state)
{
    (void)state;
    static const struct { const char *run, *part, *class; int slice, of; } cases[] = {
        { "multi", "multi", "'No Finding'", 0, 3 }, { "multi", "multi", "Pneumonia", 2, 3 }, { "binary", "binary", "'No Finding'", 0, 2 },
        { "binary", "binary", "COVID-19", 1, 2 }, { "tree", "tree/stage1", "'No Finding'", 0, 3 }, { "tree", "tree/stage2", "CAP", 1, 3 },
        { "tree", "tree/stage2", "CP", 2, 3 }, { "tree", "tree", "CP", 2, 3 },
    };
    for (int i = 0; i < CX_COUNT(cases); i++) {
        cx_buf out = { 0 }, errors = { 0 };
        char *all = cx_sprintf("%s --in films/b.png --out all --class all --layer relu3", cases[i].run);
        char *one = cx_sprintf("%s --in films/b.png --out one --class %s --layer relu3", cases[i].part, cases[i].class);
        assert_int_equal(explain(all, &out, &errors), 0);
        assert_non_null(strstr(out.data, "answer"));
        assert_int_equal(explain(one, &out, &errors), 0);
        assert_picture("all/0001-b.png");
        float *a = map_of("all/0001-b.npy", cases[i].of * 18 * 18), *b = map_of("one/0001-b.npy", 18 * 18);
        double heat = 0;
        for (int k = 0; k < 18 * 18; k++)
            heat += (double)b[k];
        assert_true(heat > 0);
        assert_memory_equal(a + cases[i].slice * 18 * 18, b, 18 * 18 * sizeof *b);
        free(a), free(b);
        free(all), free(one);
        cx_buf_free(&out);
        cx_buf_free(&errors);
    }
}

static void wrong_words(void **state)
{
    (void)state;
    static const ending cases[] = {
        { "binary --in bad --out x", 65, "none of 1 films could be explained" },
        { "binary --in films/cut.png --out x", 65, "films/cut.png" },
        { "binary --in nowhere --out x", 66, "nowhere: not found" },
        { "nowhere --in films --out x", 66, "nowhere" },
        { "binary --in films --out x --class Flu", 64, "\"No Finding\", \"COVID-19\"" },
        { "binary --in films --out x --layer conv33", 64, "did you mean \"conv3\"" },
        { "binary --in films --out x --layer conv33", 64, "relu5, conv5, relu4" },
        { "binary --in films --out x --layer flatten", 64, "single pixel" },
        { "binary --in films --out x --layer conv1.weight", 64, "a weight" },
        { "binary --in films --out x --method lime", 64, "want gradcam|hirescam" },
        { "binary --in films --out x --scale big", 64, "film|fixed" },
        { "binary --in films --out x --max 0", 64, "--max" },
        { "binary --in films --out x --device gpu", 69, "no backend is called 'gpu'" },
        { "binary --in films", 64, "--out DIR" },
        { "binary --in films --out films/a.png", 73, "films/a.png" },
    };
    assert_endings("explain", cases, CX_COUNT(cases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder), cmocka_unit_test(json_and_classes), cmocka_unit_test(devices_agree),
        cmocka_unit_test(other_tasks_and_limits), cmocka_unit_test(all_classes_at_once), cmocka_unit_test(wrong_words),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
