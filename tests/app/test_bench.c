/* test_bench.c - `cxnet bench` reports what it promises; no time is judged. */
#include <jansson.h>
#include "program.h"

static json_t *bench(const char *args)
{
    const ran *r = run_program("bench %s --json", args);
    if (r->code != 0)
        fail_msg("bench %s: exit %d: %s", args, r->code, r->err);
    json_t *j = json_loads(r->out, 0, NULL);
    assert_non_null(j);
    return j;
}

static double number(json_t *j, const char *a, const char *b)
{
    json_t *x = json_object_get(j, a);
    return json_number_value(b ? json_object_get(x, b) : x);
}

static void test_networks(void **state)
{
    (void)state;
    json_t *infer = bench("infer --model base_cnn --side 65 --batch 2 --steps 3 --threads 1");
    json_t *train = bench("train --model base_cnn --side 65 --batch 2 --steps 3 --threads 1");
    assert_true(number(infer, "films_per_s", "median") > 0);
    assert_true(number(infer, "films_per_s", "min") <= number(infer, "films_per_s", "median"));
    assert_true(number(infer, "films_per_s", "max") >= number(infer, "films_per_s", "median"));
    assert_true(number(train, "gflop_per_film", NULL) > 2 * number(infer, "gflop_per_film", NULL));
    assert_true(number(train, "arena_bytes", "opt") == 2 * number(train, "arena_bytes", "grad"));
    assert_true(number(infer, "arena_bytes", "opt") == 0);
    assert_true(number(train, "arena_bytes", "act") > number(infer, "arena_bytes", "act"));
    assert_true(number(train, "peak_rss_bytes", NULL) > number(train, "arena_bytes", "act"));
    assert_true(number(train, "threads", NULL) == 1);
    json_decref(infer);
    json_decref(train);
    assert_runs(0, "dice_loss", "", "bench step --model unet --channels 1 --side 16 --batch 1 --steps 1 --threads 1");
    assert_runs(0, "films/s", "", "bench infer --model unet --channels 1 --side 16 --batch 1 --steps 1 --threads 1");
}

static void test_steps_and_films(void **state)
{
    (void)state;
    json_t *step = bench("step --model base_cnn --side 65 --batch 1 --steps 1"), *rows = json_object_get(step, "profile");
    double last = INFINITY;
    size_t i;
    json_t *row;
    assert_true(json_array_size(rows) > 10);
    json_array_foreach(rows, i, row) {
        assert_true(number(row, "ms", NULL) <= last);
        last = number(row, "ms", NULL);
    }
    json_decref(step);
    json_t *image = bench("image --side 32 --steps 1");
    assert_true(number(image, "png_bytes", NULL) > 10000);
    assert_true(number(image, "decode_films_per_s", "median") > 0);
    json_decref(image);
    assert_runs(0, "batch_norm", "", "bench step --model densenet121 --side 32 --batch 2 --steps 1 --device cpu:portable --threads 1");
}

static void test_wrong_calls(void **state)
{
    (void)state;
    assert_runs(64, "", "want infer, train, step or image", "bench everything");
    assert_runs(64, "", "--batch", "bench train --batch 0");
    assert_runs(78, "", "unknown architecture", "bench train --model resnet50");
    assert_runs(78, "", "side", "bench train --model base_cnn --side 8");
    assert_runs(78, "", "multiple of 16", "bench train --model unet --side 50");
    assert_runs(69, "", "want cpu", "bench train --model base_cnn --side 65 --device gpu");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_networks), cmocka_unit_test(test_steps_and_films), cmocka_unit_test(test_wrong_calls) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
