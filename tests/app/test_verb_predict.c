/* test_verb_predict.c - `cxnet predict` from the outside: bars, decisions and their thresholds, JSON, CSV, bad films and wrong words, on untrained networks. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include "app/saved_run.h"

enum { CELLS = 30 };

static int make(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    write_film("films/a.png", 0, 1);
    write_film("films/b.png", 1, 1);
    write_film("films/cut.png", 2, 0.5);
    write_at("bad/notes.txt", "no film", 7);
    write_run("binary", "binary", "[No Finding, COVID-19]", 1, 3);
    write_run("many", "multilabel", "[Effusion, Mass, \"Odd, name\"]", 3, 3);
    write_run("tree", "hierarchical", "[No Finding, CAP, CP]", 0, 3);
    write_run("tree/stage1", "binary", "[No Finding, Sick=CAP+CP]", 1, 4);
    write_run("tree/stage2", "binary", "[CAP, CP]", 1, 5);
    return 0;
}

static int predict(const char *args, cx_buf *out, cx_buf *errors) { return run_verb("predict", args, out, errors); }

static json_t *predict_json(const char *run, const char *in, int code)
{
    cx_buf out = { 0 }, errors = { 0 };
    char *args = cx_sprintf("%s --in %s --json --csv table.csv", run, in);
    assert_int_equal(predict(args, &out, &errors), code);
    json_t *j = json_loads(out.data, 0, NULL);
    assert_non_null(j);
    free(args);
    cx_buf_free(&out);
    cx_buf_free(&errors);
    return j;
}

static const json_t *film_of(const json_t *j, size_t i) { return json_array_get(json_object_get(j, "films"), i); }
static double p_of(const json_t *j, size_t film, const char *class)
{
    const json_t *p = json_object_get(json_object_get(film_of(j, film), "probability"), class);
    assert_true(json_is_real(p));
    return json_real_value(p);
}

static void set_thresholds(const char *run, const char *list)
{
    char *file = cx_sprintf("%s/metrics.json", run), *text = cx_sprintf("{\"thresholds\": %s}", list);
    write_at(file, text, strlen(text));
    free(file);
    free(text);
}

static int count(const char *text, size_t n, const char *what)
{
    int found = 0;
    for (const char *at = text; (at = strstr(at, what)) && at < text + n; at += strlen(what))
        found++;
    return found;
}

/* The bar of p: its cells and the last one's eighths, read back from the line. */
static void assert_bar(const char *text, const char *class, double p, bool utf8)
{
    const char *line = strstr(text, class), *bar = line ? strchr(line, '|') : NULL, *end = bar ? strchr(bar + 1, '|') : NULL;
    assert_non_null(end);
    const size_t n = (size_t)(end - bar);
    assert_true(fabs(strtod(line + strlen(class), NULL) - p) <= 0.0005 + 1e-9);
    if (!utf8) {
        assert_int_equal(n, CELLS + 1);
        assert_true(abs(count(bar, n, "#") * 8 - (int)lround(p * CELLS * 8)) <= 4);
        assert_int_equal(count(bar, n, "#") + count(bar, n, "."), CELLS);
        return;
    }
    int eighths = 8 * count(bar, n, "\xe2\x96\x88"), cells = count(bar, n, "\xe2\x96\x88") + count(bar, n, " ");
    for (int k = 1; k < 8; k++) {
        const char part[] = { '\xe2', '\x96', (char)(0x90 - k), 0 };
        eighths += k * count(bar, n, part);
        cells += count(bar, n, part);
    }
    assert_int_equal(cells, CELLS);
    assert_int_equal(eighths, (int)lround(p * CELLS * 8));
}

static void bars_are_as_long_as_probabilities(void **state)
{
    (void)state;
    json_t *j = predict_json("tree", "films/b.png", 0);
    const char *const classes[] = { "No Finding", "CAP", "CP" };
    double sum = 0;
    for (int utf8 = 0; utf8 < 2; utf8++) {
        cx_buf out = { 0 }, errors = { 0 };
        assert_int_equal(predict(utf8 ? "tree --in films/b.png --bars utf8" : "tree --in films/b.png", &out, &errors), 0);      /* a pipe: ASCII */
        for (int k = 0; k < 3; k++) {
            assert_bar(out.data, classes[k], p_of(j, 0, classes[k]), utf8);
            sum += p_of(j, 0, classes[k]);
        }
        for (size_t i = 0; i < out.len && !utf8; i++)
            assert_true(out.data[i] > 0);
        cx_buf_free(&out);
        cx_buf_free(&errors);
    }
    assert_true(fabs(sum - 2) < 1e-9);
    json_decref(j);
}

/* A hierarchy answers with the product of what its stages answer alone. */
static void hierarchies_multiply(void **state)
{
    (void)state;
    json_t *whole = predict_json("tree", "films/a.png", 0), *first = predict_json("tree/stage1", "films/a.png", 0);
    json_t *second = predict_json("tree/stage2", "films/a.png", 0);
    assert_true(fabs(p_of(whole, 0, "No Finding") - p_of(first, 0, "No Finding")) < 1e-12);
    assert_true(fabs(p_of(whole, 0, "CAP") - p_of(first, 0, "Sick") * p_of(second, 0, "CAP")) < 1e-12);
    assert_true(fabs(p_of(whole, 0, "CP") - p_of(first, 0, "Sick") * p_of(second, 0, "CP")) < 1e-12);
    json_decref(whole);
    json_decref(first);
    json_decref(second);
}

static void assert_text(const char *args, const char *says)
{
    cx_buf out = { 0 }, errors = { 0 };
    assert_int_equal(predict(args, &out, &errors), 0);
    if (!strstr(out.data, says))
        fail_msg("predict %s lacks \"%s\": %s", args, says, out.data);
    cx_buf_free(&out);
    cx_buf_free(&errors);
}

static void decisions_have_thresholds(void **state)
{
    (void)state;
    set_thresholds("binary", "[0.999, 0.999]");
    assert_text("binary --in films/a.png", "below 0.999");
    json_t *j = predict_json("binary", "films/a.png", 0);
    assert_string_equal(json_string_value(json_array_get(json_object_get(film_of(j, 0), "answer"), 0)), "No Finding");
    assert_true(json_real_value(json_object_get(json_object_get(j, "thresholds"), "COVID-19")) == 0.999);
    json_decref(j);
    set_thresholds("binary", "[0.001, 0.001]");
    assert_text("binary --in films/a.png", "at least 0.001  <- answer");
    set_thresholds("many", "[0.0, 1.0, 0.0]");
    assert_text("many --in films/a.png", "found: Effusion, Odd, name\n");
    j = predict_json("many", "films", 0);
    assert_int_equal(json_array_size(json_object_get(film_of(j, 0), "answer")), 2);
    assert_int_equal(json_array_size(json_object_get(j, "films")), 3);
    assert_non_null(strstr(json_string_value(json_object_get(film_of(j, 2), "error")), "films/cut.png: damaged PNG"));
    char *path = cx_path_join(folder, "table.csv");
    cx_csv csv;
    assert_cx_ok(cx_csv_load(path, &csv, err));
    assert_int_equal(csv.rows, 3);                          /* the damaged film has none */
    for (int i = 0; i < 2; i++) {
        assert_true(fabs(strtod(cx_csv_at(&csv, i + 1, cx_csv_column(&csv, "p_Odd, name")), NULL) - p_of(j, (size_t)i, "Odd, name")) < 1e-8);
        assert_string_equal(cx_csv_at(&csv, i + 1, cx_csv_column(&csv, "answer")), "Effusion|Odd, name");
    }
    cx_csv_free(&csv);
    free(path);
    json_decref(j);
    set_thresholds("many", "[1.0, 1.0, 1.0]");
    assert_text("many --in films --max 1", "found: nothing\n");
}

static void wrong_words(void **state)
{
    (void)state;
    static const ending cases[] = {
        { "binary --in bad", 65, "none of 1 films could be read" },
        { "binary --in films/cut.png", 65, "films/cut.png" },
        { "binary --in nowhere", 66, "nowhere: not found" },
        { "nowhere --in films", 66, "nowhere" },
        { "binary", 64, "predict wants --in" },
        { "binary --in films --bars wide", 64, "--bars: want auto|utf8|ascii" },
        { "binary --in films --max 0", 64, "--max" },
        { "binary --in films --csv no/folder/table.csv", 73, "no/folder" },
    };
    assert_endings("predict", cases, CX_COUNT(cases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bars_are_as_long_as_probabilities), cmocka_unit_test(hierarchies_multiply), cmocka_unit_test(decisions_have_thresholds),
        cmocka_unit_test(wrong_words),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
